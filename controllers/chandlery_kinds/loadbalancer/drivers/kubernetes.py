"""Load balancers on Kubernetes: HAProxy Deployments, or Gateways where the class says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.providers.kubernetes.driver import KubernetesDriver, Pass, child_rules
from chandlery_kinds.loadbalancer.drivers.kubernetes_gateway import GatewayPass
from chandlery_kinds.loadbalancer.drivers.kubernetes_haproxy import HaproxyPods
from chandlery_kinds.loadbalancer.kubernetes.gateway_limits import limits
from chandlery_kinds.loadbalancer.kubernetes.inputs import ADMIN_PORT, HEALTH_PORT
from chandlery_kinds.loadbalancer.kubernetes.parameters import LoadBalancerParameters
from chandlery_kinds.loadbalancer.model import LoadBalancer


class LoadBalancerDriver(KubernetesDriver[LoadBalancer, LoadBalancerParameters]):
    """The `kubernetes` driver of LoadBalancer."""

    parameters: ClassVar[type[LoadBalancerParameters]] = LoadBalancerParameters
    permissions: ClassVar[tuple[Rule, ...]] = (
        *child_rules(
            ("", ("services", "secrets")),
            ("apps", ("deployments",)),
            ("policy", ("poddisruptionbudgets",)),
            ("networking.k8s.io", ("networkpolicies",)),
            ("gateway.networking.k8s.io", ("gateways", "httproutes", "tlsroutes", "tcproutes")),
        ),
        Rule(("",), ("pods",), ("list", "watch", "delete")),
        Rule(("apiextensions.k8s.io",), ("customresourcedefinitions",), ("get",)),
    )

    def refused(self, obj: LoadBalancer, parameters: LoadBalancerParameters) -> Iterator[Unsupported]:
        spec = obj.spec
        if parameters.gateway is not None:
            yield from limits(spec)
            return
        if spec.metrics is not None and spec.metrics.enabled:
            yield Unsupported("spec.metrics", "set", "load balancers on Kubernetes have no exporter yet")
        for listener in spec.listeners:
            if listener.port in (ADMIN_PORT, HEALTH_PORT):
                why = "the port is taken by the driver's own connection to HAProxy"
                yield Unsupported(f"spec.listeners[{listener.name}].port", str(listener.port), why)

    async def begin(self, ctx: DriverContext, obj: LoadBalancer) -> Pass:
        if ctx.parameters.gateway is not None:
            return await GatewayPass.of(ctx, obj)
        return await HaproxyPods.of(ctx, obj)
