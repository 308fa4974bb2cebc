"""Writes of ours to our own kinds: which are under way, and which versions came as answers.

An event that brings a version which came as an answer says nothing new. It often comes before the answer, as they take
different ways; so whoever wants to tell echoes apart waits for the answers of what was under way when the event came.
Written by the loop's thread, read by the event source's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from chandlery.reconcile.api import Obj

_KEPT: Final = 4096


class Answers:
    """Remembers the last few thousand versions; each is asked for once, within a moment."""

    def __init__(self) -> None:
        self._versions: OrderedDict[str, None] = OrderedDict()
        self._under_way: set[int] = set()
        self._count = 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around one request; its answer is added inside."""
        self._count += 1
        number = self._count
        self._under_way.add(number)
        try:
            yield
        finally:
            self._under_way.discard(number)

    def add(self, answer: Obj) -> None:
        """This object came as an answer."""
        self._versions[answer["metadata"].get("resourceVersion", "")] = None
        if len(self._versions) > _KEPT:
            self._versions.popitem(last=False)

    def __contains__(self, version: Any) -> bool:
        return version in self._versions

    def under_way(self) -> frozenset[int]:
        """Numbers of the requests that are not answered yet."""
        return frozenset(self._under_way)
