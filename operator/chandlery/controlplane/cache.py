"""Everything that is stored, in memory: live objects by resource, their recent history, and who watches them.

Objects are held as the JSON bytes they are served as and parsed when somebody needs a field; ten thousand
parsed objects would cost ten times the memory and a tenth of a second of every garbage collection.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from sys import intern
from typing import Any, ClassVar

import orjson

from chandlery.controlplane.store.base import Change
from chandlery.controlplane.telling import Telling
from chandlery.controlplane.types import Obj, Resource

log = logging.getLogger(__name__)

KEEP_EVENTS = 1024
"""History that is always kept for watches to resume from, in changes of one resource."""
KEEP_SECONDS = 300.0
"""Younger history is kept too, as long as there are no more than MOST_EVENTS of it."""
MOST_EVENTS = 10_000
MOST_BYTES = 32 << 20
"""Bytes of objects that the history of one resource may hold in any case: objects may have three million each."""

_PARSED_LIMIT = 2048


class Entry:
    """One object at one revision."""

    __slots__ = ("_obj", "digest", "key", "maker", "name", "namespace", "raw", "rev", "views")

    _parsed: ClassVar[deque[Entry]] = deque()

    def __init__(self, key: str, rev: int, raw: bytes, obj: Obj | None = None, maker: object = None) -> None:
        self.key = key
        namespace, _, self.name = key.rpartition("/")
        self.namespace = intern(namespace)  # thousands share a few
        self.rev = rev
        self.raw = raw
        self.maker = maker
        """The Resource whose rules made `raw`; None when it came from the disk, so maybe from older rules."""
        self.views: dict[Any, Any] | None = None
        """Other forms of this object, by whatever names them (a Resource, a format): worked out once."""
        self.digest = ""
        """What the audit log knows this object by; "" until it asked."""
        self._obj: Obj | None = None
        if obj is not None:
            self._keep(obj)

    @property
    def obj(self) -> Obj:
        """The parsed object. Shared: never change it, take `fresh()` for that."""
        obj = self._obj
        if obj is None:
            obj = orjson.loads(self.raw)
            self._keep(obj)
        return obj

    def fresh(self) -> Obj:
        """The parsed object as the caller's own."""
        return orjson.loads(self.raw)  # type: ignore[no-any-return]

    def _keep(self, obj: Obj) -> None:
        self._obj = obj
        parsed = Entry._parsed
        parsed.append(self)
        if len(parsed) > _PARSED_LIMIT:
            parsed.popleft()._obj = None  # noqa: SLF001 - another of its own kind

    @property
    def labels(self) -> Mapping[str, str]:
        return self.obj["metadata"].get("labels") or {}

    def view(self, name: Any) -> Any:
        views = self.views
        return None if views is None else views.get(name)

    def set_view(self, name: Any, value: Any) -> None:
        if self.views is None:
            self.views = {}
        self.views[name] = value


class Event:
    """One change of one object, as watchers see it."""

    __slots__ = ("at", "entry", "kind", "memo", "prev", "rev")

    def __init__(self, rev: int, kind: str, entry: Entry, prev: Entry | None) -> None:
        self.rev = rev
        self.kind = kind
        self.entry = entry
        self.prev = prev
        self.at = time.monotonic()
        self.memo: dict[Any, Any] = {}
        """What watchers of the same kind share: selector results, encoded lines."""


class Subscription:
    """One watcher's place in the stream: a bounded queue of events and a way to be woken."""

    __slots__ = ("_wake", "direct", "filter", "limit", "overflowed", "queue")

    def __init__(self, filter_: Callable[[Event], str | None], limit: int) -> None:
        self.filter = filter_
        self.limit = limit
        self.queue: deque[tuple[Event, str]] = deque()
        self.overflowed = False
        self.direct: Callable[[Event, str], bool] | None = None
        """Takes an event at once, without the queue, when nothing waits before it; False when it can't."""
        self._wake: Callable[[], None] | None = None

    def on_wake(self, wake: Callable[[], None] | None) -> None:
        self._wake = wake

    def wake(self) -> None:
        if self._wake is not None:
            self._wake()

    def offer(self, event: Event) -> None:
        kind = self.filter(event)
        if kind is None or self.overflowed:
            return
        if self.direct is not None and not self.queue and self.direct(event, kind):
            return
        if len(self.queue) >= self.limit:
            self.overflowed = True
        else:
            self.queue.append((event, kind))
        self.wake()


