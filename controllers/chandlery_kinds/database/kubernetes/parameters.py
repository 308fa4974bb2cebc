"""What a ResourceClass may say to the `kubernetes` driver of Database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from chandlery.driver.parameters import OneOf
from chandlery.providers.kubernetes.parameters import Image, Program, WorkloadParameters

_IMAGES: Final = OneOf("postgres", "mariadb", "postgres-exporter", "mysqld-exporter", "pgbouncer")
_PROGRAMS: Final = OneOf("postgres_exporter", "mysqld_exporter", "pgbouncer")


class DatabaseParameters(WorkloadParameters):
    """Images, programs and who may connect."""

    images: Annotated[
        Mapping[Annotated[str, _IMAGES], Image],
        Field(description="Images by name; they win over `image`."),
    ] = Field(default_factory=dict)
    commands: Annotated[
        Mapping[Annotated[str, _PROGRAMS], Program],
        Field(description="How a program is started where an image has it in another place: a list of words."),
    ] = Field(default_factory=dict)
