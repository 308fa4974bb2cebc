"""Backups of a Valkey or Redis on this machine, and a cache that begins with one.

A backup is the RDB that the primary (each one, of a sharded cache) sends as it would to a new copy: nothing is written
into its own folder, so nothing old can be loaded from there later. A restore puts the files where the engine loads them
at its start; with an append-only log that is switched on only after everything was loaded, because an engine that
has one doesn't look at anything else. Source: Valkey's documentation of persistence and replication.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.driver.protocol import Difference
from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import InvalidSpec, Unavailable
from chandlery.providers.local.backup_store import Entry
from chandlery.providers.local.backups import restore_job, source_of
from chandlery_kinds.cache.model import CacheMode, PersistenceMode
from chandlery_kinds.cache.valkey import reads

if TYPE_CHECKING:
    from chandlery.providers.local.background import Job
    from chandlery_kinds.cache.drivers.local_nodes import Node, ValkeyNodes

DUMP = "dump.rdb"
READ_SECONDS = 60.0
"""Between two pieces of a backup; the fork before the first takes a while with much memory."""
COPY_SECONDS = 5.0
"""For so long a pass waits for a restore's files: most are there at once."""


async def take(nodes: ValkeyNodes, primaries: Mapping[str, Node], folder: Path, job: Job) -> dict[str, Any]:
    """Write one RDB for each primary; what is told goes into the manifest."""
    version = ""
    for number, (file, node) in enumerate(primaries.items()):
        job.tell(f"{folder.name}: {number} of {len(primaries)}")
        async with await nodes.connect(node.port, READ_SECONDS) as client:
            version = version or node.version
            await client.save_rdb(folder / file)
    spec = nodes.spec
    mode = "sharded" if spec.mode is CacheMode.SHARDED else "single"
    return {"engine": spec.engine.value, "version": version, "method": "rdb", "mode": mode}


class Restore:
    """Has a new cache begin with a backup's data."""

    def __init__(self, nodes: ValkeyNodes) -> None:
        self._nodes = nodes
        self._instance = nodes.instance

    @property
    def _record(self) -> dict[str, Any]:
        found: dict[str, Any] = self._instance.record.get("restore", {})
        return found

    @property
    def loading(self) -> bool:
        """The files are in place and the engines may not have loaded them yet."""
        return self._record.get("state") == "loading"

    @property
    def slots(self) -> Mapping[str, list[int]]:
        """Of a sharded backup: shard -> first and last slot, first and last slot, ..."""
        found: Mapping[str, list[int]] = self._record.get("slots", {})
        return found

    async def prepare(self) -> None:
        """Put the backup's files where the engines find them. Does nothing when it is done, or when nothing is wanted.

        Raises:
            NotFound, InvalidSpec, DataLoss: there is no such backup, or it can't be used.
            Unavailable: it is on its way.
        """
        nodes, restore = self._nodes, self._nodes.spec.restore_from
        if restore is None or self._record:
            return
        store = await source_of(nodes.ctx, nodes.obj, restore)
        entry = await asyncio.to_thread(store.choose, restore.backup)
        self._check(entry)

        async def work(job: Job) -> None:
            job.tell("checking")
            await asyncio.to_thread(store.verify, entry)
            job.tell("copying")
            await asyncio.to_thread(self._copy, entry)

        background, key = self._instance.provider.background, restore_job(self._instance)
        job = background.start(key, f"restoring the backup {entry.name}", work, self._instance.wake)
        try:
            async with ambient().timeout(COPY_SECONDS):
                await background.wait(job)
        except TimeoutError as error:
            raise Unavailable(job.message, retry_after=0.5) from error
        self._instance.record["restore"] = {
            "backup": entry.name,
            "folder": str(store.folder),
            "slots": entry.facts.get("slots", {}),
            "state": "loading",
        }
        self._instance.save()

    def _check(self, entry: Entry) -> None:
        """Whether this engine can read it, in this mode."""
        spec = self._nodes.spec
        have = self._instance.engine(spec.engine.value, self._nodes.versions.line)
        readable = {("redis", "valkey")} | {(spec.engine.value, spec.engine.value)}
        newer = entry.engine == spec.engine.value and not reads(have.name, have.version, entry.version)
        if (entry.engine, spec.engine.value) not in readable or newer:
            raise InvalidSpec(
                f"the backup {entry.name} is of {entry.engine} {entry.version}, "
                f"which {have.name} {have.version} can't read",
                field="spec.version" if newer else "spec.engine",
                value=spec.version or spec.engine.value,
                hint=f"Set spec.engine to {entry.engine} and spec.version to {'.'.join(entry.version.split('.')[:2])}.",
            )
        sharded = spec.mode is CacheMode.SHARDED
        if (entry.facts.get("mode") == "sharded") != sharded:
            raise InvalidSpec(
                f"the backup {entry.name} is of a cache "
                f"{'that was not sharded' if sharded else 'whose keys were spread over shards'}",
                field="spec.mode",
                value=spec.mode.value,
                hint="Restore it into a cache of that mode.",
            )

    def _copy(self, entry: Entry) -> None:
        for name in [path.name for path in entry.folder.glob("*.rdb")]:
            folder = self._instance.data_dir / name.removesuffix(".rdb")
            folder.mkdir(mode=0o700, exist_ok=True)
            shutil.copyfile(entry.file(name), folder / DUMP)
            (folder / DUMP).chmod(0o600)

    def overrides(self) -> dict[str, str]:
        """Settings while the engines load what was restored."""
        return {"appendonly": "no"} if self.loading else {}

    def difference(self, nodes: list[Node]) -> list[Difference]:
        """Everything is loaded, and logged where it must be: the files have done their work."""
        if not self.loading:
            return []
        logs = self._nodes.spec.persistence.mode is PersistenceMode.APPEND_ONLY
        for node in nodes:
            if not node.answers or node.info.get("loading") != "0":
                return []
            logged = node.info.get("aof_enabled") == "1" and node.info.get("aof_rewrite_in_progress") == "0"
            if logs and not (logged and node.info.get("aof_rewrite_scheduled") == "0"):
                return []
        return [Difference("spec.restoreFrom", "restored", "loaded", payload=("restored",))]

    def finish(self) -> None:
        """Nothing of the backup is to be loaded again, when an engine starts anew one day."""
        if self._nodes.spec.persistence.mode is not PersistenceMode.SNAPSHOT:
            for path in self._instance.data_dir.glob(f"*/{DUMP}"):
                path.unlink(missing_ok=True)
        self._record["state"] = "done"
        self._instance.save()
        self._nodes.ctx.event("Normal", "Restored", f"The data of the backup {self._record['backup']} is there.")


async def all_answer(nodes: ValkeyNodes, primaries: list[Node]) -> bool:
    """Whether every primary answers, so that a last backup can be made; those that don't run are started."""
    answers = True
    for node in primaries:
        if not node.state.running:
            await nodes.start(node)
            answers = False
            continue
        await nodes.ask(node)
        answers = answers and node.answers
    return answers
