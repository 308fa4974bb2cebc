"""The engine: events go into the store, keys into the queue, workers make passes. Level-triggered throughout.

An event says only that something may be different. The one thing looked at is whether it is nothing but the echo of a
write of ours, which needs no pass of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from chandlery.foundation.clock import Clock
from chandlery.foundation.concurrency.workqueue import WorkQueue
from chandlery.foundation.context import Logger
from chandlery.model.base import Ref
from chandlery.reconcile.api import FINALIZER, Key, Obj, key_of
from chandlery.reconcile.classes import MADE_BY
from chandlery.reconcile.loop import Next
from chandlery.reconcile.store import Store
from chandlery.reconcile.writer import Writer


class PassMetrics(Protocol):
    """What the engine reports to."""

    def passed(self, kind: str, seconds: float, *, failed: bool) -> None: ...


Target = tuple[str, str, str, str]
"""Group, kind, namespace, name of an object that others refer to."""


class References:
    """Who refers to whom, both ways."""

    def __init__(self) -> None:
        self._to: dict[Key, frozenset[Target]] = {}
        self._from: dict[Target, set[Key]] = {}

    def set(self, key: Key, refs: Iterable[Ref]) -> None:
        """These are all references of the object now."""
        new = frozenset((r.group, r.kind, r.namespace or key.namespace, r.name) for r in refs)
        old = self._to.get(key, frozenset())
        if new == old:
            return
        for target in old - new:
            self._from[target].discard(key)
            if not self._from[target]:
                del self._from[target]
        for target in new - old:
            self._from.setdefault(target, set()).add(key)
        if new:
            self._to[key] = new
        else:
            self._to.pop(key, None)

    def of(self, target: Target) -> tuple[Key, ...]:
        """The objects that refer to this one, by its name or by all names."""
        anything = self._from.get((*target[:3], "*"))
        return tuple(self._from.get(target, set()) | anything if anything else self._from.get(target, ()))

    def kinds(self) -> frozenset[tuple[str, str]]:
        """Group and kind of everything that is referred to."""
        return frozenset((group, kind) for group, kind, _, _ in self._from)


class Engine:
    """Store, queue and workers around `reconcile`."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: Store,
        queue: WorkQueue[Key],
        writer: Writer,
        groups: Mapping[str, str],
        reconcile: Callable[[Key], Any],
        logger: Logger,
        metrics: PassMetrics,
    ) -> None:
        self.store = store
        self.queue = queue
        self.references = References()
        self.passes = 0
        self._clock = clock
        self._writer = writer
        self._groups = groups
        self._reconcile = reconcile
        self._logger = logger
        self._metrics = metrics

    def feed(self, kind: str, event: str | None, obj: Obj) -> None:
        """An object of ours as a source saw it; `event` is DELETED or anything else."""
        key = key_of(kind, obj)
        if event == "DELETED":
            self.lost(key, obj["metadata"].get("uid", ""))
            return
        before = self.store.get(key)
        obj["metadata"].pop("managedFields", None)  # a third of the object's size, and nothing to us
        if not self.store.put(key, obj):
            return
        if before is None or _differs(before, obj) or not self._writer.is_echo(obj):
            self.queue.add(key)
        self._dependents(key)

    def stored(self, key: Key, obj: Obj) -> None:
        """The answer to a write of ours.

        It may bring along what somebody else did meanwhile, a deletion say, whose own event is old news then.
        """
        obj["metadata"].pop("managedFields", None)
        before = self.store.get(key)
        if self.store.put(key, obj):
            if before is not None and _differs(before, obj):
                self.queue.add(key)
            self._dependents(key)

    def lost(self, key: Key, uid: str = "") -> None:
        """The object is gone."""
        if self.store.remove(key, uid):
            self._writer.forget(uid)
            self.references.set(key, ())
            self.queue.forget(key)
            self._dependents(key)

    def swept(self, kind: str, items: Iterable[Obj], version: str) -> int:
        """A whole list: take in what is news, and let go what is no longer there. Returns how many were gone.

        Objects that the store knows in a version newer than the list's stay: they came after it.
        """
        present = set()
        for obj in items:
            present.add(obj["metadata"].get("uid", ""))
            self.feed(kind, None, obj)
        gone = 0
        for key, obj in self.store.items(kind):
            uid = obj["metadata"].get("uid", "")
            if uid not in present and not _after(obj, version):
                self.lost(key, uid)
                gone += 1
        return gone

    def wake(self, uid: str) -> None:
        """Something happened to the resource of the object with this uid."""
        key = self.store.find(uid)
        if key is not None:
            self.queue.add(key)

    def touch(self, target: Target) -> None:
        """Something that objects may refer to changed."""
        for key in self.references.of(target):
            self.queue.add(key)

    async def work(self) -> None:
        """One worker; runs until cancelled."""
        while True:
            await self.step(await self.queue.get())

    async def step(self, key: Key) -> None:
        """One pass over a key that `queue.get` gave."""
        began = self._clock.monotonic()
        try:
            result: Next = await self._reconcile(key)
        except asyncio.CancelledError:
            raise
        except Exception:
            self._logger.exception("pass failed", kind=key.kind, namespace=key.namespace, name=key.name)
            result = Next(failed=True)
        finally:
            self.passes += 1
        self._schedule(key, result)
        self.queue.done(key)
        self._metrics.passed(key.kind, self._clock.monotonic() - began, failed=result.failed)

    def _schedule(self, key: Key, result: Next) -> None:
        if result.failed:
            self.queue.failed(key, result.after or 0.0)
            return
        self.queue.succeeded(key)
        if result.after is not None:
            self.queue.add_after(key, result.after)

    def _dependents(self, key: Key) -> None:
        for other in self.references.of((self._groups.get(key.kind, ""), key.kind, key.namespace, key.name)):
            self.queue.add(other)


def _after(obj: Obj, version: str) -> bool:
    try:
        return int(obj["metadata"].get("resourceVersion", "0")) > int(version)
    except ValueError:
        return False


def _differs(before: Obj, now: Obj) -> bool:
    """Whether anything but status and our own marks is different."""
    if before.get("spec") != now.get("spec"):
        return True
    old, new = before["metadata"], now["metadata"]
    if old.get("uid") != new.get("uid") or old.get("deletionTimestamp") != new.get("deletionTimestamp"):
        return True
    if old.get("labels") != new.get("labels") or _foreign(old) != _foreign(new):
        return True
    # our finalizer or note gone is a matter for a pass; either of them newly there is our own doing
    return _marks(old) - _marks(new) != frozenset()


def _foreign(meta: Mapping[str, Any]) -> dict[str, str]:
    return {k: v for k, v in (meta.get("annotations") or {}).items() if k != MADE_BY}


def _marks(meta: Mapping[str, Any]) -> frozenset[str]:
    marks = {FINALIZER} & set(meta.get("finalizers") or ())
    return frozenset(marks | ({MADE_BY} & set(meta.get("annotations") or ())))
