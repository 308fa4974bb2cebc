"""spec.initialization.sqlSecrets on this machine: scripts that run once, as the owner, in the first database.

Each runs in one transaction whose number is on record before it commits. After a crash PostgreSQL itself says what
became of it, so no script runs twice and none is left out. A script that can't be in a transaction (CREATE DATABASE)
works when it is the only statement; then it may run again after a crash in just that moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chandlery.driver.protocol import Difference
from chandlery.driver.schedule import stamp
from chandlery.foundation.errors import DependencyNotReady, EngineFailed
from chandlery.model.base import Condition, ConditionStatus

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_postgres import PostgresServers

CONDITION = "Initialized"


@dataclass(frozen=True, slots=True)
class ScriptsView:
    done: bool = True
    differences: tuple[Difference, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Scripts:
    """The scripts of one database in one pass."""

    def __init__(self, servers: PostgresServers) -> None:
        self._servers = servers
        self._instance = servers.instance
        self._secrets = servers.spec.initialization.sql_secrets

    @property
    def _record(self) -> dict[str, Any]:
        found: dict[str, Any] = self._instance.record.setdefault("scripts", {})
        return found

    def begin(self, *, restored: bool = False) -> None:
        """Note at creation what is to run; a restored database had its beginning elsewhere."""
        wanted = [] if restored else [f"{secret.name}/{secret.key}" for secret in self._secrets]
        if "wanted" not in self._record:
            self._record.update({"wanted": wanted, "done": {}})
            self._instance.save()

    def look(self) -> ScriptsView:
        """What has still to run. Only those count that the spec had when the database was made."""
        wanted, done = self._record.get("wanted", []), self._record.get("done", {})
        left = [name for name in wanted if name not in done]
        if not wanted:
            return ScriptsView()
        if not left:
            last = max(done.values())
            message = f"{len(wanted)} scripts have run, the last one at {last}."
            condition = Condition(type=CONDITION, status=ConditionStatus.TRUE, reason="Completed", message=message)
            return ScriptsView(True, (), (condition,))
        field = f"spec.initialization.sqlSecrets[{wanted.index(left[0])}]"
        change = Difference(field, "run", "not yet run", payload=("script", left[0], field))
        problem = self._record.get("problem") or f"{left[0]} has still to run."
        failed = "Failed" if self._record.get("problem") else "Running"
        condition = Condition(type=CONDITION, status=ConditionStatus.FALSE, reason=failed, message=problem)
        return ScriptsView(False, (change,), (condition,))

    async def run(self, name: str, field: str, passwords: Mapping[str, str]) -> None:
        """Run one script, or find out that it ran already.

        Raises:
            DependencyNotReady: its Secret or key isn't there.
            EngineFailed: PostgreSQL's own words; nothing of the script is left behind.
        """
        if not await self._ran_already(name):
            secret, _, key = name.partition("/")
            data = await self._servers.ctx.reader.secret(self._servers.obj.metadata.namespace, secret)
            if data is None or key not in data:
                what = f"the Secret {secret} isn't there" if data is None else f"the Secret {secret} has no key {key}"
                raise DependencyNotReady(what, field=field, hint="Create it; the script runs then.")
            await self._run(name, field, data[key].decode(errors="replace"), passwords)
        self._record["done"][name] = stamp(self._servers.ctx.base.now())
        self._record.pop("problem", None)
        self._record.pop("under_way", None)
        self._instance.save()
        self._servers.ctx.event("Normal", "Initialized", f"The script {name} has run.")

    async def _ran_already(self, name: str) -> bool:
        under_way = self._record.get("under_way", {})
        if under_way.get("name") != name:
            return False
        return bool(await self._servers.ask("SELECT txid_status($1)", under_way["transaction"]) == "committed")

    async def _run(self, name: str, field: str, text: str, passwords: Mapping[str, str]) -> None:
        import asyncpg

        item = self._servers.spec.databases[0]
        owner = self._servers.spec.owner_of(item)
        connection = await self._servers.connect_as_client(item.name, owner, passwords[owner])
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
            self._instance.save()
            hint = "Correct it in its Secret; nothing of it was kept, and it is tried again."
            raise EngineFailed(message, field=field, hint=hint, retry_after=30.0) from error
        finally:
            await connection.close(timeout=2)

    async def _in_transaction(self, connection: Any, name: str, text: str) -> None:
        await connection.execute("BEGIN")
        number = await connection.fetchval("SELECT txid_current()")
        self._record["under_way"] = {"name": name, "transaction": number}
        self._instance.save()
        await connection.execute(text, timeout=None)
        await connection.execute("COMMIT")
