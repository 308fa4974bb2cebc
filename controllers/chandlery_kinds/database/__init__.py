"""Database: PostgreSQL or MariaDB."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery_kinds.database.model import Database

KIND = Kind(
    model=Database,
    drivers={
        "memory": "chandlery_kinds.database.drivers.memory:DatabaseDriver",
        "local": "chandlery_kinds.database.drivers.local:DatabaseDriver",
    },
    operations=("backup", "restore", "rotate"),
    package=__name__,
)
