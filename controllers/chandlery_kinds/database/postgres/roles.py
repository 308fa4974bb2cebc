"""Roles and databases: what is different, and the statements that mend it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chandlery.driver.protocol import Difference
from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.postgres.catalog import Catalog, LiveObjects, LiveRole
from chandlery_kinds.database.postgres.scram import matches, verifier
from chandlery_kinds.database.postgres.sql import ident, literal
from chandlery_kinds.database.spec_parts import DatabaseItem, Role

MAINTENANCE = "postgres"
"""The database that statements about roles and databases run in."""


@dataclass(frozen=True, slots=True)
class Sql:
    """The payload of a difference: statements, each a transaction of its own, in one database."""

    statements: tuple[str, ...]
    database: str = MAINTENANCE


def wanted_roles(spec: DatabaseSpec) -> list[Role]:
    """The roles of the spec, and the owners that it doesn't list."""
    listed = {role.name: role for role in spec.roles}
    return [listed.get(name) or Role(name=name) for name in spec.role_names()]


def role_differences(spec: DatabaseSpec, catalog: Catalog, passwords: Mapping[str, str]) -> list[Difference]:
    """Roles that are missing or not as asked. `passwords` holds one for each role with a login."""
    found = []
    for role in wanted_roles(spec):
        live = catalog.roles.get(role.name)
        password = passwords.get(role.name)
        if live is None:
            sql = f"CREATE ROLE {ident(role.name)} {_attributes(role, password)}"
            found.append(Difference(_field(role.name), "present", "absent", payload=Sql((sql,))))
        else:
            found += _changed(role, live, password)
    return found


def membership_differences(spec: DatabaseSpec, catalog: Catalog) -> list[Difference]:
    """Groups that a role should or shouldn't be in; after all roles exist."""
    found = []
    for role in wanted_roles(spec):
        live = catalog.roles.get(role.name)
        if live is None:
            continue
        wanted = frozenset(role.member_of)
        grants = [f"GRANT {ident(group)} TO {ident(role.name)}" for group in sorted(wanted - live.member_of)]
        revokes = [f"REVOKE {ident(group)} FROM {ident(role.name)}" for group in sorted(live.member_of - wanted)]
        if grants or revokes:
            found.append(
                Difference(
                    f"{_field(role.name)}.memberOf",
                    ", ".join(sorted(wanted)),
                    ", ".join(sorted(live.member_of)),
                    payload=Sql((*grants, *revokes)),
                )
            )
    return found


def _field(name: str) -> str:
    return f"spec.roles[{name}]"


def _flags(role: Role) -> dict[str, bool]:
    return {
        "LOGIN": role.login,
        "CREATEDB": role.create_database,
        "CREATEROLE": role.create_role,
        "REPLICATION": role.replication,
        "BYPASSRLS": role.bypass_row_security,
    }


def _attributes(role: Role, password: str | None) -> str:
    words = [word if on else f"NO{word}" for word, on in _flags(role).items()]
    words.append(f"CONNECTION LIMIT {role.connection_limit}")
    if role.valid_until is not None:
        words.append(f"VALID UNTIL {literal(role.valid_until)}")
    if role.login and password is not None:
        words.append(f"PASSWORD {literal(verifier(password))}")
    return " ".join(words)


def _changed(role: Role, live: LiveRole, password: str | None) -> list[Difference]:
    has = {
        "LOGIN": live.login,
        "CREATEDB": live.create_database,
        "CREATEROLE": live.create_role,
        "REPLICATION": live.replication,
        "BYPASSRLS": live.bypass_row_security,
    }
    words = [word if on else f"NO{word}" for word, on in _flags(role).items() if on != has[word]]
    if role.connection_limit != live.connection_limit:
        words.append(f"CONNECTION LIMIT {role.connection_limit}")
    until = "infinity" if role.valid_until is None else _utc(role.valid_until)
    if until != (live.valid_until or "infinity"):
        words.append(f"VALID UNTIL {literal(until)}")
    found = []
    if words:
        sql = f"ALTER ROLE {ident(role.name)} {' '.join(words)}"
        found.append(Difference(_field(role.name), " ".join(words), "different", payload=Sql((sql,))))
    if role.login and password is not None and not matches(password, live.verifier):
        sql = f"ALTER ROLE {ident(role.name)} PASSWORD {literal(verifier(password))}"
        found.append(
            Difference(
                f"{_field(role.name)}.password", "as in its Secret", "another", sensitive=True, payload=Sql((sql,))
            )
        )
    return found


