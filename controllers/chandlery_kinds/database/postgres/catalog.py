"""What a server has, as far as a spec can ask for it: read in two queries, plus one per database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class Connection(Protocol):
    """The part of an asyncpg connection that is used here."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    async def execute(self, query: str, *args: Any) -> str: ...


@dataclass(frozen=True, slots=True)
class LiveRole:
    name: str
    login: bool
    create_database: bool
    create_role: bool
    replication: bool
    bypass_row_security: bool
    connection_limit: int
    verifier: str | None = field(repr=False)
    valid_until: str | None
    member_of: frozenset[str]


@dataclass(frozen=True, slots=True)
class LiveDatabase:
    name: str
    owner: str
    connection_limit: int
    size: int


@dataclass(frozen=True, slots=True)
class LiveObjects:
    """What is inside of one database."""

    extensions: Mapping[str, tuple[str, str]]
    """Name -> (version, schema)."""
    available: Mapping[str, str]
    """Name -> default version of every extension that could be created."""
    schemas: Mapping[str, str]
    """Name -> owner."""


@dataclass(frozen=True, slots=True)
class Catalog:
    roles: Mapping[str, LiveRole]
    databases: Mapping[str, LiveDatabase]


_ROLES = """
SELECT r.rolname, r.rolcanlogin, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls, r.rolconnlimit,
       r.rolpassword,
       to_char(r.rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS valid_until,
       array(SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid)
         AS member_of
FROM pg_authid r WHERE r.rolname !~ '^pg_'
"""
_DATABASES = """
SELECT d.datname, pg_get_userbyid(d.datdba) AS owner, d.datconnlimit, pg_database_size(d.oid) AS size
FROM pg_database d WHERE NOT d.datistemplate
"""
_EXTENSIONS = """
SELECT e.extname, e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
"""
_SCHEMAS = "SELECT nspname, pg_get_userbyid(nspowner) AS owner FROM pg_namespace WHERE nspname !~ '^pg_'"


async def read_catalog(connection: Connection) -> Catalog:
    """Roles and databases; needs a superuser, because password verifiers are hidden from everybody else."""
    roles = {
        row["rolname"]: LiveRole(
            name=row["rolname"],
            login=row["rolcanlogin"],
            create_database=row["rolcreatedb"],
            create_role=row["rolcreaterole"],
            replication=row["rolreplication"],
            bypass_row_security=row["rolbypassrls"],
            connection_limit=row["rolconnlimit"],
            verifier=row["rolpassword"],
            valid_until=row["valid_until"],
            member_of=frozenset(row["member_of"]),
        )
        for row in await connection.fetch(_ROLES)
    }
    databases = {
        row["datname"]: LiveDatabase(row["datname"], row["owner"], row["datconnlimit"], row["size"])
        for row in await connection.fetch(_DATABASES)
    }
    return Catalog(roles, databases)


async def read_objects(connection: Connection) -> LiveObjects:
    """Extensions and schemas of the database that the connection is in."""
    extensions = {row["extname"]: (row["extversion"], row["nspname"]) for row in await connection.fetch(_EXTENSIONS)}
    available = await connection.fetch("SELECT name, default_version FROM pg_available_extensions")
    schemas = {row["nspname"]: row["owner"] for row in await connection.fetch(_SCHEMAS)}
    return LiveObjects(extensions, {row["name"]: row["default_version"] for row in available}, schemas)
