"""The Service that leads to a machine's forwards."""

from __future__ import annotations

from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.services import client_service
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.virtualmachine.kubernetes.inputs import Inputs
from chandlery_kinds.virtualmachine.spec_parts import PortForward


def port_of(forward: PortForward) -> int:
    """Port of the Service."""
    return forward.host_port or forward.guest_port


def services(inputs: Inputs) -> list[Obj]:
    """One with a port for each forward; none without forwards."""
    exposure = inputs.spec.exposure
    ports = [
        {
            "name": str(forward.name)[:15].rstrip("-"),
            "port": port_of(forward),
            "targetPort": forward.guest_port,
            "protocol": forward.protocol.value,
        }
        for forward in inputs.spec.network.forwards
    ]
    if not ports:
        return []
    made = client_service(inputs.owner, exposure, ports)
    if exposure.type is not ExposureType.INTERNAL:
        made["spec"]["externalTrafficPolicy"] = "Cluster"
    return [made]
