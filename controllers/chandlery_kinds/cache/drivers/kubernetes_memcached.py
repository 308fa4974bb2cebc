"""One pass over the Memcached pods of a cache: one, or several over which clients spread their keys themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from chandlery.driver.objects import ResourceType
from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import Endpoint
from chandlery.providers.kubernetes import certificates
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.engine import EngineWorkload
from chandlery.providers.kubernetes.pods import ready as is_ready
from chandlery.providers.kubernetes.templates import Kept
from chandlery.providers.kubernetes.types import (
    BUDGETS,
    NETWORK_POLICIES,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    Obj,
)
from chandlery_kinds.cache import memcached
from chandlery_kinds.cache.binding import Address, memcached_entries
from chandlery_kinds.cache.kubernetes.inputs import Inputs
from chandlery_kinds.cache.kubernetes.memcached import children, workload
from chandlery_kinds.cache.model import Cache

KINDS = (STATEFUL_SETS, SERVICES, SECRETS, BUDGETS, NETWORK_POLICIES, PODS)
"""It keeps nothing, so it has no claims."""
STARTING_POLL = 0.5
ANSWER_SECONDS = 2.0


@dataclass(slots=True)
class Node:
    """One pod and what its server said of itself."""

    name: str
    pod: Obj | None
    settings: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    works: bool = False
    error: str = ""
    shown: str = ""

    @property
    def ip(self) -> str:
        return str(((self.pod or {}).get("status") or {}).get("podIP", ""))


class MemcachedPods(EngineWorkload[Cache, Inputs]):
    """Everything that one pass does with one cache. Made anew each time; keeps nothing."""

    application: ClassVar[str] = memcached.USER
    grace: ClassVar[bool] = False
    kinds: ClassVar[Sequence[ResourceType]] = KINDS

    @classmethod
    def inputs_of(cls, ctx: DriverContext, obj: Cache) -> Inputs:
        return Inputs.of(obj, ctx.parameters, ctx.provider.images, ctx.provider.pull_secrets)

    def auth_keys(self) -> list[str]:
        return ["password"]

    async def _desired(self) -> tuple[list[Obj], Kept]:
        password = self.auth()["password"]
        kept = workload(self.inputs, password, self.there.get(STATEFUL_SETS), self.upgrade)
        more = await self.certificates.children() if self.certificates is not None else []
        return children(self.inputs, password, kept, more), kept

    async def first(self) -> list[Obj]:
        desired, _ = await self._desired()
        return desired

    # -- observe

    async def _connect(self, node: Node) -> memcached.MemcachedClient:
        assert node.pod is not None
        host, port = self.session.resolve(node.pod, self.inputs.port)
        return await memcached.MemcachedClient.connect(
            host,
            port,
            user=memcached.USER,
            password=self.auth()["password"],
            seconds=ANSWER_SECONDS,
            tls=self.context_for(node.pod),
        )

    async def _ask(self, node: Node) -> Node:
        """What it says of itself, and whether a client can write and read."""
        if not node.ip:
            return node
        try:
            async with await self._connect(node) as client:
                node.settings = await client.statistics("settings")
                node.version = (await client.statistics()).get("version", "")
                node.works = await client.works()
                node.shown = client.shown
        except ChandleryError as error:
            node.error = error.message
        return node

    def _nodes(self) -> list[Node]:
        pods = {pod["metadata"]["name"]: pod for pod in self.there.pods}
        names = [f"{self.owner.base}-{index}" for index in range(self.spec.primaries)]
        return [Node(name, pods.get(name)) for name in names]

    async def observe(self) -> Observation:
        identity = self.owner.identity
        if self.there.get(STATEFUL_SETS) is None and not self.there.pods:
            return Observation(exists=False, external_name=identity)
        if self.missing_auth():
            gone = Difference(f"Secret {self.owner.base}{AUTH}", "present", "absent", payload=("auth",))
            return Observation(exists=True, external_name=identity, differences=(gone,), reason="Starting")
        nodes = [await self._ask(node) for node in self._nodes()]
        desired, kept = await self._desired()
        found = self.rotation_differences() + self.there.differences(desired, _cost) + self._memory(nodes)
        if self.certificates is not None:
            found += await self.certificates.differences() or self._stale(nodes)
        ready = all(node.works and is_ready(node.pod) for node in nodes)
        reason, message = ("", "") if ready else self._explain(nodes)
        return Observation(
            exists=True,
            ready=ready,
            reason=reason,
            message=message,
            differences=tuple(found),
            external_name=identity,
            endpoint=self._endpoint(),
            binding=self._binding(),
            facts=self._facts(nodes),
            conditions=self.told(kept.newer),
            poll_after=self.poll(None if ready else STARTING_POLL, kept.newer),
        )

    def _memory(self, nodes: list[Node]) -> list[Difference]:
        limit = memcached.megabytes(self.spec) * memcached.MIB
        return [
            Difference("spec.memory", str(limit), node.settings["maxbytes"], payload=("memory", node.name))
            for node in nodes
            if "maxbytes" in node.settings and int(node.settings["maxbytes"]) != limit
        ]

    def _stale(self, nodes: list[Node]) -> list[Difference]:
        """Servers that show another certificate than they should."""
        present = self.certificates.present if self.certificates is not None else None
        return [
            Difference(f"certificate of {node.name}", "the present one", "an earlier one", payload=("tls", node.name))
            for node in nodes
            if present is not None and node.shown and node.shown != present.fingerprint
        ]

    def _explain(self, nodes: list[Node]) -> tuple[str, str]:
        trouble = self.trouble()
        if trouble is not None:
            return trouble
        silent = next((node for node in nodes if not node.works), None)
        if silent is None:
            closed = ", ".join(node.name for node in nodes if not is_ready(node.pod))
            return "Starting", f"waiting for {closed} to pass readiness probes"
        return "Starting", f"waiting for {silent.name} to answer" + (f" ({silent.error})" if silent.error else "")

    def _endpoint(self) -> Endpoint:
        return Endpoint(host=self.host, port=self.inputs.service_port)

    def _binding(self) -> Binding:
        where, told = self._endpoint(), dict[str, str]()
        present = self.certificates.present if self.certificates is not None else None
        if present is not None:
            told = {"tls": "true", **({"ca.crt": present.authority} if present.authority else {})}
        nodes = [f"{node.name}.{self.inputs.domain}:{self.inputs.port}" for node in self._nodes()]
        address = Address(where.host, where.port, told, nodes=nodes)
        return Binding("memcached", "chandlery", memcached_entries(address, memcached.USER, self.auth()["password"]))

    def _facts(self, nodes: list[Node]) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": "member",
                "ready": node.works,
                **({"address": f"{node.ip}:{self.inputs.port}"} if node.ip else {}),
                **({"version": node.version} if node.version else {}),
                **({"message": node.error} if node.error else {}),
            }
            for node in nodes
        ]
        version = next((node.version for node in nodes if node.version), "")
        return {
            "engine": "memcached",
            "instances": len(nodes),
            "readyInstances": sum(1 for node in nodes if node.works),
            "members": members,
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
            **({"version": version} if version else {}),
            **({"shards": len(nodes)} if len(nodes) > 1 else {}),
        }

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says."""
        nodes = {node.name: node for node in self._nodes()}
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "auth":
                await self.ensure_auth()
                return
            if what in ("rotate", "expire", "anchor"):
                await self.rotate(change.payload)
                return
            if what == certificates.PAYLOAD and self.certificates is not None:
                if rest:
                    async with await self._connect(nodes[rest[0]]) as client:
                        await client.refresh_certificates()
                else:
                    await self.certificates.ensure()
            elif what == "memory":
                async with await self._connect(nodes[rest[0]]) as client:
                    await client.limit_memory(memcached.megabytes(self.spec))
            else:
                await self.there.act(what, *rest)


def _cost(kind: str, path: str) -> Disruption:
    return Disruption.RESTART if kind == STATEFUL_SETS.kind and ".template" in path else Disruption.NONE
