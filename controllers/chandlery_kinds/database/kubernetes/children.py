"""All children of a single PostgreSQL but its StatefulSet, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.network import Doors, network_policy
from chandlery.providers.kubernetes.services import client_service, headless_service, port
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.database.kubernetes.backup import cron_job
from chandlery_kinds.database.kubernetes.config import config
from chandlery_kinds.database.kubernetes.inputs import PORT, Inputs


def children(inputs: Inputs, parameters: Mapping[str, Any]) -> list[Obj]:
    """Clients' Service needs no label of a role: it serves also while no operator runs."""
    exposure = inputs.spec.exposure
    # A load balancer restricts by itself, with the clients' own addresses.
    cidrs = () if exposure.type is ExposureType.LOAD_BALANCER else exposure.allowed_cidrs
    return [
        config(inputs),
        client_service(inputs.owner, exposure, [port("postgres", inputs.service_port)]),
        headless_service(inputs.owner, [port("postgres", PORT)]),
        *(cron_job(inputs, inputs.spec.backup) if inputs.spec.backup is not None else ()),
        *network_policy(inputs.owner, Doors(clients=[PORT]), cidrs=cidrs, parameters=parameters),
    ]
