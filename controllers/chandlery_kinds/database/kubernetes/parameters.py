"""What a ResourceClass may say to the `kubernetes` driver of Database."""

from __future__ import annotations

from typing import Annotated

from chandlery.driver.parameters import OneOf
from chandlery.providers.kubernetes.parameters import WorkloadParameters

ImageName = Annotated[
    str, OneOf("postgres", "mariadb", "postgres-exporter", "mysqld-exporter", "pgbouncer", "chandlery")
]
ProgramName = Annotated[str, OneOf("postgres_exporter", "mysqld_exporter", "pgbouncer", "chandlery-python")]


class DatabaseParameters(WorkloadParameters[ImageName, ProgramName]):
    """Images, programs and who may connect."""
