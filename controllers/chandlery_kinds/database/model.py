"""Database: a relational database by PostgreSQL or MariaDB."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from chandlery.model.backup import PointInTimeRestore
from chandlery.model.base import (
    CelRule,
    CommonSpec,
    CommonStatus,
    LooseModel,
    Names,
    PrinterColumn,
    Resource,
    ScalePaths,
)
from chandlery.model.parts import Exposure, MaintenanceWindow, Metrics, Placement, Resources, Rotation, StorageSpec, Tls
from chandlery.model.rules import NOT_DOWNGRADED, absent, each, extra, fixed, fixed_optional, map_list, only_when
from chandlery.model.scalars import Size, Version
from chandlery.model.settings import Configuration, check_configuration
from chandlery.model.settings_rules import configuration_rules
from chandlery.model.status import BackupStatus, MemberStatus, UserStatus
from chandlery_kinds.database.settings import TABLES
from chandlery_kinds.database.spec_parts import (
    DatabaseBackup,
    DatabaseItem,
    Initialization,
    Pooler,
    Replication,
    Role,
)


class DatabaseEngine(StrEnum):
    POSTGRES = "postgres"
    MARIADB = "mariadb"


class DatabaseSpec(CommonSpec):
    """What is wanted."""

    cel_rules = (
        CelRule(
            rule="self.replication.mode == 'asynchronous' || self.instances >= 2",
            message="synchronous replication needs 2 instances or more",
            field_path=".instances",
        ),
        CelRule(
            rule="!has(self.replication.synchronousInstances) || self.replication.synchronousInstances < "
            "self.instances",
            message="replication.synchronousInstances must be less than instances: the primary doesn't count",
            field_path=".replication.synchronousInstances",
        ),
        CelRule(
            rule=f"self.engine == 'postgres' || self.databases.all(d, {absent('extensions', 'd')})",
            message="extensions are for engine postgres only",
            field_path=".databases",
        ),
        CelRule(
            rule=f"self.engine == 'postgres' || self.databases.all(d, {absent('schemas', 'd')})",
            message="schemas are for engine postgres only: in mariadb a schema is a database",
            field_path=".databases",
        ),
        CelRule(
            rule="self.engine == 'postgres' || self.databases.all(d, d.connectionLimit == -1)",
            message="connectionLimit of a database is for engine postgres only: limit the roles",
            field_path=".databases",
        ),
        CelRule(
            rule="self.engine == 'postgres' || " + each("roles", "r", "!has(r.validUntil) && !r.bypassRowSecurity"),
            message="validUntil and bypassRowSecurity are for engine postgres only",
            field_path=".roles",
        ),
        CelRule(
            rule=each("roles", "r", each("grants", "g", "self.databases.exists(d, d.name == g.database)", "r")),
            message="each grant must name a database of spec.databases",
            message_expression="'role ' + self.roles.map(r, !"
            + each("grants", "g", "self.databases.exists(d, d.name == g.database)", "r")
            + ", r.name)[0] + ' has a grant on a database that is not in spec.databases'",
            field_path=".roles",
        ),
        CelRule(
            rule=each(
                "roles",
                "r",
                each(
                    "memberOf",
                    "m",
                    "m.startsWith('pg_') || self.roles.exists(o, o.name == m) || "
                    "self.databases.exists(d, (has(d.owner) ? d.owner : d.name) == m)",
                    "r",
                ),
            ),
            message="memberOf must name a role of spec.roles, an owner or a predefined role (pg_...)",
            field_path=".roles",
        ),
        CelRule(
            rule=each("roles", "r", "!has(r.memberOf) || !(r.name in r.memberOf)"),
            message="a role can't be a member of itself",
            field_path=".roles",
        ),
        CelRule(
            rule="self.engine == 'postgres' || "
            + each("roles", "r", each("grants", "g", "!has(g.schema) && !(g.target in ['schema', 'sequences'])", "r")),
            message="mariadb has no schemas or sequences to grant on: use target: database or tables",
            field_path=".roles",
        ),
        CelRule(
            rule="self.engine == 'mariadb' || "
            + each("roles", "r", each("grants", "g", "!g.privileges.exists(p, p in ['ALTER', 'DROP', 'INDEX'])", "r")),
            message="privileges ALTER, DROP and INDEX are for engine mariadb only: in postgres they belong to the "
            "owner",
            field_path=".roles",
        ),
        fixed_optional("restoreFrom", "restoreFrom is read at creation only and can't change"),
        only_when(
            "restoreFrom",
            "self.engine == 'postgres' || !has(self.restoreFrom.pointInTime)",
            "restoreFrom.pointInTime is for engine postgres only",
        ),
        only_when(
            "backup",
            "self.engine == 'postgres' || !self.backup.continuousArchiving",
            "backup.continuousArchiving is for engine postgres only",
        ),
        *configuration_rules(TABLES),
    )

    engine: Annotated[
        DatabaseEngine,
        Field(
            description="postgres or mariadb.",
            json_schema_extra=extra(fixed("engine can't change after creation: make a new database")),
        ),
    ] = DatabaseEngine.POSTGRES
    version: Annotated[
        Version | None,
        Field(
            description="Version of the engine, as exact as wanted: 17, 18.6. Default: the driver's newest; it is "
            "kept in "
            "status and raised only when you ask for it.",
            json_schema_extra=extra(NOT_DOWNGRADED),
        ),
    ] = None
    instances: Annotated[int, Field(ge=1, le=9, description="One primary and its copies.")] = 1
    replication: Annotated[Replication, Field(description="How copies follow the primary.")] = Replication()
    storage: Annotated[StorageSpec, Field(description="The volume of each instance.")] = StorageSpec(size=Size("1Gi"))
    initialization: Annotated[Initialization, Field(description="How the engine is made.")] = Initialization()
    databases: Annotated[
        tuple[DatabaseItem, ...],
        Field(
            min_length=1,
            max_length=64,
            description="Databases inside the engine. The binding leads to the first one, as its owner.",
            json_schema_extra=map_list("name"),
        ),
    ] = (DatabaseItem(name="app", owner="app"),)
    roles: Annotated[
        tuple[Role, ...],
        Field(max_length=64, description="Roles besides the owners.", json_schema_extra=map_list("name")),
    ] = ()
    configuration: Annotated[
        Configuration,
        Field(
            description="Settings of the engine by their own names, all values as text. Settings that the driver owns "
            "are refused."
        ),
    ] = Field(default_factory=dict)
    tls: Annotated[Tls | None, Field(description="Encryption of client connections. Default: none.")] = None
    pooler: Annotated[Pooler | None, Field(description="A connection pooler. Default: none.")] = None
    backup: Annotated[DatabaseBackup | None, Field(description="Backups. Default: none.")] = None
    restore_from: Annotated[PointInTimeRestore | None, Field(description="Begin with the data of a backup.")] = None
    rotation: Annotated[Rotation | None, Field(description="Replace generated passwords on a schedule.")] = None
    maintenance_window: Annotated[
        MaintenanceWindow | None, Field(description="When disturbing changes may be made. Default: at once.")
    ] = None
    exposure: Annotated[Exposure, Field(description="From where clients can connect.")] = Exposure()
    metrics: Annotated[Metrics | None, Field(description="Metrics for Prometheus. Default: none.")] = None
    placement: Annotated[Placement, Field(description="On which nodes the instances run.")] = Placement()
    resources: Annotated[
        Resources, Field(description="CPU and memory of each instance; the engine's buffers follow from limits.memory.")
    ] = Resources()

    @field_validator("configuration")
    @classmethod
    def _known_settings(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        engine = info.data.get("engine")
        if engine is not None:
            check_configuration(TABLES[engine], value)
        return value

    def owner_of(self, database: DatabaseItem) -> str:
        return database.owner or database.name

    def role_names(self) -> tuple[str, ...]:
        """All roles that must exist: those listed, and owners that are not."""
        listed = [r.name for r in self.roles]
        owners = dict.fromkeys(self.owner_of(d) for d in self.databases)
        return (*listed, *(o for o in owners if o not in listed))


class DatabaseItemStatus(LooseModel):
    """One database inside the engine."""

    name: Annotated[str, Field(description="Name of the database.")]
    ready: Annotated[bool, Field(description="Whether it exists as spec asks.")] = False
    extensions: Annotated[tuple[str, ...], Field(description="Extensions in it, as name version.")] = ()
    size: Annotated[str | None, Field(description="Size, as a quantity.")] = None
    message: Annotated[str | None, Field(description="What is wrong, when it isn't ready.")] = None


class DatabaseStatus(CommonStatus):
    """What is there."""

    engine: Annotated[str | None, Field(description="Engine that runs.")] = None
    version: Annotated[str | None, Field(description="Exact version that runs.")] = None
    available_version: Annotated[str | None, Field(description="A newer version that spec.version would allow.")] = None
    instances: Annotated[int | None, Field(description="Instances now.")] = None
    ready_instances: Annotated[int | None, Field(description="Instances that serve clients.")] = None
    primary: Annotated[str | None, Field(description="Name of the present primary.")] = None
    timeline: Annotated[int | None, Field(description="PostgreSQL's timeline; it rises at each failover.")] = None
    storage_used: Annotated[str | None, Field(description="Space in use on the primary, as a quantity.")] = None
    storage_size: Annotated[str | None, Field(description="Size of the primary's volume, as a quantity.")] = None
    selector: Annotated[str | None, Field(description="Label selector of the pods, for the scale subresource.")] = None
    members: Annotated[
        tuple[MemberStatus, ...], Field(description="Each instance.", json_schema_extra=map_list("name"))
    ] = ()
    databases: Annotated[
        tuple[DatabaseItemStatus, ...], Field(description="Each database.", json_schema_extra=map_list("name"))
    ] = ()
    roles: Annotated[tuple[UserStatus, ...], Field(description="Each role.", json_schema_extra=map_list("name"))] = ()
    pooler_ready: Annotated[bool | None, Field(description="Whether the pooler serves clients.")] = None
    backup: Annotated[BackupStatus | None, Field(description="Backups.")] = None


class Database(Resource[DatabaseSpec, DatabaseStatus]):
    """A relational database by PostgreSQL or MariaDB, with a Secret to connect with."""

    names = Names(
        group="data.chandlery.dev",
        kind="Database",
        plural="databases",
        singular="database",
        short_names=("dbs",),
        columns=(
            PrinterColumn("Engine", "string", ".spec.engine"),
            PrinterColumn("Version", "string", ".status.version"),
            PrinterColumn("Instances", "integer", ".spec.instances"),
            PrinterColumn("Primary", "string", ".status.primary", priority=1),
            PrinterColumn("Storage", "string", ".spec.storage.size", priority=1),
        ),
        scale=ScalePaths(".spec.instances", ".status.instances", ".status.selector"),
        selectable=(".spec.className", ".spec.engine"),
    )
