"""The Services of a cache: clients' (always the primary), readers' (all in step), and the pods' own names."""

from __future__ import annotations

from chandlery.providers.kubernetes.services import client_service, headless_service, port
from chandlery.providers.kubernetes.types import ROLE, SERVICES, Obj
from chandlery_kinds.cache.kubernetes.inputs import TLS_PORT, Inputs

READ = "-read"


def services(inputs: Inputs) -> list[Obj]:
    """All of them. The read Service exists where there are copies of one primary."""
    owner, ports = inputs.owner, _ports(inputs)
    own = [port("cache", inputs.port)]
    if inputs.sharded and inputs.spec.engine.value != "memcached":
        own.append(port("bus", inputs.port + 10000))
    found = [
        client_service(owner, inputs.spec.exposure, ports, _selector(inputs, "primary")),
        headless_service(owner, own),
    ]
    if inputs.replicated:
        spec = {"type": "ClusterIP", "selector": _selector(inputs, "replica"), "ports": ports}
        found.append(owner.child(SERVICES, READ, spec=spec))
    return found


def _ports(inputs: Inputs) -> list[Obj]:
    found = [port("cache", inputs.service_port)]
    if inputs.tls is not None and not inputs.only_tls:
        found.append(port("tls", TLS_PORT))
    return found


def _selector(inputs: Inputs, role: str) -> dict[str, str]:
    """A lone instance needs no label of its role: it serves also while no operator runs."""
    return {**inputs.owner.selector, **({ROLE: role} if inputs.replicated else {})}
