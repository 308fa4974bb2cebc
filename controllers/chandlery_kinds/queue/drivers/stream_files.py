"""Streams of JetStream as files, as its own API gives them, wherever the servers run.

A backup is a snapshot of each stream and a file with their configurations. Consumers are left out: what a worker has
acknowledged is no longer in the queue, and what it hasn't is delivered again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from chandlery.foundation.errors import NotFound
from chandlery_kinds.queue import content
from chandlery_kinds.queue.drivers.jetstream_client import PIECE, JetStream
from chandlery_kinds.queue.model import QueueSpec

STREAMS = "streams.json"
Stream = tuple[str, str, Mapping[str, Any]]
"""What it is for, its name, its configuration."""


def streams(name: str, spec: QueueSpec) -> list[Stream]:
    """Those of a queue."""
    return [one for one in content.wanted(name, spec, spec.replicas) if "durable_name" not in one[2]]


async def save(api: JetStream, what: Iterable[Stream], folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Write every stream into the folder; returns what is told of them."""
    found: dict[str, Any] = {}
    for key, name, _ in what:
        tell(name)
        with (folder / f"{key}.snapshot").open("wb") as file:
            try:
                told = await api.snapshot(name, file.write)
            except NotFound:
                continue
        found[key] = {"config": told["config"], "state": told["state"]}
    (folder / STREAMS).write_text(json.dumps(found, indent=1) + "\n")
    messages = sum(int(stream["state"]["messages"]) for stream in found.values())
    return {"engine": "nats", "version": api.server_version, "method": "snapshot", "messages": messages}


async def load(api: JetStream, what: Iterable[Stream], folder: Path, tell: Callable[[str], None]) -> None:
    """Make the streams that a folder holds, with these configurations; nobody has used them yet."""
    known: Mapping[str, Any] = json.loads((folder / STREAMS).read_text())
    for key, name, config in what:
        if key not in known:
            continue
        tell(name)
        await api.remove_stream(name)  # what an attempt left that ended half-way
        await api.restore(config, known[key]["state"], _pieces(folder / f"{key}.snapshot"))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
