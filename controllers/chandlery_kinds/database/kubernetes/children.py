"""All children of a single database but its StatefulSet, in the order in which they are made."""

from __future__ import annotations

from chandlery.model.parts import Exposure
from chandlery.providers.kubernetes.metrics import metrics_children
from chandlery.providers.kubernetes.network import Doors, cidrs_of, network_policy
from chandlery.providers.kubernetes.services import client_service, headless_service, port
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.database.kubernetes import mariadb_config
from chandlery_kinds.database.kubernetes.backup import cron_job
from chandlery_kinds.database.kubernetes.config import config
from chandlery_kinds.database.kubernetes.inputs import Inputs
from chandlery_kinds.database.model import DatabaseEngine


def children(inputs: Inputs, *, monitors: bool = False) -> list[Obj]:
    """Clients' Service needs no label of a role: it serves also while no operator runs."""
    exposure = inputs.spec.exposure
    maria = inputs.spec.engine is DatabaseEngine.MARIADB
    name = "mariadb" if maria else "postgres"
    doors = Doors(clients=[inputs.port], metrics=[inputs.metrics_port] if inputs.metrics else [])
    if inputs.pooled:
        exposure = Exposure()  # clients come to the pooler; this one leads it, and backups, to the engine
    number = inputs.port if inputs.pooled else inputs.service_port
    return [
        mariadb_config.config(inputs) if maria else config(inputs),
        client_service(inputs.owner, exposure, [port(name, number)]),
        headless_service(inputs.owner, [port(name, inputs.port)]),
        *(cron_job(inputs, inputs.spec.backup) if inputs.spec.backup is not None else ()),
        *metrics_children(inputs.owner, inputs.spec.metrics, inputs.metrics_port, monitors=monitors),
        *network_policy(
            inputs.owner, doors, cidrs=cidrs_of(inputs.spec.exposure), asked=inputs.parameters.network_policy
        ),
    ]
