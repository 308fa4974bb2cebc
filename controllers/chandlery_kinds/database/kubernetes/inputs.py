"""What the manifests of a single PostgreSQL are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery_kinds.database.model import Database, DatabaseSpec

PORT: Final = 5432
MOUNT: Final = "/etc/chandlery"
"""Configuration."""
SECRET: Final = "/run/chandlery-admin"  # noqa: S105
"""The driver's own password, for the container that makes the data."""
DATA: Final = "/var/lib/chandlery"
BACKUPS: Final = "/backups"
RUN: Final = "/run/postgres"
"""Unix socket."""

FIND: Final = "for d in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do PATH=$PATH:$d; done\n"
"""Where distributions keep the programs, for images that don't have them in PATH."""
STOP_SECONDS: Final = 90
MARK: Final = "chandlery-backup"
"""In the folder of a backup that is whole."""

_MIB: Final = 2**20
DEFAULT_MEMORY: Final = 512 * _MIB
NEWEST: Final = "18"
_REPOSITORY: Final = "docker.io/library/postgres"
_RELEASES: Final = {"18": "18.6", "17": "17.11", "16": "16.15", "15": "15.19"}
"""Newest release of each major version that this operator knows."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The spec, whose children they are, and what class and chart say."""

    owner: Owner
    spec: DatabaseSpec
    image: str
    image_said: str
    """What people said of the image; empty when it is our own choice, which a newer operator may make otherwise."""
    pull_secrets: tuple[str, ...] = ()
    restore: Mapping[str, str] | None = None
    """The backup that the data begin with: claim, path, name (the newest without)."""

    @classmethod
    def of(
        cls,
        obj: Database,
        parameters: Mapping[str, Any],
        catalogue: Mapping[str, str],
        pull_secrets: Sequence[str] = (),
        *,
        major: str = "",
        restore: Mapping[str, str] | None = None,
    ) -> Inputs:
        """`major` is that of the data which are there already: no newer one can read them."""
        version = str(obj.spec.version or major or NEWEST)
        default = f"{_REPOSITORY}:{_RELEASES.get(version, version)}"
        chosen, said = image("postgres", default, parameters, catalogue)
        secrets = tuple(parameters.get("pullSecrets") or pull_secrets)
        return cls(Owner.of(obj, "postgresql"), obj.spec, chosen, said, secrets, restore)

    @property
    def service_port(self) -> int:
        """What clients connect to."""
        return self.spec.exposure.port or PORT

    @property
    def memory(self) -> int:
        """Bytes that the container may use; PostgreSQL's buffers follow from it."""
        limits = self.spec.resources.limits
        return limits.memory.bytes if limits is not None and limits.memory is not None else DEFAULT_MEMORY

    @property
    def asked(self) -> dict[str, Any]:
        """Everything about the pod template that people decide."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        names = ("engine", "version", "placement", "resources", "initialization")
        return {
            **{name: spec[name] for name in names if name in spec},
            "image": self.image_said,
            **({"restore": dict(self.restore)} if self.restore else {}),
            "pullSecrets": list(self.pull_secrets),
        }
