"""One pass over the RabbitMQ pods of a queue."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import quote

from chandlery.driver.objects import ResourceType
from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, DependencyNotReady, Unauthenticated, Unavailable
from chandlery.model.base import Endpoint
from chandlery.providers.kubernetes import certificates
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.engine import EngineWorkload
from chandlery.providers.kubernetes.templates import Kept
from chandlery.providers.kubernetes.types import JOBS, SECRETS, STATEFUL_SETS, Obj
from chandlery.providers.local.rotation import Password
from chandlery_kinds.queue import rabbitmq as rabbit
from chandlery_kinds.queue.drivers.kubernetes_nats import APPLICATION
from chandlery_kinds.queue.drivers.rabbit_client import AmqpLogin, Declared, Management
from chandlery_kinds.queue.kubernetes import rabbit_scale as scale
from chandlery_kinds.queue.kubernetes.inputs import Inputs
from chandlery_kinds.queue.kubernetes.rabbit import (
    COOKIE_KEY,
    MANAGEMENT_PORT,
    PORT,
    children,
    client_port,
    cookie,
    cookie_volumes,
    files,
    inputs_of,
    node_name,
    workload,
)
from chandlery_kinds.queue.kubernetes.statefulset import storage_size
from chandlery_kinds.queue.model import Queue

VHOST = "queue"
STARTING_POLL = 0.5
DRIFT_POLL = 10.0
_EVERYBODY = re.compile(".*")


@dataclass(frozen=True, slots=True)
class Inside:
    """What the broker said of itself."""

    definitions: rabbit.Definitions
    queue: Mapping[str, Any]
    cluster: scale.Cluster

    @property
    def running(self) -> Collection[str]:
        """Names of servers that the others see."""
        return self.cluster.running


class RabbitPods(EngineWorkload[Queue, Inputs]):
    """Everything that one pass does with one queue. Made anew each time; keeps nothing."""

    application: ClassVar[str] = APPLICATION

    kinds: ClassVar[Sequence[ResourceType]] = (*EngineWorkload.kinds, JOBS)

    @property
    def name(self) -> str:
        return self.obj.metadata.name

    @classmethod
    def inputs_of(cls, ctx: DriverContext, obj: Queue) -> Inputs:
        return inputs_of(obj, ctx.parameters, ctx.provider.images, ctx.provider.pull_secrets)

    def auth_keys(self) -> list[str]:
        return [*super().auth_keys(), COOKIE_KEY]

    # -- what is wanted

    async def _passwords(self, name: str) -> tuple[Password, ...]:
        """All passwords of a user that should work, the present one first."""
        if name in self.generated():
            return self.rotation.passwords(name)
        return (Password(name, await self.user_password(name)),)

    async def wanted(self) -> dict[str, list[dict[str, Any]]]:
        """All definitions of the queue."""
        users = [rabbit.RabbitUser(p.name, p.value) for p in self.rotation.passwords(APPLICATION)]
        for user in self.spec.users:
            for password in await self._passwords(user.name):
                users.append(rabbit.RabbitUser(password.name, password.value, user.rights, user.subjects))
        return rabbit.wanted(self.name, self.spec, VHOST, users)

    async def _desired(self, servers: int) -> tuple[list[Obj], Kept]:
        content = files(self.inputs, self.auth()["admin"], self.session.cluster_domain, servers)
        kept = workload(self.inputs, content, self.there.get(STATEFUL_SETS), self.upgrade, servers)
        more = await self.certificates.children() if self.certificates is not None else []
        return children(self.inputs, content, kept.workload, more, monitors=self.monitors), kept

    async def first(self) -> list[Obj]:
        desired, _ = await self._desired(self.spec.replicas)
        return desired

    # -- observe

    def servers(self) -> list[Obj]:
        """Without those of tasks."""
        return [pod for pod in super().servers() if pod["metadata"]["labels"].get(scale.COMPONENT) != "task"]

    def _node(self, index: int) -> str:
        return node_name(self.inputs, f"{self.owner.base}-{index}", self.session.cluster_domain)

    def _management(self, pod: Obj) -> Management:
        host, port = self.session.resolve(pod, MANAGEMENT_PORT)
        return Management(port, rabbit.ADMIN, self.auth()["admin"], host)

    async def _look(self) -> tuple[Inside | None, str]:
        """What is inside, or why nobody says."""
        said = ""
        for pod in self.servers():
            try:
                async with self._management(pod) as api:
                    return await self._inside(api), ""
            except ChandleryError as error:
                said = f"{pod['metadata']['name']}: {error.message}"
        return None, said

    async def _inside(self, api: Management) -> Inside:
        definitions = await api.get("definitions")
        queues: list[dict[str, Any]] = []
        if any(vhost["name"] == VHOST for vhost in definitions["vhosts"]):
            queues = await api.get(f"queues/{VHOST}?disable_stats=true&enable_queue_totals=true")
        nodes = {str(node["name"]): bool(node.get("running")) for node in await api.get("nodes")}
        queue = next((queue for queue in queues if queue["name"] == self.name), {})
        members = {str(queue["name"]): tuple(queue.get("members") or ()) for queue in queues}
        return Inside(definitions, queue, scale.Cluster(nodes, [name for name, up in nodes.items() if up], members))

    def _all_run(self, inside: Inside) -> bool:
        return bool(len(inside.running) >= self.spec.replicas)

    async def observe(self) -> Observation:
        live, identity = self.there.get(STATEFUL_SETS), self.owner.identity
        if live is None and not self.there.pods:
            return Observation(exists=False, external_name=identity)
        if self.missing_auth():
            gone = Difference(f"Secret {self.owner.base}{AUTH}", "complete", "incomplete", payload=("auth",))
            return Observation(exists=True, external_name=identity, differences=(gone,), reason="Starting")
        found = self.there.growth(storage_size(self.inputs)) + self.rotation_differences()
        if self.certificates is not None:
            found += await self.certificates.differences()
        inside, said = await self._look()
        now = int(live["spec"]["replicas"]) if live is not None else int(self.spec.replicas)
        names = [self._node(index) for index in range(max(now, self.spec.replicas))]
        cluster = inside.cluster if inside is not None else scale.Cluster()
        changes, servers = scale.scale_differences(self.spec.replicas, now, names, cluster)
        desired, kept = await self._desired(servers)
        found += self.there.differences(desired, _cost) + self._tasks(changes)
        if inside is not None and (inside.queue or self._all_run(inside)):
            # a new queue gets its copies on the servers that are there at that moment
            found += rabbit.differences(await self.wanted(), inside.definitions, _EVERYBODY)
        served = await self._works_with() if inside is not None and inside.queue else None
        works = (
            served is not None and inside is not None and self._all_run(inside) and self.complete(self.spec.replicas)
        )
        number = served[0] if served is not None else 0
        reason, message = ("", "") if works else self._explain(said)
        return Observation(
            exists=True,
            ready=works,
            reason=reason,
            message=message,
            differences=tuple(found),
            external_name=identity,
            endpoint=Endpoint(host=self.host, port=self._port()),
            binding=await self._bound(APPLICATION, number if served is not None else None),
            user_bindings={
                f"{self.name}-user-{u.name}": await self._bound(u.name, number if served is not None else None)
                for u in self.spec.users
            },
            facts=self._facts(inside, served[1] if served is not None else None),
            conditions=self.told(kept.newer),
            poll_after=self.poll(self._poll(works and not number and not changes), kept.newer),
        )

    @staticmethod
    def _poll(calm: bool) -> float:
        return DRIFT_POLL if calm else STARTING_POLL

    def _tasks(self, changes: list[Difference]) -> list[Difference]:
        """One Job at a time; one that has ended goes, and what is still to do is asked for anew."""
        jobs = self.there.all(JOBS)
        now = self.ctx.base.now()
        over = [job for job in jobs if scale.over(job, now)]
        if over:
            names = [(job, f"Job {job['metadata']['name']}") for job in over]
            return [Difference(name, "absent", "ended", payload=("end", job)) for job, name in names]
        return [replace(change, payload=("wait",)) for change in changes] if jobs else changes

    async def _end(self, job: Obj) -> None:
        if scale.ended(job) == "Failed":
            said = scale.last_words(job, self.there.pods)
            self.ctx.event("Warning", "TaskFailed", f"{job['metadata']['name']} failed and is tried again: {said}")
        await self.session.delete(job)

    async def _begin(self, what: str, *words: str) -> None:
        do = scale.command(self.inputs, VHOST, self._node(0), what, *words)
        await self.session.create(scale.job(self.inputs, cookie(self.inputs), cookie_volumes(self.inputs), do))

    async def _works_with(self) -> tuple[int, Declared] | None:
        """The real thing: log in by AMQP with the binding's credentials and look at the queue.

        Which of its passwords, newest first, is the first that works, and what was seen; None when none does.
        """
        for pod in self.servers()[:1]:
            tls = self.context_for(pod)
            for number, password in enumerate(self.rotation.passwords(APPLICATION)):
                try:
                    host, port = self.session.resolve(pod, client_port(self.inputs))
                    login = (password.name, password.value)
                    return number, await AmqpLogin.ask(host, port, login, VHOST, self.name, tls)
                except Unauthenticated:
                    continue
                except ChandleryError:
                    return None
        return None

    def _explain(self, said: str) -> tuple[str, str]:
        trouble = self.trouble()
        if trouble is not None:
            return trouble
        return "Starting", said or "the queue isn't there yet, or not all servers are in step"

    def _port(self) -> int:
        return self.spec.exposure.port or client_port(self.inputs)

    async def _bound(self, name: str, number: int | None) -> Binding:
        """With the newest password that works (None: who knows; then the oldest may)."""
        passwords = await self._passwords(name)
        return self._binding(passwords[-1 if number is None else min(number, len(passwords) - 1)])

    def _binding(self, password: Password) -> Binding:
        tls = self.inputs.tls
        login = f"{password.name}:{password.value}"

        def uri(scheme: str, host: str, port: int) -> str:
            return f"{scheme}://{login}@{host}:{port}/{quote(VHOST, safe='')}"

        scheme, host, port = "amqps" if tls is not None else "amqp", self.host, self._port()
        found = {
            "host": host,
            "port": str(port),
            "username": password.name,
            "password": password.value,
            "virtual-host": VHOST,
            "uri": uri(scheme, host, port),
            "addresses": uri(scheme, host, port),
            "exchange": self.name,
            "routing-key": rabbit.publish_key(self.name, self.spec),
            "queue": self.name,
        }
        if self.spec.dead_letter is not None:
            found["dead-letter-queue"] = rabbit.dead_name(self.name)
        material = self.certificates.present if self.certificates is not None else None
        if material is not None:
            found |= {"tls": "true", **({"ca.crt": material.authority} if material.authority else {})}
        if tls is not None and not tls.required:
            found |= {"plain-port": str(PORT), "plain-uri": uri("amqp", host, PORT)}
        return Binding("rabbitmq", "chandlery", found)

    def _facts(self, inside: Inside | None, seen: Declared | None) -> dict[str, Any]:
        running = inside.running if inside is not None else frozenset()
        members = []
        for pod in self.servers():
            name, ip = pod["metadata"]["name"], (pod.get("status") or {}).get("podIP")
            ready = any(node == f"rabbit@{ip}" or node.startswith(f"rabbit@{name}.") for node in running)
            address = {"address": f"{ip}:{client_port(self.inputs)}"} if ip else {}
            members.append({"name": name, "role": "member", "ready": ready, **address})
        facts: dict[str, Any] = {
            "engine": "rabbitmq",
            "broker": self.name,
            "replicas": self.spec.replicas,
            "readyReplicas": sum(1 for member in members if member["ready"]),
            "members": members,
            "users": self.user_facts(),
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
        }
        if inside is not None:
            facts["version"] = inside.definitions["rabbitmq_version"]
            for key, name in (("messages", "messages"), ("unacknowledged", "messages_unacknowledged")):
                if name in inside.queue:
                    facts[key] = inside.queue[name]
            if inside.queue.get("leader"):
                facts["leader"] = str(inside.queue["leader"]).partition("@")[2].partition(".")[0]
        if seen is not None:
            facts["consumers"] = seen.consumers
        if self.spec.dead_letter is not None:
            facts["deadLetterQueue"] = rabbit.dead_name(self.name)
        return facts

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says."""
        define, drops = False, []
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "auth":
                await self.ensure_auth()
                return
            if what == "wait":
                continue
            if what == "end":
                await self._end(rest[0])
            elif what == "task":
                await self._begin(*rest)
            elif what in ("rotate", "expire", "anchor"):
                await self.rotate(change.payload)
                define = True
            elif what == "define":
                define = True
            elif what == "drop":
                drops.append(str(rest[0]))
            elif what == certificates.PAYLOAD and self.certificates is not None:
                await self.certificates.ensure()
            else:
                await self.there.act(what, *rest)
        if define or drops:
            await self._define(drops, post=define)

    async def _define(self, drops: list[str], *, post: bool) -> None:
        want, last = await self.wanted(), "none is there"
        for pod in self.servers():
            try:
                async with self._management(pod) as api:
                    if post:
                        await api.post("definitions", rabbit.importable(want))
                    for path in drops:
                        await api.delete(path)
                return
            except Unavailable as error:
                last = error.message
        raise DependencyNotReady(f"no server of the queue answers: {last}", retry_after=0.5)


def _cost(kind: str, path: str) -> Disruption:
    """A file goes out with the pods that can read it: one that ended in between would not come back."""
    restarts = (kind == STATEFUL_SETS.kind and ".template" in path) or (kind == SECRETS.kind and ".data" in path)
    return Disruption.RESTART if restarts else Disruption.NONE
