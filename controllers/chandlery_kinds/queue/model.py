"""Queue: a durable message queue by NATS JetStream or RabbitMQ."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from chandlery.model.backup import Backup, RestoreFrom
from chandlery.model.base import (
    CelRule,
    CommonSpec,
    CommonStatus,
    LocalRef,
    Model,
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
    StorageSpec,
    Tls,
    UserName,
)
from chandlery.model.rules import (
    NOT_DOWNGRADED,
    absent,
    extra,
    fixed,
    fixed_optional,
    lasts,
    map_list,
    not_itself,
    not_longer,
    not_more,
    only_when,
    set_list,
)
from chandlery.model.scalars import Duration, Size, Version
from chandlery.model.settings import Configuration, check_configuration
from chandlery.model.settings_rules import configuration_rules
from chandlery.model.status import BackupStatus, MemberStatus, UserStatus
from chandlery.model.words import Subject
from chandlery_kinds.queue.settings import TABLES


class QueueEngine(StrEnum):
    NATS = "nats"
    RABBITMQ = "rabbitmq"


class Ordering(StrEnum):
    STANDARD = "standard"
    FIFO = "fifo"


class Discard(StrEnum):
    OLD = "old"
    NEW = "new"


_MAX_AGE = lasts("1s", "", "maxAge must be 1s or more: leave it out to keep messages until they are taken")


class Retention(Model):
    """How long messages stay that nobody took, and what happens when the queue is full."""

    max_age: Annotated[
        Duration | None,
        Field(
            description="Messages older than this are dropped, 1s or more. Default: never.",
            json_schema_extra=extra(_MAX_AGE),
        ),
    ] = None
    max_bytes: Annotated[Size | None, Field(description="All messages together, in bytes. Default: the storage.")] = (
        None
    )
    max_messages: Annotated[
        int | None, Field(ge=1, le=10_000_000_000, description="Messages in the queue. Default: no limit.")
    ] = None
    discard: Annotated[
        Discard, Field(description="When a limit is reached: old drops the oldest message, new refuses the newest.")
    ] = Discard.NEW


class DeadLetter(Model):
    """Where messages go that were delivered too often."""

    cel_rules = (
        only_when("maxAge", "!has(self.queue)", "maxAge is for the queue made beside this: set retention.maxAge there"),
    )

    queue: Annotated[
        LocalRef | None,
        Field(
            description="Another Queue of the same engine and namespace. Default: one that is made beside this, named "
            "<queue>-dead."
        ),
    ] = None
    max_age: Annotated[
        Duration | None,
        Field(
            description="How long they stay there, in the one made. Default: 168h.", json_schema_extra=extra(_MAX_AGE)
        ),
    ] = None


class QueueRight(StrEnum):
    PUBLISH = "publish"
    CONSUME = "consume"


class QueueUser(Model):
    """A user with rights of its own. Its Secret is `<queue>-user-<name>` unless passwordSecret names yours."""

    cel_rules = (
        CelRule(
            rule=f"{absent('subjects')} || 'publish' in self.rights",
            message="subjects limit publishing: they need right publish",
            field_path=".subjects",
        ),
    )

    name: Annotated[
        UserName,
        Field(
            description="Name of the user.",
            json_schema_extra=extra(
                CelRule(
                    rule="!(self in ['guest', 'admin', 'sys']) && !self.startsWith('chandlery')",
                    message="user names guest, admin, sys and chandlery... are the driver's own: choose another",
                )
            ),
        ),
    ]
    password_secret: Annotated[
        LocalRef | None, Field(description="Secret whose key `password` holds the password. Default: one is generated.")
    ] = None
    rights: Annotated[
        tuple[QueueRight, ...],
        Field(min_length=1, max_length=2, description="publish, consume or both.", json_schema_extra=set_list()),
    ] = (QueueRight.PUBLISH, QueueRight.CONSUME)
    subjects: Annotated[
        tuple[Subject, ...],
        Field(
            max_length=64,
            description="Subjects that it may publish to; empty: all of the queue's.",
            json_schema_extra=set_list(),
        ),
    ] = ()


def _own_broker(field: str) -> CelRule:
    return only_when(
        field, "!has(self.brokerRef)", f"{field} belongs to the broker: set it on the Queue that brokerRef names"
    )


class QueueSpec(CommonSpec):
    """What is wanted."""

    cel_rules = (
        CelRule(
            rule="has(self.brokerRef) || has(self.storage)",
            message="storage.size is needed, unless brokerRef shares the broker of another Queue",
            field_path=".storage",
        ),
        *(
            _own_broker(f)
            for f in ("version", "storage", "tls", "metrics", "maintenanceWindow", "backup", "restoreFrom")
        ),
        CelRule(
            rule=f"!has(self.brokerRef) || {absent('configuration')}",
            message="configuration belongs to the broker: set it on the Queue that brokerRef names",
            field_path=".configuration",
        ),
        fixed_optional("brokerRef", "brokerRef can't change after creation: make a new queue and move the messages"),
        fixed_optional("restoreFrom", "restoreFrom is read at creation only and can't change"),
        CelRule(
            rule="!has(self.deadLetter) || has(self.maxDeliveries)",
            message="deadLetter needs maxDeliveries: after how many deliveries a message goes there",
            field_path=".maxDeliveries",
        ),
        CelRule(
            rule="self.engine != 'rabbitmq' || !has(self.deduplicationWindow)",
            message="rabbitmq does not deduplicate: leave deduplicationWindow out or use engine nats",
            field_path=".deduplicationWindow",
        ),
        CelRule(
            rule="!has(self.retention.maxBytes) || !has(self.storage) || "
            + not_more("self.retention.maxBytes", "self.storage.size"),
            message="retention.maxBytes can't exceed storage.size",
            field_path=".retention.maxBytes",
        ),
        CelRule(
            rule="!has(self.retention.maxBytes) || " + not_more("self.maxMessageSize", "self.retention.maxBytes"),
            message="maxMessageSize can't exceed retention.maxBytes: such a message would never fit",
            field_path=".maxMessageSize",
        ),
        CelRule(
            rule="!has(self.deduplicationWindow) || !has(self.retention.maxAge) || "
            + not_longer("self.deduplicationWindow", "self.retention.maxAge"),
            message="deduplicationWindow can't exceed retention.maxAge",
            field_path=".deduplicationWindow",
        ),
        *configuration_rules(TABLES),
    )

    engine: Annotated[
        QueueEngine,
        Field(
            description="nats (JetStream) or rabbitmq (quorum queues).",
            json_schema_extra=extra(fixed("engine can't change after creation: make a new queue")),
        ),
    ] = QueueEngine.NATS
    version: Annotated[
        Version | None,
        Field(
            description="Version of the engine, as exact as wanted. Default: the driver's newest; it is kept in "
            "status and "
            "raised only when you ask for it.",
            json_schema_extra=extra(NOT_DOWNGRADED),
        ),
    ] = None
    broker_ref: Annotated[
        LocalRef | None,
        Field(description="Share the broker of another Queue of this namespace instead of having one of its own."),
    ] = None
    replicas: Annotated[
        int,
        Field(
            ge=1,
            le=5,
            description="Copies of each message, on as many servers: 1, 3 or 5.",
            json_schema_extra=extra(
                CelRule(rule="self % 2 == 1", message="replicas must be odd (1, 3 or 5): a majority decides")
            ),
        ),
    ] = 1
    storage: Annotated[StorageSpec | None, Field(description="The volume of each server.")] = None
    ordering: Annotated[
        Ordering,
        Field(
            description="standard: many consumers at once, order as it comes. fifo: one message at a time, "
            "strictly in order.",
            json_schema_extra=extra(fixed("ordering can't change after creation: make a new queue")),
        ),
    ] = Ordering.STANDARD
    subjects: Annotated[
        tuple[Subject, ...],
        Field(
            max_length=64,
            description="Subjects (nats) or routing keys (rabbitmq) that end up in the queue; `*` is one part, `>` "
            "or `#` the rest. "
            "Default: the object's name and everything below.",
            json_schema_extra=set_list(),
        ),
    ] = ()
    retention: Annotated[Retention, Field(description="How long messages stay that nobody took.")] = Retention()
    max_message_size: Annotated[
        Size,
        Field(
            description="Largest message, at most 64Mi.",
            json_schema_extra=extra(
                CelRule(
                    rule=not_more("self", "'64Mi'"),
                    message="maxMessageSize can be 64Mi at most: keep larger things in a store and send their names",
                )
            ),
        ),
    ] = Size("1Mi")
    acknowledgement_timeout: Annotated[
        Duration,
        Field(
            description="A message that is not acknowledged within this time is delivered again; 1s to 12h.",
            json_schema_extra=extra(lasts("1s", "12h", "acknowledgementTimeout must be from 1s to 12h")),
        ),
    ] = Duration("30s")
    max_deliveries: Annotated[
        int | None,
        Field(ge=1, le=1000, description="Deliveries of a message before it is given up. Default: no limit."),
    ] = None
    dead_letter: Annotated[DeadLetter | None, Field(description="Where messages go that were given up.")] = None
    deduplication_window: Annotated[
        Duration | None,
        Field(
            description="Messages of the same id within this time, 100ms at least, are stored once (nats). "
            "Default: none.",
            json_schema_extra=extra(lasts("100ms", "", "deduplicationWindow must be 100ms or more")),
        ),
    ] = None
    users: Annotated[
        tuple[QueueUser, ...],
        Field(
            max_length=64,
            description="Users besides the one of the binding, each with a Secret of its own.",
            json_schema_extra=map_list("name"),
        ),
    ] = ()
    tls: Annotated[Tls | None, Field(description="Encryption of client connections. Default: none.")] = None
    configuration: Annotated[
        Configuration, Field(description="Settings of the broker by their own names, all values as text.")
    ] = Field(default_factory=dict)
    exposure: Annotated[Exposure, Field(description="From where clients can connect.")] = Exposure()
    metrics: Annotated[Metrics | None, Field(description="Metrics for Prometheus. Default: none.")] = None
    placement: Annotated[Placement, Field(description="On which nodes the servers run.")] = Placement()
    resources: Annotated[Resources, Field(description="CPU and memory of each server.")] = Resources()
    backup: Annotated[Backup | None, Field(description="Backups of the messages. Default: none.")] = None
    restore_from: Annotated[RestoreFrom | None, Field(description="Begin with the messages of a backup.")] = None
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


class QueueStatus(CommonStatus):
    """What is there."""

    engine: Annotated[str | None, Field(description="Engine that runs.")] = None
    version: Annotated[str | None, Field(description="Exact version that runs.")] = None
    available_version: Annotated[str | None, Field(description="A newer version that spec.version would allow.")] = None
    broker: Annotated[
        str | None, Field(description="Queue whose broker this one uses; its own name or brokerRef's.")
    ] = None
    replicas: Annotated[int | None, Field(description="Copies of each message now.")] = None
    ready_replicas: Annotated[int | None, Field(description="Servers that serve clients.")] = None
    leader: Annotated[str | None, Field(description="Server that leads the queue now.")] = None
    messages: Annotated[int | None, Field(description="Messages in the queue, when last looked.")] = None
    bytes: Annotated[str | None, Field(description="Their size, as a quantity.")] = None
    unacknowledged: Annotated[int | None, Field(description="Messages that consumers have not acknowledged yet.")] = (
        None
    )
    consumers: Annotated[int | None, Field(description="Consumers now.")] = None
    dead_letter_queue: Annotated[str | None, Field(description="Name of the dead-letter queue at the broker.")] = None
    selector: Annotated[str | None, Field(description="Label selector of the pods, for the scale subresource.")] = None
    members: Annotated[
        tuple[MemberStatus, ...], Field(description="Each server.", json_schema_extra=map_list("name"))
    ] = ()
    users: Annotated[tuple[UserStatus, ...], Field(description="Each user.", json_schema_extra=map_list("name"))] = ()
    backup: Annotated[BackupStatus | None, Field(description="Backups.")] = None


class Queue(Resource[QueueSpec, QueueStatus]):
    """A durable message queue by NATS JetStream or RabbitMQ, with a Secret to connect with."""

    cel_rules = (
        not_itself("brokerRef.name", "a queue can't share its own broker: name another Queue, or leave brokerRef out"),
        not_itself(
            "deadLetter.queue.name", "a queue can't be its own dead-letter queue: name another, or leave it out"
        ),
    )
    names = Names(
        group="messaging.chandlery.dev",
        kind="Queue",
        plural="queues",
        singular="queue",
        short_names=("mq",),
        columns=(
            PrinterColumn("Engine", "string", ".spec.engine"),
            PrinterColumn("Version", "string", ".status.version"),
            PrinterColumn("Replicas", "integer", ".spec.replicas"),
            PrinterColumn("Broker", "string", ".status.broker", priority=1),
            PrinterColumn("Messages", "integer", ".status.messages", priority=1),
        ),
        scale=ScalePaths(".spec.replicas", ".status.replicas", ".status.selector"),
        selectable=(".spec.className", ".spec.engine"),
    )