def _utc(stamp: str) -> str:
    """One spelling for one moment, as the catalog query writes it."""
    moment = datetime.fromisoformat(stamp)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def database_differences(spec: DatabaseSpec, catalog: Catalog, spare: str = "") -> list[Difference]:
    """Databases that are missing, or have another owner or limit.

    `spare` names an empty database of ours, as `_create` would make it but for name, owner and limit: a new name for it
    is had in a hundredth of the time.
    """
    found = []
    left = spare if spare in catalog.databases else ""
    for item in spec.databases:
        owner, live = spec.owner_of(item), catalog.databases.get(item.name)
        where = f"spec.databases[{item.name}]"
        if live is None:
            fits = left and item.locale is None and _encoding(item.encoding) == _encoding(spec.initialization.encoding)
            statements = _renamed(left, item, owner) if fits else _create(item, owner)
            left = "" if fits else left
            found.append(Difference(where, "present", "absent", payload=Sql(statements)))
            continue
        if live.owner != owner:
            sql = f"ALTER DATABASE {ident(item.name)} OWNER TO {ident(owner)}"
            found.append(Difference(f"{where}.owner", owner, live.owner, payload=Sql((sql,))))
        if live.connection_limit != item.connection_limit:
            sql = f"ALTER DATABASE {ident(item.name)} CONNECTION LIMIT {item.connection_limit}"
            found.append(
                Difference(
                    f"{where}.connectionLimit",
                    str(item.connection_limit),
                    str(live.connection_limit),
                    payload=Sql((sql,)),
                )
            )
    if left and all(item.name in catalog.databases for item in spec.databases):
        found.append(Difference("spare database", "absent", left, payload=Sql((f"DROP DATABASE {ident(left)}",))))
    return found


def _encoding(asked: str | None) -> str:
    return asked or "UTF8"


def _renamed(spare: str, item: DatabaseItem, owner: str) -> tuple[str, ...]:
    """The name first: a pass that is cut short leaves what the next one mends."""
    name = ident(item.name)
    limit = () if item.connection_limit == -1 else (f"ALTER DATABASE {name} CONNECTION LIMIT {item.connection_limit}",)
    rename = f"ALTER DATABASE {ident(spare)} RENAME TO {name}"
    return (rename, f"ALTER DATABASE {name} OWNER TO {ident(owner)}", *limit)


def _create(item: DatabaseItem, owner: str) -> tuple[str, ...]:
    words = [f"CREATE DATABASE {ident(item.name)} OWNER {ident(owner)} TEMPLATE template0"]
    words.append(f"ENCODING {literal(_encoding(item.encoding))}")
    if item.locale is not None:
        words.append(f"LOCALE {literal(item.locale)}")
    words.append(f"CONNECTION LIMIT {item.connection_limit}")
    # By default every role may connect to every database; here one tenant must not see another's.
    revoke = f"REVOKE ALL ON DATABASE {ident(item.name)} FROM PUBLIC"
    return (" ".join(words), revoke)


def object_differences(item: DatabaseItem, owner: str, live: LiveObjects) -> list[Difference]:
    """Schemas and extensions of one database."""
    where = f"spec.databases[{item.name}]"
    found = []
    for schema in item.schemas:
        has = live.schemas.get(schema)
        if has is None:
            sql = f"CREATE SCHEMA {ident(schema)} AUTHORIZATION {ident(owner)}"
            found.append(Difference(f"{where}.schemas", schema, "absent", payload=Sql((sql,), item.name)))
        elif has != owner:
            sql = f"ALTER SCHEMA {ident(schema)} OWNER TO {ident(owner)}"
            found.append(Difference(f"{where}.schemas", f"{schema} of {owner}", has, payload=Sql((sql,), item.name)))
    for extension in item.extensions:
        place = f"{where}.extensions[{extension.name}]"
        known = live.extensions.get(extension.name)
        if known is None:
            words = [f"CREATE EXTENSION {ident(extension.name)}"]
            if extension.schema_name:
                words.append(f"SCHEMA {ident(extension.schema_name)}")
            if extension.version:
                words.append(f"VERSION {literal(extension.version)}")
            found.append(Difference(place, "present", "absent", payload=Sql((" ".join(words),), item.name)))
        elif extension.version and known[0] != extension.version:
            sql = f"ALTER EXTENSION {ident(extension.name)} UPDATE TO {literal(extension.version)}"
            found.append(Difference(f"{place}.version", extension.version, known[0], payload=Sql((sql,), item.name)))
    return found


def missing_extensions(spec: DatabaseSpec, available: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """(database, extension) pairs that this build of the engine doesn't have."""
    return [
        (item.name, extension.name)
        for item in spec.databases
        for extension in item.extensions
        if extension.name not in available
    ]


__all__ = [
    "Sql",
    "database_differences",
    "membership_differences",
    "missing_extensions",
    "object_differences",
    "role_differences",
    "wanted_roles",
]
