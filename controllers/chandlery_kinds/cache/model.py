"""Cache: an in-memory key-value store by Valkey, Redis or Memcached."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from chandlery.model.backup import Backup, RestoreFrom
from chandlery.model.base import (
    CelRule,
    CommonSpec,
    CommonStatus,
    Names,
    PrinterColumn,
    Resource,
    ScalePaths,
)
from chandlery.model.parts import (
    Exposure,
    MaintenanceWindow,
    Metrics,
    Placement,
    Resources,
    Rotation,
    Tls,
)
from chandlery.model.rules import (
    NOT_DOWNGRADED,
    absent,
    extra,
    fixed,
    fixed_optional,
    map_list,
    only_when,
)
from chandlery.model.scalars import Size, Version
from chandlery.model.settings import Configuration, check_configuration
from chandlery.model.settings_rules import configuration_rules
from chandlery.model.status import BackupStatus, MemberStatus, UserStatus
from chandlery_kinds.cache.settings import TABLES
from chandlery_kinds.cache.spec_parts import (
    CacheUser,
    Commands,
    Fsync,
    KeyAccess,
    KeyRight,
    Persistence,
    PersistenceMode,
    SnapshotRule,
)


class CacheEngine(StrEnum):
    VALKEY = "valkey"
    REDIS = "redis"
    MEMCACHED = "memcached"


class CacheMode(StrEnum):
    STANDALONE = "standalone"
    REPLICATED = "replicated"
    SHARDED = "sharded"


class EvictionPolicy(StrEnum):
    NOEVICTION = "noeviction"
    ALLKEYS_LRU = "allkeys-lru"
    ALLKEYS_LFU = "allkeys-lfu"
    ALLKEYS_RANDOM = "allkeys-random"
    VOLATILE_LRU = "volatile-lru"
    VOLATILE_LFU = "volatile-lfu"
    VOLATILE_RANDOM = "volatile-random"
    VOLATILE_TTL = "volatile-ttl"


_NOT_MEMCACHED = "self.engine != 'memcached'"


class CacheSpec(CommonSpec):
    """What is wanted."""

    cel_rules = (
        CelRule(
            rule="self.mode != 'replicated' || (has(self.replicas) && self.replicas >= 1)",
            message="mode replicated needs replicas of 1 or more: the copies that follow the primary",
            field_path=".replicas",
        ),
        CelRule(
            rule="self.mode != 'standalone' || !has(self.replicas) || self.replicas == 0",
            message="replicas need mode replicated or sharded",
            field_path=".replicas",
        ),
        CelRule(
            rule="(self.mode == 'sharded') == has(self.shards)",
            message="mode sharded needs shards (2 or more), and shards need mode sharded",
            field_path=".shards",
        ),
        CelRule(
            rule="self.engine == 'memcached' || !has(self.shards) || self.shards >= 3",
            message="a sharded valkey or redis needs 3 shards or more: its shards elect one another",
            field_path=".shards",
        ),
        CelRule(
            rule="(self.mode == 'sharded') == (oldSelf.mode == 'sharded')",
            message="a cache can't change to or from mode sharded: make a new one and move the data",
            field_path=".mode",
            reason="FieldValueForbidden",
        ),
        CelRule(
            rule="self.engine != 'memcached' || self.mode != 'replicated'",
            message="memcached has no replication: use mode standalone or sharded",
            field_path=".mode",
        ),
        CelRule(
            rule="self.engine != 'memcached' || !has(self.replicas) || self.replicas == 0",
            message="memcached has no replication: leave replicas out",
            field_path=".replicas",
        ),
        CelRule(
            rule="self.engine != 'memcached' || self.persistence.mode == 'none'",
            message="memcached keeps nothing on disk: persistence.mode must be none",
            field_path=".persistence.mode",
        ),
        CelRule(
            rule=f"self.engine != 'memcached' || {absent('users')}",
            message="memcached has no users with rights: leave users out, the binding holds its one user",
            field_path=".users",
        ),
        CelRule(
            rule="self.engine != 'memcached' || self.evictionPolicy in ['noeviction', 'allkeys-lru']",
            message="memcached knows evictionPolicy noeviction and allkeys-lru only",
            field_path=".evictionPolicy",
        ),
        CelRule(
            rule="self.engine != 'memcached' || self.deletionPolicy != 'Snapshot'",
            message="memcached has no data to take a snapshot of: use Delete or Retain",
            field_path=".deletionPolicy",
        ),
        only_when("backup", _NOT_MEMCACHED, "memcached has no data to back up"),
        only_when("restoreFrom", _NOT_MEMCACHED, "memcached can't be restored"),
        CelRule(
            rule="!has(self.minReplicasToWrite) || self.minReplicasToWrite <= (has(self.replicas) ? self.replicas : 0)",
            message="minReplicasToWrite can't exceed replicas",
            field_path=".minReplicasToWrite",
        ),
        fixed_optional("restoreFrom", "restoreFrom is read at creation only and can't change"),
        *configuration_rules(TABLES),
    )

    engine: Annotated[
        CacheEngine,
        Field(
            description="valkey (compatible with Redis 7.2), redis or memcached.",
            json_schema_extra=extra(fixed("engine can't change after creation: make a new cache")),
        ),
    ] = CacheEngine.VALKEY
    version: Annotated[
        Version | None,
        Field(
            description="Version of the engine, as exact as wanted. Default: the driver's newest; it is kept in "
            "status and "
            "raised only when you ask for it.",
            json_schema_extra=extra(NOT_DOWNGRADED),
        ),
    ] = None
    mode: Annotated[
        CacheMode,
        Field(
            description="standalone: one instance. replicated: a primary with copies, one of which takes over when "
            "it fails. "
            "sharded: the keys are spread over several primaries; clients must speak the cluster protocol."
        ),
    ] = CacheMode.STANDALONE
    replicas: Annotated[int | None, Field(ge=0, le=15, description="Copies that follow each primary.")] = None
    shards: Annotated[int | None, Field(ge=2, le=100, description="Primaries over which the keys are spread.")] = None
    memory: Annotated[Size, Field(description="Memory for data, of each instance. Changed without restart.")] = Size(
        "256Mi"
    )
    eviction_policy: Annotated[
        EvictionPolicy, Field(description="What happens when memory is full. noeviction refuses writes.")
    ] = EvictionPolicy.NOEVICTION
    min_replicas_to_write: Annotated[
        int | None,
        Field(
            ge=0,
            le=15,
            description="Writes are refused while fewer copies than this are in step. Default: 0, or 1 to fence a "
            "lost primary.",
        ),
    ] = None
    persistence: Annotated[Persistence, Field(description="What survives a restart.")] = Persistence()
    users: Annotated[
        tuple[CacheUser, ...],
        Field(
            max_length=64,
            description="Users besides the one of the binding, each with a Secret of its own.",
            json_schema_extra=map_list("name"),
        ),
    ] = ()
    tls: Annotated[Tls | None, Field(description="Encryption of client connections. Default: none.")] = None
    configuration: Annotated[
        Configuration,
        Field(
            description="Settings of the engine by their own names, all values as text. Settings that have a field "
            "here are refused."
        ),
    ] = Field(default_factory=dict)
    exposure: Annotated[Exposure, Field(description="From where clients can connect.")] = Exposure()
    metrics: Annotated[Metrics | None, Field(description="Metrics for Prometheus. Default: none.")] = None
    placement: Annotated[Placement, Field(description="On which nodes the instances run.")] = Placement()
    resources: Annotated[
        Resources, Field(description="CPU and memory of each instance; memory follows from spec.memory.")
    ] = Resources()
    backup: Annotated[Backup | None, Field(description="Backups. Default: none.")] = None
    restore_from: Annotated[RestoreFrom | None, Field(description="Begin with the data of a backup.")] = None
    rotation: Annotated[Rotation | None, Field(description="Replace generated passwords on a schedule.")] = None
    maintenance_window: Annotated[
        MaintenanceWindow | None, Field(description="When disturbing changes may be made. Default: at once.")
    ] = None

    @field_validator("configuration")
    @classmethod
    def _known_settings(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        engine = info.data.get("engine")
        if engine is not None:
            check_configuration(TABLES[engine], value)
        return value

    @property
    def replicas_per_primary(self) -> int:
        return self.replicas or 0

    @property
    def primaries(self) -> int:
        return self.shards or 1

    @property
    def instances(self) -> int:
        """All processes together."""
        return self.primaries * (1 + self.replicas_per_primary)


class CacheStatus(CommonStatus):
    """What is there."""

    engine: Annotated[str | None, Field(description="Engine that runs.")] = None
    version: Annotated[str | None, Field(description="Exact version that runs.")] = None
    available_version: Annotated[str | None, Field(description="A newer version that spec.version would allow.")] = None
    replicas: Annotated[int | None, Field(description="Copies that follow each primary now.")] = None
    shards: Annotated[int | None, Field(description="Primaries now.")] = None
    instances: Annotated[int | None, Field(description="All instances.")] = None
    ready_instances: Annotated[int | None, Field(description="Instances that serve clients.")] = None
    primary: Annotated[str | None, Field(description="Name of the present primary, in mode replicated.")] = None
    memory_used: Annotated[str | None, Field(description="Memory in use, as a quantity.")] = None
    selector: Annotated[str | None, Field(description="Label selector of the pods, for the scale subresource.")] = None
    members: Annotated[
        tuple[MemberStatus, ...], Field(description="Each instance.", json_schema_extra=map_list("name"))
    ] = ()
    users: Annotated[tuple[UserStatus, ...], Field(description="Each user.", json_schema_extra=map_list("name"))] = ()
    backup: Annotated[BackupStatus | None, Field(description="Backups.")] = None


class Cache(Resource[CacheSpec, CacheStatus]):
    """An in-memory key-value store by Valkey, Redis or Memcached, with a Secret to connect with."""

    names = Names(
        group="data.chandlery.dev",
        kind="Cache",
        plural="caches",
        singular="cache",
        short_names=("cch",),
        columns=(
            PrinterColumn("Engine", "string", ".spec.engine"),
            PrinterColumn("Version", "string", ".status.version"),
            PrinterColumn("Mode", "string", ".spec.mode"),
            PrinterColumn("Memory", "string", ".spec.memory", priority=1),
        ),
        scale=ScalePaths(".spec.replicas", ".status.replicas", ".status.selector"),
        selectable=(".spec.className", ".spec.engine"),
    )


__all__ = [
    "Cache",
    "CacheEngine",
    "CacheMode",
    "CacheSpec",
    "CacheStatus",
    "CacheUser",
    "Commands",
    "EvictionPolicy",
    "Fsync",
    "KeyAccess",
    "KeyRight",
    "Persistence",
    "PersistenceMode",
    "SnapshotRule",
]
