"""One PostgreSQL server on this machine: its files, its process, and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from chandlery.foundation.errors import ChandleryError, Unauthenticated, Unavailable
from chandlery.providers.local import Instance, Process, ProcessSpec, ProcessState, StopStep, pids
from chandlery.providers.local.driver import require_port
from chandlery.providers.local.engines import Engine
from chandlery.providers.local.files import make_dir, remove_tree, write_atomic
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.postgres.configuration import ADMIN, REPLICATOR, host_rules, render
from chandlery_kinds.database.postgres.roles import MAINTENANCE
from chandlery_kinds.database.standby import at_least, parse_control

HOST = "127.0.0.1"
ANSWER_SECONDS = 2.0
LEFTOVER_SECONDS = 10.0
BORROWED = "admin-of-the-template"
"""The name on record of the password that the driver's user has at first in a copy of a template."""
# The "fast" shutdown ends sessions and writes a checkpoint; after "immediate" the next start has to recover.
STOP = (StopStep(signal.SIGINT, 30.0), StopStep(signal.SIGQUIT, 10.0), StopStep(signal.SIGKILL, 5.0))
KILL = (StopStep(signal.SIGKILL, 5.0),)

_STATE = """
SELECT pg_is_in_recovery() AS standby,
       CASE WHEN pg_is_in_recovery() THEN coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')
            ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn AS position,
       -- of its newest log: what the control file says is older until the next checkpoint
       (SELECT ('x' || max(left(name, 8)))::bit(32)::int FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$') AS timeline,
       split_part(current_setting('server_version'), ' ', 1) AS version,
       pg_last_wal_replay_lsn() - '0/0'::pg_lsn AS replayed,
       EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming') AS streaming,
       array(SELECT name FROM pg_settings WHERE pending_restart) AS pending_restart,
       array(SELECT slot_name::text FROM pg_replication_slots WHERE slot_type = 'physical') AS slots,
       array(SELECT slot_name::text FROM pg_replication_slots WHERE wal_status = 'lost') AS lost,
       now() AS moment,
       (SELECT flush_lsn - '0/0'::pg_lsn FROM pg_stat_replication
        WHERE application_name = 'chandlery_archive' AND state = 'streaming') AS archived,
       array(SELECT application_name FROM pg_stat_replication WHERE state = 'streaming') AS standbys
"""


@dataclass(slots=True)
class Node:
    """One server, as seen in this pass."""

    index: int
    port: int
    process: Process
    state: ProcessState
    live: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def name(self) -> str:
        return f"node-{self.index}"

    @property
    def slot(self) -> str:
        return f"chandlery_node_{self.index}"

    @property
    def answers(self) -> bool:
        return bool(self.live)

    @property
    def standby(self) -> bool:
        return bool(self.live.get("standby"))

    @property
    def position(self) -> int:
        """How far its write-ahead log goes, in bytes."""
        return int(self.live.get("position", -1))

    @property
    def timeline(self) -> int:
        """Which history of the database its write-ahead log is of; each promotion begins another."""
        return int(self.live.get("timeline") or 0)


