"""The Services of a cache: clients' (always the primary), readers' (all in step), and the pods' own names."""

from __future__ import annotations

from typing import Any

from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.types import ROLE, SERVICES, Obj
from chandlery_kinds.cache.kubernetes.inputs import Inputs
from chandlery_kinds.cache.kubernetes.statefulset import HEADLESS

READ = "-read"


def services(inputs: Inputs) -> list[Obj]:
    """All of them. The read Service exists where there are copies."""
    found = [_client(inputs), _headless(inputs)]
    if inputs.replicated:
        found.append(_read(inputs))
    return found


def _client(inputs: Inputs) -> Obj:
    exposure = inputs.spec.exposure
    port: dict[str, Any] = {
        "name": "cache",
        "port": inputs.service_port,
        "targetPort": "cache",
        "protocol": "TCP",
    }
    spec: dict[str, Any] = {"type": "ClusterIP", "selector": _selector(inputs, "primary"), "ports": [port]}
    if exposure.type is not ExposureType.INTERNAL:
        spec["type"] = exposure.type.value
        if exposure.node_port:
            port["nodePort"] = exposure.node_port
        if exposure.type is ExposureType.LOAD_BALANCER:
            if exposure.load_balancer_class:
                spec["loadBalancerClass"] = exposure.load_balancer_class
            if exposure.allowed_cidrs:
                spec["loadBalancerSourceRanges"] = [str(cidr) for cidr in exposure.allowed_cidrs]
    service = inputs.owner.child(SERVICES, spec=spec)
    if exposure.annotations:
        service["metadata"]["annotations"] = dict(exposure.annotations)
    return service


def _selector(inputs: Inputs, role: str) -> dict[str, str]:
    """A lone instance needs no label of its role: it serves also while no operator runs."""
    return {**inputs.owner.selector, **({ROLE: role} if inputs.replicated else {})}


def _read(inputs: Inputs) -> Obj:
    """Copies that are ready, which means in step; the primary too where no copy is asked for."""
    port = {"name": "cache", "port": inputs.service_port, "targetPort": "cache", "protocol": "TCP"}
    return inputs.owner.child(
        SERVICES, READ, spec={"type": "ClusterIP", "selector": _selector(inputs, "replica"), "ports": [port]}
    )


def _headless(inputs: Inputs) -> Obj:
    port = {"name": "cache", "port": inputs.port, "targetPort": "cache", "protocol": "TCP"}
    return inputs.owner.child(
        SERVICES,
        HEADLESS,
        spec={
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": inputs.owner.selector,
            "ports": [port],
        },
    )
