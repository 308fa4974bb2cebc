"""Watchers are told of changes a moment after whoever made them was answered, in the order of revisions.

Telling hundreds of watchers takes milliseconds, for each has an encrypted connection of its own. Requests get their
turn in between; but those that write may not run far ahead of those that watch.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chandlery.controlplane.cache import Event, Table

_SECONDS = 0.002
"""How long watchers are told before others get their turn."""
_WAITING = 32
"""Events that may wait beyond that."""


class Telling:
    """What watchers are still to be told."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Table, Event]] = deque()
        self._under_way = False

    def add(self, table: Table, event: Event) -> None:
        self._waiting.append((table, event))

    def told(self, revision: int) -> int:
        """The revision up to which watchers have heard of everything, when `revision` is the last one."""
        return self._waiting[0][1].rev - 1 if self._waiting else revision

    def soon(self) -> None:
        """Tell what waits once those have been woken that wrote it; at once where no loop runs."""
        if self._under_way or not self._waiting:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.now()
            return
        self._under_way = True
        loop.call_soon(loop.call_soon, self._some)  # they are woken in the next round: in the one after that

    def now(self) -> None:
        """Tell all there is to tell."""
        while self._waiting:
            self._one()

    def _some(self) -> None:
        waiting, end = self._waiting, time.perf_counter() + _SECONDS
        try:
            while waiting and (len(waiting) > _WAITING or time.perf_counter() < end):
                self._one()
        finally:  # whatever one watcher's connection raises, the next events are told
            self._under_way = bool(waiting)
            if waiting:
                asyncio.get_running_loop().call_soon(self._some)

    def _one(self) -> None:
        table, event = self._waiting.popleft()
        table.notify(event)
        event.memo.clear()  # whoever comes later finds the event itself in the history