class NodeFiles:
    """Makes and starts servers; knows where everything of a node is."""

    def __init__(
        self, instance: Instance, spec: DatabaseSpec, seconds: float, rules: Callable[[], str] = host_rules
    ) -> None:
        """`rules` gives the content of pg_hba.conf."""
        self._rules = rules
        self.instance = instance
        self.spec = spec
        self._seconds = seconds
        self._kept: dict[int, Any] | None = None

    @property
    def engine(self) -> Engine:
        """The engine of the data that are there; for a new database the one that the spec asks for."""
        have, wanted = self.data_major(), self.spec.version
        if have and (wanted is None or wanted.partition(".")[0] != have):
            return self.instance.engine("postgres", have)
        return self.instance.engine("postgres", wanted)

    def data_major(self) -> str:
        """The major version whose data are there; empty when there are none."""
        try:
            names = sorted(path.name for path in self.instance.data_dir.iterdir())
        except OSError:
            return ""
        for name in names:
            path = self.instance.data_dir / name / "PG_VERSION"
            if name.removeprefix("node-").isdigit() and path.exists():
                return str(path.read_text().strip())
        return ""

    @property
    def major(self) -> int:
        """The engine's major version."""
        return int(self.engine.version.split(".")[0])

    def data(self, node: Node) -> Any:
        return self.instance.data_dir / node.name

    def made(self, node: Node) -> bool:
        return bool((self.data(node) / "PG_VERSION").exists())

    def follows(self, node: Node) -> bool:
        """Whether the server will start as a copy."""
        return bool((self.data(node) / "standby.signal").exists())

    def listens(self, node: Node) -> int | None:
        """The port of a running server, by its own words; None while it has said nothing.

        It is another than the node's when an operator was cut short between a change of roles and the restart.
        """
        try:
            lines = (self.data(node) / "postmaster.pid").read_text().splitlines()
            return int(lines[3]) if int(lines[0]) == node.state.pid else None
        except (OSError, ValueError, IndexError):
            return None

    # -- making

    async def initdb(self, engine: Engine, directory: Path, admin: str) -> None:
        """A new, empty cluster of this engine, not synced; `admin` is the password of the driver's user.

        What was in the directory goes.

        Raises:
            EngineFailed: initdb's own words say why.
        """
        remove_tree(directory)
        make_dir(directory)
        password = self.instance.config_dir / f"password-for-{directory.name}"
        self.instance.write_config(password.name, admin)
        initialization = self.spec.initialization
        argv = [
            str(engine.tool("initdb")),
            f"--pgdata={directory}",
            f"--username={ADMIN}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            f"--encoding={initialization.encoding or 'UTF8'}",
            f"--locale={initialization.locale or 'C'}",
            *_checksums(engine, initialization.data_checksums),
            "--no-instructions",
            "--no-sync",  # whoever asked for it syncs it once, when it is whole
        ]
        try:
            await asyncio.gather(
                run_tool(self.instance, argv, env=engine.env, seconds=self._seconds),
                asyncio.to_thread(importlib.import_module, "asyncpg"),  # needed next, and this has time now
            )
        finally:
            password.unlink(missing_ok=True)

    async def clone(self, node: Node, primary_port: int) -> None:
        """Copy the primary's data by pg_basebackup."""
        unfinished = self.instance.data_dir / f"{node.name}.unfinished"
        remove_tree(unfinished)
        make_dir(unfinished)
        argv = [
            str(self.engine.tool("pg_basebackup")),
            f"--pgdata={unfinished}",
            f"--dbname={self.conninfo(primary_port, REPLICATOR)}",
            "--wal-method=stream",
            "--checkpoint=fast",
        ]
        await run_tool(self.instance, argv, env=self.engine.env, seconds=max(self._seconds, 3600.0))
        (unfinished / "standby.signal").touch(mode=0o600)
        self.instance.provider.privileges.hand_over(unfinished, self.instance.root)
        remove_tree(self.data(node))
        unfinished.rename(self.data(node))
        (self.instance.data_dir / f"{node.name}.rewinding").unlink(missing_ok=True)

    async def rewind(self, node: Node, primary_port: int) -> bool:
        """Bring a former primary back in step by pg_rewind; False when only a new copy can.

        One that was interrupted is never tried again: pg_rewind would first let the server recover from a mixture of
        its own log and the primary's, which goes another way on the primary's own timeline, where nothing sees it.
        """
        begun = self.instance.data_dir / f"{node.name}.rewinding"
        if begun.exists():
            return False
        write_atomic(begun, "")
        argv = [
            str(self.engine.tool("pg_rewind")),
            f"--target-pgdata={self.data(node)}",
            f"--source-server={self.conninfo(primary_port, ADMIN, dbname='postgres')}",
            f"--config-file={self.config_file(node)}",
        ]
        try:
            seconds = max(self._seconds, 600.0)
            done = await run_tool(self.instance, argv, env=self.engine.env, seconds=seconds, check=False)
        except ChandleryError:
            return False
        if done.code != 0:
            return False
        (self.data(node) / "standby.signal").touch(mode=0o600)
        self.instance.provider.privileges.hand_over(self.data(node) / "standby.signal", self.instance.root)
        begun.unlink()
        return True

    # -- configuration

    @property
    def passfile(self) -> Any:
        """Passwords of the driver's own users, for libpq."""
        path = self.instance.config_dir / "pgpass"
        lines = [
            f"*:*:*:{user}:{self.instance.secret(key)}\n"
            for user, key in ((ADMIN, "admin"), (REPLICATOR, "replication"))
        ]
        self.instance.write_config(path.name, "".join(lines))
        return path

    def conninfo(self, port: int, user: str, **more: str) -> str:
        """How libpq's programs reach a server; the password is in a file."""
        values = {"host": HOST, "port": str(port), "user": user, "passfile": str(self.passfile), **more}
        escaped = {key: value.replace("\\", "\\\\").replace("'", "\\'") for key, value in values.items()}
        return " ".join(f"{key}='{value}'" for key, value in escaped.items())

    def config_file(self, node: Node) -> Any:
        return self.instance.config_dir / f"{node.name}.conf"

    def configuration(self, node: Node, settings: Mapping[str, str], own: Mapping[str, str]) -> str:
        """The whole file: the spec's settings, then what is the node's own."""
        config = self.instance.config_dir
        # A change of the rules must be read too: their digest makes it one of this file.
        digest = hashlib.sha256(self._rules().encode()).hexdigest()[:16]
        return f"# rules {digest}\n" + render(
            {
                **settings,
                "listen_addresses": HOST,
                "port": str(node.port),
                "unix_socket_directories": "",
                "hba_file": str(config / "pg_hba.conf"),
                "ident_file": str(config / "pg_ident.conf"),
                "cluster_name": node.name,
                "logging_collector": "off",
                "log_destination": "stderr",
                **({"allow_alter_system": "off"} if self.major >= 17 else {}),
                **own,
            }
        )

    def write(self, node: Node, text: str) -> bool:
        self.instance.write_config("pg_hba.conf", self._rules())
        self.instance.write_config("pg_ident.conf", "")
        return self.instance.write_config(self.config_file(node).name, text)

    def is_current(self, node: Node, text: str) -> bool:
        try:
            return bool(self.config_file(node).read_text() == text)
        except OSError:
            return False

    # -- process

    async def start(self, node: Node) -> None:
        """Start the server on its data.

        Raises:
            Unavailable: its port is taken.
            EngineFailed: it can't be started, or crashed a moment ago.
        """
        if node.state.running:
            return
        if self._kept and node.port in self._kept:
            self._kept.pop(node.port).terminate()  # to the server that was there before
        if (self.data(node) / "postmaster.pid").exists():
            await self.end_leftovers(node)
        require_port(node.port)
        engine = self.engine
        argv = [str(engine.binary), "-D", str(self.data(node)), "-c", f"config_file={self.config_file(node)}"]
        argv += await self._not_less_than_the_primary(node)
        await node.process.start(ProcessSpec(argv, env=engine.env, cwd=self.data(node), stop=STOP))

    async def end_leftovers(self, node: Node) -> None:
        """End what is left of a server whose first process is gone.

        They end by themselves, but not one that is frozen or hangs: it would keep the server from starting, or wake up
        later and confirm what nobody else knows of.
        """
        program, directory = self.engine.binary.resolve(), self.data(node).resolve()

        def left() -> list[tuple[int, str]]:
            return pids.working_in(directory, program)

        clock = self.instance.provider.clock
        deadline = clock.monotonic() + LEFTOVER_SECONDS
        found = await asyncio.to_thread(left)
        for pid, started in found:
            if pids.is_same(pid, started):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        while any(pids.is_same(pid, started) for pid, started in found):
            if clock.monotonic() > deadline:
                raise Unavailable(f"processes of {node.name} that was ended don't go away", retry_after=1.0)
            await clock.sleep(0.005)

    async def _not_less_than_the_primary(self, node: Node) -> list[str]:
        """A copy doesn't start with less of certain settings than the primary had when it wrote what is to be replayed.

        While such a setting is being lowered the copy keeps the old value, which its control file holds; the next start
        after it has replayed the change takes the new one.
        """
        data = self.data(node)
        if not (data / "standby.signal").exists():
            return []
        done = await run_tool(self.instance, [str(self.engine.tool("pg_controldata")), str(data)], env=self.engine.env)
        try:
            text = self.config_file(node).read_text()
        except OSError:
            text = ""
        return at_least(parse_control(done.output), text)

    @asynccontextmanager
    async def one_pass(self) -> AsyncIterator[None]:
        """Inside, a server's maintenance database is connected to once: each connection costs both sides a hash.

        Raises:
            Unavailable: a server went down in the middle of a question.
        """
        self._kept = {}
        try:
            yield
        except Exception as error:
            if not isinstance(error, ChandleryError) and _went_down(error):
                raise Unavailable(f"a server went down while it was asked: {error}", retry_after=0.1) from error
            raise
        finally:
            kept, self._kept = self._kept, None
            for connection in kept.values():
                with contextlib.suppress(Exception):  # it may be broken; it is ended in any case
                    await connection.close(timeout=ANSWER_SECONDS)

    async def connect(self, port: int, database: str = MAINTENANCE, user: str = ADMIN, password: str = "") -> Any:
        """A connection, to be closed by whoever asked for it.

        Raises:
            Unavailable: the server doesn't take connections now.
            Unauthenticated: the password is wrong.
        """
        if self._kept is None or (database, user, password) != (MAINTENANCE, ADMIN, ""):
            return await self._connect(port, database, user, password)
        kept = self._kept.pop(port, None)
        if kept is None or kept.is_closed():
            kept = await self._connect(port, database, user, password)
        return _Lent(kept, partial(self._give_back, self._kept, port))

    async def _give_back(self, kept: dict[int, Any], port: int, connection: Any) -> None:
        """Keep a connection for whoever needs one next, unless the pass is over or there is one."""
        if kept is not self._kept or port in kept or connection.is_closed():
            await connection.close(timeout=ANSWER_SECONDS)
        else:
            kept[port] = connection

    async def _connect(self, port: int, database: str, user: str, password: str) -> Any:
        borrowed = self.instance.record.get("secrets", {}).get(BORROWED) if user == ADMIN and not password else None
        if borrowed:
            with contextlib.suppress(Unauthenticated):
                return await self._log_in(port, database, user, borrowed)
        connection = await self._log_in(port, database, user, password or self.instance.secret("admin"))
        if borrowed:
            self.instance.drop_secret(BORROWED)  # it was replaced already, by a pass that was cut short
        return connection

    async def _log_in(self, port: int, database: str, user: str, password: str) -> Any:
        import asyncpg

        try:
            return await asyncpg.connect(
                host=HOST,
                port=port,
                user=user,
                password=password,
                database=database,
                timeout=ANSWER_SECONDS,
                command_timeout=max(self._seconds, 60.0),
                ssl=False,
                # What the driver writes is made again when it is lost; waiting for copies that are still to be made
                # would be for ever.
                server_settings={"application_name": "chandlery", "synchronous_commit": "local"},
            )
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            raise Unauthenticated(f"{HOST}:{port} refused {user}'s password") from error
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable(
                f"{HOST}:{port} doesn't take connections: {error or 'no answer'}", retry_after=0.05
            ) from error

    async def look(self, node: Node) -> Node:
        """Ask a running server for everything in one query."""
        if not node.state.running:
            return node
        try:
            connection = await self.connect(node.port)
        except ChandleryError as error:
            node.error = error.message
            return node
        try:
            node.live = dict(await connection.fetchrow(_STATE))
        except Exception as error:  # noqa: BLE001
            # A server that is going down cuts connections in any way it likes; the next pass looks again.
            node.error = str(error)
        finally:
            await connection.close(timeout=ANSWER_SECONDS)
        return node


def _went_down(error: Exception) -> bool:
    """Whether it is what the client library raises when a server ends, at whichever moment of a conversation."""
    import asyncpg

    return isinstance(
        error,
        (
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ),
    )


class _Lent:
    """A connection that goes back to those that are kept for the rest of a pass when it is closed."""

    def __init__(self, connection: Any, give_back: Callable[[Any], Awaitable[None]]) -> None:
        self._connection = connection
        self._give_back = give_back

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def close(self, *, timeout: float | None = None) -> None:
        await self._give_back(self._connection)


def _checksums(engine: Engine, wanted: bool) -> tuple[str, ...]:
    """Since PostgreSQL 18 they are on by default, and only since then can they be asked not to be."""
    if wanted:
        return ("--data-checksums",)
    return ("--no-data-checksums",) if int(engine.version.partition(".")[0]) >= 18 else ()
