"""What the manifests of a database in a pod of ours are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from chandlery.model.parts import ClientAuthentication, Tls
from chandlery.providers.kubernetes import metrics
from chandlery.providers.kubernetes.backup import program_image
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery.providers.kubernetes.services import HEADLESS
from chandlery_kinds.database.kubernetes.parameters import DatabaseParameters
from chandlery_kinds.database.model import Database, DatabaseEngine, DatabaseSpec

PORT: Final = 5432
MARIADB_PORT: Final = 3306
MOUNT: Final = "/etc/chandlery"
"""Configuration."""
SECRET: Final = "/run/chandlery-admin"  # noqa: S105
"""The driver's own passwords, for the container that makes the data."""
TLS_MOUNT: Final = "/etc/chandlery-tls"
METRICS_MOUNT: Final = "/etc/chandlery-metrics"
METRICS_USER: Final = "chandlery_metrics"
DATA: Final = "/var/lib/chandlery"
RUN: Final = "/run/postgres"
"""Unix socket."""
MARIADB_RUN: Final = "/run/mariadb"

FIND: Final = "for d in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do PATH=$PATH:$d; done\n"
"""Where distributions keep the programs, for images that don't have them in PATH."""
STOP_SECONDS: Final = 90

_MIB: Final = 2**20
DEFAULT_MEMORY: Final = 512 * _MIB


_PGBOUNCER: Final = "ghcr.io/cloudnative-pg/pgbouncer:1.25.1"


class EngineFacts(NamedTuple):
    """What is built in about an engine."""

    app: str
    """As the label app.kubernetes.io/name has it."""
    port: int
    repository: str
    newest: str
    releases: Mapping[str, str]
    """Newest release of each line that this operator knows."""
    exporter: str
    """Key of the exporter's image."""
    exporter_image: str
    metrics_port: int


ENGINES: Final = {
    DatabaseEngine.POSTGRES: EngineFacts(
        "postgresql",
        PORT,
        "docker.io/library/postgres",
        "18",
        {"18": "18.6", "17": "17.11", "16": "16.15", "15": "15.19"},
        "postgres-exporter",
        "quay.io/prometheuscommunity/postgres-exporter:v0.18.1",
        9187,
    ),
    DatabaseEngine.MARIADB: EngineFacts(
        "mariadb",
        MARIADB_PORT,
        "docker.io/library/mariadb",
        "11.8",
        {"12.3": "12.3.3", "11.8": "11.8.9"},
        "mysqld-exporter",
        "docker.io/prom/mysqld-exporter:v0.18.0",
        9104,
    ),
}


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
    """The backup that the data begin with, and the image of the program that reads it: as it was put on record."""
    exporter: str = ""
    exporter_said: str = ""
    parameters: DatabaseParameters = field(default_factory=DatabaseParameters)
    pooler: str = ""
    pooler_said: str = ""
    applied: Mapping[str, str] | None = None
    """Settings in MariaDB's file; by default those of the spec."""
    tool: str = ""
    """The image with our own program, for backups."""

    @classmethod
    def of(
        cls,
        obj: Database,
        parameters: DatabaseParameters,
        catalogue: Mapping[str, str],
        pull_secrets: Sequence[str] = (),
        *,
        major: str = "",
        restore: Mapping[str, str] | None = None,
    ) -> Inputs:
        """`major` is that of the data which are there already: no newer one can read them."""
        facts = ENGINES[obj.spec.engine]
        version = str(obj.spec.version or major or facts.newest)
        default = f"{facts.repository}:{facts.releases.get(version, version)}"
        chosen, said = image(obj.spec.engine.value, default, parameters, catalogue)
        secrets = parameters.pull_secrets or tuple(pull_secrets)
        more = image(facts.exporter, facts.exporter_image, parameters, catalogue, engine=False)
        pooler = image("pgbouncer", _PGBOUNCER, parameters, catalogue, engine=False)
        owner, tool = Owner.of(obj, facts.app), program_image(parameters, catalogue)
        return cls(owner, obj.spec, chosen, said, secrets, restore, *more, parameters, *pooler, tool=tool)

    @property
    def facts(self) -> EngineFacts:
        return ENGINES[self.spec.engine]

    @property
    def port(self) -> int:
        """What the engine listens on."""
        return self.facts.port

    @property
    def service_port(self) -> int:
        """What clients connect to."""
        return self.spec.exposure.port or self.port

    @property
    def memory(self) -> int:
        """Bytes that the container may use; the engine's buffers follow from it."""
        limits = self.spec.resources.limits
        return limits.memory.bytes if limits is not None and limits.memory is not None else DEFAULT_MEMORY

    @property
    def tls(self) -> Tls | None:
        """None without encryption."""
        return self.spec.tls if self.spec.tls is not None and self.spec.tls.enabled else None

    @property
    def only_tls(self) -> bool:
        return self.tls is not None and self.tls.required

    @property
    def clients_show(self) -> bool:
        """Whether clients must have a certificate of their own."""
        return self.tls is not None and self.tls.client_authentication is ClientAuthentication.REQUIRED

    @property
    def pooled(self) -> bool:
        """Whether clients connect to a pooler."""
        return self.spec.pooler is not None and self.spec.pooler.enabled

    @property
    def hosts(self) -> list[str]:
        """Names for the server's certificate."""
        owner = self.owner
        names = [f"{owner.base}.{owner.namespace}.svc", f"*.{owner.base}{HEADLESS}.{owner.namespace}.svc"]
        more = [self.spec.exposure.hostname] if self.spec.exposure.hostname else []
        more += [f"{owner.base}-pooler.{owner.namespace}.svc"] if self.pooled else []
        return [*names, *more, "localhost"]

    @property
    def metrics(self) -> bool:
        return metrics.enabled(self.spec.metrics)

    @property
    def metrics_port(self) -> int:
        return (self.spec.metrics.port if self.spec.metrics is not None else None) or self.facts.metrics_port

    @property
    def asked(self) -> dict[str, Any]:
        """Everything about the pod template that people decide."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        names = ("engine", "version", "placement", "resources", "initialization")
        return {
            **{name: spec[name] for name in names if name in spec},
            "image": self.image_said,
            **({"tls": True} if self.tls is not None else {}),
            **({"metrics": self.metrics_port, "exporter": self.exporter_said} if self.metrics else {}),
            **({"commands": self.parameters.commands_said()} if self.parameters.commands else {}),
            **({"restore": dict(self.restore)} if self.restore else {}),
            "pullSecrets": list(self.pull_secrets),
        }
