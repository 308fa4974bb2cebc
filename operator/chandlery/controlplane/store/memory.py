"""The store that forgets: for tests, and for control planes that live as long as their process."""

from __future__ import annotations

from collections.abc import Iterable

from chandlery.controlplane.store.base import Change, Conflict, LocalStore, Make, Publish, StoreError
from chandlery.controlplane.types import Obj


class MemoryStore(LocalStore):
    """Keeps nothing but the revision of each key; the values live in the cache that it publishes to."""

    def __init__(self) -> None:
        super().__init__()
        self._publish: Publish | None = None

    async def open(self, publish: Publish) -> Iterable[Change]:
        self._publish = publish
        return ()

    async def txn(
        self,
        key: str,
        expect: int,
        make: Make,
        *,
        deleted: bool = False,
        obj: Obj | None = None,
        tag: object = None,
    ) -> int:
        if self._publish is None:
            raise StoreError("the store is closed")
        if self._latest.get(key, 0) != expect:
            raise Conflict(key)
        rev = self.revision + 1
        change = Change(rev, key, make(rev), deleted, obj, tag)
        self.revision = rev
        self._remember(change)
        self._publish([change])
        return rev

    async def compact(self, rev: int) -> None:
        self.compacted = max(self.compacted, min(rev, self.revision))

    async def close(self) -> None:
        self._publish = None