class Table:
    """The objects of one stored resource."""

    def __init__(self, floor: int, known: int | None = None) -> None:
        self.entries: dict[str, Entry] = {}
        self.keys: list[str] = []
        self.ring: deque[Event] = deque()
        self.held = 0
        """The bytes of the objects in `ring`."""
        self.floor = floor
        """Changes after this revision are in `ring`; a watch can start here or later."""
        self.known = floor if known is None else known
        """What was live at this revision or later can be told; before the floor that is nothing."""
        self.revision = floor
        """The last change of this table."""
        self.watchers: dict[tuple[str, str], dict[Subscription, None]] = {}

    def apply(self, change: Change, key: str) -> Event:
        prev = self.entries.get(key)
        entry = Entry(key, change.rev, change.value, change.obj, change.tag)
        if change.deleted:
            kind = "DELETED"
            if prev is not None:
                del self.entries[key]
                del self.keys[bisect_left(self.keys, key)]
        elif prev is None:
            kind = "ADDED"
            self.entries[key] = entry
            keys = self.keys
            if not keys or key > keys[-1]:
                keys.append(key)
            else:
                insort(keys, key)
        else:
            kind = "MODIFIED"
            self.entries[key] = entry
        event = Event(change.rev, kind, entry, prev)
        self.revision = change.rev
        self.ring.append(event)
        self.held += len(entry.raw)
        if len(self.ring) > KEEP_EVENTS or self.held > MOST_BYTES:
            self.trim(event.at)
        return event

    def trim(self, now: float) -> None:
        """Forget history that is too old or too much; `now` is `time.monotonic()`."""
        ring = self.ring
        while ring and (
            self.held > MOST_BYTES
            or (len(ring) > KEEP_EVENTS and (len(ring) > MOST_EVENTS or now - ring[0].at > KEEP_SECONDS))
        ):
            event = ring.popleft()
            self.floor = self.known = event.rev
            self.held -= len(event.entry.raw)

    def span(self, namespace: str) -> Iterator[Entry]:
        """Live entries in the order of their keys, of one namespace or ("") all."""
        entries = self.entries
        if not namespace:
            return (entries[key] for key in list(self.keys))
        first, last = self.bounds(namespace)
        return (entries[key] for key in self.keys[first:last])

    def bounds(self, namespace: str) -> tuple[int, int]:
        if not namespace:
            return 0, len(self.keys)
        # "0" is the character after "/".
        return bisect_left(self.keys, namespace + "/"), bisect_left(self.keys, namespace + "0")

    def at(self, rev: int) -> dict[str, Entry] | None:
        """What was live at a revision, in no particular order; None when that is no longer known."""
        if rev >= self.revision:
            return self.entries
        if rev < self.known:
            return None
        past = dict(self.entries)
        for event in reversed(self.ring):
            if event.rev <= rev:
                break
            if event.prev is None:
                past.pop(event.entry.key, None)
            else:
                past[event.prev.key] = event.prev
        return past

    def since(self, rev: int) -> list[Event]:
        found: list[Event] = []
        for event in reversed(self.ring):
            if event.rev <= rev:
                break
            found.append(event)
        found.reverse()
        return found

    def subscribe(self, subscription: Subscription, namespace: str, name: str) -> None:
        self.watchers.setdefault((namespace, name), {})[subscription] = None

    def unsubscribe(self, subscription: Subscription, namespace: str, name: str) -> None:
        group = self.watchers.get((namespace, name))
        if group is not None:
            group.pop(subscription, None)
            if not group:
                del self.watchers[namespace, name]

    def notify(self, event: Event) -> None:
        watchers = self.watchers
        if not watchers:
            return
        entry = event.entry
        for where in {
            ("", ""),
            (entry.namespace, ""),
            (entry.namespace, entry.name),
            ("", entry.name),
        }:
            group = watchers.get(where)
            if group is not None:
                for subscription in list(group):
                    try:
                        subscription.offer(event)
                    except Exception:
                        # One watcher's trouble must not keep an event from the others, or a write from its answer.
                        log.exception("a watcher could not take an event; its watch ends")
                        subscription.overflowed = True
                        subscription.wake()


