"""The Service before HAProxy: one port for each listener, an address that stays."""

from __future__ import annotations

from typing import Any

from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.types import SERVICES, Obj
from chandlery_kinds.loadbalancer.kubernetes.inputs import Inputs


def service(inputs: Inputs) -> Obj:
    """The manifest."""
    exposure, ip = inputs.spec.exposure, inputs.spec.address.ip
    ports: list[dict[str, Any]] = [
        {"name": f"p-{x.port}", "port": x.port, "targetPort": f"p-{x.port}", "protocol": "TCP"}
        for x in inputs.spec.listeners
    ]
    spec: dict[str, Any] = {"type": "ClusterIP", "selector": inputs.owner.selector, "ports": ports}
    if exposure.type is not ExposureType.INTERNAL:
        spec |= {"type": exposure.type.value, "externalTrafficPolicy": "Cluster"}
        if exposure.node_port:
            ports[0]["nodePort"] = exposure.node_port
    if exposure.type is ExposureType.LOAD_BALANCER:
        if exposure.load_balancer_class:
            spec["loadBalancerClass"] = exposure.load_balancer_class
        if exposure.allowed_cidrs:
            spec["loadBalancerSourceRanges"] = [str(cidr) for cidr in exposure.allowed_cidrs]
        if ip:
            spec["loadBalancerIP"] = str(ip)
    elif ip:
        spec["clusterIP"] = str(ip)
    made = inputs.owner.child(SERVICES, spec=spec)
    if exposure.annotations:
        made["metadata"]["annotations"] = dict(exposure.annotations)
    return made
