"""The Services of a single PostgreSQL: clients', and the one that gives the pod its name."""

from __future__ import annotations

from typing import Any

from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.types import SERVICES, Obj
from chandlery_kinds.database.kubernetes.inputs import PORT, Inputs
from chandlery_kinds.database.kubernetes.statefulset import HEADLESS


def services(inputs: Inputs) -> list[Obj]:
    """All of them. Clients' Service needs no label of a role: it serves also while no operator runs."""
    exposure = inputs.spec.exposure
    port: dict[str, Any] = {
        "name": "postgres",
        "port": inputs.service_port,
        "targetPort": "postgres",
        "protocol": "TCP",
    }
    spec: dict[str, Any] = {"type": "ClusterIP", "selector": inputs.owner.selector, "ports": [port]}
    if exposure.type is not ExposureType.INTERNAL:
        spec["type"] = exposure.type.value
        if exposure.node_port:
            port["nodePort"] = exposure.node_port
    if exposure.type is ExposureType.LOAD_BALANCER:
        if exposure.load_balancer_class:
            spec["loadBalancerClass"] = exposure.load_balancer_class
        if exposure.allowed_cidrs:
            spec["loadBalancerSourceRanges"] = [str(cidr) for cidr in exposure.allowed_cidrs]
    clients = inputs.owner.child(SERVICES, spec=spec)
    if exposure.annotations:
        clients["metadata"]["annotations"] = dict(exposure.annotations)
    headless = inputs.owner.child(
        SERVICES,
        HEADLESS,
        spec={
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": inputs.owner.selector,
            "ports": [{"name": "postgres", "port": PORT, "targetPort": "postgres", "protocol": "TCP"}],
        },
    )
    return [clients, headless]
