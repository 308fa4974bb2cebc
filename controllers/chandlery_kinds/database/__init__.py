"""Database: PostgreSQL or MariaDB."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery.model.references import secret_references
from chandlery_kinds.database.model import Database

KIND = Kind(
    model=Database,
    drivers={
        "memory": "chandlery_kinds.database.drivers.memory:DatabaseDriver",
        "local": "chandlery_kinds.database.drivers.local:DatabaseDriver",
        "kubernetes": "chandlery_kinds.database.drivers.kubernetes:DatabaseDriver",
    },
    references=secret_references,
    operations=("backup", "restore", "rotate"),
    package=__name__,
)
