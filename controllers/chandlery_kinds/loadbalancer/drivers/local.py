"""Load balancers as HAProxy processes on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.protocol import DriverContext, Observation, Unsupported, external_name
from chandlery.providers.local import Instance, LocalProvider
from chandlery_kinds.loadbalancer.drivers.local_haproxy import HaproxyServer
from chandlery_kinds.loadbalancer.model import LoadBalancer


class LoadBalancerDriver:
    """The `local` driver of LoadBalancer."""

    name: ClassVar[str] = "local"

    def unsupported(self, obj: LoadBalancer, parameters: Mapping[str, Any]) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []

        def no(field: str, value: object, why: str) -> None:
            found.append(Unsupported(field, str(value), why))

        if spec.replicas > 1:
            no("spec.replicas", spec.replicas, "on this machine one instance serves all listeners")
        if spec.exposure.type.value != "Internal":
            no("spec.exposure.type", spec.exposure.type.value, "load balancers on this machine listen on loopback only")
        if spec.metrics is not None:
            no("spec.metrics", "set", "there is no exporter for this machine")
        if spec.address.ip is not None and not spec.address.ip.startswith("127."):
            no("spec.address.ip", spec.address.ip, "load balancers on this machine listen on loopback only: 127.x.y.z")
        return found

    async def observe(self, ctx: DriverContext, obj: LoadBalancer) -> Observation:
        instance = _instance(ctx, obj)
        if not instance.exists:
            return Observation(exists=False, external_name=instance.name)
        return await HaproxyServer(ctx, obj, instance).observe()

    async def create(self, ctx: DriverContext, obj: LoadBalancer) -> None:
        instance = _instance(ctx, obj)
        meta = obj.metadata
        instance.create(kind=obj.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid)
        await HaproxyServer(ctx, obj, instance).create()

    async def update(self, ctx: DriverContext, obj: LoadBalancer, observed: Observation) -> None:
        await HaproxyServer(ctx, obj, _instance(ctx, obj)).update(observed)

    async def delete(self, ctx: DriverContext, obj: LoadBalancer) -> bool:
        """A load balancer holds no data: there is nothing to retain but the address, which is loopback here."""
        await _instance(ctx, obj).remove()
        return True


def _instance(ctx: DriverContext, obj: LoadBalancer) -> Instance:
    provider: LocalProvider = ctx.provider
    return provider.instance(external_name(obj))
