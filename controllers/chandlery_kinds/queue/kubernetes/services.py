"""The Services of a queue: clients' and the servers' own names."""

from __future__ import annotations

from typing import Any

from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.types import SERVICES, Obj
from chandlery_kinds.queue.kubernetes.config import HEADLESS
from chandlery_kinds.queue.kubernetes.inputs import CLUSTER_PORT, PORT, Inputs


def services(inputs: Inputs) -> list[Obj]:
    """Both of them."""
    exposure, owner = inputs.spec.exposure, inputs.owner
    port: dict[str, Any] = {
        "name": "client",
        "port": inputs.service_port,
        "targetPort": "client",
        "protocol": "TCP",
    }
    spec: dict[str, Any] = {"type": "ClusterIP", "selector": owner.selector, "ports": [port]}
    if exposure.type is not ExposureType.INTERNAL:
        spec["type"] = exposure.type.value
        if exposure.node_port:
            port["nodePort"] = exposure.node_port
        if exposure.type is ExposureType.LOAD_BALANCER:
            if exposure.load_balancer_class:
                spec["loadBalancerClass"] = exposure.load_balancer_class
            if exposure.allowed_cidrs:
                spec["loadBalancerSourceRanges"] = [str(cidr) for cidr in exposure.allowed_cidrs]
    client = owner.child(SERVICES, spec=spec)
    if exposure.annotations:
        client["metadata"]["annotations"] = dict(exposure.annotations)
    headless = owner.child(
        SERVICES,
        HEADLESS,
        spec={
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": owner.selector,
            "ports": [
                {"name": "client", "port": PORT, "targetPort": "client", "protocol": "TCP"},
                {"name": "cluster", "port": CLUSTER_PORT, "targetPort": CLUSTER_PORT, "protocol": "TCP"},
            ],
        },
    )
    return [client, headless]
