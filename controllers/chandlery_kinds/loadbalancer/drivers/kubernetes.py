"""Load balancers as HAProxy Deployments on Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Observation, Unsupported
from chandlery.model.parts import ExposureType
from chandlery_kinds.loadbalancer.drivers.kubernetes_haproxy import HaproxyPods
from chandlery_kinds.loadbalancer.kubernetes.inputs import ADMIN_PORT, HEALTH_PORT
from chandlery_kinds.loadbalancer.model import LoadBalancer


class LoadBalancerDriver:
    """The `kubernetes` driver of LoadBalancer."""

    name: ClassVar[str] = "kubernetes"
    permissions: ClassVar[tuple[Rule, ...]] = (
        Rule(("",), ("services", "secrets"), ("get", "list", "watch", "create", "patch", "delete")),
        Rule(("",), ("pods",), ("get", "list", "watch")),
        Rule(("apps",), ("deployments",), ("get", "list", "watch", "create", "patch", "delete")),
        Rule(("policy",), ("poddisruptionbudgets",), ("get", "list", "watch", "create", "patch", "delete")),
    )

    def unsupported(self, obj: LoadBalancer, parameters: Mapping[str, Any]) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []
        if spec.metrics is not None and spec.metrics.enabled:
            found.append(Unsupported("spec.metrics", "set", "load balancers on Kubernetes have no exporter yet"))
        if spec.adopt is not None:
            found.append(Unsupported("spec.adopt", "set", "workloads that something else made can't be taken over"))
        if spec.exposure.allowed_cidrs and spec.exposure.type is not ExposureType.LOAD_BALANCER:
            why = "only a Service of type LoadBalancer can restrict who connects; a listener's allowedCidrs always can"
            found.append(Unsupported("spec.exposure.allowedCidrs", "set", why))
        for listener in spec.listeners:
            if listener.port in (ADMIN_PORT, HEALTH_PORT):
                why = "the port is taken by the driver's own connection to HAProxy"
                found.append(Unsupported(f"spec.listeners[{listener.name}].port", str(listener.port), why))
        return found

    async def observe(self, ctx: DriverContext, obj: LoadBalancer) -> Observation:
        return await (await HaproxyPods.of(ctx, obj)).observe()

    async def create(self, ctx: DriverContext, obj: LoadBalancer) -> None:
        await (await HaproxyPods.of(ctx, obj)).create()

    async def update(self, ctx: DriverContext, obj: LoadBalancer, observed: Observation) -> None:
        await (await HaproxyPods.of(ctx, obj)).update(observed)

    async def delete(self, ctx: DriverContext, obj: LoadBalancer) -> bool:
        return await (await HaproxyPods.of(ctx, obj)).there.remove()
