"""From one major version of PostgreSQL to a newer one: the data are moved into a new cluster, the old one is kept.

The dump is made by the old version's own tools, which know what its minor releases put into the catalogs, and read in
by the new version's. Both servers run on ports that nobody knows, for the driver's own user only, so nothing can be
written that would be lost. Until the new data are whole and on the disk the old ones are as they were: a failure, or a
crash at any line, ends with the old version running again. Afterwards the old data stay until a person confirms.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.driver.protocol import Difference, Disruption
from chandlery.driver.schedule import requested, stamp
from chandlery.foundation.errors import (
    ChandleryError,
    EngineFailed,
    InvalidSpec,
    NotSupported,
    QuotaExceeded,
    as_error,
)
from chandlery.model.base import Condition, ConditionStatus
from chandlery.providers.local import ProcessSpec
from chandlery.providers.local.background import Job
from chandlery.providers.local.engines import Engine
from chandlery.providers.local.files import remove_tree
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.database.drivers.local_postgres_archive import PROCESS as ARCHIVER
from chandlery_kinds.database.drivers.local_postgres_node import HOST, STOP, Node
from chandlery_kinds.database.postgres.configuration import ADMIN, render

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_postgres import PostgresServers

ANNOTATION = "data.chandlery.dev/upgrade"
"""`confirm`: remove the old version's data. `undo`: go back to them."""
CONDITION = "Upgraded"
OLD, NEW = "upgrade-old", "upgrade-new"
START_SECONDS = 300.0
MOVE_SECONDS = 24 * 3600.0
_VERSIONS: dict[tuple[str, int], str] = {}
"""What programs said of themselves, by path and time of change."""
PAUSE = 300.0
_COUNTS = """
SELECT relkind::text AS kind, count(*) AS number FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^(pg_|information_schema)' AND relkind IN ('r', 'p', 'v', 'm', 'S', 'i', 'I') GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class UpgradeView:
    differences: tuple[Difference, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Upgrade:
    """The change of the major version of one database in one pass."""

    def __init__(self, servers: PostgresServers) -> None:
        self._servers = servers
        self._instance = servers.instance
        self._files = servers.files

    @property
    def _key(self) -> tuple[str, str]:
        return ("upgrade", self._instance.name)

    @property
    def job(self) -> Job | None:
        return self._instance.provider.background.get(self._key)

    # -- looking

    def look(self) -> UpgradeView:
        """What is to be done; nothing while the job is under way."""
        record = self._instance.record
        have, want = self._files.data_major(), (self._servers.spec.version or "").partition(".")[0]
        found, conditions = [], []
        if any(name in self._instance.process_names() for name in (OLD, NEW)):
            found.append(Difference("upgrade", "ended", "cut short", payload=("upgrade", "clean")))
        if have and want and int(want) > int(have):
            problem = record.get("upgrade_problem", {})
            if self._servers.ctx.base.now().timestamp() >= problem.get("not_before", 0.0):
                cost = Disruption.REPLACE if self._can_be_had() else Disruption.NONE  # nobody needs to approve nothing
                found.append(Difference("spec.version", want, have, cost, payload=("upgrade", "run")))
            message = (
                problem.get("message") or f"PostgreSQL {have} runs; {want} is wanted, and the data have to be moved."
            )
            reason = "Failed" if problem else "Wanted"
            conditions.append(Condition(type=CONDITION, status=ConditionStatus.FALSE, reason=reason, message=message))
        kept = record.get("upgrade")
        asked = self._asked(kept, have) if kept else []
        if have and want and int(want) < int(have) and not asked:
            found.append(Difference("spec.version", want, have, payload=("upgrade", "back")))
        found += asked
        if kept:
            message = (
                f"The data of PostgreSQL {kept['from']} are kept in {self._instance.data_dir / kept['kept']}. Annotate "
                f"{ANNOTATION}=confirm to remove them, or {ANNOTATION}=undo to go back to them (what was written "
                "since is lost then)."
            )
            conditions.append(Condition(type=CONDITION, status=ConditionStatus.TRUE, reason="Kept", message=message))
        return UpgradeView(tuple(found), tuple(conditions[-1:]))

    def _can_be_had(self) -> bool:
        try:
            self._instance.provider.engines.entry("postgres", self._servers.spec.version)
        except NotSupported:
            return False
        return True

    def _asked(self, kept: Mapping[str, Any], have: str) -> list[Difference]:
        asked = requested(self._servers.obj.metadata.annotations, ANNOTATION, None)
        if asked == "confirm":
            return [
                Difference("upgrade", "confirmed", f"PostgreSQL {kept['from']} kept", payload=("upgrade", "confirm"))
            ]
        if asked == "undo":
            change = ("upgrade", "undo")
            return [Difference("upgrade", f"PostgreSQL {kept['from']}", have, Disruption.DATA_LOSS, payload=change)]
        return []

    async def minor(self, nodes: list[Node], primary: Node) -> tuple[list[Difference], dict[str, Any]]:
        """What a newer minor version on this machine means: a restart where the spec names it, else a fact.

        The engine that runs goes on with the program that it was started from, whatever was installed since.
        """
        live, here = str(primary.live.get("version", "")), await self._installed()
        if not here or not live or here == live or here.partition(".")[0] != live.partition(".")[0]:
            return [], {}
        if self._servers.spec.version != here:
            return [], {"availableVersion": here}
        old = [node for node in nodes if node.live.get("version") != here]
        cost = Disruption.RESTART
        return [Difference("spec.version", here, live, cost, payload=("restart", node.index)) for node in old], {}

    async def _installed(self) -> str:
        """The exact version of the engine's program; asked once for each program."""
        engine = self._files.engine
        try:
            key = (str(engine.binary), engine.binary.stat().st_mtime_ns)
        except OSError:
            return ""
        if key not in _VERSIONS:
            done = await run_tool(self._instance, [str(engine.binary), "--version"], env=engine.env, check=False)
            found = re.search(r"\) (\d+\.\d+)", done.output)
            _VERSIONS[key] = found[1] if found else ""
        return _VERSIONS[key]

    # -- acting

    async def apply(self, what: str) -> None:
        """Do what `look` found.

        Raises:
            NotSupported, InstallingEngine: the new version can't be had here, or not yet.
            InvalidSpec: it is older than the data.
        """
        match what:
            case "run":
                self._begin()
            case "back":
                have, kept = self._files.data_major(), self._instance.record.get("upgrade")
                way = f"Annotate {ANNOTATION}=undo to go back to the data of before" if kept else "Set it to " + have
                raise InvalidSpec(
                    f"the data are PostgreSQL {have}'s, which an older one can't read",
                    field="spec.version",
                    value=self._servers.spec.version,
                    hint=f"{way}, or make a new database of that version and move what is in it (pg_dump).",
                )
            case "clean":
                await self._clean()
            case "confirm":
                kept = self._instance.record.pop("upgrade")
                await asyncio.to_thread(remove_tree, self._instance.data_dir / kept["kept"])
                self._instance.save()
            case "undo":
                await self._undo()

    def _begin(self) -> None:
        new = self._instance.engine("postgres", self._servers.spec.version)  # here before anything is stopped
        old = self._files.engine

        async def work(job: Job) -> None:
            try:
                await self._run(old, new, job)
            except Exception as error:
                failure = as_error(error)
                message = f"The move to PostgreSQL {new.version} failed, {old.version} goes on: {failure.message}"
                until = self._servers.ctx.base.now().timestamp() + PAUSE
                self._instance.record["upgrade_problem"] = {"message": message, "not_before": until}
                self._instance.save()
                self._servers.ctx.event("Warning", "UpgradeFailed", message)
                raise
            finally:
                await self._clean()

        title = f"moving from PostgreSQL {old.version} to {new.version}"
        self._instance.provider.background.start(self._key, title, work, self._instance.wake)

    async def _clean(self) -> None:
        """End the two servers of the move, and remove what it made as far as it isn't in use."""
        for name in (NEW, OLD):
            process = self._instance.process(name)
            await process.stop()
            process.forget()
            self._instance.release_port(name)
        await asyncio.to_thread(remove_tree, self._instance.data_dir / NEW)
        await asyncio.to_thread(remove_tree, self._dumps)

    @property
    def _dumps(self) -> Path:
        return self._instance.data_dir / "upgrade-dumps"

    async def _run(self, old: Engine, new: Engine, job: Job) -> None:
        servers = self._servers
        node = servers.node(servers.primary_index)
        await self._clean()
        await asyncio.to_thread(self._room, self._files.data(node))
        job.tell("stopping")
        for name in self._instance.process_names():
            if name == ARCHIVER or name.startswith("node-"):
                await self._instance.process(name).stop()
        fresh = self._instance.data_dir / NEW
        await self._files.initdb(new, fresh, self._instance.secret("admin"))
        job.tell("dumping")
        await self._start(old, self._files.data(node), OLD)
        await self._start(new, fresh, NEW)
        self._dumps.mkdir(mode=0o700, exist_ok=True)
        self._instance.provider.privileges.hand_over(self._dumps, self._instance.root)
        await self._move(old, new, job)
        job.tell("checking")
        for name in (OLD, NEW):
            await self._instance.process(name).stop()
        await run_tool(self._instance, [str(new.tool("initdb")), "--sync-only", f"--pgdata={fresh}"], env=new.env,
                       seconds=MOVE_SECONDS)  # fmt: skip
        self._switch(old, node, fresh)
        servers.ctx.event("Normal", "Upgraded", f"PostgreSQL {new.version} has the data of {old.version} now.")

    def _room(self, data: Path) -> None:
        size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file() and not path.is_symlink())
        free = shutil.disk_usage(data).free
        if free < size * 2:
            raise QuotaExceeded(
                f"{size * 2 >> 20} MiB are needed for the move, and {free >> 20} MiB are free",
                hint="Free space on that file system; it is tried again by itself.",
            )

    async def _start(self, engine: Engine, data: Path, name: str) -> None:
        """A server for the driver alone. `fsync` is off for the new one: it is synced once, when it is whole."""
        rules = self._instance.config_dir / f"{name}.hba"
        self._instance.write_config(rules.name, f"host all {ADMIN} {HOST}/32 scram-sha-256\n")
        port = self._instance.port(name)
        values = {
            "listen_addresses": HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "hba_file": str(rules),
            "max_connections": "20",
            "fsync": "off" if name == NEW else "on",
            "autovacuum": "off",
            "wal_level": "replica",
        }
        self._instance.write_config(f"{name}.conf", render(values))
        path = self._instance.config_dir / f"{name}.conf"
        argv = [str(engine.binary), "-D", str(data), "-c", f"config_file={path}"]
        process = self._instance.process(name)
        await process.start(ProcessSpec(argv, env=engine.env, cwd=data, stop=STOP))
        clock = self._servers.ctx.base.clock
        deadline = clock.monotonic() + START_SECONDS
        while True:
            try:
                connection = await self._files.connect(port)
            except ChandleryError as error:
                if not process.state().running or clock.monotonic() > deadline:
                    raise EngineFailed(f"{name} did not start: {process.log_tail(3)}") from error
                await clock.sleep(0.05)
            else:
                await connection.close(timeout=2)
                return

    async def _move(self, old: Engine, new: Engine, job: Job) -> None:
        source, target = self._instance.port(OLD), self._instance.port(NEW)
        await self._tool(old, "pg_dumpall", source, "--globals-only", f"--file={self._dumps / 'globals.sql'}")
        # The driver's own user is there already; everything else must not be.
        text = await asyncio.to_thread((self._dumps / "globals.sql").read_text)
        kept = "".join(line + "\n" for line in text.splitlines() if line != f"CREATE ROLE {ADMIN};")
        await asyncio.to_thread((self._dumps / "globals.sql").write_text, kept)
        await self._tool(new, "psql", target, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1",
                         f"--file={self._dumps / 'globals.sql'}", database="postgres")  # fmt: skip
        names = await self._ask(source, "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate")
        for index, (name,) in enumerate(names):
            job.tell(f"database {index + 1} of {len(names)}")
            dump = self._dumps / f"{index}.dump"
            await self._tool(old, "pg_dump", source, "--format=custom", "--compress=1", f"--file={dump}", database=name)
            create = () if name == "postgres" else ("--create",)
            await self._tool(new, "pg_restore", target, "--exit-on-error", *create, str(dump),
                             database="postgres", option="--dbname")  # fmt: skip
            before, after = await self._ask(source, _COUNTS, name), await self._ask(target, _COUNTS, name)
            if before != after:
                raise EngineFailed(f"the database {name} has {after} after the move and had {before}")
            await self._ask(target, "ANALYZE", name)
            await asyncio.to_thread(dump.unlink)

    async def _tool(
        self, engine: Engine, program: str, port: int, *argv: str, database: str = "postgres", option: str = "--dbname"
    ) -> None:
        conninfo = self._files.conninfo(port, ADMIN, dbname=database)
        command = [str(engine.tool(program)), f"{option}={conninfo}", "--no-password", *argv]
        await run_tool(self._instance, command, env=engine.env, seconds=MOVE_SECONDS)

    async def _ask(self, port: int, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        connection = await self._files.connect(port, database)
        try:
            return [tuple(row) for row in await connection.fetch(sql, timeout=MOVE_SECONDS)]
        finally:
            await connection.close(timeout=2)

    def _switch(self, old: Engine, node: Node, fresh: Path) -> None:
        """The new data take the old ones' place. On record first: after a crash in between `resume` goes on."""
        kept = f"{node.name}.v{old.version}"
        record = self._instance.record
        record["upgrade"] = {
            "from": old.version,
            "kept": kept,
            "node": node.name,
            "at": stamp(self._servers.ctx.base.now()),
            "switching": True,
        }
        record.pop("upgrade_problem", None)
        self._instance.save()
        self.resume()

    def resume(self) -> None:
        """Finish a switch; free when there is none under way."""
        record = self._instance.record
        kept = record.get("upgrade", {})
        if not kept.get("switching"):
            return
        place, aside = self._instance.data_dir / kept["node"], self._instance.data_dir / kept["kept"]
        fresh = self._instance.data_dir / NEW
        if fresh.exists():
            if not aside.exists():
                place.rename(aside)
            if not place.exists():
                fresh.rename(place)
        self._forget_the_rest(kept["node"])
        del kept["switching"]
        self._instance.save()

    def _forget_the_rest(self, but: str) -> None:
        """Copies have the other version's data, and the archive another history: both begin anew."""
        for path in self._instance.data_dir.iterdir():
            number = path.name.removeprefix("node-")
            if path.name.startswith("node-") and number.isdigit() and path.name != but:
                remove_tree(path)
        archive = self._instance.record.get("archive")
        if archive:
            archive.pop("since", None)
            archive["generation"] = archive.get("generation", 1) + 1

    async def _undo(self) -> None:
        servers, record = self._servers, self._instance.record
        kept = record["upgrade"]
        for name in self._instance.process_names():
            if name == ARCHIVER or name.startswith("node-"):
                await self._instance.process(name).stop()
        place = self._instance.data_dir / servers.node(servers.primary_index).name
        aside, gone = self._instance.data_dir / kept["kept"], self._instance.data_dir / "undone"
        if aside.exists():
            if place.exists():
                place.rename(gone)
            aside.rename(place)
        self._forget_the_rest(place.name)
        record.pop("upgrade")
        self._instance.save()
        await asyncio.to_thread(remove_tree, gone)
        servers.ctx.event("Warning", "UpgradeUndone", f"PostgreSQL {kept['from']} runs again with its own data.")
