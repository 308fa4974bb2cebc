"""Databases, users, roles and rights of a running MariaDB, kept as the spec asks, over a real connection.

A role of the spec with a login is a user from anywhere (`name@%`); one without is a role. Rights of those that the spec
names are compared whole: what isn't in the spec is taken away.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from chandlery.driver.protocol import Difference
from chandlery.foundation.errors import EngineFailed
from chandlery_kinds.database.mariadb.rights import Rights, by_place, statements, wanted_rights
from chandlery_kinds.database.mariadb.sql import ANYWHERE, account, ident, literal, stored
from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.spec_parts import DatabaseItem, Removal, Role

Connect = Callable[[], Awaitable[Any]]
"""Opens a connection as the driver's own user."""
X509 = 2
"""ssl_type of a user that must show a certificate."""

_RIGHTS = """
SELECT GRANTEE, '', '', PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES
UNION ALL
SELECT GRANTEE, TABLE_SCHEMA, '', PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES
UNION ALL
SELECT GRANTEE, TABLE_SCHEMA, TABLE_NAME, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.TABLE_PRIVILEGES
"""
_DATABASES = """
SELECT s.SCHEMA_NAME, COALESCE(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0)
FROM information_schema.SCHEMATA s LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME
GROUP BY s.SCHEMA_NAME
"""


@dataclass(frozen=True, slots=True)
class Live:
    """What the server has."""

    users: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """(name, host) -> what it is; a role's host is empty."""
    members: frozenset[tuple[str, str]] = frozenset()
    """(user, role)."""
    rights: Mapping[str, Rights] = field(default_factory=dict)
    """By grantee, as information_schema writes it."""
    databases: Mapping[str, int] = field(default_factory=dict)
    """Name -> bytes."""


