"""The pool's queue: workers take keys from it, each key is worked on by one at a time and waits at most once.

A key added while it is being worked on runs once more afterwards. Keys of one group wait in one line and the lines take
turns, so that a thousand Caches don't keep one Database waiting. Failing keys come back with exponential, fully
jittered back-off of their own. The queue is bounded by the number of keys, and the work by the number of workers.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from chandlery.foundation.clock import SYSTEM, Clock, Timer
from chandlery.foundation.resilience import Backoff

K = TypeVar("K", bound=Hashable)

_FLOOR: Final = 0.1
"""Full jitter would allow no wait at all: so much of it is kept, so that nothing broken is asked in a tight loop."""


@dataclass(slots=True)
class _Entry:
    queued_at: float | None = None
    processing: bool = False
    dirty_at: float | None = None
    failures: int = 0
    timer: Timer | None = None
    due: float = 0.0


@dataclass(slots=True)
class WorkQueue(Generic[K]):
    """Used from one event loop only.

    Attributes:
        group: which line a key waits in.
        base: seconds of the first back-off.
        limit: seconds that back-off never exceeds.
        waited: called with the group and the seconds that a key waited, for metrics.
    """

    group: Callable[[K], str] = str
    clock: Clock = SYSTEM
    base: float = 0.25
    limit: float = 300.0
    random: Callable[[], float] = random.random
    waited: Callable[[str, float], None] = lambda _group, _seconds: None
    _entries: dict[K, _Entry] = field(default_factory=dict)
    _ready: OrderedDict[str, deque[K]] = field(default_factory=OrderedDict)
    _getters: deque[asyncio.Future[None]] = field(default_factory=deque)
    _closed: bool = False
    _backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self._backoff = Backoff(initial=self.base, maximum=max(self.base, self.limit), floor=_FLOOR)

    def add(self, key: K) -> None:
        """Work on the key as soon as a worker is free."""
        entry = self._entries.setdefault(key, _Entry())
        self._unschedule(entry)
        if entry.processing:
            if entry.dirty_at is None:
                entry.dirty_at = self.clock.monotonic()
        elif entry.queued_at is None:
            self._enqueue(key, entry, self.clock.monotonic())

    def add_after(self, key: K, seconds: float) -> None:
        """Work on the key later; an earlier date that is already set stays."""
        if seconds <= 0:
            self.add(key)
            return
        entry = self._entries.setdefault(key, _Entry())
        if entry.queued_at is not None or entry.dirty_at is not None:
            return
        due = self.clock.monotonic() + seconds
        if entry.timer is not None:
            if entry.due <= due:
                return
            entry.timer.cancel()
        entry.due = due
        entry.timer = self.clock.call_later(seconds, self._fire, key)

    def failed(self, key: K, at_least: float = 0.0) -> float:
        """Bring the key back after its back-off; returns the seconds."""
        entry = self._entries.setdefault(key, _Entry())
        delay = max(at_least, self._backoff.delay(entry.failures, self.random))
        entry.failures += 1
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: K) -> None:
        """Forget the failures of the key."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.failures = 0

    def forget(self, key: K) -> None:
        """Drop everything about the key: its object is gone."""
        entry = self._entries.get(key)
        if entry is None:
            return
        self._unschedule(entry)
        entry.failures = 0
        entry.dirty_at = None
        if not entry.processing and entry.queued_at is None:
            del self._entries[key]  # a worker that has it, or will get it, drops it when it is done

    def failures(self, key: K) -> int:
        entry = self._entries.get(key)
        return entry.failures if entry else 0

    async def get(self) -> K:
        """The next key, marked as being worked on; call `done` afterwards."""
        while True:
            if self._closed:
                raise asyncio.CancelledError
            key = self._pop()
            if key is not None:
                return key
            waiter = asyncio.get_running_loop().create_future()
            self._getters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                waiter.cancel()
                if waiter in self._getters:
                    self._getters.remove(waiter)
                else:
                    self._wake()  # the wake-up was ours: pass it on
                raise

    def get_nowait(self) -> K | None:
        return self._pop()

    def done(self, key: K) -> None:
        """The worker is finished with the key."""
        entry = self._entries[key]
        entry.processing = False
        if entry.dirty_at is not None:
            since, entry.dirty_at = entry.dirty_at, None
            self._unschedule(entry)
            self._enqueue(key, entry, since)
        elif entry.timer is None and not entry.failures:
            del self._entries[key]

    def close(self) -> None:
        """Stop the timers and send waiting workers home."""
        self._closed = True
        for entry in self._entries.values():
            self._unschedule(entry)
        for waiter in self._getters:
            waiter.cancel()
        self._getters.clear()

    def depth(self) -> dict[str, int]:
        """Keys that wait, by group."""
        return {group: len(keys) for group, keys in self._ready.items()}

    def oldest(self) -> float:
        """Seconds that the key at the head has waited; 0 when none waits."""
        heads = [self._entries[keys[0]].queued_at for keys in self._ready.values() if keys]
        return max((self.clock.monotonic() - head for head in heads if head is not None), default=0.0)

    def scheduled(self) -> int:
        """Keys that come back later."""
        return sum(entry.timer is not None for entry in self._entries.values())

    def __len__(self) -> int:
        """Keys that something is remembered of."""
        return len(self._entries)

    def busy(self) -> bool:
        """Something waits or is being worked on."""
        return any(entry.processing or entry.queued_at is not None for entry in self._entries.values())

    def _pop(self) -> K | None:
        for group in list(self._ready):
            keys = self._ready[group]
            self._ready.move_to_end(group)
            if keys:
                key = keys.popleft()
                entry = self._entries[key]
                self.waited(group, self.clock.monotonic() - (entry.queued_at or 0.0))
                entry.queued_at = None
                entry.processing = True
                self._unschedule(entry)
                return key
        return None

    def _enqueue(self, key: K, entry: _Entry, since: float) -> None:
        entry.queued_at = since
        self._ready.setdefault(self.group(key), deque()).append(key)
        self._wake()

    def _wake(self) -> None:
        while self._getters:
            waiter = self._getters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _fire(self, key: K) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            entry.timer = None
            self.add(key)

    @staticmethod
    def _unschedule(entry: _Entry) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
