"""The sidecar that serves a database's metrics: postgres_exporter or mysqld_exporter.

It logs in as a user of its own that reads figures only. Its password stands in a file: as the environment of these
programs names it for PostgreSQL, in an option file that the init container writes for MariaDB.
"""

from __future__ import annotations

from typing import Any

from chandlery.providers.kubernetes import pods
from chandlery.providers.kubernetes.driver import AUTH
from chandlery_kinds.database.kubernetes.inputs import MARIADB_RUN, METRICS_MOUNT, METRICS_USER, PORT, Inputs
from chandlery_kinds.database.model import DatabaseEngine

OPTIONS = "metrics.cnf"


def volumes(inputs: Inputs) -> list[dict[str, Any]]:
    """What the exporter may know: its own password."""
    if not inputs.metrics:
        return []
    if inputs.spec.engine is DatabaseEngine.MARIADB:
        return [{"name": "metrics", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
    items = [{"key": "metrics", "path": "password"}]
    return [
        {"name": "metrics", "secret": {"secretName": inputs.owner.base + AUTH, "defaultMode": 0o440, "items": items}}
    ]


def exporter(inputs: Inputs) -> list[dict[str, Any]]:
    """The container; none without metrics."""
    if not inputs.metrics:
        return []
    listen = f"--web.listen-address=:{inputs.metrics_port}"
    more: dict[str, Any] = {"volumeMounts": [{"name": "metrics", "mountPath": METRICS_MOUNT, "readOnly": True}]}
    if inputs.spec.engine is DatabaseEngine.MARIADB:
        program = pods.program("mysqld_exporter", ["/bin/mysqld_exporter"], inputs.parameters)
        command = [*program, f"--config.my-cnf={METRICS_MOUNT}/{OPTIONS}", listen]
        more["volumeMounts"].append({"name": "run", "mountPath": MARIADB_RUN, "readOnly": True})  # the socket
    else:
        command = [*pods.program("postgres_exporter", ["/bin/postgres_exporter"], inputs.parameters), listen]
        more["env"] = [
            {"name": "DATA_SOURCE_URI", "value": f"localhost:{PORT}/postgres?sslmode=disable"},
            {"name": "DATA_SOURCE_USER", "value": METRICS_USER},
            {"name": "DATA_SOURCE_PASS_FILE", "value": f"{METRICS_MOUNT}/password"},
        ]
    # "/" costs the engine nothing, which every look at the metrics themselves does
    return [pods.sidecar(inputs.exporter, command, inputs.metrics_port, "/", **more)]
