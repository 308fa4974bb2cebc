"""JSON patch (RFC 6902) on copied paths: only what a patch touches is copied.

Where the real server departs from the RFC it is followed: negative array indices count from the end, `replace` of a
key that is absent adds it, what stands before the first slash of a path is ignored, an absent value is null.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from chandlery.controlplane.schema.defaulting import copy_json
from chandlery.controlplane.types import ApiError, Obj

MAX_OPERATIONS: Final = 10_000
MAX_COPIED: Final = 3 * 1024 * 1024
"""Bytes that the `copy` operations of one patch may multiply in all: the limit for a request body."""


class PatchFailedError(ValueError):
    """An operation that can't be applied, with the reason."""


def json_patch(doc: Obj, ops: Any) -> Obj:
    """The document after all operations; `doc` and `ops` stay as they are.

    Raises ApiError 422 when an operation can't be applied (the real server doesn't say which), 413 when there
    are more than 10,000 operations.
    """
    try:
        return explained_json_patch(doc, ops)
    except PatchFailedError:
        raise refused() from None


def explained_json_patch(doc: Obj, ops: Any) -> Obj:
    """Like json_patch, but raises PatchFailedError, which tells what is wrong, when an operation can't be applied."""
    if len(ops) > MAX_OPERATIONS:
        raise ApiError(
            413,
            "RequestEntityTooLarge",
            "Request entity too large: The allowed maximum operations in a JSON patch is "
            f"{MAX_OPERATIONS}, got {len(ops)}",
        )
    work = _Work(doc)
    for op in ops or ():
        known = op if isinstance(op, dict) else {}
        try:
            work.run(known)
        except (LookupError, ValueError, RecursionError) as error:
            raise PatchFailedError(_reason(known, error)) from None
    if not isinstance(work.root, dict):
        raise PatchFailedError("the result is no object")
    return work.root


def _reason(op: Obj, error: Exception) -> str:
    kind, path = op.get("op"), op.get("from" if op.get("op") in ("move", "copy") else "path", "")
    if kind not in ("add", "remove", "replace", "move", "copy", "test"):
        return f"Unexpected kind: {kind}"
    if kind == "test":
        return f"testing value {path} failed: test failed"
    if isinstance(error, _NoPathError):
        shown = f'"{path}"' if kind in ("add", "remove") else path
        return f"{kind} operation does not apply: doc is missing path: {shown}: missing value"
    if isinstance(error, IndexError):
        reason = f"Unable to access invalid index: {error}: invalid index referenced"
    elif isinstance(error, KeyError):
        reason = f"Unable to remove nonexistent key: {error.args[0]}: missing value"
    else:
        reason = str(error)
    return f"error in {'remove' if kind == 'replace' else kind} for path: '{path}': {reason}"


class _NoPathError(LookupError):
    """The container that an operation's path names isn't there."""


def refused() -> ApiError:
    """The answer to a patch that can't be applied."""
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})


class _Work:
    """A document in work: `own` remembers which of its parts are copies already."""

    def __init__(self, doc: Obj) -> None:
        self.root: Any = doc
        self.own: dict[int, Any] = {}
        self.copied = 0

    def run(self, op: Obj) -> None:
        match op.get("op"):
            case "add":
                self.add(self.path(op, "path"), op.get("value"))
            case "remove":
                parent, key = self.find(self.path(op, "path"))
                self.remove(parent, key)
            case "replace":
                self.replace(self.path(op, "path"), op)
            case "move":
                parent, key = self.find(self.path(op, "from"))
                value = copy_json(_get(parent, key))  # whoever tidies its new place must not reach the old document
                self.remove(parent, key)
                self.add(self.path(op, "path"), value)
            case "copy":
                parent, key = self.find(self.path(op, "from"))
                raw = orjson.dumps(_get(parent, key))
                self.copied += len(raw)
                if self.copied > MAX_COPIED:
                    raise ValueError("copies too much")
                self.add(self.path(op, "path"), orjson.loads(raw))  # a copy to the ground: both places may change
            case "test":
                self.test(self.path(op, "path"), op)
            case _:
                raise ValueError("unknown operation")

    @staticmethod
    def path(op: Obj, name: str) -> str:
        path = op.get(name)
        if not isinstance(path, str):
            raise ValueError(f"no {name}")  # noqa: TRY004 - one kind of refusal
        return path

    def mine(self, value: Any) -> Any:
        """The value itself when it is a copy made here, else a copy of its first level."""
        if id(value) in self.own:
            return value
        copy = value.copy()
        self.own[id(copy)] = copy
        return copy

    def find(self, path: str) -> tuple[Any, str]:
        """The container that the path's last part is a key of, copied on the way, and that part."""
        parts = path.split("/")
        if len(parts) < 2:
            raise _NoPathError("the whole document")
        if not isinstance(self.root, dict | list):
            raise _NoPathError("not a container")
        self.root = at = self.mine(self.root)
        for part in parts[1:-1]:
            key = _decode(part)
            try:
                child = _get(at, key)
            except (LookupError, ValueError):
                child = None
            if not isinstance(child, dict | list):
                raise _NoPathError(key)
            child = self.mine(child)
            if isinstance(at, dict):
                at[key] = child
            else:
                at[_index(key, len(at))] = child
            at = child
        return at, _decode(parts[-1])

    def add(self, path: str, value: Any) -> None:
        parent, key = self.find(path)
        if isinstance(parent, dict):
            parent[key] = value
        elif key == "-":
            parent.append(value)
        else:
            parent.insert(_index(key, len(parent) + 1), value)

    def remove(self, parent: Any, key: str) -> None:
        if isinstance(parent, dict):
            del parent[key]
        else:
            del parent[_index(key, len(parent))]

    def replace(self, path: str, op: Obj) -> None:
        if not path:
            value = op.get("value")
            if not isinstance(value, dict | list):
                raise ValueError("not a document")
            self.root = value
            return
        parent, key = self.find(path)
        if isinstance(parent, dict):
            parent[key] = op.get("value")
        else:
            parent[_index(key, len(parent))] = op.get("value")

    def test(self, path: str, op: Obj) -> None:
        if path:
            parent, key = self.find(path)
            found = _get(parent, key)
        else:
            found = self.root
        if not _same(found, op.get("value")):
            raise ValueError("test failed")


def _decode(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~") if "~" in part else part


def _index(key: str, size: int) -> int:
    if not key.lstrip("+-").isdecimal() or not key.isascii() or len(key) - len(key.lstrip("+-")) > 1:
        raise ValueError("not an index")
    index = int(key)
    if index >= size or index < -size:
        raise IndexError(key)
    return index + size if index < 0 else index


def _get(parent: Any, key: str) -> Any:
    """A child; an absent key of an object is null."""
    if isinstance(parent, dict):
        return parent.get(key)
    return parent[_index(key, len(parent))]


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON: 1, 1.0 and true differ, the order of keys doesn't matter."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
