"""spec.initialization.sqlSecrets: scripts that run once, as the owner, in the first database.

Each runs in one transaction whose number is on record before it commits. After a crash PostgreSQL itself says what
became of it, so no script runs twice and none is left out. A script that can't be in a transaction (CREATE DATABASE)
works when it is the only statement; then it may run again after a crash in just that moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from chandlery.driver.protocol import Difference, DriverContext
from chandlery.driver.schedule import stamp
from chandlery.foundation.errors import DependencyNotReady, EngineFailed
from chandlery.model.base import Condition, ConditionStatus
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.roles import MAINTENANCE

CONDITION = "Initialized"
PAYLOAD = "script"
"""First word of the payload of our Difference."""


class Scripts:
    """The scripts of one database in one pass.

    Args:
        ctx: for Secrets, time and events.
        obj: whose.
        record: kept by the driver between passes; `save` puts it on record.
        save: writes the record.
        connect: opens a connection to a database, as the driver's own user unless user and password are given.
    """

    def __init__(
        self,
        ctx: DriverContext,
        obj: Database,
        record: MutableMapping[str, Any],
        save: Callable[[], Awaitable[None]],
        connect: Callable[..., Awaitable[Any]],
    ) -> None:
        self._ctx = ctx
        self._obj = obj
        self._record = record
        self._save = save
        self._connect = connect

    def begin(self) -> None:
        """Note at creation what is to run; a restored database had its beginning elsewhere."""
        restored = self._obj.spec.restore_from is not None
        secrets = () if restored else self._obj.spec.initialization.sql_secrets
        if secrets and "wanted" not in self._record:
            self._record.update({"wanted": [f"{secret.name}/{secret.key}" for secret in secrets], "done": {}})

    def look(self) -> tuple[list[Difference], tuple[Condition, ...]]:
        """What has still to run. Only those count that the spec had when the database was made."""
        wanted, done = self._record.get("wanted", []), self._record.get("done", {})
        left = [name for name in wanted if name not in done]
        if not wanted:
            return [], ()
        if not left:
            message = f"{len(wanted)} scripts have run, the last one at {max(done.values())}."
            return [], (Condition(type=CONDITION, status=ConditionStatus.TRUE, reason="Completed", message=message),)
        field = f"spec.initialization.sqlSecrets[{wanted.index(left[0])}]"
        problem = str(self._record.get("problem", ""))
        condition = Condition(
            type=CONDITION,
            status=ConditionStatus.FALSE,
            reason="Failed" if problem else "Running",
            message=problem or f"{left[0]} has still to run.",
        )
        return [Difference(field, "run", "not yet run", payload=(PAYLOAD, left[0], field))], (condition,)

    async def run(self, name: str, field: str, passwords: Mapping[str, str]) -> None:
        """Run one script, or find out that it ran already.

        Raises:
            DependencyNotReady: its Secret or key isn't there.
            EngineFailed: PostgreSQL's own words; nothing of the script is left behind.
        """
        if not await self._ran_already(name):
            secret, _, key = name.partition("/")
            data = await self._ctx.reader.secret(self._obj.metadata.namespace, secret)
            if data is None or key not in data:
                what = f"the Secret {secret} isn't there" if data is None else f"the Secret {secret} has no key {key}"
                raise DependencyNotReady(what, field=field, hint="Create it; the script runs then.")
            await self._run(name, field, data[key].decode(errors="replace"), passwords)
        self._record["done"][name] = stamp(self._ctx.base.now())
        self._record.pop("problem", None)
        self._record.pop("under_way", None)
        await self._save()
        self._ctx.event("Normal", "Initialized", f"The script {name} has run.")

    async def _ran_already(self, name: str) -> bool:
        under_way = self._record.get("under_way", {})
        if under_way.get("name") != name:
            return False
        connection = await self._connect(MAINTENANCE)
        try:
            status = await connection.fetchval("SELECT txid_status($1)", under_way["transaction"])
        finally:
            await connection.close(timeout=2)
        return bool(status == "committed")

    async def _run(self, name: str, field: str, text: str, passwords: Mapping[str, str]) -> None:
        import asyncpg

        item = self._obj.spec.databases[0]
        owner = self._obj.spec.owner_of(item)
        connection = await self._connect(item.name, owner, passwords[owner])
        try:
            try:
                await self._in_transaction(connection, name, text)
            except asyncpg.exceptions.ActiveSQLTransactionError:
                await connection.execute("ROLLBACK")
                await connection.execute(text, timeout=None)
        except asyncpg.PostgresError as error:
            message = f"the script {name} failed: {error.args[0]}"
            self._record["problem"] = message + " Correct it in its Secret; it is tried again."
            self._record.pop("under_way", None)
            await self._save()
            hint = "Correct it in its Secret; nothing of it was kept, and it is tried again."
            raise EngineFailed(message, field=field, hint=hint, retry_after=30.0) from error
        finally:
            await connection.close(timeout=2)

    async def _in_transaction(self, connection: Any, name: str, text: str) -> None:
        await connection.execute("BEGIN")
        number = await connection.fetchval("SELECT txid_current()")
        self._record["under_way"] = {"name": name, "transaction": number}
        await self._save()
        await connection.execute(text, timeout=None)
        await connection.execute("COMMIT")


def needs_login(obj: Database) -> bool:
    """Whether scripts are asked for whose owner can't log in."""
    spec = obj.spec
    owner = spec.owner_of(spec.databases[0])
    role = next((r for r in spec.roles if r.name == owner), None)
    return bool(spec.initialization.sql_secrets) and role is not None and not role.login
