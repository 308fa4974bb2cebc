"""Backups of a MariaDB server on this machine by mariadb-backup, and a server that begins with one.

A backup is a copy of the files of the running server with the log that makes it consistent. A restore copies it aside,
lets mariadb-backup apply the log, gives the driver's own user the new password in the engine's bootstrap mode (no port,
no socket), and then renames the data into place. Source: MariaDB Server documentation, "Mariabackup Overview".
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.foundation.errors import EngineFailed, InvalidSpec
from chandlery.providers.local.background import Job
from chandlery.providers.local.backup_store import Entry, Store
from chandlery.providers.local.backups import restore_job, source_of
from chandlery.providers.local.files import remove_tree
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.database.drivers.dumps import refuse_dump
from chandlery_kinds.database.drivers.local_mariadb_server import PROCESS, SOCKET
from chandlery_kinds.database.mariadb.configuration import ADMIN
from chandlery_kinds.database.mariadb.content import fetch
from chandlery_kinds.database.mariadb.sql import account, literal, stored

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_mariadb import MariaServers

ENGINE = "mariadb-backup"
SECONDS = 24 * 3600.0


async def take(servers: MariaServers, folder: Path, _: Job) -> Mapping[str, Any]:
    """Copy the running server's files. The tool works in the data directory, where the socket's name is short."""
    server, instance = servers.server, servers.instance
    tool = instance.engine(ENGINE, server.engine.version)
    options = instance.config_dir / "backup.cnf"
    password = instance.secret("admin")
    text = f'[mariadb-backup]\nuser = "{ADMIN}"\npassword = "{password}"\nsocket = "{SOCKET}"\n'
    instance.write_config(options.name, f'{text}datadir = "{server.data}"\n')
    argv = [str(tool.binary), f"--defaults-file={options}", "--backup", f"--target-dir={folder / 'data'}"]
    await run_tool(instance, argv, env=tool.env, cwd=server.data, seconds=SECONDS)
    connection = await server.connect()
    try:
        (version,) = (await fetch(connection, "SELECT VERSION()"))[0]
    finally:
        connection.close()
    return {"engine": "mariadb", "version": str(version).partition("-")[0], "method": "physical"}


class Restore:
    """Makes the server's data out of a backup."""

    def __init__(self, servers: MariaServers) -> None:
        self._servers = servers
        self._instance = servers.instance

    @property
    def job(self) -> Job | None:
        return self._instance.provider.background.get(restore_job(self._instance))

    async def begin(self) -> None:
        """Start the restore, or say why it can't be; it goes on in the background.

        Raises:
            NotFound, InvalidSpec, DataLoss, EngineFailed: there is no such backup, or it can't be used.
        """
        servers = self._servers
        restore = servers.spec.restore_from
        assert restore is not None
        store = await source_of(servers.ctx, servers.obj, restore)
        entry = await asyncio.to_thread(store.choose, restore.backup)
        line = servers.server.engine.version
        if entry.engine != "mariadb" or not entry.version.startswith(f"{line}."):
            raise InvalidSpec(
                f"the backup {entry.name} is of {entry.engine} {entry.version}, the engine here is mariadb {line}",
                field="spec.version",
                value=str(servers.spec.version or ""),
                hint=f"Set spec.engine to {entry.engine} and spec.version to {entry.version.rpartition('.')[0]}.",
            )
        refuse_dump(entry)
        self._instance.engine(ENGINE, line)  # on its way before the files are copied

        async def work(job: Job) -> None:
            await self._make(store, entry, job)

        key, title = restore_job(self._instance), f"restoring the backup {entry.name}"
        job = self._instance.provider.background.start(key, title, work, self._instance.wake)
        if job.error is not None and not job.running:
            raise job.error

    async def _make(self, store: Store, entry: Entry, job: Job) -> None:
        instance, server = self._instance, self._servers.server
        unfinished = instance.data_dir / f"{PROCESS}.unfinished"
        job.tell("checking")
        await asyncio.to_thread(store.verify, entry)
        job.tell("copying")
        await asyncio.to_thread(remove_tree, unfinished)
        await asyncio.to_thread(shutil.copytree, entry.file("data"), unfinished)
        instance.provider.privileges.hand_over(unfinished, instance.root)
        job.tell("applying the log")
        tool = instance.engine(ENGINE, server.engine.version)
        argv = [str(tool.binary), "--no-defaults", "--prepare", f"--target-dir={unfinished}"]
        done = await run_tool(instance, argv, env=tool.env, seconds=SECONDS, check=False)
        if done.code != 0:
            raise EngineFailed(f"the log of the backup {entry.name} could not be applied: {done.tail()}")
        secret = literal(stored(instance.secret("admin")))
        admin = account(ADMIN, "localhost")  # a backup made in a cluster has the driver's user from anywhere
        script = (
            f"FLUSH PRIVILEGES;\nCREATE OR REPLACE USER {admin} IDENTIFIED BY PASSWORD {secret};\n"
            f"GRANT ALL PRIVILEGES ON *.* TO {admin} WITH GRANT OPTION;\n"
        )
        await server.bootstrap(unfinished, script)
        instance.record["restored"] = {"backup": entry.name, "folder": str(store.folder)}
        instance.save()
        unfinished.rename(server.data)
        self._servers.ctx.event("Normal", "Restored", f"Began with the backup {entry.name}.")
