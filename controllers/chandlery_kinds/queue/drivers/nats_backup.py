"""Backups of a queue in JetStream, and a queue that begins with the messages of one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.driver.protocol import Difference
from chandlery.foundation.errors import InvalidSpec
from chandlery.providers.local.backup_store import Entry
from chandlery.providers.local.backups import restore_job, source_of
from chandlery_kinds.queue.drivers import stream_files

if TYPE_CHECKING:
    from chandlery.providers.local.background import Job
    from chandlery_kinds.queue.drivers.local_nats import NatsQueue

_RECORD = "restored"


async def take(queue: NatsQueue, folder: Path, job: Job) -> dict[str, Any]:
    """Write every stream into the folder; what is told goes into the manifest."""
    what = stream_files.streams(queue.name, queue.spec)
    async with await queue.connect_any() as api:
        return await stream_files.save(api, what, folder, lambda name: job.tell(f"{folder.name}: {name}"))


class Restore:
    """Has a new queue begin with a backup's messages. Its servers run first; nothing else is made in them before."""

    def __init__(self, queue: NatsQueue) -> None:
        self._queue = queue
        self._instance = queue.instance

    @property
    def wanted(self) -> bool:
        """Whether there is still something to restore."""
        return self._queue.spec.restore_from is not None and _RECORD not in self._instance.record

    @property
    def job(self) -> Job | None:
        return self._instance.provider.background.get(restore_job(self._instance))

    def differences(self) -> list[Difference]:
        if self.job is not None and self.job.running:
            return []
        return [Difference("spec.restoreFrom", "restored", "not yet", payload=("restore",))]

    def explain(self) -> str:
        return self.job.message if self.job is not None else "the backup is not restored yet"

    async def begin(self) -> None:
        """Start it, or say why it failed.

        Raises:
            NotFound, InvalidSpec, DataLoss: there is no such backup, or it can't be used.
        """
        queue, restore = self._queue, self._queue.spec.restore_from
        assert restore is not None
        store = await source_of(queue.ctx, queue.obj, restore)
        entry = await asyncio.to_thread(store.choose, restore.backup)
        if entry.engine != "nats":
            raise InvalidSpec(
                f"the backup {entry.name} is of {entry.engine}",
                field="spec.engine",
                value=queue.spec.engine.value,
                hint=f"Restore it into a Queue of engine {entry.engine}.",
            )

        async def work(job: Job) -> None:
            job.tell("checking")
            await asyncio.to_thread(store.verify, entry)
            await self._load(entry, job)
            self._instance.record[_RECORD] = {"backup": entry.name, "folder": str(store.folder)}
            self._instance.save()
            queue.ctx.event("Normal", "Restored", f"The messages of the backup {entry.name} are there.")

        background, key = self._instance.provider.background, restore_job(self._instance)
        job = background.start(key, f"restoring the backup {entry.name}", work, self._instance.wake)
        if job.error is not None and not job.running:
            raise job.error

    async def _load(self, entry: Entry, job: Job) -> None:
        queue = self._queue
        async with await queue.connect_any() as api:
            await stream_files.load(api, stream_files.streams(queue.name, queue.spec), entry.folder, job.tell)