async def fetch(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    """All rows of a statement."""
    async with connection.cursor() as cursor:
        await cursor.execute(sql)
        return list(await cursor.fetchall())


async def read(connection: Any) -> Live:
    """Everything at once."""
    users = await fetch(connection, "SELECT User, Host, Priv FROM mysql.global_priv")
    members = await fetch(connection, "SELECT User, Role FROM mysql.roles_mapping WHERE Host IN ('%', '')")
    rows: dict[str, list[tuple[str, str, str, bool]]] = {}
    for who, database, table, word, option in await fetch(connection, _RIGHTS):
        rows.setdefault(str(who), []).append((str(database), str(table), str(word), option == "YES"))
    databases = await fetch(connection, _DATABASES)
    return Live(
        {(_text(user), _text(host)): json.loads(_text(what)) for user, host, what in users},
        frozenset((_text(user), _text(role)) for user, role in members),
        {who: by_place(found) for who, found in rows.items()},
        {_text(name): int(size) for name, size in databases},
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Content:
    """What one pass does about the inside of one server. `record` is kept by the driver between passes."""

    def __init__(
        self,
        spec: DatabaseSpec,
        connect: Connect,
        passwords: Mapping[str, str],
        record: MutableMapping[str, Any],
        *,
        certificates: bool = False,
    ) -> None:
        """`certificates`: users must show one."""
        self.spec = spec
        self.connect = connect
        self.passwords = passwords
        self.record = record
        self.certificates = certificates
        self.live = Live()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        connection = await self.connect()
        try:
            yield connection
        finally:
            connection.close()

    def _roles(self) -> list[Role]:
        listed = {role.name: role for role in self.spec.roles}
        return [listed.get(name) or Role(name=name) for name in self.spec.role_names()]

    # -- looking

    async def differences(self) -> list[Difference]:
        """What isn't as the spec asks, in the order in which it can be done."""
        async with self._connection() as connection:
            self.live = await read(connection)
        found: list[Difference] = []
        for item in self.spec.databases:
            if item.name not in self.live.databases:
                where = f"spec.databases[{item.name}]"
                found.append(Difference(where, "present", "absent", payload=(_create(item),)))
        for role in self._roles():
            found += self._user(role)
        if found:
            return found  # rights need somebody to have them
        for role in self._roles():
            found += self._rights(role)
        return [*found, *self._removed()]

    def _user(self, role: Role) -> list[Difference]:
        where, who = f"spec.roles[{role.name}]", _who(role)
        live = self.live.users.get((role.name, ANYWHERE if role.login else ""))
        other = self.live.users.get((role.name, "" if role.login else ANYWHERE))
        found = []
        if other is not None:
            kind = "ROLE" if role.login else "USER"
            drop = f"DROP {kind} {ident(role.name) if role.login else account(role.name)}"
            found.append(Difference(f"{where}.login", str(role.login).lower(), "otherwise", payload=(drop,)))
        if not role.login:
            if live is None:
                found.append(Difference(where, "present", "absent", payload=(f"CREATE ROLE {who}",)))
            return found
        limit = _limit(role.connection_limit)
        options = f"REQUIRE {'X509' if self.certificates else 'NONE'} WITH MAX_USER_CONNECTIONS {limit}"
        secret = stored(self.passwords[role.name])
        identified = f"IDENTIFIED BY PASSWORD {literal(secret)}"
        if live is None:
            sql = f"CREATE USER {who} {identified} {options}"
            return [*found, Difference(where, "present", "absent", payload=(sql,))]
        if live.get("authentication_string") != secret or live.get("plugin") != "mysql_native_password":
            sql = f"ALTER USER {who} {identified}"
            field = f"{where}.password"
            found.append(Difference(field, "as in its Secret", "another", sensitive=True, payload=(sql,)))
        has = (int(live.get("max_user_connections", 0)), int(live.get("ssl_type", 0)))
        if has != (limit, X509 if self.certificates else 0) or live.get("account_locked"):
            sql = f"ALTER USER {who} {options} ACCOUNT UNLOCK"
            found.append(Difference(where, options, "different", payload=(sql,)))
        return found

    def _rights(self, role: Role) -> list[Difference]:
        where, who = f"spec.roles[{role.name}]", _who(role)
        grantee = f"'{role.name}'@'{ANYWHERE if role.login else ''}'"
        wanted = wanted_rights(self.spec, role)
        sql = statements(who, wanted, self.live.rights.get(grantee, {}))
        found = [Difference(f"{where}.grants", text, "otherwise", payload=(text,)) for text in sql]
        has = {group for user, group in self.live.members if user == role.name}
        asked = set(role.member_of)
        changes = [f"GRANT {ident(group)} TO {who}" for group in sorted(asked - has)]
        changes += [f"REVOKE {ident(group)} FROM {who}" for group in sorted(has - asked)]
        live = self.live.users.get((role.name, ANYWHERE), {})
        default = role.member_of[0] if role.member_of else ""
        if role.login and live.get("default_role", "") != default:
            changes.append(f"SET DEFAULT ROLE {ident(default) if default else 'NONE'} FOR {who}")
        if changes:
            field = f"{where}.memberOf"
            found.append(Difference(field, ", ".join(sorted(asked)), ", ".join(sorted(has)), payload=tuple(changes)))
        return found

    def _removed(self) -> list[Difference]:
        """What we made with whenRemoved: Delete and the spec no longer lists."""
        found = []
        listed, roles = {item.name for item in self.spec.databases}, set(self.spec.role_names())
        for name, policy in self.record.get("databases", {}).items():
            if name not in listed and policy == Removal.DELETE and name in self.live.databases:
                sql = f"DROP DATABASE {ident(name)}"
                found.append(Difference(f"spec.databases[{name}]", "absent", "present", payload=(sql,)))
        for name, policy in self.record.get("roles", {}).items():
            if name in roles or policy != Removal.DELETE:
                continue
            for host, sql in ((ANYWHERE, f"DROP USER {account(name)}"), ("", f"DROP ROLE {ident(name)}")):
                if (name, host) in self.live.users:
                    found.append(Difference(f"spec.roles[{name}]", "absent", "present", payload=(sql,)))
        return found

    # -- acting

    async def apply(self, changes: Sequence[Difference]) -> None:
        """Run the statements of these differences.

        Raises:
            EngineFailed: the server refused one; what was done before stays, and the next pass goes on from there.
        """
        import pymysql

        async with self._connection() as connection:
            for change in changes:
                for statement in change.payload:
                    try:
                        await fetch(connection, statement)
                    except pymysql.err.MySQLError as error:
                        raise EngineFailed(f"MariaDB refused: {error.args[-1]}", field=change.field) from error
        self.record["databases"] = {
            **self.record.get("databases", {}),
            **{item.name: item.when_removed.value for item in self.spec.databases},
        }
        self.record["roles"] = {
            **self.record.get("roles", {}),
            **{role.name: role.when_removed.value for role in self.spec.roles},
        }

    def facts(self) -> dict[str, Any]:
        """Databases and roles for status."""
        databases = []
        for item in self.spec.databases:
            size = self.live.databases.get(item.name)
            entry: dict[str, Any] = {"name": item.name, "ready": size is not None}
            if size is not None:
                entry["size"] = f"{-(-size // (1 << 20))}Mi"
            databases.append(entry)
        names = {name for name, _ in self.live.users}
        return {"databases": databases, "roles": [{"name": r, "ready": r in names} for r in self.spec.role_names()]}


def _who(role: Role) -> str:
    return account(role.name) if role.login else ident(role.name)


def _limit(connections: int) -> int:
    """In MariaDB 0 means no limit of its own, and -1 that none may be made."""
    return {-1: 0, 0: -1}.get(connections, connections)


def _create(item: DatabaseItem) -> str:
    words = f"CREATE DATABASE {ident(item.name)} CHARACTER SET {literal(item.encoding or 'utf8mb4')}"
    return words + (f" COLLATE {literal(item.locale)}" if item.locale else "")
