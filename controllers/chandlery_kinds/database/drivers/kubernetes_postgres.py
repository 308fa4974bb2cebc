"""One pass over a single PostgreSQL in a StatefulSet of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.protocol import Binding, Difference, DriverContext
from chandlery.foundation.errors import ChandleryError, EngineFailed, Unavailable
from chandlery.model.base import Condition
from chandlery.providers.kubernetes import certificates
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.types import CONFIG_MAPS, DEPLOYMENTS, Obj
from chandlery_kinds.database.drivers.kubernetes_pass import ContentLike
from chandlery_kinds.database.drivers.kubernetes_pod import DatabasePod
from chandlery_kinds.database.kubernetes import pooler
from chandlery_kinds.database.kubernetes.config import revision, split
from chandlery_kinds.database.kubernetes.inputs import METRICS_USER, PORT
from chandlery_kinds.database.kubernetes.pooler import SUFFIX as POOLER
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.binding import binding, encrypted
from chandlery_kinds.database.postgres.connection import certificate_of, connect, serves
from chandlery_kinds.database.postgres.content import Content
from chandlery_kinds.database.postgres.live_settings import KEPT, setting_differences, statement
from chandlery_kinds.database.postgres.scram import matches, verifier
from chandlery_kinds.database.postgres.scripts import PAYLOAD as SCRIPT
from chandlery_kinds.database.postgres.scripts import Scripts
from chandlery_kinds.database.postgres.sql import ident, literal
from chandlery_kinds.database.settings import TABLES

_STATE = """
SELECT current_setting('server_version') AS version,
       current_setting('chandlery.revision', true) AS revision,
       (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,
       array(SELECT name FROM pg_settings WHERE pending_restart) AS pending_restart,
       (SELECT rolpassword FROM pg_authid WHERE rolname = 'chandlery_metrics') AS metrics,
       (SELECT sum(pg_database_size(oid)) FROM pg_database)::bigint
         + (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir())::bigint AS used
"""


class PostgresPod(DatabasePod):
    """Everything that one pass does with one database. Made anew each time; keeps nothing."""

    engine_name: ClassVar[str] = "PostgreSQL"

    def __init__(self, ctx: DriverContext, obj: Database, there: Children) -> None:
        super().__init__(ctx, obj, there)
        self.kept: Mapping[str, str] = {}
        self.scripts = Scripts(ctx, obj, self.notes.setdefault("scripts", {}), self._save, self._connect)

    def _begin(self) -> None:
        self.scripts.begin()

    async def _further(self, inside: list[Difference]) -> tuple[Condition, ...]:
        left, conditions = self.scripts.look()
        if not inside:
            inside += left
        return conditions

    async def _look(self) -> None:
        """Ask the running server for everything."""
        if self.pod is None or self.pod["metadata"].get("deletionTimestamp"):
            return
        try:
            connection = await self._connect("postgres")
        except ChandleryError as error:
            self.error = error.message
            return
        self.shown = certificate_of(connection)
        try:
            state = dict(await connection.fetchrow(_STATE))
            self.kept = {row["name"]: row["setting"] for row in await connection.fetch(KEPT)}
            self.live = state
        except Exception as error:  # noqa: BLE001
            # A server that is going down cuts connections in any way it likes; the next pass looks again.
            self.error = str(error)
        finally:
            await connection.close(timeout=2)

    async def _connect(self, database: str, user: str = "", password: str = "") -> Any:
        if self.pod is None:
            raise Unavailable("the pod isn't there yet", retry_after=0.5)
        host, port = self.session.resolve(self.pod, PORT)
        tls = self._context()
        if user:
            return await connect(host, port, database=database, user=user, password=password, tls=tls)
        seconds = max(self.ctx.base.remaining() or 60.0, 1.0)
        return await connect(
            host, port, database=database, password=self.auth()["admin"], command_seconds=seconds, tls=tls
        )

    async def _client_works(self, passwords: Mapping[str, str]) -> bool:
        item = self.spec.databases[0]
        owner = self.spec.owner_of(item)
        if owner not in passwords or self.inputs.clients_show:
            return True  # an owner that can't log in, or must show a certificate that is its own
        return await serves(self._connect(item.name, owner, passwords[owner]))

    # -- the pooler

    def _before(self) -> list[Obj]:
        present = self.certificates.present if self.certificates is not None else None
        shown = present.fingerprint if present is not None else ""
        live = self.there.get(DEPLOYMENTS, POOLER)
        made = pooler.children(self.inputs, self.auth()["admin"])
        return [*made, *(kept.workload for kept in pooler.workload(self.inputs, live, shown, upgrade=self.upgrade))]

    async def _pooler_works(self, passwords: Mapping[str, str]) -> bool:
        """Log in through one of its pods, and be answered by the engine."""
        if not self.inputs.pooled:
            return True
        item = self.spec.databases[0]
        owner = self.spec.owner_of(item)
        if owner not in passwords or self.inputs.clients_show:
            status = (self.there.get(DEPLOYMENTS, POOLER) or {}).get("status") or {}
            self.pooler_ready = bool(status.get("readyReplicas"))
            return self.pooler_ready
        context = certificates.material(self.there) if self.inputs.tls is not None else None
        password = passwords[owner]
        for pod in self.there.pods:
            if pod["metadata"]["labels"].get("app.kubernetes.io/instance") != pooler.owner_of(self.inputs).identity:
                continue
            try:
                host, port = self.session.resolve(pod, pooler.LISTEN)
                tls = context.context() if context is not None else None
                connection = await connect(
                    host, port, user=owner, password=password, database=item.name, tls=tls, pooled=True
                )
            except ChandleryError as error:
                self.error = error.message
                continue
            try:
                self.pooler_ready = bool(await connection.fetchval("SELECT 1") == 1)
            except Exception as error:  # noqa: BLE001 - it may go in any way
                self.error = str(error)
            finally:
                connection.terminate()
            if self.pooler_ready:
                return True
        return False

    def _content(self, passwords: Mapping[str, str]) -> ContentLike:
        return Content(self.spec, self._connect, passwords, self.notes.setdefault("content", {}))

    def _binding(self, role: str, host: str, port: int, passwords: Mapping[str, str]) -> Binding:
        made = binding(self.spec, host, port, role, passwords)
        tls = self.inputs.tls
        present = self.certificates.present if self.certificates is not None else None
        if tls is None:
            return made
        own = tls.certificate_secret is None and tls.issuer_ref is None
        return encrypted(made, present.authority if present is not None else "", own=own)

    # -- settings and users of our own

    def _setting_differences(self) -> list[Difference]:
        _, wanted = split(self.inputs)
        found = setting_differences(wanted, self.kept, self.spec.configuration, TABLES["postgres"])
        stored: str | None = self.live["metrics"]
        words: tuple[str, ...]
        if self.inputs.metrics and not matches(self.auth()["metrics"], stored):
            secret = literal(verifier(self.auth()["metrics"]))
            make = f"CREATE ROLE {ident(METRICS_USER)}" if stored is None else f"ALTER ROLE {ident(METRICS_USER)}"
            words = (f"{make} LOGIN CONNECTION LIMIT 5 PASSWORD {secret}", f"GRANT pg_monitor TO {METRICS_USER}")
            found.append(Difference("spec.metrics", "a user", "none", sensitive=True, payload=("own", words)))
        elif not self.inputs.metrics and stored is not None:
            words = (f"DROP ROLE {ident(METRICS_USER)}",)
            found.append(Difference("spec.metrics", "no user", "one", payload=("own", words)))
        return found

    def _waits(self, kind: str, path: str) -> bool:
        return kind == CONFIG_MAPS.kind and "postgresql.conf" in path

    def _begun(self) -> tuple[str, str, str]:
        return ", ".join(self.live["pending_restart"]), revision(self.inputs), str(self.live["revision"] or "")

    async def _set_live(self, changes: Sequence[Difference]) -> None:
        for change in changes:
            if change.payload[0] == "own":
                for words in change.payload[1]:
                    await self._run(words)
            elif change.payload[0] == SCRIPT:
                _, name, field = change.payload
                await self.scripts.run(name, field, await self.role_passwords())
            else:
                await self._set(change)
        await self._run("SELECT pg_reload_conf()")

    async def _reload_certificates(self) -> None:
        await self._run("SELECT pg_reload_conf()")

    async def _set(self, change: Difference) -> None:
        import asyncpg

        _, name, value = change.payload
        try:
            await self._run(statement(name, value))
        except asyncpg.PostgresError as error:
            raise EngineFailed(
                f"PostgreSQL refuses the value: {error.args[0]}",
                field=change.field,
                value=value,
                hint="Correct it; the server goes on with the old value.",
                retry_after=None,
            ) from error

    async def _run(self, sql: str) -> None:
        connection = await self._connect("postgres")
        try:
            await connection.execute(sql)
        finally:
            await connection.close(timeout=2)
