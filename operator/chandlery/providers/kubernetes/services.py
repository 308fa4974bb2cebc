"""Services: the one that clients connect to, and the pods' own names. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.model.parts import Exposure, ExposureType
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.types import SERVICES, Obj

HEADLESS = "-nodes"


def port(name: str, number: int, target: str | int = "") -> dict[str, Any]:
    """A port of a Service; by default it leads to the containers' port of the same name."""
    return {"name": name, "port": number, "targetPort": target or name, "protocol": "TCP"}


def client_service(
    owner: Owner, exposure: Exposure, ports: Sequence[Obj], selector: Mapping[str, str] | None = None
) -> Obj:
    """What clients connect to, exposed as the spec says; a given nodePort is that of the first port."""
    ports = [dict(one) for one in ports]
    spec: dict[str, Any] = {"type": "ClusterIP", "selector": dict(selector or owner.selector), "ports": ports}
    if exposure.type is not ExposureType.INTERNAL:
        spec["type"] = exposure.type.value
        if exposure.node_port:
            ports[0]["nodePort"] = exposure.node_port
        if exposure.type is ExposureType.LOAD_BALANCER:
            if exposure.load_balancer_class:
                spec["loadBalancerClass"] = exposure.load_balancer_class
            if exposure.allowed_cidrs:
                spec["loadBalancerSourceRanges"] = [str(cidr) for cidr in exposure.allowed_cidrs]
    service = owner.child(SERVICES, spec=spec)
    if exposure.annotations:
        service["metadata"]["annotations"] = dict(exposure.annotations)
    return service


def headless_service(owner: Owner, ports: Sequence[Obj], suffix: str = HEADLESS) -> Obj:
    """Names for the pods themselves, also for those that aren't ready: members find one another while they start."""
    return owner.child(
        SERVICES,
        suffix,
        spec={
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": owner.selector,
            "ports": list(ports),
        },
    )
