"""List and watch: events of one kind without gaps, lost deletions included.

A list gives the state and a version, a watch what happens after it. When the watch can't go on (the version is too
old, the server is gone for a while) the list is made again, and what vanished meanwhile is told as deleted. Watches
end after a set time at the server and, should the server forget, here; so none hangs unnoticed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from chandlery.foundation.clock import Clock
from chandlery.foundation.context import Context, Logger
from chandlery.foundation.errors import ChandleryError, Unavailable
from chandlery.foundation.resilience import Backoff, TokenBucket
from chandlery.reconcile.api import Api, Expired, Obj, ResourceType

_BACKOFF: Final = Backoff(initial=0.2, maximum=30.0, floor=0.5)
_GRACE: Final = 30.0
_SHORT: Final = 1.0
"""Seconds: a watch that ends sooner, with nothing told, was in vain."""
_IN_VAIN: Final = (0.2, 16.0)
"""Such watches a second, and at once: a version may grow too old between list and watch now and then, but a server that
ends each watch must not be asked in a tight loop."""

OnEvent = Callable[[str, Obj], None]
"""ADDED, MODIFIED or DELETED, and the object; a vanished one has its metadata only."""


class Informer:
    """Follows one kind.

    Attributes:
        synced: set after the first list.
        last_event: when the server was last heard (an event, a bookmark, a list), on the monotonic clock.
    """

    def __init__(
        self,
        api: Api,
        kind: ResourceType,
        on_event: OnEvent,
        *,
        clock: Clock,
        logger: Logger,
        labels: str = "",
        watch_seconds: float = 290.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self.last_event = clock.monotonic()
        self.relists = 0
        self._api = api
        self._on_event = on_event
        self._clock = clock
        self._logger = logger.bind(watched=kind.plural)
        self._labels = labels
        self._jitter = jitter
        self._seconds = watch_seconds
        self._known: dict[tuple[str, str], str] = {}
        self._version = ""
        self._count = 0
        self._context = Context(clock=clock)
        self._in_vain = TokenBucket(*_IN_VAIN, clock=clock)

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        while True:
            try:
                if not self._version:
                    await self._relist()
                good = await self._watched()
                failures = 0
                if not good:
                    await self._in_vain.take(self._context)
            except ChandleryError as error:
                delay = _BACKOFF.delay(failures, self._jitter)
                failures += 1
                self._logger.info("watch interrupted", error=error, retry_in=round(delay, 2))
                if failures > 2:
                    self._version = ""
                await self._clock.sleep(delay)

    @property
    def known(self) -> int:
        """How many objects there are."""
        return len(self._known)

    async def _relist(self) -> None:
        page = await self._api.list(self.kind, labels=self._labels)
        self.relists += 1
        self._heard()
        present = {_place(obj): obj["metadata"].get("uid", "") for obj in page.items}
        for place, uid in list(self._known.items()):
            if present.get(place) != uid:
                self._gone(place, uid)
        for obj in page.items:
            self._known[_place(obj)] = obj["metadata"].get("uid", "")
            self._on_event("ADDED", obj)
        self._version = page.resource_version
        self.synced.set()

    async def _watched(self) -> bool:
        """Watch; whether it was good for anything: it lasted, or brought something."""
        began, heard = self._clock.monotonic(), self._count
        try:
            await self._watch()
        except Expired:
            self._version = ""
        return self._count > heard or self._clock.monotonic() - began >= _SHORT

    async def _watch(self) -> None:
        seconds = self._seconds * (0.9 + self._jitter() / 10)
        stream = self._api.watch(self.kind, version=self._version, labels=self._labels, seconds=seconds)
        try:
            async with self._clock.timeout(seconds + _GRACE):
                async for event in stream:
                    self._heard()
                    self._count += 1
                    self._version = event.object["metadata"].get("resourceVersion", self._version)
                    if event.type == "BOOKMARK":
                        continue
                    self._take(event.type, event.object)
        except TimeoutError as error:
            raise Unavailable("the server left a watch open beyond its time") from error
        finally:
            await _close(stream)
        self._heard()

    def _take(self, event: str, obj: Obj) -> None:
        place = _place(obj)
        if event == "DELETED":
            self._known.pop(place, None)
        else:
            self._known[place] = obj["metadata"].get("uid", "")
        self._on_event(event, obj)

    def _gone(self, place: tuple[str, str], uid: str) -> None:
        del self._known[place]
        meta = {"namespace": place[0], "name": place[1], "uid": uid}
        self._on_event("DELETED", {"metadata": {k: v for k, v in meta.items() if v}})

    def _heard(self) -> None:
        self.last_event = self._clock.monotonic()


def silence(informers: Iterable[Informer], now: float) -> float:
    """Seconds since the quietest of them was heard."""
    return max((now - informer.last_event for informer in informers), default=0.0)


def _place(obj: Obj) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


async def _close(stream: Any) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
