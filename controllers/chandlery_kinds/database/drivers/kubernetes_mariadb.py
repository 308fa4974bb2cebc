"""One pass over a single MariaDB in a StatefulSet of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Unsupported
from chandlery.foundation.errors import ChandleryError, Unavailable
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.drift import stamped
from chandlery.providers.kubernetes.types import CONFIG_MAPS
from chandlery_kinds.database.drivers.kubernetes_pass import ContentLike
from chandlery_kinds.database.drivers.kubernetes_pod import DatabasePod
from chandlery_kinds.database.kubernetes.inputs import METRICS_USER
from chandlery_kinds.database.kubernetes.mariadb_config import FILE, config, revisions, wanted_settings
from chandlery_kinds.database.kubernetes.mariadb_pod import PROBE_USER
from chandlery_kinds.database.mariadb.binding import binding, encrypted
from chandlery_kinds.database.mariadb.configuration import sql_value
from chandlery_kinds.database.mariadb.connection import certificate_of, connect, serves
from chandlery_kinds.database.mariadb.content import Content, fetch
from chandlery_kinds.database.mariadb.rights import refused_roles
from chandlery_kinds.database.mariadb.settings import differences, is_live, tell
from chandlery_kinds.database.mariadb.sql import account, literal, stored
from chandlery_kinds.database.model import Database

SETTINGS = "settings"
"""In the record: the settings that stand in the file."""
AGAIN = "live_for"
"""In the record: the server's process that was told all live settings after it had begun with an older file."""
_FIGURES = "PROCESS, BINLOG MONITOR, SLAVE MONITOR"
_STATE = """
SELECT VERSION(), @@GLOBAL.pid_file, @@GLOBAL.innodb_log_file_size,
       (SELECT COALESCE(SUM(FILE_SIZE), 0) FROM information_schema.INNODB_SYS_TABLESPACES)
"""
_OWN = "SELECT User, JSON_VALUE(Priv, '$.authentication_string') FROM mysql.global_priv WHERE Host = 'localhost'"


