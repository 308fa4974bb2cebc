"""A queue that RabbitMQ's own operators run, told back as ours."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from chandlery.driver.objects import ResourceType
from chandlery.driver.protocol import Difference, DriverContext, Observation, Unsupported
from chandlery.foundation.errors import ChandleryError, NotSupported, Unavailable
from chandlery.model.base import DeletionPolicy, Endpoint
from chandlery.model.parts import ClientAuthentication
from chandlery.providers.kubernetes import certificates, metrics
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import AUTH, Workload
from chandlery.providers.kubernetes.foreign import look
from chandlery.providers.kubernetes.session import KubernetesSession
from chandlery.providers.kubernetes.types import PODS, RABBITMQ_CLUSTERS, SECRETS, SERVICE_MONITORS, Obj
from chandlery_kinds.queue import rabbitmq as rabbit
from chandlery_kinds.queue.drivers.kubernetes_rabbit import DRIFT_POLL, STARTING_POLL, VHOST, RabbitPods
from chandlery_kinds.queue.drivers.rabbit_client import AmqpLogin, Declared, Management
from chandlery_kinds.queue.kubernetes.rabbit import MANAGEMENT_PORT, METRICS_PORT, PORT, TLS_PORT, client_port
from chandlery_kinds.queue.kubernetes.rabbit_delegate import TOPOLOGY, cluster, monitor, problems, topology
from chandlery_kinds.queue.model import Queue

CLUSTER_CRD = "rabbitmqclusters.rabbitmq.com"
TOPOLOGY_CRD = "queues.rabbitmq.com"
MANAGEMENT_TLS_PORT = 15671
"""Where RabbitMQ's operator has the management API speak TLS; the other one is closed without plain listeners."""


def refused(obj: Queue, mode: str = "") -> Iterator[Unsupported]:
    """What is not handed over; `mode` is the class's parameter `rabbitmqOperator`."""
    spec, port = obj.spec, PORT
    if spec.tls is not None and spec.tls.enabled:
        port = TLS_PORT
        if spec.tls.client_authentication is not ClientAuthentication.NONE:
            why = "certificates of clients are not handed over to RabbitMQ's operator"
            yield Unsupported("spec.tls.clientAuthentication", spec.tls.client_authentication.value, why)
        if mode == "topology":
            why = "RabbitMQ's topology operator believes no certificate made here; the class's parameter "
            yield Unsupported("spec.tls", "set", f"{why}rabbitmqOperator: cluster goes with it")
    if spec.metrics is not None and spec.metrics.enabled and spec.metrics.port not in (None, METRICS_PORT):
        why = f"RabbitMQ's operator serves metrics at {METRICS_PORT}"
        yield Unsupported("spec.metrics.port", str(spec.metrics.port), why)
    exposure = spec.exposure
    if exposure.allowed_cidrs:
        yield Unsupported(
            "spec.exposure.allowedCidrs", "set", "pods of RabbitMQ's operator get no NetworkPolicy from here"
        )
    if exposure.port is not None and exposure.port != port:
        why = f"RabbitMQ's operator makes Services with port {port}"
        yield Unsupported("spec.exposure.port", str(exposure.port), why)
    if exposure.node_port is not None or exposure.load_balancer_class:
        field = "nodePort" if exposure.node_port is not None else "loadBalancerClass"
        yield Unsupported(f"spec.exposure.{field}", "set", "it is not handed over to RabbitMQ's operator")
    if spec.deletion_policy is not DeletionPolicy.DELETE:
        why = "RabbitMQ's operator deletes the volumes with the cluster"
        yield Unsupported("spec.deletionPolicy", spec.deletion_policy.value, why)