Listener = Callable[[str, tuple[str, str], Event], None]
"""Takes (kind of change, (group, plural), event)."""


class Cache:
    """All tables, in step with the store."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], Table] = {}
        self._listeners: list[Listener] = []
        self._by_key: dict[tuple[str, str], list[Listener]] = {}
        """Listeners that want to hear of some tables only."""
        self._telling = Telling()
        self.revision = 0
        self._compacted = 0
        self._dropped: dict[tuple[str, str], int] = {}
        """Tables that are gone, and when they went: what they held before isn't known any more."""

    def table(self, key: tuple[str, str]) -> Table:
        table = self._tables.get(key)
        if table is None:
            known = self._dropped.get(key, self._compacted)
            table = self._tables[key] = Table(self.revision, known)
        return table

    def add(self, keys: Iterable[tuple[str, str]]) -> None:
        """Have tables for types that are always served: their history begins where the store's does."""
        for key in keys:
            if key not in self._tables:
                self._tables[key] = Table(self._compacted)

    def tables(self) -> dict[tuple[str, str], Table]:
        return self._tables

    def drop(self, key: tuple[str, str]) -> None:
        """Forget a table that is empty and no longer served; its watchers end."""
        table = self._tables.pop(key, None)
        if table is not None:
            self._dropped[key] = self.revision
            self.end_watches(table)

    def end_watches(self, table: Table) -> None:
        self.tell()  # what happened last
        for group in list(table.watchers.values()):
            for subscription in list(group):
                subscription.overflowed = True
                subscription.wake()

    def load(self, changes: Iterable[Change], compacted: int) -> None:
        """Take over what a store held when it was opened."""
        self._compacted = compacted
        for change in changes:
            self._apply(change, compacted)
        for table in self._tables.values():
            table.ring = deque(event for event in table.ring if event.rev > compacted)
            table.held = sum(len(event.entry.raw) for event in table.ring)
            table.floor = table.known = max(table.floor, compacted)

    def _apply(self, change: Change, floor: int) -> tuple[Table, tuple[str, str], Event]:
        group, plural, key = change.key.split("/", 2)
        where = (group, plural)
        table = self._tables.get(where)
        if table is None:
            table = self._tables[where] = Table(floor)
        self.revision = change.rev
        return table, where, table.apply(change, key)

    def publish(self, changes: list[Change]) -> None:
        """Make committed changes visible and tell listeners, in the order of revisions; watchers a moment later."""
        for change in changes:
            table, where, event = self._apply(change, self.revision)
            if table.watchers:
                self._telling.add(table, event)
            for listener in (*self._listeners, *self._by_key.get(where, ())):
                try:
                    listener(event.kind, where, event)
                except Exception:
                    log.exception("a listener failed at %s %s", event.kind, change.key)
        self._telling.soon()

    @property
    def told(self) -> int:
        """The revision up to which watchers have heard of everything."""
        return self._telling.told(self.revision)

    def tell(self) -> None:
        """Tell watchers at once all there is to tell."""
        self._telling.now()

    def listen(self, listener: Listener, keys: Iterable[tuple[str, str]] | None = None) -> Callable[[], None]:
        """Hear of every change, or (`keys`) of those of some tables; answers what ends it."""
        places = [self._listeners] if keys is None else [self._by_key.setdefault(key, []) for key in keys]
        for place in places:
            place.append(listener)

        def stop() -> None:
            for place in places:
                if listener in place:
                    place.remove(listener)

        return stop


def storage_key(resource: Resource, namespace: str, name: str) -> str:
    group, plural = resource.storage_key
    return f"{group}/{plural}/{namespace}/{name}" if resource.namespaced else f"{group}/{plural}/{name}"


def table_key(resource: Resource, namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if resource.namespaced else name
