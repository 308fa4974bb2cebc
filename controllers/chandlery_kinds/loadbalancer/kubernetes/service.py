"""Before HAProxy: the Service with one port for each listener and an address that stays; a NetworkPolicy on request."""

from __future__ import annotations

from typing import Any

from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.network import Doors, network_policy
from chandlery.providers.kubernetes.types import SERVICES, Obj
from chandlery_kinds.loadbalancer.kubernetes.inputs import ADMIN_PORT, HEALTH_PORT, Inputs


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


def policy(inputs: Inputs) -> list[Obj]:
    """The NetworkPolicy, where the spec or the class asks for one; the runtime API is for the operator alone."""
    exposure = inputs.spec.exposure
    # A load balancer in front restricts by itself, with the clients' own addresses.
    cidrs = () if exposure.type is ExposureType.LOAD_BALANCER else exposure.allowed_cidrs
    doors = Doors(clients=[x.port for x in inputs.spec.listeners], operator=[ADMIN_PORT, HEALTH_PORT])
    return network_policy(inputs.owner, doors, cidrs=cidrs, asked=inputs.parameters.network_policy)
