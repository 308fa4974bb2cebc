"""What runs in the pods of the backups and restores of a queue in JetStream: `take` and `restore`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chandlery.foundation.errors import InvalidSpec
from chandlery.providers.kubernetes import backup_program as program
from chandlery.providers.kubernetes.backup_program import Task
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers import stream_files
from chandlery_kinds.queue.drivers.jetstream_client import JetStream


async def _connect(task: Task) -> JetStream:
    words = program.password(task)
    return await JetStream.connect(task["host"], int(task["port"]), js.ADMIN, words, tls=program.context(task))


def _tell(_name: str) -> None:
    """Nobody looks while it runs."""


async def take(task: Task) -> str:
    """Make a backup; its name."""

    async def write(folder: Path) -> Mapping[str, Any]:
        async with await _connect(task) as api:
            return await stream_files.save(api, task["streams"], folder, _tell)

    return f"backup {await program.take(task, write)}"


async def restore(task: Task) -> str:
    """Make the streams of a new queue from a backup."""
    entry = await program.choose(task)
    if entry.engine != "nats":
        raise InvalidSpec(f"the backup {entry.name} is of {entry.engine}: restore it into a Queue of that engine")
    async with await _connect(task) as api:
        await stream_files.load(api, task["streams"], entry.folder, _tell)
    Path(task["told"]).write_text(entry.name)
    return f"restored {entry.name}"


if __name__ == "__main__":
    sys.exit(program.run({"take": take, "restore": restore}))
