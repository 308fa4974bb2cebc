"""An API server in memory behind the client's protocol: enough of Kubernetes' semantics to test the loop by itself.

Knows resourceVersions, uids, generations, the status subresource, finalizers, owner references, watches from a
version, and apply as the loop uses it (one manager for the object, one for its status). No schemas, no admission: the
embedded control plane has those. `before` and `after` are called around each request, so that a test can fail, delay or
crash there.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from chandlery.foundation.clock import SYSTEM, Clock, rfc3339
from chandlery.foundation.errors import AlreadyExists, Conflict, NotFound
from chandlery.reconcile.api import MANAGER, NAMESPACES, Expired, Obj, Page, ResourceType, WatchEvent

Hook = Callable[[str, ResourceType, str], Awaitable[None]]
_HISTORY: Final = 10_000


async def _nothing(_verb: str, _kind: ResourceType, _name: str) -> None:
    return


class MemoryApi:
    """All objects in one dictionary; every answer is a copy."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.clock = clock
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        self.requests: list[tuple[str, str, str]] = []
        """(verb, kind, name) of each request, for tests that count."""
        self._objects: dict[tuple[str, str, str], Obj] = {}
        self._version = 100
        self._history: list[tuple[int, str, WatchEvent]] = []
        self._oldest = 100
        self._changed = asyncio.Event()

    # Reading

    async def get(self, kind: ResourceType, namespace: str, name: str) -> Obj | None:
        await self._enter("get", kind, name)
        found = self._objects.get((kind.kind, namespace, name))
        await self.after("get", kind, name)
        return copy.deepcopy(found)

    async def list(self, kind: ResourceType, namespace: str = "", *, labels: str = "") -> Page:
        await self._enter("list", kind, "")
        items = [
            copy.deepcopy(obj)
            for (of_kind, ns, _), obj in self._objects.items()
            if of_kind == kind.kind and (not namespace or ns == namespace) and _selected(obj, labels)
        ]
        return Page(items, str(self._version))

    async def watch(
        self, kind: ResourceType, namespace: str = "", *, version: str, labels: str = "", seconds: float = 290.0
    ) -> AsyncIterator[WatchEvent]:
        await self._enter("watch", kind, "")
        position = int(version)
        ends = self.clock.monotonic() + seconds
        while True:
            if position < self._oldest:
                raise Expired(f"the resourceVersion {position} is too old")
            changed = self._changed
            for number, of_kind, event in list(self._history):
                if number > position:
                    position = number
                    meta = event.object["metadata"]
                    inside = not namespace or meta.get("namespace", "") == namespace
                    if of_kind == kind.kind and inside and _selected(event.object, labels):
                        yield WatchEvent(event.type, copy.deepcopy(event.object))
            left = ends - self.clock.monotonic()
            if left <= 0:
                return
            if not changed.is_set():
                try:
                    async with self.clock.timeout(left):
                        await changed.wait()
                except TimeoutError:
                    return

    # Writing

    async def create(self, kind: ResourceType, body: Obj) -> Obj:
        meta = body["metadata"]
        await self._enter("create", kind, meta["name"])
        if (kind.kind, meta.get("namespace", ""), meta["name"]) in self._objects:
            raise AlreadyExists(f"{kind.plural} {meta['name']} already exists")
        made = self._make(kind, body)
        await self.after("create", kind, meta["name"])
        return made

    async def apply(
        self, kind: ResourceType, body: Obj, *, manager: str = MANAGER, subresource: str = "", force: bool = True
    ) -> Obj:
        del manager  # one manager for the object, one for its status
        meta = body["metadata"]
        await self._enter("apply", kind, meta["name"])
        live = self._objects.get((kind.kind, meta.get("namespace", ""), meta["name"]))
        wanted_uid = meta.get("uid")
        if wanted_uid and (live is None or live["metadata"]["uid"] != wanted_uid):
            raise Conflict(f"{kind.plural} {meta['name']} is not the object with the uid {wanted_uid}")
        if live is not None and not force and _overlap(live, body):
            raise Conflict(f"{kind.plural} {meta['name']}: fields are managed by somebody else")
        if live is None:
            if subresource:
                raise NotFound(f"{kind.plural} {meta['name']} not found")
            answer = self._make(kind, body)
        else:
            merged = copy.deepcopy(live)
            if subresource == "status":
                merged["status"] = copy.deepcopy(body.get("status", {}))
            else:
                _merge(merged, {k: v for k, v in body.items() if k != "status"})
            answer = self._store(kind, merged, live)
        await self.after("apply", kind, meta["name"])
        return answer

    async def replace(self, kind: ResourceType, body: Obj) -> Obj:
        meta = body["metadata"]
        await self._enter("replace", kind, meta["name"])
        live = self._live(kind, meta.get("namespace", ""), meta["name"])
        version = meta.get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            raise Conflict(f"{kind.plural} {meta['name']} has been modified")
        new = copy.deepcopy(body)
        kept = ("uid", "creationTimestamp", "deletionTimestamp", "generation")
        new["metadata"].update({k: live["metadata"][k] for k in kept if k in live["metadata"]})
        if "status" in live:
            new["status"] = live["status"]
        answer = self._store(kind, new, live)
        await self.after("replace", kind, meta["name"])
        return answer

    async def json_patch(
        self, kind: ResourceType, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Obj | None:
        await self._enter("json_patch", kind, name)
        live = self._objects.get((kind.kind, namespace, name))
        if live is None:
            return None
        new = copy.deepcopy(live)
        for operation in operations:
            _operate(new, operation)
        answer = self._store(kind, new, live)
        await self.after("json_patch", kind, name)
        return answer

    async def merge_patch(self, kind: ResourceType, namespace: str, name: str, patch: Mapping[str, Any]) -> Obj | None:
        await self._enter("merge_patch", kind, name)
        live = self._objects.get((kind.kind, namespace, name))
        if live is None:
            return None
        new = copy.deepcopy(live)
        _merge(new, patch, nulls=True)
        answer = self._store(kind, new, live)
        await self.after("merge_patch", kind, name)
        return answer

    async def delete(self, kind: ResourceType, namespace: str, name: str, *, uid: str = "") -> bool:
        await self._enter("delete", kind, name)
        live = self._objects.get((kind.kind, namespace, name))
        if live is None:
            return False
        if uid and live["metadata"]["uid"] != uid:
            raise Conflict(f"{kind.plural} {name} is not the object with the uid {uid}")
        new = copy.deepcopy(live)
        if "deletionTimestamp" not in new["metadata"]:
            new["metadata"]["deletionTimestamp"] = rfc3339(self.clock.now())
            new["metadata"]["generation"] = new["metadata"].get("generation", 1) + 1
        self._store(kind, new, live)
        await self.after("delete", kind, name)
        return True

    # For tests

    def compact(self) -> None:
        """Forget the history, as etcd does: watchers must list again."""
        self._history.clear()
        self._oldest = self._version = self._version + 1
        self._announce()

    def drop_event(self) -> None:
        """Lose the newest event, as a broken connection would."""
        self._history.pop()

    def objects(self, kind: str) -> Sequence[Obj]:
        return [copy.deepcopy(obj) for (of_kind, _, _), obj in self._objects.items() if of_kind == kind]

    # Inside

    async def _enter(self, verb: str, kind: ResourceType, name: str) -> None:
        self.requests.append((verb, kind.kind, name))
        await self.before(verb, kind, name)

    def _live(self, kind: ResourceType, namespace: str, name: str) -> Obj:
        live = self._objects.get((kind.kind, namespace, name))
        if live is None:
            raise NotFound(f"{kind.plural} {name} not found")
        return live

    def _make(self, kind: ResourceType, body: Obj) -> Obj:
        new = copy.deepcopy(body)
        new.setdefault("apiVersion", kind.api_version)
        new.setdefault("kind", kind.kind)
        meta = new["metadata"]
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = rfc3339(self.clock.now())
        meta["generation"] = 1
        return self._commit(kind, new, "ADDED")

    def _store(self, kind: ResourceType, new: Obj, live: Obj) -> Obj:
        meta = new["metadata"]
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            return self._remove(kind, new)
        if new == live:
            return copy.deepcopy(live)
        if new.get("spec") != live.get("spec"):
            meta["generation"] = live["metadata"].get("generation", 1) + 1
        return self._commit(kind, new, "MODIFIED")

    def _commit(self, kind: ResourceType, new: Obj, event: Any) -> Obj:
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)
        self._objects[kind.kind, new["metadata"].get("namespace", ""), new["metadata"]["name"]] = new
        self._record(kind, WatchEvent(event, copy.deepcopy(new)))
        return copy.deepcopy(new)

    def _remove(self, kind: ResourceType, new: Obj) -> Obj:
        self._version += 1
        meta = new["metadata"]
        meta["resourceVersion"] = str(self._version)
        self._objects.pop((kind.kind, meta.get("namespace", ""), meta["name"]), None)
        self._record(kind, WatchEvent("DELETED", copy.deepcopy(new)))
        for (of_kind, _, _), obj in list(self._objects.items()):
            owners = obj["metadata"].get("ownerReferences", [])
            if any(owner.get("uid") == meta["uid"] for owner in owners):
                self._remove(_bare(of_kind), copy.deepcopy(obj))
        return copy.deepcopy(new)

    def _record(self, kind: ResourceType, event: WatchEvent) -> None:
        self._history.append((self._version, kind.kind, event))
        if len(self._history) > _HISTORY:
            self._oldest = self._history.pop(0)[0]
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _bare(kind: str) -> ResourceType:
    return ResourceType("", "v1", "", kind, kind != NAMESPACES.kind)


