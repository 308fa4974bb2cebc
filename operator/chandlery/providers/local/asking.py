"""Asks an engine to stop over its own socket, where a signal would be too rough: a guest wants its power button."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chandlery.foundation.clock import Clock

LONGEST_PATH = 100
"""A unix socket's address holds 104 to 108 bytes."""
_ANSWER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StopRequest:
    """What to say, where, and how long to wait for the end."""

    socket: str
    """Name in the instance's run directory."""
    lines: tuple[str, ...]
    """Said one after the other, each after an answer to the one before."""
    wait: float
    """Seconds until signals are used."""
    again: float
    """Seconds after which all is said once more: an engine that still starts doesn't hear."""

    def dump(self) -> dict[str, Any]:
        return {"socket": self.socket, "lines": list(self.lines), "wait": self.wait, "again": self.again}

    @classmethod
    def load(cls, raw: dict[str, Any]) -> StopRequest:
        return cls(raw["socket"], tuple(raw["lines"]), float(raw["wait"]), float(raw["again"]))


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name for a socket that fits into an address, however long its path is."""
    if len(os.fsencode(path)) <= LONGEST_PATH or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


async def ask_to_stop(request: StopRequest, folder: Path, alive: Callable[[], bool], clock: Clock) -> bool:
    """Ask until the process has ended; False when it hasn't in time, or nobody answers at the socket."""
    deadline = clock.monotonic() + request.wait
    next_time = clock.monotonic()
    heard = False
    while clock.monotonic() < deadline:
        if not alive():
            return True
        if clock.monotonic() >= next_time:
            said = await _say(request, folder, clock)
            if not said and not heard:
                return not alive()
            heard = heard or said
            next_time = clock.monotonic() + request.again
        await clock.sleep(0.02)
    return not alive()


async def _say(request: StopRequest, folder: Path, clock: Clock) -> bool:
    try:
        async with clock.timeout(_ANSWER_SECONDS):
            with reachable(folder / request.socket) as name:
                reader, writer = await asyncio.open_unix_connection(name)
            try:
                for line in request.lines:
                    await reader.readline()
                    writer.write(line.encode() + b"\n")
                    await writer.drain()
                await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return True