class RabbitDelegate(RabbitPods):
    """Everything that one pass does with one queue. Made anew each time; keeps nothing."""

    with_topology = False

    @classmethod
    async def of(cls, ctx: DriverContext, obj: Queue) -> Self:
        """Read what is there."""
        session: KubernetesSession = ctx.provider
        mode = ctx.parameters.rabbitmq_operator or ("topology" if await session.served(TOPOLOGY_CRD) else "cluster")
        asked = {CLUSTER_CRD: "cluster", **({TOPOLOGY_CRD: "messaging topology"} if mode == "topology" else {})}
        absent = [name for crd, name in asked.items() if not await session.served(crd)]
        kinds: tuple[ResourceType, ...] = (SECRETS, PODS)
        if not absent:
            kinds = (*(TOPOLOGY if mode == "topology" else ()), RABBITMQ_CLUSTERS, *kinds)
        inputs = cls.inputs_of(ctx, obj)
        there = await look(session, inputs.owner, kinds, obj.spec)
        if SERVICE_MONITORS not in there.kinds and await session.served(metrics.CRD):
            there = await Children(session, inputs.owner, [SERVICE_MONITORS, *there.kinds]).look()
        made = cls(ctx, obj, there, inputs)
        made.with_topology = mode == "topology"
        made.absent = absent
        made.login = await made._default_user()
        return made

    absent: Sequence[str] = ()
    """RabbitMQ's operators that the class asks for and that aren't installed."""

    def _check(self) -> None:
        """Raises:
        NotSupported: an operator that the class asks for isn't installed.
        """
        for name in self.absent:
            raise NotSupported(
                f"RabbitMQ's {name} operator is not installed in this cluster",
                field="spec.parameters.rabbitmqOperator",
                value=str(self.ctx.parameters.rabbitmq_operator or ""),
                hint="Install it (https://www.rabbitmq.com/kubernetes/operator/operator-overview), or take this "
                "parameter out of the ResourceClass.",
                retry_after=60.0,
            )

    login: Mapping[str, str] = {}
    """Of the user that RabbitMQ's operator made for itself: username and password."""

    def auth_keys(self) -> list[str]:
        return [key for key in Workload.auth_keys(self) if key != "admin"]

    @property
    def live(self) -> Obj | None:
        return self.there.get(RABBITMQ_CLUSTERS)

    async def _default_user(self) -> dict[str, str]:
        reference = (((self.live or {}).get("status") or {}).get("defaultUser") or {}).get("secretReference") or {}
        if not reference.get("name"):
            return {}
        found = await self.ctx.reader.secret(self.owner.namespace, reference["name"]) or {}
        keys = reference.get("keys") or {}
        return {name: found.get(keys.get(name, name), b"").decode() for name in ("username", "password")}

    # -- what is wanted

    async def wanted(self) -> dict[str, list[dict[str, Any]]]:
        found = await super().wanted()
        if not self.with_topology:
            for permission in found["permissions"]:
                if permission["user"] == rabbit.ADMIN:
                    permission["user"] = self.login.get("username") or rabbit.ADMIN
        return found

    async def _objects(self) -> list[Obj]:
        inside = topology(self.owner, await self.wanted()) if self.with_topology else []
        issued = await self.certificates.children() if self.certificates is not None else []
        watched = monitor(self.inputs, self.spec.metrics, monitors=self.monitors)
        return [*issued, cluster(self.inputs, self.live), *inside, *watched]

    async def create(self) -> None:
        await self.ensure_auth()
        if self.certificates is not None:  # before the servers, which don't start without
            await self.act_all(await self.certificates.children())
            await self.certificates.ensure()
        await self.act_all(await self._objects())

    # -- the servers

    def _places(self, port: int) -> list[tuple[str, int]]:
        """The servers' pods, where they tell whose they are, else their Service."""
        found = [self.session.resolve(pod, port) for pod in self.servers() if (pod.get("status") or {}).get("podIP")]
        return found or [(f"{self.owner.base}.{self.owner.namespace}.svc", port)]

    @property
    def _trust(self) -> ssl.SSLContext | None:
        """With which we connect; None without TLS."""
        material = certificates.material(self.there) if self.inputs.tls is not None else None
        return material.context() if material is not None else None

    def _apis(self) -> list[Management]:
        """The servers' management APIs, as the user that RabbitMQ's operator made. One without TLS goes with it."""
        only = self.inputs.tls is not None and self.inputs.tls.required
        user, password = self.login.get("username", ""), self.login.get("password", "")
        if not only:
            return [Management(port, user, password, host) for host, port in self._places(MANAGEMENT_PORT)]
        trust = self._trust
        if trust is None:
            return []
        return [Management(port, user, password, host, trust) for host, port in self._places(MANAGEMENT_TLS_PORT)]

    async def _look(self) -> tuple[Any, str]:
        said = "RabbitMQ's operator has not told its user yet"
        for management in self._apis() if self.login.get("password") else ():
            try:
                async with management as api:
                    return await self._inside(api), ""
            except ChandleryError as error:
                said = error.message
        return None, said

    async def _works_with(self) -> tuple[int, Declared] | None:
        for host, port in self._places(client_port(self.inputs))[:1]:
            for number, password in enumerate(self.rotation.passwords(self.application)):
                try:
                    login = (password.name, password.value)
                    return number, await AmqpLogin.ask(host, port, login, VHOST, self.name, self._trust)
                except ChandleryError:
                    continue
        return None

    async def _define(self, drops: list[str], *, post: bool) -> None:
        want = await self.wanted()
        for management in self._apis():
            async with management as api:
                if post:
                    await api.post("definitions", rabbit.importable(want))
                for path in drops:
                    await api.delete(path)
                return
        raise Unavailable("no server of the queue answers", retry_after=0.5)

    # -- observe

    async def observe(self) -> Observation:
        self._check()
        live, identity = self.live, self.owner.identity
        if live is None:
            return Observation(exists=False, external_name=identity)
        if self.missing_auth():
            gone = Difference(f"Secret {self.owner.base}{AUTH}", "complete", "incomplete", payload=("auth",))
            return Observation(exists=True, external_name=identity, differences=(gone,), reason="Starting")
        found = self.rotation_differences()
        if self.certificates is not None:
            found += await self.certificates.differences()
        has = int((live.get("spec") or {}).get("replicas") or 1)
        if has != self.spec.replicas:
            found.append(Difference("spec.replicas", str(self.spec.replicas), str(has), payload=("scale",)))
        else:
            found += self.there.differences(await self._objects())
        inside, said = await self._look()
        if inside is not None and not self.with_topology and (inside.queue or self._all_run(inside)):
            mine = re.compile(f"(?!{re.escape(self.login['username'])}$).*")
            found += rabbit.differences(await self.wanted(), inside.definitions, mine)
        served = await self._works_with()
        wrong = next(problems(live, self._content()), None)
        works = served is not None and wrong is None
        reason, message = ("", "") if works else wrong or ("Starting", said or "the queue isn't there yet")
        number = served[0] if served is not None else None
        return Observation(
            exists=True,
            ready=works,
            reason=reason,
            message=message,
            differences=tuple(found),
            external_name=identity,
            endpoint=Endpoint(host=self.host, port=self._port()),
            binding=await self._bound(self.application, number),
            user_bindings={f"{self.name}-user-{u.name}": await self._bound(u.name, number) for u in self.spec.users},
            facts=self._facts(inside, served[1] if served is not None else None),
            poll_after=self.poll(DRIFT_POLL if works else STARTING_POLL, ""),
        )

    def _content(self) -> Sequence[Obj]:
        return [one for kind in TOPOLOGY for one in self.there.all(kind)] if self.with_topology else []

    async def update(self, observed: Observation) -> None:
        """Do what the plan says."""
        for change in observed.plan.changes:
            if change.payload[0] == "scale":
                raise NotSupported(
                    "RabbitMQ's operator makes servers no fewer, and gives new ones no copies",
                    field="spec.replicas",
                    value=self.spec.replicas,
                    hint=f"Set replicas back to {change.actual}, or make a new Queue and move the messages.",
                )
        await super().update(observed)

    async def delete(self) -> bool:
        """What is ours goes; the rest is taken away by RabbitMQ's operators."""
        mine = {key: obj for key, obj in self.there.live.items() if self._ours(obj)}
        self.there.live = mine
        return await self.there.remove()

    def _ours(self, obj: Obj) -> bool:
        owners = obj["metadata"].get("ownerReferences") or ()
        return any(one.get("uid") == self.owner.uid for one in owners)
