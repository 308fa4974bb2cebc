"""The objects as last seen, by key: what workers read, fed by event sources and by the answers to our own writes.

The newest resourceVersion wins, whichever way it came, so that a pass never acts on something older than what it
wrote itself. An object that is known to be gone doesn't come back by a late answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from chandlery.reconcile.api import Key, Obj

_TOMBSTONES: Final = 10_000  # uids of deleted objects remembered; late answers arrive within seconds


class Store:
    """A cache of whole objects; not thread-safe: used from one event loop."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Obj]] = {}
        self._keys: dict[str, Key] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()

    def put(self, key: Key, obj: Obj) -> bool:
        """Keep the object unless we have the same or a newer one; True when it is news."""
        meta = obj["metadata"]
        uid = meta.get("uid", "")
        if uid in self._gone:
            return False
        of_kind = self._objects.setdefault(key.kind, {})
        known = of_kind.get(key)
        if known is not None:
            same = known["metadata"].get("uid", "") == uid
            if same and not newer(meta.get("resourceVersion", ""), known["metadata"].get("resourceVersion", "")):
                return False
            if not same:
                if not newer(meta.get("resourceVersion", ""), known["metadata"].get("resourceVersion", "")):
                    return False
                self._bury(known["metadata"].get("uid", ""))
        of_kind[key] = obj
        self._keys[uid] = key
        return True

    def remove(self, key: Key, uid: str = "") -> bool:
        """Forget the object; with a uid only that very one. True when it was known."""
        known = self._objects.get(key.kind, {}).get(key)
        if uid:
            self._bury(uid)
        if known is None:
            return False
        known_uid = known["metadata"].get("uid", "")
        if uid and known_uid != uid:
            return False
        del self._objects[key.kind][key]
        self._bury(known_uid)
        return True

    def get(self, key: Key) -> Obj | None:
        return self._objects.get(key.kind, {}).get(key)

    def find(self, uid: str) -> Key | None:
        """The key of the object with this uid."""
        return self._keys.get(uid)

    def items(self, kind: str) -> list[tuple[Key, Obj]]:
        return list(self._objects.get(kind, {}).items())

    def __iter__(self) -> Iterator[Key]:
        for of_kind in list(self._objects.values()):
            yield from list(of_kind)

    def __len__(self) -> int:
        return sum(len(of_kind) for of_kind in self._objects.values())

    def _bury(self, uid: str) -> None:
        if not uid:
            return
        self._keys.pop(uid, None)
        self._gone[uid] = None
        if len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)


def newer(version: str, than: str) -> bool:
    """Compare resourceVersions: integers since Kubernetes 1.35 says so; anything else: what came later is newer."""
    try:
        return int(version) > int(than)
    except ValueError:
        return version != than