class MariaPod(DatabasePod):
    """Everything that one pass does with one database. Made anew each time; keeps nothing."""

    engine_name: ClassVar[str] = "MariaDB"
    own_keys: ClassVar[Sequence[str]] = ("admin", "probe")

    def __init__(self, ctx: DriverContext, obj: Database, there: Children) -> None:
        super().__init__(ctx, obj, there)
        self.wanted = wanted_settings(self.inputs)
        self.applied: dict[str, str] = self.notes.get(SETTINGS) or dict(self.wanted)
        """What stands in the file; what a plan holds back, or the engine refuses, isn't among them."""
        self.inputs = replace(self.inputs, applied=self.applied)

    def _begin(self) -> None:
        self.notes.setdefault(SETTINGS, dict(self.wanted))

    def _waits(self, kind: str, path: str) -> bool:
        return kind == CONFIG_MAPS.kind and FILE in path and self._speaks_tls() != (self.inputs.tls is not None)

    def _line(self, version: str) -> str:
        return ".".join(version.split(".")[:2])

    # -- looking

    async def _look(self) -> None:
        if self.pod is None or self.pod["metadata"].get("deletionTimestamp"):
            return
        try:
            connection = await self._connect()
        except ChandleryError as error:
            self.error = error.message
            return
        self.shown = certificate_of(connection)
        try:
            [(version, pid, log, size)] = await fetch(connection, _STATE)
            users = {_text(user): _text(secret or "") for user, secret in await fetch(connection, _OWN)}
            begun = str(pid).rpartition("/")[2].removesuffix(".pid").split("-")
            self.live = {
                "version": str(version).partition("-")[0],
                "used": int(size) + int(log),
                "begun": begun if len(begun) == 2 else ["", ""],
                "users": users,
            }
        except Exception as error:  # noqa: BLE001
            # A server that is going down cuts connections in any way it likes; the next pass looks again.
            self.error = str(error)
        finally:
            connection.close()

    async def _connect(self, user: str = "", password: str = "", database: str = "") -> Any:
        if self.pod is None:
            raise Unavailable("the pod isn't there yet", retry_after=0.5)
        host, port = self.session.resolve(self.pod, self.inputs.port)
        tls = self._context()
        if user:
            return await connect(host, port, user=user, password=password, database=database, tls=tls)
        return await connect(host, port, password=self.auth()["admin"], tls=tls)

    async def _client_works(self, passwords: Mapping[str, str]) -> bool:
        item = self.spec.databases[0]
        owner = self.spec.owner_of(item)
        if owner not in passwords or self.inputs.clients_show:
            return True  # an owner that can't log in, or must show a certificate that is its own
        return await serves(self._connect(owner, passwords[owner], item.name))

    def _content(self, passwords: Mapping[str, str]) -> ContentLike:
        record = self.notes.setdefault("content", {})
        return Content(self.spec, self._connect, passwords, record, certificates=self.inputs.clients_show)

    def _binding(self, role: str, host: str, port: int, passwords: Mapping[str, str]) -> Binding:
        made = binding(self.spec, host, port, role, passwords)
        tls = self.inputs.tls
        present = self.certificates.present if self.certificates is not None else None
        if tls is None:
            return made
        own = tls.certificate_secret is None and tls.issuer_ref is None
        return encrypted(made, present.authority if present is not None else "", own=own)

    # -- settings and users of our own

    def _file_differences(self) -> list[Difference]:
        """Settings that take effect at a start."""
        return [found for found in self._changes() if found.disruption is Disruption.RESTART]

    def _changes(self) -> list[Difference]:
        return differences(self.spec, self.wanted, self.applied)

    def _setting_differences(self) -> list[Difference]:
        found = [change for change in self._changes() if change.disruption is Disruption.RELOAD]
        older = self.live["begun"][1] != revisions(self.inputs)[1]
        if not found and older and self._process != self.notes.get(AGAIN):
            found.append(
                Difference("settings", "as in spec", "of an older file", Disruption.RELOAD, payload=("again",))
            )
        return [*found, *self._own_users()]

    @property
    def _process(self) -> str:
        """Stands for one start of the server."""
        pod = self.pod or {"metadata": {"uid": ""}}
        restarts = [c.get("restartCount", 0) for c in (pod.get("status") or {}).get("containerStatuses") or ()]
        return f"{pod['metadata']['uid']}/{sum(restarts)}"

    def _own_users(self) -> list[Difference]:
        """Those of probes and metrics: they come by the socket only."""
        found, users, auth = [], self.live["users"], self.auth()
        words: tuple[str, ...]
        if users.get(PROBE_USER) != stored(auth["probe"]):
            who = account(PROBE_USER, "localhost")
            words = (f"CREATE OR REPLACE USER {who} IDENTIFIED BY PASSWORD {literal(stored(auth['probe']))}",)
            found.append(Difference("probe", "a user", "none", sensitive=True, payload=("own", words)))
        who = account(METRICS_USER, "localhost")
        if self.inputs.metrics and users.get(METRICS_USER) != stored(auth["metrics"]):
            secret = literal(stored(auth["metrics"]))
            words = (
                f"CREATE OR REPLACE USER {who} IDENTIFIED BY PASSWORD {secret} WITH MAX_USER_CONNECTIONS 5",
                f"GRANT {_FIGURES} ON *.* TO {who}",
            )
            found.append(Difference("spec.metrics", "a user", "none", sensitive=True, payload=("own", words)))
        elif not self.inputs.metrics and METRICS_USER in users:
            found.append(Difference("spec.metrics", "no user", "one", payload=("own", (f"DROP USER {who}",))))
        return found

    def _begun(self) -> tuple[str, str, str]:
        return "", revisions(self.inputs)[0], self.live["begun"][0]

    async def _set_live(self, changes: Sequence[Difference]) -> None:
        """One by one: what can be changed live is in the file only when the engine took it."""
        for change in changes:
            what, *rest = change.payload
            if what == "own":
                for words in rest[0]:
                    await self._run(words)
            elif what == "again":
                for name, value in self.applied.items():
                    if is_live(name):
                        await self._run(f"SET GLOBAL {name} = {sql_value(name, value)}")
                self.notes[AGAIN] = self._process
            else:
                await self._set(change, *rest)

    async def _set(self, change: Difference, name: str, value: str | None) -> None:
        if is_live(name):
            await self._run(f"SET GLOBAL {name} = {sql_value(name, value)}", change)
            self.notes[AGAIN] = self._process
        if value is None:
            self.applied.pop(name, None)
        else:
            self.applied[name] = value
        self.notes[SETTINGS] = self.applied
        await self._save()
        if self._speaks_tls() == (self.inputs.tls is not None):  # else files and pod wait for the same moment
            await self.there.apply(stamped(config(self.inputs)))

    async def _run(self, statement: str, change: Difference | None = None) -> None:
        await tell(await self._connect(), statement, change)

    async def _reload_certificates(self) -> None:
        await self._run("FLUSH SSL")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def refused(obj: Database) -> list[Unsupported]:
    """What the spec can say and a MariaDB in a pod of ours can't do."""
    spec = obj.spec
    found = refused_roles(spec)
    if spec.initialization.sql_secrets:
        why = "MariaDB can't undo a script that stops half-way, so none is run here"
        found.append(Unsupported("spec.initialization.sqlSecrets", "set", why))
    if spec.pooler is not None and spec.pooler.enabled and spec.instances == 1:
        found.append(Unsupported("spec.pooler", "set", "MariaDB on Kubernetes has none"))
    if spec.backup is not None and spec.backup.continuous_archiving:
        why = "MariaDB's log is not archived"
        found.append(Unsupported("spec.backup.continuousArchiving", "true", why))
    return found
