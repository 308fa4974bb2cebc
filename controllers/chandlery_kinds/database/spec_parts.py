"""What a Database holds and how it is reached: databases, roles, grants, replication, pooler."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from chandlery.model.backup import Backup
from chandlery.model.base import CelRule, LocalRef, Model, SecretKeyRef
from chandlery.model.parts import Resources
from chandlery.model.rules import absent, atomic, extra, fixed, fixed_optional, lasts, map_list, only_when, set_list
from chandlery.model.scalars import Duration, Timestamp
from chandlery.model.words import Identifier, Words

ObjectName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_$-]*$")]
"""As Identifier, without a rule: there may be so many that its cost would be too high."""
LocaleName = Annotated[
    str,
    Words(
        "[A-Za-z][A-Za-z0-9_.@-]*",
        "must begin with a letter and go on with letters, digits, _ . @ or -, such as C or en_US.utf8",
        64,
    ),
]
CharacterSet = Annotated[str, Words("[A-Za-z0-9_]+", "must be letters, digits and _, such as UTF8 or utf8mb4", 32)]
ExtensionName = Annotated[
    str,
    Words(
        "[a-z_][a-z0-9_-]*",
        "must begin with a lower-case letter or _ and go on with these, digits or -, such as vector or pg_trgm",
    ),
]
ExtensionVersion = Annotated[
    str, Words("[A-Za-z0-9._-]+", "must be letters, digits, . _ and -, such as 1.6 or 0.8.0", 32)
]

RESERVED_DATABASES = ("postgres", "template0", "template1", "mysql", "sys", "information_schema", "performance_schema")
RESERVED_ROLES = ("postgres", "root", "mysql", "mariadb.sys", "public", "none", "streaming_replica", "replicator")


def _quoted(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{n}'" for n in names) + "]"


class Removal(StrEnum):
    DELETE = "Delete"
    RETAIN = "Retain"


class Extension(Model):
    """An extension inside a PostgreSQL database."""

    name: Annotated[ExtensionName, Field(description="Name as in pg_available_extensions: vector, pg_trgm.")]
    version: Annotated[
        ExtensionVersion | None, Field(description="Version. Default: the engine's default version.")
    ] = None
    schema_name: Annotated[
        Identifier | None,
        Field(alias="schema", description="Schema for its objects. Default: the extension's own, or public."),
    ] = None


class DatabaseItem(Model):
    """One database inside the engine."""

    cel_rules = (
        fixed_optional("encoding", "encoding can't change after creation: make a new database and move the data"),
        fixed_optional("locale", "locale can't change after creation: make a new database and move the data"),
    )

    name: Annotated[
        Identifier,
        Field(
            description="Name of the database.",
            json_schema_extra=extra(
                CelRule(
                    rule=f"!(self in {_quoted(RESERVED_DATABASES)})",
                    message="this database belongs to the engine: choose another name",
                )
            ),
        ),
    ]
    owner: Annotated[
        Identifier | None,
        Field(
            description="Role that owns it; made with a login and a generated password when spec.roles doesn't "
            "list it. "
            "Default: a role of the database's name."
        ),
    ] = None
    extensions: Annotated[
        tuple[Extension, ...],
        Field(
            max_length=32,
            description="Extensions that are created in it (postgres).",
            json_schema_extra=map_list("name"),
        ),
    ] = ()
    schemas: Annotated[
        tuple[Identifier, ...],
        Field(
            max_length=64,
            description="Schemas besides public, owned by owner (postgres).",
            json_schema_extra=set_list(),
        ),
    ] = ()
    encoding: Annotated[
        CharacterSet | None,
        Field(
            description="Character set: UTF8 for postgres, utf8mb4 for mariadb. Default: these.",
        ),
    ] = None
    locale: Annotated[
        LocaleName | None,
        Field(description="Collation order and character types: C, en_US.utf8; for mariadb a collation. Default: C."),
    ] = None
    connection_limit: Annotated[
        int, Field(ge=-1, le=100000, description="Connections at once; -1: no limit (postgres).")
    ] = -1
    when_removed: Annotated[
        Removal, Field(description="What happens when it is taken out of this list: Retain keeps it, Delete drops it.")
    ] = Removal.RETAIN


class Privilege(StrEnum):
    ALL = "ALL"
    CONNECT = "CONNECT"
    CREATE = "CREATE"
    TEMPORARY = "TEMPORARY"
    USAGE = "USAGE"
    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    TRUNCATE = "TRUNCATE"
    REFERENCES = "REFERENCES"
    TRIGGER = "TRIGGER"
    EXECUTE = "EXECUTE"
    ALTER = "ALTER"
    DROP = "DROP"
    INDEX = "INDEX"


class GrantTarget(StrEnum):
    DATABASE = "database"
    SCHEMA = "schema"
    TABLES = "tables"
    SEQUENCES = "sequences"
    FUNCTIONS = "functions"


_TARGET_RIGHTS = {
    "database": ("ALL", "CONNECT", "CREATE", "TEMPORARY"),
    "schema": ("ALL", "CREATE", "USAGE"),
    "sequences": ("ALL", "USAGE", "SELECT", "UPDATE"),
    "functions": ("ALL", "EXECUTE"),
    "tables": (
        "ALL",
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "REFERENCES",
        "TRIGGER",
        "CREATE",
        "ALTER",
        "DROP",
        "INDEX",
    ),
}


class Grant(Model):
    """Rights of a role on one database, one schema, or the objects in it, those made later included."""

    cel_rules = (
        CelRule(
            rule="!('ALL' in self.privileges) || size(self.privileges) == 1",
            message="ALL includes the others: list it alone",
            field_path=".privileges",
        ),
        only_when("schema", "self.target != 'database'", "schema needs target: schema, tables, sequences or functions"),
        CelRule(
            rule=f"{absent('objects')} || self.target in ['tables', 'sequences', 'functions']",
            message="objects need target: tables, sequences or functions",
            field_path=".objects",
        ),
        *(
            CelRule(
                rule=f"self.target != '{target}' || self.privileges.all(p, p in {_quoted(rights)})",
                message=f"rights on {target} are {', '.join(rights)}",
                field_path=".privileges",
            )
            for target, rights in _TARGET_RIGHTS.items()
        ),
    )

    database: Annotated[Identifier, Field(description="Database that the rights are in.")]
    target: Annotated[GrantTarget, Field(description="What the rights are on.")] = GrantTarget.TABLES
    schema_name: Annotated[
        Identifier | None, Field(alias="schema", description="Schema of the objects (postgres). Default: public.")
    ] = None
    objects: Annotated[
        tuple[ObjectName, ...],
        Field(
            max_length=64,
            description="Names of the objects; empty: all, future ones too.",
            json_schema_extra=set_list(),
        ),
    ] = ()
    privileges: Annotated[
        tuple[Privilege, ...],
        Field(min_length=1, max_length=16, description="Rights, in SQL's words.", json_schema_extra=set_list()),
    ]
    with_grant_option: Annotated[bool, Field(description="Whether the role may pass the rights on.")] = False


class Role(Model):
    """A role that can log in, or a group.

    The Secret of a login is `<object>-role-<name>`, unless passwordSecret names yours.
    """

    cel_rules = (
        only_when("passwordSecret", "self.login", "passwordSecret needs login: true"),
        only_when("validUntil", "self.login", "validUntil needs login: true"),
    )

    name: Annotated[
        Identifier,
        Field(
            description="Name of the role.",
            json_schema_extra=extra(
                CelRule(
                    rule=f"!(self in {_quoted(RESERVED_ROLES)}) && !self.startsWith('pg_') && "
                    f"!self.startsWith('chandlery')",
                    message="this role belongs to the engine or the driver: choose another name",
                )
            ),
        ),
    ]
    login: Annotated[bool, Field(description="Whether it can log in.")] = True
    password_secret: Annotated[
        LocalRef | None, Field(description="Secret whose key `password` holds the password. Default: one is generated.")
    ] = None
    connection_limit: Annotated[int, Field(ge=-1, le=100000, description="Connections at once; -1: no limit.")] = -1
    valid_until: Annotated[Timestamp | None, Field(description="The password works until then (postgres).")] = None
    create_database: Annotated[bool, Field(description="Whether it may create databases.")] = False
    create_role: Annotated[bool, Field(description="Whether it may create roles.")] = False
    replication: Annotated[bool, Field(description="Whether it may stream changes, for logical replication.")] = False
    bypass_row_security: Annotated[bool, Field(description="Whether row security is off for it (postgres).")] = False
    member_of: Annotated[
        tuple[Identifier, ...],
        Field(max_length=32, description="Roles whose rights it has too.", json_schema_extra=set_list()),
    ] = ()
    grants: Annotated[
        tuple[Grant, ...],
        Field(max_length=64, description="Rights besides those of owners.", json_schema_extra=atomic()),
    ] = ()
    when_removed: Annotated[
        Removal, Field(description="What happens when it is taken out of this list: Retain keeps it, Delete drops it.")
    ] = Removal.RETAIN


class ReplicationMode(StrEnum):
    ASYNCHRONOUS = "asynchronous"
    SYNCHRONOUS = "synchronous"


class Durability(StrEnum):
    REQUIRED = "required"
    PREFERRED = "preferred"


class Replication(Model):
    """How copies follow the primary."""

    cel_rules = (
        only_when("synchronousInstances", "self.mode == 'synchronous'", "synchronousInstances needs mode synchronous"),
        only_when("durability", "self.mode == 'synchronous'", "durability needs mode synchronous"),
    )

    mode: Annotated[
        ReplicationMode,
        Field(
            description="synchronous: a commit is confirmed when copies have it too; nothing confirmed is lost at "
            "failover."
        ),
    ] = ReplicationMode.ASYNCHRONOUS
    synchronous_instances: Annotated[
        int | None, Field(ge=1, le=8, description="Copies that must have a commit before it is confirmed. Default: 1.")
    ] = None
    durability: Annotated[
        Durability | None,
        Field(
            description="required: writes wait while too few copies are in step. preferred: they go on. Default: "
            "required."
        ),
    ] = None
    failover_delay: Annotated[
        Duration,
        Field(
            description="How long the primary may be away before a copy takes over, at most 1h.",
            json_schema_extra=extra(lasts("", "1h", "failoverDelay must be 1h or less")),
        ),
    ] = Duration("0s")


class PoolMode(StrEnum):
    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"


class Pooler(Model):
    """A connection pooler in front of the engine (PgBouncer, ProxySQL); the binding leads to it."""

    enabled: Annotated[bool, Field(description="Whether connections go through the pooler.")] = True
    mode: Annotated[PoolMode, Field(description="When a connection goes back to the pool.")] = PoolMode.TRANSACTION
    instances: Annotated[int, Field(ge=1, le=16, description="Pooler processes.")] = 1
    max_client_connections: Annotated[
        int, Field(ge=1, le=100000, description="Client connections of each process.")
    ] = 1000
    pool_size: Annotated[int, Field(ge=1, le=10000, description="Server connections per database and role.")] = 20
    configuration: Annotated[
        dict[Annotated[str, Field(max_length=63)], Annotated[str, Field(max_length=1024)]],
        Field(max_length=50, description="Settings of the pooler by their own names, as text."),
    ] = Field(default_factory=dict)
    resources: Annotated[Resources, Field(description="CPU and memory of each process.")] = Resources()


class BackupMethod(StrEnum):
    PHYSICAL = "physical"
    LOGICAL = "logical"


class DatabaseBackup(Backup):
    """Backups of the whole engine."""

    cel_rules = (
        CelRule(
            rule="!self.continuousArchiving || self.method == 'physical'",
            message="continuousArchiving needs method physical",
            field_path=".continuousArchiving",
        ),
    )

    method: Annotated[BackupMethod, Field(description="physical: copies of the files. logical: dumps as SQL.")] = (
        BackupMethod.PHYSICAL
    )
    continuous_archiving: Annotated[
        bool, Field(description="Keep the write-ahead log too, so that any moment can be restored.")
    ] = False


class Initialization(Model):
    """How the engine is made. Read once, at creation."""

    encoding: Annotated[
        CharacterSet | None,
        Field(
            description="Character set of the engine's own databases. Default: UTF8, utf8mb4.",
            json_schema_extra=extra(fixed("initialization is read at creation only and can't change")),
        ),
    ] = None
    locale: Annotated[
        LocaleName | None,
        Field(
            description="Locale of the engine's own databases. Default: C.",
            json_schema_extra=extra(fixed("initialization is read at creation only and can't change")),
        ),
    ] = None
    data_checksums: Annotated[
        bool,
        Field(
            description="Detect damaged pages (postgres).",
            json_schema_extra=extra(fixed("dataChecksums is read at creation only and can't change")),
        ),
    ] = True
    sql_secrets: Annotated[
        tuple[SecretKeyRef, ...],
        Field(
            max_length=8,
            description="SQL scripts that run once, as the owner, in the first database after creation.",
            json_schema_extra=atomic(),
        ),
    ] = ()