def _selected(obj: Obj, labels: str) -> bool:
    have = obj["metadata"].get("labels", {})
    return all(have.get(part.partition("=")[0]) == part.partition("=")[2] for part in labels.split(",") if part)


def _overlap(live: Obj, body: Obj) -> bool:
    """Whether somebody else set a field otherwise; labelled objects are ours."""
    if live["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == MANAGER:
        return False
    return any(live.get(key) != body[key] for key in ("type", "data") if key in body)


def _merge(target: Any, patch: Mapping[str, Any], *, nulls: bool = False) -> None:
    for key, value in patch.items():
        if value is None and nulls:
            target.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(target.get(key), dict):
            if key in {"data", "stringData"} and not nulls:
                target[key] = dict(value)  # one manager: what it no longer applies goes away
            else:
                _merge(target[key], value, nulls=nulls)
        elif key == "finalizers" and not nulls:
            target[key] = list(dict.fromkeys((*target.get(key, ()), *value)))
        else:
            target[key] = copy.deepcopy(value)


def _operate(target: Any, operation: Mapping[str, Any]) -> None:
    *parents, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
    if operation["op"] == "test":
        index: Any = int(last) if isinstance(target, list) else last
        present = index < len(target) if isinstance(target, list) else index in target
        if not present or target[index] != operation["value"]:
            raise Conflict(f"the test of {operation['path']} failed")
    elif operation["op"] == "remove":
        del target[int(last) if isinstance(target, list) else last]
    elif isinstance(target, list):
        target.insert(len(target) if last == "-" else int(last), operation["value"])
    else:
        target[last] = copy.deepcopy(operation["value"])
