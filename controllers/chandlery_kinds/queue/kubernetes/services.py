"""The Services of a queue: clients' and the servers' own names."""

from __future__ import annotations

from chandlery.providers.kubernetes.services import client_service, headless_service, port
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.queue.kubernetes.inputs import CLUSTER_PORT, PORT, Inputs


def services(inputs: Inputs) -> list[Obj]:
    """Both of them."""
    own = [port("client", PORT), port("cluster", CLUSTER_PORT, CLUSTER_PORT)]
    return [
        client_service(inputs.owner, inputs.spec.exposure, [port("client", inputs.service_port)]),
        headless_service(inputs.owner, own),
    ]
