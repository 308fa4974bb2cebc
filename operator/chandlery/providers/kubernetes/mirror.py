"""A mirror of the children in the cluster, one watch for each kind: looking costs no request, changes wake the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from chandlery.driver.objects import ResourceType
from chandlery.foundation.clock import Clock
from chandlery.foundation.errors import ChandleryError, Conflict
from chandlery.providers.kubernetes.types import OWNER_UID, Api, Obj

_BACKOFF = (0.1, 15.0)
_WATCH_SECONDS = 280.0
_GRACE = 30.0

Place = tuple[str, str]
"""Namespace and name."""


class Mirror:
    """All objects of one kind that carry an owner's uid as a label.

    Answers to our own writes are taken in at once (`put`), so that what was just written is never missed.
    """

    def __init__(self, api: Api, kind: ResourceType, notify: Callable[[str], None], clock: Clock) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self.failure: ChandleryError | None = None
        """Why it can't be followed at the moment."""
        self.settled: dict[Place, tuple[str, str]] = {}
        """Version of an object, and stamp of the manifest that it was found to be as asked by."""
        self._api = api
        self._notify = notify
        self._clock = clock
        self._objects: dict[Place, Obj] = {}
        self._owned: dict[str, set[Place]] = {}
        self._version = ""

    def of(self, uid: str) -> Iterator[Obj]:
        """The objects of one owner."""
        for place in sorted(self._owned.get(uid, ())):
            yield self._objects[place]

    def get(self, namespace: str, name: str) -> Obj | None:
        """One object."""
        return self._objects.get((namespace, name))

    def put(self, obj: Obj) -> None:
        """An object as the server has just answered it."""
        known = self._objects.get(_place(obj))
        if known is None or _newer(obj, known):
            self._store(obj)

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        while True:
            try:
                if not self._version:
                    await self._list()
                self.failure, failures = None, 0
                await self._watch()
            except Conflict:  # the version has expired
                self._version = ""
            except TimeoutError:
                continue
            except ChandleryError as error:
                failures += 1
                self.failure = error
                if failures > 2:
                    self._version = ""
                await self._clock.sleep(min(_BACKOFF[1], _BACKOFF[0] * 2.0 ** min(failures, 10)))

    async def _list(self) -> None:
        page = await self._api.list(self.kind, labels=OWNER_UID)
        present = {_place(obj) for obj in page.items}
        for place in [p for p in self._objects if p not in present]:
            self._drop(place)
        for obj in page.items:
            self._take(obj)
        self._version = page.resource_version
        self.synced.set()

    async def _watch(self) -> None:
        stream = self._api.watch(self.kind, version=self._version, labels=OWNER_UID, seconds=_WATCH_SECONDS)
        try:
            async with self._clock.timeout(_WATCH_SECONDS + _GRACE):
                async for event in stream:
                    self._version = event.object["metadata"].get("resourceVersion", self._version)
                    if event.type == "DELETED":
                        self._drop(_place(event.object))
                    elif event.type != "BOOKMARK":
                        self._take(event.object)
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()

    def _take(self, obj: Obj) -> None:
        known = self._objects.get(_place(obj))
        if known is not None and not _newer(obj, known):
            return  # the echo of what `put` has taken in
        self._store(obj)
        self._notify(_uid(obj))

    def _store(self, obj: Obj) -> None:
        place = _place(obj)
        known = self._objects.get(place)
        if known is not None and _uid(known) != _uid(obj):
            self._owned[_uid(known)].discard(place)
        self._objects[place] = obj
        self._owned.setdefault(_uid(obj), set()).add(place)

    def _drop(self, place: Place) -> None:
        known = self._objects.pop(place, None)
        if known is None:
            return
        self.settled.pop(place, None)
        mine = self._owned.get(_uid(known), set())
        mine.discard(place)
        if not mine:
            self._owned.pop(_uid(known), None)
        self._notify(_uid(known))


def _place(obj: Obj) -> Place:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _uid(obj: Obj) -> str:
    return str((obj["metadata"].get("labels") or {}).get(OWNER_UID, ""))


def _newer(one: Obj, other: Obj) -> bool:
    """Whether one is a later version than the other; resource versions are compared as numbers, as the API promises."""
    if one["metadata"].get("uid") != other["metadata"].get("uid"):
        return True
    try:
        return int(one["metadata"]["resourceVersion"]) > int(other["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return bool(one["metadata"].get("resourceVersion") != other["metadata"].get("resourceVersion"))
