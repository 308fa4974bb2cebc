"""What is looked at now and then for all instances at once: how long their logs are, how much room their data take.

A thread does the looking; drivers read what it found. Who crosses a limit, in either direction, is woken.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.driver.protocol import Observation
from chandlery.foundation import logfiles
from chandlery.foundation.context import Context
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import Condition, ConditionStatus
from chandlery.providers.local.files import in_words

if TYPE_CHECKING:
    from chandlery.providers.local.provider import LocalProvider

CONDITION = "StorageSufficient"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too long and too full."""

    log_bytes: int = 16 << 20
    """A log is cut when it is longer."""
    log_files: int = 2
    """What was cut is kept in so many files."""
    disk_reserve: int = 256 << 20
    """Bytes that should be free on the disk."""
    interval: float = 30.0
    """Seconds between looks."""
    rest: float = 20.0
    """After each piece of work, so many times its duration is rested: a twentieth of a core at most."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one instance takes."""

    largest: int
    """Bytes of the largest of its servers' data."""
    allowed: int | None
    """Bytes that the spec allows each server; None for no limit."""

    @property
    def too_much(self) -> bool:
        return self.allowed is not None and self.largest > self.allowed


class Housekeeping:
    """One for each provider."""

    def __init__(self, provider: LocalProvider, limits: Limits) -> None:
        self.limits = limits
        self._provider = provider
        self._usage: dict[str, Usage] = {}
        self._allowed: dict[str, int | None] = {}
        self._free: int | None = None
        self._was_low = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look regularly, until `stop`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="housekeeping")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        clock = self._provider.clock
        while True:
            await clock.sleep(self.limits.interval)
            pieces = self._pieces()
            try:
                while True:
                    began = clock.monotonic()
                    found = await asyncio.to_thread(next, pieces, None)
                    if found is None:
                        break
                    for name in found:
                        self._provider.notify(name)
                    await clock.sleep(min(1.0, (clock.monotonic() - began) * self.limits.rest))
            except (ChandleryError, OSError) as error:
                Context().logger.warning("housekeeping failed", error=error)

    def look(self) -> list[str]:
        """Cut logs, measure data; the instances for which something changed."""
        return [name for piece in self._pieces() for name in piece]

    def _pieces(self) -> Iterator[list[str]]:
        """One instance after the other: its name if something changed."""
        found = os.statvfs(self._provider.data_dir)
        self._free = found.f_bavail * found.f_frsize
        was_low, self._was_low = self._was_low, self.low()
        try:
            names = sorted(entry.name for entry in os.scandir(self._provider.instances_dir) if entry.is_dir())
        except FileNotFoundError:
            names = []
        for name in names:
            changed = False
            home = self._provider.instances_dir / name
            for path in home.glob("log/*.log"):
                logfiles.rotate(path, self.limits.log_bytes, self.limits.log_files)
            if name in self._allowed:
                before = self._usage.get(name)
                self._usage[name] = now = Usage(largest(home / "data"), self._allowed[name])
                changed = self.low() != was_low or now.too_much != (before is not None and before.too_much)
            yield [name] if changed else []
        for gone in self._usage.keys() - set(names):
            self._usage.pop(gone, None)
            self._allowed.pop(gone, None)

    def low(self) -> bool:
        """The disk is nearly full."""
        return self._free is not None and self._free < self.limits.disk_reserve

    def with_condition(self, name: str, seen: Observation, spec: Any) -> Observation:
        """An observation with what is known of its storage. A kind that keeps nothing has no such condition."""
        keeps, allowed = _allowance(spec)
        if not keeps or not seen.exists:
            return seen
        self._allowed[name] = allowed
        reason, message = self._trouble(name)
        status = ConditionStatus.FALSE if reason else ConditionStatus.TRUE
        own = Condition(type=CONDITION, status=status, reason=reason or "Enough", message=message)
        return replace(seen, conditions=(*seen.conditions, own))

    def _trouble(self, name: str) -> tuple[str, str]:
        usage = self._usage.get(name)
        if self.low():
            reserve = in_words(self.limits.disk_reserve)
            what = (
                f"Less than {reserve} are free on the disk of {self._provider.data_dir}: soon nothing can be written."
            )
            return "DiskNearlyFull", f"{what} Free some space there; this goes away by itself then."
        if usage is not None and usage.too_much and usage.allowed is not None:
            what = f"The data take more than the {in_words(usage.allowed)} that the spec gives them (storage.size)."
            return "DataTooLarge", f"{what} Nothing stops them from growing here: remove data, or raise that size."
        return "", ""


def _allowance(spec: Any) -> tuple[bool, int | None]:
    """Whether a spec keeps data, and how many bytes of it each server may have."""
    storage = getattr(spec, "storage", None) or getattr(getattr(spec, "persistence", None), "storage", None)
    if storage is None:
        return getattr(spec, "root_disk", None) is not None, None
    sizes: Sequence[Any] = [storage.size, *([storage.autogrow.limit] if storage.autogrow is not None else [])]
    return True, max(size.bytes for size in sizes)


def largest(data: Path) -> int:
    """Bytes on the disk of the largest folder in a data directory: each server has one of its own."""
    try:
        entries = list(os.scandir(data))
    except OSError:
        return 0
    return max((taken(Path(entry.path)) for entry in entries), default=0)


def taken(path: Path) -> int:
    """Bytes on the disk of a file or a folder with all that is in it."""
    total = 0
    stack = [path]
    while stack:
        one = stack.pop()
        try:
            if one.is_dir() and not one.is_symlink():
                stack += [Path(entry.path) for entry in os.scandir(one)]
            total += one.lstat().st_blocks * 512
        except OSError:
            continue  # it went while we looked
    return total
