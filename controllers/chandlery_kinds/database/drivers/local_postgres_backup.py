"""Backups of a PostgreSQL database on this machine, and a database that begins with one.

A backup is what `pg_basebackup` makes of the running primary. A restore unpacks it aside, lets PostgreSQL replay the
archived write-ahead log in its single-user mode (no port, no socket, nobody can look in), gives the driver's own user
the new password in the same run, and then renames the data into place.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.driver.schedule import moment, stamp
from chandlery.foundation.errors import DataLoss, EngineFailed, InvalidSpec, NotFound
from chandlery.providers.local.background import Job
from chandlery.providers.local.backup_store import Entry, Store
from chandlery.providers.local.backups import restore_job, source_of
from chandlery.providers.local.files import make_dir, remove_tree
from chandlery.providers.local.tools import Done, run_tool
from chandlery_kinds.database.drivers.dumps import refuse_dump
from chandlery_kinds.database.drivers.local_postgres_archive import archives, complete_through
from chandlery_kinds.database.drivers.local_postgres_node import Node
from chandlery_kinds.database.postgres.configuration import ADMIN, REPLICATOR
from chandlery_kinds.database.postgres.scram import verifier
from chandlery_kinds.database.postgres.sql import ident, literal
from chandlery_kinds.database.postgres.wal import wanted

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_postgres import PostgresServers

BACKUP_SECONDS = RESTORE_SECONDS = 24 * 3600.0
_EARLY = "recovery ended before configured recovery target was reached"


async def take(servers: PostgresServers, folder: Path, job: Job) -> Mapping[str, Any]:
    """Write a backup of the primary; the log that makes it consistent is in it."""
    files = servers.files
    argv = [
        str(files.engine.tool("pg_basebackup")),
        f"--pgdata={folder}",
        f"--dbname={files.conninfo(servers.client_port, REPLICATOR)}",
        "--format=tar",
        "--compress=client-gzip:1",
        "--wal-method=stream",
        "--checkpoint=fast",
        f"--label={job.progress or 'chandlery'}",
        "--no-sync",  # all of it is synced before it gets its name
        "--no-password",
    ]
    await run_tool(servers.instance, argv, env=files.engine.env, seconds=BACKUP_SECONDS)
    found = json.loads(await asyncio.to_thread((folder / "backup_manifest").read_text))
    node = await files.look(servers.node(servers.primary_index))
    return {
        "engine": "postgres",
        "version": node.live.get("version", files.engine.version),
        "method": "physical",
        "timeline": found["WAL-Ranges"][0]["Timeline"],
        "startWal": found["WAL-Ranges"][0]["Start-LSN"],
    }


@dataclass(frozen=True, slots=True)
class Origin:
    """What a restore begins with."""

    store: Store
    entry: Entry
    until: datetime | None
    complete: datetime | None
    """Up to when the archive is known to be complete; noted before anything is read from it."""


class Restore:
    """Makes the primary's data out of a backup."""

    def __init__(self, servers: PostgresServers) -> None:
        self._servers = servers
        self._instance = servers.instance

    @property
    def job(self) -> Job | None:
        return self._instance.provider.background.get(restore_job(self._instance))

    async def begin(self, node: Node) -> None:
        """Start the restore, or say why it can't be; it goes on in the background.

        Raises:
            NotFound, InvalidSpec, DataLoss, EngineFailed: there is no such backup, or it can't be used.
        """
        origin = await self._origin()

        async def work(job: Job) -> None:
            await self._make(node, origin, job)

        key, title = restore_job(self._instance), f"restoring the backup {origin.entry.name}"
        job = self._instance.provider.background.start(key, title, work, self._instance.wake)
        if job.error is not None and not job.running:
            raise job.error

    async def _origin(self) -> Origin:
        servers = self._servers
        restore = servers.spec.restore_from
        assert restore is not None
        store = await source_of(servers.ctx, servers.obj, restore)
        until = moment(restore.point_in_time) if restore.point_in_time is not None else None
        complete = await asyncio.to_thread(complete_through, store.folder)
        entry = await asyncio.to_thread(store.choose, restore.backup, until)
        if until is not None and entry.completed > until:
            raise InvalidSpec(
                f"the backup {entry.name} ended at {stamp(entry.completed)}, which is later",
                field="spec.restoreFrom.pointInTime",
                value=str(restore.point_in_time),
                hint="Name an older backup, or leave spec.restoreFrom.backup out.",
            )
        if until is not None and not await asyncio.to_thread(archives, store.folder):
            raise InvalidSpec(
                f"{store.folder} holds no write-ahead log: only the moments of the backups themselves can be restored",
                field="spec.restoreFrom.pointInTime",
                value=str(restore.point_in_time),
                hint="Leave it out; for any moment the source needs spec.backup.continuousArchiving.",
            )
        have, want = entry.version.split(".")[0], servers.files.engine.version.split(".")[0]
        if entry.engine != "postgres" or have != want:
            raise InvalidSpec(
                f"the backup {entry.name} is of {entry.engine} {entry.version}, the engine here is postgres {want}",
                field="spec.version",
                value=str(servers.spec.version or ""),
                hint=f"Set spec.engine to {entry.engine} and spec.version to {have}.",
            )
        refuse_dump(entry)
        return Origin(store, entry, until, complete)

    # -- the work

    async def _make(self, node: Node, origin: Origin, job: Job) -> None:
        instance = self._instance
        unfinished, log = instance.data_dir / f"{node.name}.unfinished", instance.data_dir / "restored-wal"
        job.tell("checking")
        await asyncio.to_thread(origin.store.verify, origin.entry)
        job.tell("unpacking")
        await asyncio.to_thread(_unpack, origin, unfinished, log)
        instance.provider.privileges.hand_over(unfinished, instance.root)
        instance.provider.privileges.hand_over(log, instance.root)
        job.tell("replaying the write-ahead log")
        await self._replay(unfinished, log, origin)
        await asyncio.to_thread(remove_tree, log)
        instance.record["restored"] = {
            "backup": origin.entry.name,
            "folder": str(origin.store.folder),
            "at": self._servers.ctx.base.now().isoformat(),
        }
        instance.save()
        unfinished.rename(self._servers.files.data(node))
        until = f" up to {stamp(origin.until)}" if origin.until else ""
        self._servers.ctx.event("Normal", "Restored", f"Began with the backup {origin.entry.name}{until}.")

    async def _replay(self, data: Path, log: Path, origin: Origin) -> None:
        if origin.until is None:
            _check(await self._single_user(data, log, None))
            return
        done = await self._single_user(data, log, origin.until)
        if _EARLY not in done.output:
            _check(done)
            return
        # Nothing later was found. That is right when the source was idle after that moment, and wrong when a part of
        # the log is missing: only what the source noted about the archive tells them apart.
        if origin.complete is None or origin.complete < origin.until:
            upto = f"complete up to {stamp(origin.complete)} only" if origin.complete else "of unknown completeness"
            raise NotFound(
                f"the archived write-ahead log is {upto}",
                field="spec.restoreFrom.pointInTime",
                value=stamp(origin.until),
                hint="It is tried again, in case the source is still writing; else name an earlier moment, or leave "
                "pointInTime out to restore all there is.",
                retry_after=5.0,
            )
        _check(await self._single_user(data, log, None))

    async def _single_user(self, data: Path, log: Path, until: datetime | None) -> Done:
        engine = self._servers.files.engine
        fetch = shlex.quote(str(log)).replace("%", "%%")
        options = {
            "restore_command": f'cp {fetch}/%f "%p"',
            "recovery_target_action": "promote",
            "hot_standby": "off",
            "listen_addresses": "",
            **({"recovery_target_time": until.isoformat()} if until else {}),
        }
        argv = [str(engine.binary), "--single", "-D", str(data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        secret = literal(verifier(self._instance.secret("admin")))
        statement = f"ALTER ROLE {ident(ADMIN)} PASSWORD {secret}\n"
        return await run_tool(
            self._instance,
            [*argv, "postgres"],
            env=engine.env,
            stdin=statement.encode(),
            seconds=RESTORE_SECONDS,
            check=False,
        )


def _check(done: Done) -> None:
    # In this mode a statement that fails is printed and the program goes on.
    if done.code != 0 or "ERROR:" in done.output:
        lines = [line for line in done.output.splitlines() if "FATAL:" in line or "ERROR:" in line or "PANIC:" in line]
        raise EngineFailed(
            f"PostgreSQL could not recover from the backup: {' | '.join(lines[-3:]) or done.tail()}", retry_after=60.0
        )


def _unpack(origin: Origin, data: Path, log: Path) -> None:
    """The backup's files, and a folder with exactly the log that is there now: a restore must not see more half-way."""
    import tarfile  # with its codecs no small thing, and seldom needed

    remove_tree(data)
    remove_tree(log)
    make_dir(data)
    make_dir(log)
    for name, target in (("base.tar", data), ("pg_wal.tar", data / "pg_wal")):
        target.mkdir(mode=0o700, exist_ok=True)
        path = next((p for p in (origin.entry.file(f"{name}.gz"), origin.entry.file(name)) if p.exists()), None)
        if path is None:
            raise DataLoss(f"the backup {origin.entry.name} holds no {name}", retry_after=None)
        with tarfile.open(path) as archive:
            archive.extractall(target, filter="data")
    (data / "recovery.signal").touch(mode=0o600)
    for archive_folder in archives(origin.store.folder):
        names = [path.name for path in archive_folder.iterdir()]
        for asked, stored in wanted(names, str(origin.entry.facts["startWal"])).items():
            _provide(archive_folder / stored, archive_folder / asked, log / asked)


def _provide(stored: Path, final: Path, target: Path) -> None:
    if stored != final:
        try:
            shutil.copyfile(stored, target)  # it grows while we read; what is torn ends the replay
            return
        except FileNotFoundError:
            pass  # it was completed a moment ago
    if not target.is_symlink():
        target.unlink(missing_ok=True)
        target.symlink_to(final)
