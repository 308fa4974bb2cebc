"""Roles, databases, extensions and grants of a running server, kept as the spec asks, over a real connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from chandlery.driver.protocol import Difference
from chandlery.foundation.errors import EngineFailed, InvalidSpec, NotSupported
from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.postgres.catalog import Catalog, LiveObjects, read_catalog, read_objects
from chandlery_kinds.database.postgres.grants import RoleGrant, connect_statements, wanted_grants
from chandlery_kinds.database.postgres.roles import (
    MAINTENANCE,
    Sql,
    database_differences,
    membership_differences,
    object_differences,
    role_differences,
)
from chandlery_kinds.database.postgres.sql import ident
from chandlery_kinds.database.spec_parts import Grant, Removal

Connect = Callable[[str], Awaitable[Any]]
"""Opens a connection, as superuser, to a database."""


class Content:
    """What one pass does about the inside of one server.

    `record` is kept by the driver between passes: which roles, databases and grants were made by us, so that one that
    is taken out of the spec is known to be ours. `spare` names an empty database that may become one of the spec's.
    """

    def __init__(
        self,
        spec: DatabaseSpec,
        connect: Connect,
        passwords: Mapping[str, str],
        record: MutableMapping[str, Any],
        spare: str = "",
    ) -> None:
        self.spec = spec
        self.connect = connect
        self.passwords = passwords
        self.record = record
        self.spare = spare
        self.catalog = Catalog({}, {})
        self.objects: dict[str, LiveObjects] = {}

    @asynccontextmanager
    async def _connection(self, database: str) -> AsyncIterator[Any]:
        connection = await self.connect(database)
        try:
            yield connection
        finally:
            await connection.close(timeout=2)

    async def differences(self) -> list[Difference]:
        """What isn't as the spec asks, in the order in which it can be done."""
        async with self._connection(MAINTENANCE) as connection:
            self.catalog = await read_catalog(connection)
        found = role_differences(self.spec, self.catalog, self.passwords)
        found += membership_differences(self.spec, self.catalog)
        found += database_differences(self.spec, self.catalog, self.spare)
        if found:
            return found  # what is inside of a database can be asked once it is there
        for item in self.spec.databases:
            async with self._connection(item.name) as connection:
                self.objects[item.name] = await read_objects(connection)
                found += object_differences(item, self.spec.owner_of(item), self.objects[item.name])
                found += await self._grant_differences(item.name, connection)
        return [*found, *self._stale_grants(), *self._removed()]

    async def _grant_differences(self, database: str, connection: Any) -> list[Difference]:
        item = next(d for d in self.spec.databases if d.name == database)
        owner, found = self.spec.owner_of(item), []
        known = set(self.record.get("grants", ()))
        for wanted in wanted_grants(self.spec):
            if wanted.grant.database != database:
                continue
            if wanted.text in known and await wanted.holds(connection):
                continue
            statements = (*_connects(self.spec, database, wanted.role), *wanted.statements(owner))
            found.append(
                Difference(
                    f"spec.roles[{wanted.role}].grants",
                    statements[-1],
                    "not granted",
                    payload=(Sql(statements, database), "grant", wanted.text),
                )
            )
        return found

    def _stale_grants(self) -> list[Difference]:
        wanted = {grant.text for grant in wanted_grants(self.spec)}
        found = []
        for text in self.record.get("grants", ()):
            if text in wanted:
                continue
            role, _, body = text.partition(" ")
            grant = RoleGrant(role, Grant.model_validate_json(body))
            item = next((d for d in self.spec.databases if d.name == grant.grant.database), None)
            gone = item is None or role not in self.catalog.roles
            statements = () if gone or item is None else grant.statements(self.spec.owner_of(item), revoke=True)
            found.append(
                Difference(
                    f"spec.roles[{role}].grants",
                    "not granted",
                    text,
                    payload=(Sql(statements, grant.grant.database), "revoke", text),
                )
            )
        return found

    def _removed(self) -> list[Difference]:
        """Roles and databases that we made with whenRemoved: Delete and that the spec no longer lists."""
        found = []
        listed = {item.name for item in self.spec.databases}
        for name, policy in self.record.get("databases", {}).items():
            if name not in listed and policy == Removal.DELETE and name in self.catalog.databases:
                sql = f"DROP DATABASE {ident(name)} WITH (FORCE)"
                found.append(Difference(f"spec.databases[{name}]", "absent", "present", payload=Sql((sql,))))
        roles = set(self.spec.role_names())
        for name, policy in self.record.get("roles", {}).items():
            if name not in roles and policy == Removal.DELETE and name in self.catalog.roles:
                owner = ident(self.spec.owner_of(self.spec.databases[0]))
                for item in self.spec.databases:
                    statements = (f"REASSIGN OWNED BY {ident(name)} TO {owner}", f"DROP OWNED BY {ident(name)}")
                    found.append(
                        Difference(f"spec.roles[{name}]", "absent", "owns things", payload=Sql(statements, item.name))
                    )
                sql = f"DROP ROLE {ident(name)}"
                found.append(Difference(f"spec.roles[{name}]", "absent", "present", payload=Sql((sql,))))
        return found

    async def apply(self, changes: Sequence[Difference]) -> None:
        """Run the statements of these differences, grouped by database so that each is connected to once.

        Raises:
            EngineFailed: the server refused one; what was done before stays, and the next pass goes on from there.
            InvalidSpec, NotSupported: it will always refuse it.
        """
        for change in changes:
            payload = change.payload
            sql, mark, text = payload if isinstance(payload, tuple) else (payload, "", "")
            if sql.statements:
                async with self._connection(sql.database) as connection:
                    for statement in sql.statements:
                        await self._execute(connection, statement, change)
            grants = self.record.setdefault("grants", [])
            if mark == "grant" and text not in grants:
                grants.append(text)
            elif mark == "revoke":
                grants.remove(text)
        self.record["databases"] = {
            **self.record.get("databases", {}),
            **{item.name: item.when_removed.value for item in self.spec.databases},
        }
        self.record["roles"] = {
            **self.record.get("roles", {}),
            **{role.name: role.when_removed.value for role in self.spec.roles},
        }

    async def _execute(self, connection: Any, statement: str, change: Difference) -> None:
        import asyncpg

        try:
            await connection.execute(statement)
        except (asyncpg.exceptions.DuplicateObjectError, asyncpg.exceptions.DuplicateDatabaseError):
            return  # a pass that was cut short had done it already
        except (asyncpg.exceptions.FeatureNotSupportedError, asyncpg.exceptions.UndefinedFileError) as error:
            raise NotSupported(
                f"this PostgreSQL can't do it: {error.args[0]}",
                field=change.field,
                hint="Leave it out, or use a class whose engine has it.",
            ) from error
        except (asyncpg.exceptions.WrongObjectTypeError, asyncpg.exceptions.InvalidParameterValueError) as error:
            # a locale that this system doesn't have, an encoding that doesn't go with it
            raise InvalidSpec(f"PostgreSQL refused: {error.args[0]}", field=change.field, hint="Correct it.") from error
        except asyncpg.PostgresError as error:
            raise EngineFailed(
                f"PostgreSQL refused: {error.args[0]}",
                field=change.field,
                hint="Correct it, or put right what it names; it is tried again by itself.",
            ) from error

    def facts(self) -> dict[str, Any]:
        """Databases and roles for status."""
        databases = []
        for item in self.spec.databases:
            live, objects = self.catalog.databases.get(item.name), self.objects.get(item.name)
            entry: dict[str, Any] = {"name": item.name, "ready": live is not None and objects is not None}
            if objects is not None:
                extensions = sorted(f"{name} {version}" for name, (version, _) in objects.extensions.items())
                entry["extensions"] = extensions
            if live is not None:
                entry["size"] = f"{-(-live.size // (1 << 20))}Mi"
            databases.append(entry)
        roles = [{"name": name, "ready": name in self.catalog.roles} for name in self.spec.role_names()]
        return {"databases": databases, "roles": roles}


def _connects(spec: DatabaseSpec, database: str, role: str) -> tuple[str, ...]:
    return tuple(s for d, s in connect_statements(spec) if d == database and s.endswith(f" TO {ident(role)}"))
