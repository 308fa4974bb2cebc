"""Templates of new PostgreSQL clusters: what initdb would make, made once and copied from then on.

initdb is most of what a new database takes. Whoever asks for the second one of a kind (version, encoding, locale) has
a template made, in the cache beside the engines; it holds an empty database, too, which becomes the first one asked
for. A copy is a cluster of its own: it gets a system identifier and a write-ahead log that no other has. The one thing
that copies share is the driver's password, known to nobody else; `Beginning` replaces it before anybody is told of
the server.

Source: PostgreSQL manual, "pg_createsubscriber" and "pg_resetwal".
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import platform
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.foundation.errors import ChandleryError, EngineFailed
from chandlery.providers.local.files import PRIVATE_DIR, make_dir, os_error, read_json, remove_tree, write_atomic
from chandlery.providers.local.instance import generate_password
from chandlery.providers.local.tools import run_tool
from chandlery.providers.local.trees import copy_tree, sync_tree
from chandlery_kinds.database.postgres.configuration import ADMIN
from chandlery_kinds.database.postgres.control import UnknownLayoutError, with_new_identity
from chandlery_kinds.database.postgres.roles import MAINTENANCE
from chandlery_kinds.database.postgres.sql import ident

if TYPE_CHECKING:
    from chandlery.providers.local.background import Job
    from chandlery_kinds.database.drivers.local_postgres_node import NodeFiles

FORMAT = 1
SPARE = "chandlery_spare"
"""The empty database of a template."""
FORGOTTEN_DAYS = 30.0
"""A template that nobody has copied for so long goes when another one is made."""
MAKE_SECONDS = 120.0
UNFINISHED = "template.unfinished"
"""In the data of the instance that makes one."""
_ABOUT = "template.json"
_CONTROL = "global/pg_control"


class Template:
    """The template that fits one new database."""

    def __init__(self, files: NodeFiles) -> None:
        self._files = files
        self._instance = files.instance
        self._folder = self._instance.provider.cache_dir / "templates"

    @property
    def name(self) -> str:
        """Differs where initdb would make something else."""
        engine, initialization = self._files.engine, self._files.spec.initialization
        program = engine.tool("initdb").stat()
        made_of = [
            FORMAT, str(engine.binary), program.st_size, program.st_mtime_ns, platform.libc_ver(), os.geteuid(), ADMIN,
            initialization.encoding, initialization.locale, initialization.data_checksums,
        ]  # fmt: skip
        return f"postgres-{engine.version}-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]}"

    async def copy_to(self, directory: Path) -> str | None:
        """Make a new cluster there; returns the password of the driver's user, or None when there is no template.

        Raises:
            QuotaExceeded: the disk is full.
        """
        try:
            template = self._folder / self.name
        except OSError:
            return None  # the programs aren't there: initdb will tell it
        if not template.exists() and not await self._have_it_made(template):
            return None
        about = self._about(template)
        if about is None:
            return None
        try:
            await asyncio.to_thread(self._copy, template, about, directory)
            resetwal = [str(self._files.engine.tool("pg_resetwal")), f"--pgdata={directory}"]
            await run_tool(self._instance, resetwal, env=self._files.engine.env)
        except (EngineFailed, FileNotFoundError, UnknownLayoutError):
            await asyncio.to_thread(remove_tree, template)  # it is damaged; whatever else is wrong, initdb will tell it
            return None
        return str(about["password"])

    def _copy(self, template: Path, about: Mapping[str, Any], directory: Path) -> None:
        control = (template / "data" / _CONTROL).read_bytes()
        new = with_new_identity(control, self._instance.provider.clock.now())
        copied = copy_tree(template / "data", directory)
        if [copied.files, copied.bytes] != about["size"]:
            raise EngineFailed(f"{template} is not whole")
        (directory / _CONTROL).write_bytes(new)

    def _about(self, template: Path) -> dict[str, Any] | None:
        """What is known of it; None when it isn't there, or not ours alone."""
        try:
            found = template.stat()
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                return None
            about = read_json(template / _ABOUT)
            if about is not None:
                os.utime(template)  # it is in use
        except (OSError, ChandleryError):
            return None
        return about

    # -- making one

    async def _have_it_made(self, template: Path) -> bool:
        """True when there is one now. The first who asks has none made: most machines need one database."""
        asked = template.with_name(f"{template.name}.asked")
        try:
            if not asked.exists():
                make_dir(self._folder, PRIVATE_DIR)
                asked.touch(mode=0o600)
                return False
        except (OSError, ChandleryError):
            return False  # a cache of somebody else's
        background = self._instance.provider.background
        job = background.start(("postgres-template", template.name), "preparing PostgreSQL", self._make)
        try:
            await background.wait(job)
        except ChandleryError:
            return False  # whatever stands in its way, initdb will tell it
        background.forget(("postgres-template", template.name))
        return True

    async def _make(self, _job: Job) -> None:
        template = self._folder / self.name
        made = self._instance.data_dir / UNFINISHED
        arriving = self._folder / f".{template.name}.{secrets.token_hex(4)}"
        password = generate_password()
        try:
            await self._files.initdb(self._files.engine, made, password)
            await self._add_spare(made)
            await asyncio.to_thread(self._publish, made, arriving, template, password)
        finally:
            await asyncio.to_thread(remove_tree, made)
            await asyncio.to_thread(remove_tree, arriving)

    async def _add_spare(self, cluster: Path) -> None:
        """The statements that `roles.database_differences` leaves out when it takes the spare one."""
        if self._files.major < 15:
            return
        engine, name = self._files.engine, ident(SPARE)
        statements = (
            f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy\nREVOKE ALL ON DATABASE {name} FROM PUBLIC\n"
        )
        argv = [str(engine.binary), "--single", "-D", str(cluster), "-c", "fsync=off", MAINTENANCE]
        done = await run_tool(self._instance, argv, env=engine.env, stdin=statements.encode(), seconds=MAKE_SECONDS)
        if "ERROR:" in done.output:  # in this mode it goes on then
            raise EngineFailed(f"the template could not be made: {done.tail()}")

    def _publish(self, made: Path, arriving: Path, template: Path, password: str) -> None:
        """It appears in the cache whole or not at all, whoever else makes the same."""
        make_dir(arriving, PRIVATE_DIR)
        copied = copy_tree(made, arriving / "data", _of_the_log)
        about = {"password": password, "size": [copied.files, copied.bytes]}
        write_atomic(arriving / _ABOUT, json.dumps(about) + "\n")
        sync_tree(arriving)
        try:
            arriving.rename(template)
        except OSError as error:
            if not template.is_dir():
                raise os_error(error, "making", template) from error
        self._forget_old()

    def _forget_old(self) -> None:
        long_ago = time.time() - FORGOTTEN_DAYS * 86400
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError, ChandleryError):  # others work here, too
                if path.stat().st_mtime < long_ago:
                    remove_tree(path) if path.is_dir() else path.unlink()


def _of_the_log(name: str) -> bool:
    """Segments of the write-ahead log: 16 MiB, which pg_resetwal makes anew."""
    return name.startswith("pg_wal/") and name.count("/") == 1
