"""One pass over a load balancer that an implementation of the Gateway API runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.driver.protocol import Binding, Difference, DriverContext, Observation
from chandlery.foundation.errors import FailedPrecondition
from chandlery.model.base import Condition, ConditionStatus, Endpoint
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.types import GATEWAYS, Obj
from chandlery_kinds.loadbalancer.kubernetes.gateway import Backend, gateway, kinds_for, routes
from chandlery_kinds.loadbalancer.listeners import Protocol
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.loadbalancer.pools import KIND_GROUPS, Pool, Target
from chandlery_kinds.loadbalancer.targets import endpoint_of

POLL = 5.0
"""Targets that have no Service yet tell us nothing when they get one."""


class GatewayPass:
    """Everything that one pass does with one load balancer. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: LoadBalancer, there: Children) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.there = there
        self.owner = there.owner

    @classmethod
    async def of(cls, ctx: DriverContext, obj: LoadBalancer) -> GatewayPass:
        """Read what is there.

        Raises:
            FailedPrecondition: the cluster lacks a kind that the spec needs.
        """
        kinds = []
        for kind in kinds_for(obj.spec):
            if await ctx.provider.served(f"{kind.plural}.{kind.group}", kind.version):
                kinds.append(kind)
            elif not obj.metadata.deletion_timestamp:
                raise FailedPrecondition(
                    f"the class wants a Gateway, and this cluster has no {kind.kind} ({kind.api_version})",
                    hint="Install the Gateway API (https://gateway-api.sigs.k8s.io) and an implementation of it; this "
                    "object goes on by itself then.",
                    retry_after=30.0,
                )
        owner = Owner.of(obj, "gateway")
        return cls(ctx, obj, await Children(ctx.provider, owner, kinds).look())

    @property
    def live(self) -> Obj | None:
        return self.there.get(GATEWAYS) if GATEWAYS in self.there.kinds else None

    # -- what is wanted

    async def _backends(self) -> dict[str, list[Backend]]:
        return {str(pool.name): await self._pool(pool) for pool in self.spec.pools}

    async def _pool(self, pool: Pool) -> list[Backend]:
        return [backend for target in pool.targets for backend in await self._target(target)]

    async def _target(self, target: Target) -> Sequence[Backend]:
        """The Services that a target stands for now; what has none yet is left out."""
        reader, namespace = self.ctx.reader, self.owner.namespace
        if target.service is not None:
            return [Backend(target.service.name, target.port or 0, target.weight)]
        if target.object is not None:
            ref = target.object.ref
            found = [await reader.get(ref.group, ref.kind, namespace, target.object.name)]
        else:
            assert target.machines is not None  # addresses are refused
            machines = target.machines.match_labels
            found = list(await reader.list(KIND_GROUPS["VirtualMachine"], "VirtualMachine", namespace, machines))
            found.sort(key=lambda obj: str((obj or {})["metadata"]["name"]))
        backends = []
        for obj in found:
            endpoint = endpoint_of(obj, target.port)
            service = _service(endpoint[0], namespace) if endpoint is not None else ""
            if endpoint is not None and service:
                backends.append(Backend(service, endpoint[1], target.weight))
        return backends

    async def _wanted(self) -> tuple[list[Obj], dict[str, list[Backend]]]:
        backends = await self._backends()
        name = self.ctx.parameters.gateway.class_name
        return [gateway(self.owner, self.spec, name), *routes(self.owner, self.spec, backends)], backends

    # -- the four verbs

    async def create(self) -> None:
        manifests, _ = await self._wanted()
        for change in self.there.differences(manifests):
            await self.there.act(*change.payload)

    async def update(self, observed: Observation) -> None:
        for change in observed.plan.changes:
            await self.there.act(*change.payload)

    async def delete(self) -> bool:
        return await self.there.remove()

    async def observe(self) -> Observation:
        live = self.live
        if live is None:
            return Observation(exists=False, external_name=self.owner.identity)
        manifests, backends = await self._wanted()
        found: list[Difference] = self.there.differences(manifests)
        address = self._address()
        wrong = self._wrong(live, manifests) or ([] if address else ["the Gateway has no address yet"])
        host = str(self.spec.exposure.hostname or address)
        return Observation(
            exists=True,
            ready=not wrong,
            reason="" if not wrong else "Starting",
            message="" if not wrong else wrong[0],
            differences=tuple(found),
            external_name=self.owner.identity,
            endpoint=Endpoint(host=host, port=self.spec.listeners[0].port) if host else None,
            binding=self._binding(host) if host else None,
            facts=self._facts(live, address, backends),
            conditions=(self._targets(backends),),
            poll_after=POLL if wrong or not all(backends.values()) else None,
        )

    def _address(self) -> str:
        for entry in ((self.live or {}).get("status") or {}).get("addresses") or ():
            return str(entry.get("value") or "")
        return ""

    def _wrong(self, live: Obj, manifests: Sequence[Obj]) -> list[str]:
        """What keeps it from serving, in the implementation's words."""
        found = []
        name, status = live["spec"]["gatewayClassName"], live.get("status") or {}
        for kind in ("Accepted", "Programmed"):
            if (why := _missing(status.get("conditions") or (), kind, live)) is not None:
                found.append(f"GatewayClass {name}: {why}")
        for manifest in manifests[1:]:
            route = self.there.live.get((manifest["kind"], manifest["metadata"]["name"]))
            parents = ((route or {}).get("status") or {}).get("parents") or ()
            told = [c for parent in parents for c in parent.get("conditions") or ()]
            for kind in ("Accepted", "ResolvedRefs"):
                if (why := _missing(told, kind, route)) is not None:
                    found.append(f"{manifest['kind']} {manifest['metadata']['name']}: {why}")
        return found

    def _targets(self, backends: Mapping[str, Sequence[Backend]]) -> Condition:
        """Whether each pool leads somewhere; how well the targets are, only the implementation knows."""
        without = [name for name, found in backends.items() if not found]
        return Condition(
            type="TargetsHealthy",
            status=ConditionStatus.FALSE if without else ConditionStatus.TRUE,
            reason="NoTarget" if without else "AllPoolsLeadSomewhere",
            message=f"No target has a Service yet in {', '.join(without)}." if without else "",
        )

    def _facts(self, live: Obj, address: str, backends: Mapping[str, Sequence[Backend]]) -> dict[str, Any]:
        told = {entry.get("name"): entry for entry in (live.get("status") or {}).get("listeners") or ()}
        listeners = []
        for x in self.spec.listeners:
            conditions = told.get(str(x.name), {}).get("conditions") or ()
            why = _missing(conditions, "Programmed", None)
            entry: dict[str, Any] = {"name": str(x.name), "ready": why is None, "port": x.port}
            listeners.append(entry if why is None else {**entry, "message": why})
        pools = []
        for pool in self.spec.pools:
            members = [
                {"name": f"{b.service}:{b.port}", "address": f"{b.service}:{b.port}", "healthy": True}
                for b in backends.get(str(pool.name), ())
            ]
            entry = {"name": str(pool.name), "targets": len(members), "healthyTargets": len(members)}
            pools.append({**entry, "members": members})
        total = sum(len(found) for found in backends.values())
        return {
            "engine": f"gateway/{live['spec']['gatewayClassName']}",
            "address": address or None,
            "listeners": listeners,
            "pools": pools,
            "targets": total,
            "healthyTargets": total,
        }

    def _binding(self, host: str) -> Binding:
        first = self.spec.listeners[0]
        scheme = {Protocol.HTTP: "http", Protocol.HTTPS: "https"}.get(first.protocol, "tcp")
        entries = {"host": host, "port": str(first.port), "uri": f"{scheme}://{host}:{first.port}"}
        for listener in self.spec.listeners:
            entries[f"{listener.name}-port"] = str(listener.port)
        return Binding(scheme, "chandlery", entries)


def _service(host: str, namespace: str) -> str:
    """The Service of the same namespace that a host name stands for; empty when it is none."""
    name, _, rest = host.partition(".")
    return name if rest == f"{namespace}.svc" or rest.startswith(f"{namespace}.svc.") else ""


def _missing(conditions: Sequence[Mapping[str, Any]], kind: str, obj: Obj | None) -> str | None:
    """Why a condition doesn't hold for the present generation; None when it does."""
    for condition in conditions:
        if condition.get("type") != kind:
            continue
        generation = condition.get("observedGeneration")
        if obj is not None and generation is not None and generation < obj["metadata"]["generation"]:
            return "the change has not been taken up yet"
        if condition.get("status") == "True":
            return None
        words = [str(condition.get("reason") or kind), str(condition.get("message") or "")]
        return ": ".join(word for word in words if word)
    return f"not {kind} yet"
