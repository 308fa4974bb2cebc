"""Writes to our own objects: status, and the claim (finalizer and the note of where it is made).

At most one status write a pass, none when nothing changed. What the server made of the last write is remembered, so
that a field it prunes or a condition of somebody else's is not fought over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from chandlery.foundation.errors import Conflict, NotFound
from chandlery.reconcile.answers import Answers
from chandlery.reconcile.api import FINALIZER, STATUS_MANAGER, Api, Key, Obj, ResourceType
from chandlery.reconcile.classes import MADE_BY, Place


class _Last(NamedTuple):
    sent: int
    returned: int


def _digest(value: Any) -> int:
    return hash(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


class Writer:
    """One for all objects.

    Args:
        api: the API server.
        stored: gets each answer.
        check: raises Fenced when we may not write any more.
        gone: told (key, uid) when a write of ours was the object's end.
        answers: where requests and their answers are noted.
    """

    def __init__(
        self,
        api: Api,
        stored: Callable[[Key, Obj], object],
        check: Callable[[], object],
        gone: Callable[[Key, str], object] = lambda _key, _uid: None,
        answers: Answers | None = None,
    ) -> None:
        self._api = api
        self._take_in = stored
        self._answers = answers or Answers()
        self._gone = gone
        self._check = check
        self._last: dict[str, _Last] = {}

    def is_echo(self, obj: Mapping[str, Any]) -> bool:
        """Whether the object's status is what we wrote last."""
        last = self._last.get(obj["metadata"].get("uid", ""))
        return last is not None and _digest(obj.get("status") or {}) in last

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._last.pop(uid, None)

    async def status(self, kind: ResourceType, key: Key, obj: Obj, status: Mapping[str, Any]) -> bool:
        """Write the status unless it is there already. False when nothing had to be written, or the object is gone."""
        uid = obj["metadata"]["uid"]
        now = obj.get("status") or {}
        sent, present = _digest(status), _digest(now)
        last = self._last.get(uid)
        if sent == present or (last is not None and last == (sent, present)):
            return False
        self._check()
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": _identity(key, uid),
            "status": dict(status),
        }
        self._last[uid] = _Last(sent, sent)
        try:
            with self._answers.writing():
                answer = await self._api.apply(kind, body, manager=STATUS_MANAGER, subresource="status")
                self._last[uid] = _Last(sent, _digest(answer.get("status") or {}))
                self._stored(key, answer)
        except NotFound:
            self.forget(uid)
            return False
        except BaseException:
            self.forget(uid)
            raise
        return True

    async def claim(self, kind: ResourceType, key: Key, obj: Obj, place: Place) -> Obj:
        """Finalizer and note on the object, in one write; the object as it is then.

        Raises:
            Conflict: the object changed meanwhile, or is gone.
        """
        meta = obj["metadata"]
        finalizers, annotations = meta.get("finalizers"), meta.get("annotations")
        operations: list[dict[str, Any]] = []
        if not finalizers:
            operations.append({"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]})
        elif FINALIZER not in finalizers:
            operations.append({"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER})
        note = place.note(meta.get("uid", ""))
        if not annotations:
            operations.append({"op": "add", "path": "/metadata/annotations", "value": {MADE_BY: note}})
        elif annotations.get(MADE_BY) != note:
            operations.append({"op": "add", "path": _MADE_BY_PATH, "value": note})
        return await self._patch(kind, key, obj, operations)

    async def unclaim(self, kind: ResourceType, key: Key, obj: Obj) -> Obj:
        """Take the note off: nothing is made for this object any more."""
        if MADE_BY not in (obj["metadata"].get("annotations") or {}):
            return obj
        return await self._patch(kind, key, obj, [{"op": "remove", "path": _MADE_BY_PATH}])

    async def release(self, kind: ResourceType, key: Key, obj: Obj) -> None:
        """Take our finalizer off, so that the object can go."""
        finalizers = obj["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        path = f"/metadata/finalizers/{finalizers.index(FINALIZER)}"
        self._check()
        operations = [{"op": "test", "path": path, "value": FINALIZER}, {"op": "remove", "path": path}]
        with self._answers.writing():
            answer = await self._api.json_patch(kind, key.namespace, key.name, operations)
            if answer is not None:
                self._answers.add(answer)
        if answer is not None and answer["metadata"].get("finalizers"):
            self._stored(key, answer)
        else:
            self._gone(key, obj["metadata"].get("uid", ""))  # what else is heard meanwhile needs no pass any more

    async def _patch(self, kind: ResourceType, key: Key, obj: Obj, operations: list[dict[str, Any]]) -> Obj:
        if not operations:
            return obj
        self._check()
        version = obj["metadata"]["resourceVersion"]
        guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
        with self._answers.writing():
            answer = await self._api.json_patch(kind, key.namespace, key.name, [guard, *operations])
            if answer is None:
                raise Conflict(f"{key} is gone")
            self._stored(key, answer)
        return answer

    def _stored(self, key: Key, answer: Obj) -> None:
        self._answers.add(answer)
        self._take_in(key, answer)


_MADE_BY_PATH = "/metadata/annotations/" + MADE_BY.replace("~", "~0").replace("/", "~1")


def _identity(key: Key, uid: str) -> dict[str, Any]:
    # with the uid, an object deleted and made anew under the same name never gets the old one's status
    meta = {"name": key.name, "uid": uid}
    return {**meta, "namespace": key.namespace} if key.namespace else meta
