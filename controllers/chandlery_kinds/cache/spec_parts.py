"""What a Cache keeps and who may use it: persistence, users with typed rights."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from chandlery.model.base import CelRule, LocalRef, Model
from chandlery.model.parts import StorageSpec, UserName
from chandlery.model.rules import absent, atomic, extra, map_list, only_when, set_list
from chandlery.model.words import CommandName, Glob


class PersistenceMode(StrEnum):
    NONE = "none"
    SNAPSHOT = "snapshot"
    APPEND_ONLY = "append-only"


class Fsync(StrEnum):
    ALWAYS = "always"
    EVERYSEC = "everysec"
    SYSTEM = "system"
    """`no` in the engines' words, which YAML would read as false."""

    @property
    def setting(self) -> str:
        """The engines' word."""
        return "no" if self is Fsync.SYSTEM else self.value


class SnapshotRule(Model):
    """Save when this many keys changed within this time."""

    seconds: Annotated[int, Field(ge=1, le=86400, description="Seconds since the last snapshot.")]
    changes: Annotated[int, Field(ge=1, le=1_000_000_000, description="Changes since the last snapshot.")]


class Persistence(Model):
    """What survives a restart of every instance at once."""

    cel_rules = (
        CelRule(
            rule="self.mode == 'none' || has(self.storage)",
            message="storage.size is needed when persistence.mode is snapshot or append-only",
            field_path=".storage",
        ),
        only_when("storage", "self.mode != 'none'", "storage needs persistence.mode snapshot or append-only"),
        only_when("fsync", "self.mode == 'append-only'", "fsync needs persistence.mode append-only"),
        CelRule(
            rule=f"{absent('snapshots')} || self.mode == 'snapshot'",
            message="snapshots need persistence.mode snapshot",
            field_path=".snapshots",
        ),
    )

    mode: Annotated[
        PersistenceMode,
        Field(
            description="none: in memory only. snapshot: the whole data is saved from time to time; a crash loses "
            "what came after. "
            "append-only: each write is logged; a crash loses what fsync allows."
        ),
    ] = PersistenceMode.NONE
    storage: Annotated[StorageSpec | None, Field(description="The volume of each instance.")] = None
    fsync: Annotated[
        Fsync | None,
        Field(
            description="When the log reaches the disk: always (each write), everysec, system (when the system likes). "
            "Default: everysec."
        ),
    ] = None
    snapshots: Annotated[
        tuple[SnapshotRule, ...],
        Field(
            max_length=8,
            description="When snapshots are taken. Default: the engine's own rules.",
            json_schema_extra=atomic(),
        ),
    ] = ()


COMMAND_CATEGORIES = (
    "admin", "all", "bitmap", "blocking", "connection", "dangerous", "fast", "geo", "hash", "hyperloglog", "keyspace",
    "list", "pubsub", "read", "scripting", "set", "slow", "sortedset", "stream", "string", "transaction", "write",
)  # fmt: skip
"""The categories that Valkey and Redis know; modules may add their own commands, not categories."""

_CATEGORY_RULE = CelRule(
    rule="self.all(c, !c.startsWith('@') || c in [" + ", ".join(f"'@{c}'" for c in COMMAND_CATEGORIES) + "])",
    message="unknown command category: known are " + ", ".join(f"@{c}" for c in COMMAND_CATEGORIES),
)


class Commands(Model):
    """Commands that a user may run. Denials win over permissions."""

    allow: Annotated[
        tuple[CommandName, ...],
        Field(
            min_length=1,
            max_length=128,
            description="Commands (get, config|get) and categories (@read) that are allowed, in lower case.",
            json_schema_extra=set_list(_CATEGORY_RULE),
        ),
    ] = ("@all",)
    deny: Annotated[
        tuple[CommandName, ...],
        Field(
            max_length=128,
            description="Commands and categories that are refused all the same. @admin and @dangerous need to be "
            "taken out of "
            "this list to be usable.",
            json_schema_extra=set_list(_CATEGORY_RULE),
        ),
    ] = ("@admin", "@dangerous")


class KeyAccess(StrEnum):
    READ = "read"
    WRITE = "write"
    READWRITE = "readwrite"


class KeyRight(Model):
    """Keys that a user may touch, and how."""

    pattern: Annotated[Glob, Field(description="Glob pattern over key names: *, app:*, user:[0-9]*.")]
    access: Annotated[KeyAccess, Field(description="read, write or readwrite.")] = KeyAccess.READWRITE


class CacheUser(Model):
    """A user with rights of its own. Its Secret is `<cache>-user-<name>` unless passwordSecret names yours."""

    name: Annotated[
        UserName,
        Field(
            description="Name of the user.",
            json_schema_extra=extra(
                CelRule(
                    rule="self != 'default' && !self.startsWith('chandlery')",
                    message="user names 'default' and 'chandlery...' are the driver's own: choose another",
                )
            ),
        ),
    ]
    password_secret: Annotated[
        LocalRef | None, Field(description="Secret whose key `password` holds the password. Default: one is generated.")
    ] = None
    disabled: Annotated[bool, Field(description="While true the user can't log in.")] = False
    commands: Annotated[Commands, Field(description="Commands that the user may run.")] = Commands()
    keys: Annotated[
        tuple[KeyRight, ...],
        Field(
            max_length=64,
            description="Keys that the user may touch; empty: none.",
            json_schema_extra=map_list("pattern"),
        ),
    ] = (KeyRight(pattern="*"),)
    channels: Annotated[
        tuple[Glob, ...],
        Field(
            max_length=64,
            description="Glob patterns over publish/subscribe channels; empty: none.",
            json_schema_extra=set_list(),
        ),
    ] = ()
