"""Garbage collection: what an owner's end means for its dependents.

Only objects that name owners are tracked, by owner uid; whether an owner still exists is asked of the
API, which is always current. Source: Kubernetes docs, "Garbage Collection" and "Use Cascading Deletion".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from chandlery.controlplane.controllers.base import MANAGER, Controller
from chandlery.controlplane.types import Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_IGNORED = frozenset({"events"})
_GRACE = 2.0
"""Seconds that an object stays which names an owner nobody has seen: whoever wrote it can still correct it."""
_CRDS = ("apiextensions.k8s.io", "customresourcedefinitions")


class Ref(NamedTuple):
    """Where one object is, and which one it was."""

    group: str
    plural: str
    namespace: str
    name: str
    uid: str


class _Owner(NamedTuple):
    group: str
    kind: str
    name: str
    uid: str
    blocks: bool


def _owners(obj: Obj) -> tuple[_Owner, ...]:
    return tuple(
        _Owner(
            ref["apiVersion"].partition("/")[0] if "/" in ref["apiVersion"] else "",
            ref["kind"],
            ref["name"],
            ref["uid"],
            bool(ref.get("blockOwnerDeletion")),
        )
        for ref in obj["metadata"].get("ownerReferences") or ()
    )


def waits_for_dependents(obj: Obj) -> bool:
    meta = obj["metadata"]
    return bool(meta.get("deletionTimestamp")) and FOREGROUND in (meta.get("finalizers") or ())


class GarbageCollector(Controller[Ref]):
    """Deletes dependents whose owners are gone, and lets foreground and orphan deletions finish."""

    name: ClassVar[str] = "generic-garbage-collector"
    workers: ClassVar[int] = 8

    def __init__(self, api: LocalApi) -> None:
        super().__init__(api)
        self._dependents: dict[str, dict[str, Ref]] = {}
        """Owner uid -> its dependents by uid."""
        self._owners: dict[str, tuple[_Owner, ...]] = {}
        """Dependent uid -> its owners."""
        self._kinds: dict[tuple[str, str], Resource] = {}

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if (resource.group, resource.plural) == _CRDS:
            self._kinds = {}
            if event == "ADDED" or (event == "MODIFIED" and (old or {}).get("status") != obj.get("status")):
                self._recheck()
        if resource.plural in _IGNORED:
            return
        meta = obj["metadata"]
        uid = meta["uid"]
        if event == "DELETED":
            self._gone(uid)
            return
        ref = Ref(resource.group, resource.plural, meta.get("namespace", ""), meta["name"], uid)
        if meta.get("ownerReferences") or uid in self._owners:
            self._track(ref, _owners(obj))
        if meta.get("deletionTimestamp") and meta.get("finalizers"):
            finalizers = meta["finalizers"]
            if FOREGROUND in finalizers or ORPHAN in finalizers:
                self.add(ref)

    def resync(self) -> None:
        for resource in self.api.resources():
            if "delete" not in resource.verbs:
                continue
            for obj in self.api.list(resource.group, resource.plural):
                self.observe("ADDED", resource, obj, None)

    def _recheck(self) -> None:
        """A kind is served that was not: owners of it can be looked up soon, once for a burst of new kinds."""
        for dependents in list(self._dependents.values()):
            for ref in dependents.values():
                self.add_later(ref, _GRACE)

    def _track(self, ref: Ref, owners: tuple[_Owner, ...]) -> None:
        before = self._owners.get(ref.uid, ())
        if owners == before:
            return
        kept = {owner.uid for owner in owners}
        for owner in before:
            if owner.uid not in kept:
                self._untrack(owner.uid, ref.uid)
        if owners:
            self._owners[ref.uid] = owners
        else:
            self._owners.pop(ref.uid, None)
        check = absent = False
        for owner in owners:
            self._dependents.setdefault(owner.uid, {})[ref.uid] = ref
            found, known = self._find(owner, ref.namespace)
            absent = absent or (known and found is None)
            check = check or (found is not None and waits_for_dependents(found))
        if check:
            self.add(ref)
        elif absent:
            self.add_later(ref, _GRACE)
        # Whoever waited for this dependent may wait no longer.
        for owner in {*before, *owners}:
            self._nudge(owner, ref.namespace)

    def _untrack(self, owner_uid: str, uid: str) -> None:
        dependents = self._dependents.get(owner_uid)
        if dependents is not None:
            dependents.pop(uid, None)
            if not dependents:
                del self._dependents[owner_uid]

    def _gone(self, uid: str) -> None:
        for ref in self._dependents.pop(uid, {}).values():
            self.add(ref)
        for owner in self._owners.pop(uid, ()):
            namespace = ""
            dependents = self._dependents.get(owner.uid)
            if dependents is not None and uid in dependents:
                namespace = dependents[uid].namespace
            self._untrack(owner.uid, uid)
            self._nudge(owner, namespace)

    def _nudge(self, owner: _Owner, namespace: str) -> None:
        """Look again at an owner that waits for its dependents."""
        found, _ = self._find(owner, namespace)
        if found is not None and waits_for_dependents(found):
            self.add(self._ref(owner, found))

    def _ref(self, owner: _Owner, found: Obj) -> Ref:
        resource = self._resource(owner)
        assert resource is not None
        meta = found["metadata"]
        return Ref(resource.group, resource.plural, meta.get("namespace", ""), meta["name"], meta["uid"])

    def _resource(self, owner: _Owner) -> Resource | None:
        found = self._kinds.get((owner.group, owner.kind))
        if found is None:
            # Perhaps it is served since a moment ago.
            self._kinds = {(resource.group, resource.kind): resource for resource in self.api.resources()}
            found = self._kinds.get((owner.group, owner.kind))
        return found

    def _find(self, owner: _Owner, namespace: str) -> tuple[Obj | None, bool]:
        """The owner, and whether its absence is certain: an unknown kind may come, a wrong scope never counts."""
        resource = self._resource(owner)
        if resource is None or (resource.namespaced and not namespace):
            return None, False
        found = self.api.get(resource.group, resource.plural, namespace if resource.namespaced else "", owner.name)
        if found is None or found["metadata"]["uid"] != owner.uid:
            return None, True
        return found, True

    async def sync(self, key: Ref) -> None:
        obj = self.api.get(key.group, key.plural, key.namespace, key.name)
        if obj is None or obj["metadata"]["uid"] != key.uid:
            # Gone already, or never stored: its dependents decide for themselves.
            self._gone(key.uid)
            return
        meta = obj["metadata"]
        finalizers = meta.get("finalizers") or ()
        if meta.get("deletionTimestamp"):
            if ORPHAN in finalizers:
                await self._orphan(key, obj)
            elif FOREGROUND in finalizers:
                await self._foreground(key, obj)
            return
        await self._collect(key, obj)

    async def _collect(self, key: Ref, obj: Obj) -> None:
        """Delete an object whose owners are all gone; drop the references to those that are."""
        owners = _owners(obj)
        if not owners:
            return
        solid, gone, waiting = False, set(), set()
        for owner in owners:
            found, known = self._find(owner, key.namespace)
            if not known:
                solid = True
            elif found is None:
                gone.add(owner.uid)
            elif waits_for_dependents(found):
                waiting.add(owner.uid)
            else:
                solid = True
        if solid:
            if gone or waiting:
                await self._drop(key, obj, gone | waiting)
            return
        finalizers = obj["metadata"].get("finalizers") or ()
        if waiting and self._dependents.get(key.uid):
            propagation = "Foreground"
            await self._unblock_circles(key, obj)
        elif ORPHAN in finalizers:
            propagation = "Orphan"
        elif FOREGROUND in finalizers:
            propagation = "Foreground"
        else:
            propagation = "Background"
        await self.api.delete(
            key.group,
            key.plural,
            key.namespace,
            key.name,
            user=self.user,
            uid=key.uid,
            propagation=propagation,
        )

    async def _unblock_circles(self, key: Ref, obj: Obj) -> None:
        """When a dependent waits for its own dependents, this object must not block its owners in turn."""
        for dependent in self._dependents.get(key.uid, {}).values():
            found = self.api.get(dependent.group, dependent.plural, dependent.namespace, dependent.name)
            if found is None or not waits_for_dependents(found):
                continue
            refs = [
                {**ref, "blockOwnerDeletion": False} if ref.get("blockOwnerDeletion") else ref
                for ref in obj["metadata"]["ownerReferences"]
            ]
            await self._update(key, obj, {"ownerReferences": refs})
            return

    async def _drop(self, key: Ref, obj: Obj, uids: set[str]) -> None:
        refs = [ref for ref in obj["metadata"]["ownerReferences"] if ref["uid"] not in uids]
        await self._update(key, obj, {"ownerReferences": refs})

    async def _foreground(self, key: Ref, obj: Obj) -> None:
        """Delete the dependents first; when none blocks any more, let the owner go."""
        blocking = False
        for dependent in list(self._dependents.get(key.uid, {}).values()):
            owners = self._owners.get(dependent.uid, ())
            blocking = blocking or any(owner.uid == key.uid and owner.blocks for owner in owners)
            found = self.api.get(dependent.group, dependent.plural, dependent.namespace, dependent.name)
            if found is not None and not found["metadata"].get("deletionTimestamp"):
                self.add(dependent)
        if not blocking:
            await self._remove_finalizer(key, obj, FOREGROUND)

    async def _orphan(self, key: Ref, obj: Obj) -> None:
        """Take this owner out of its dependents, then let it go."""
        for dependent in list(self._dependents.get(key.uid, {}).values()):
            found = self.api.get(dependent.group, dependent.plural, dependent.namespace, dependent.name)
            if found is None or found["metadata"]["uid"] != dependent.uid:
                continue
            refs = found["metadata"].get("ownerReferences") or ()
            if any(ref["uid"] == key.uid for ref in refs):
                await self._drop(dependent, found, {key.uid})
        await self._remove_finalizer(key, obj, ORPHAN)

    async def _remove_finalizer(self, key: Ref, obj: Obj, finalizer: str) -> None:
        kept = [found for found in obj["metadata"].get("finalizers") or () if found != finalizer]
        await self._update(key, obj, {"finalizers": kept})

    async def _update(self, key: Ref, obj: Obj, changes: Obj) -> None:
        meta = {**obj["metadata"], **changes}
        for field, value in changes.items():
            if not value:
                del meta[field]
        await self.api.update(key.group, key.plural, {**obj, "metadata": meta}, user=self.user, manager=MANAGER)
