"""What of a child is not as we wrote it. Only fields of ours are compared; what others own is theirs. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from chandlery.foundation.errors import InvalidSpec
from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes.types import Obj

APPLIED = "chandlery.dev/applied"
"""Annotation: digest of what was applied last; tells that a field of ours was taken out."""
_KEYS = ("name", "mountPath", "containerPort", "port", "key", "topologyKey", "ip", "uid")
_QUANTITIES = frozenset({"requests", "limits", "storage", "sizeLimit"})


class Change(NamedTuple):
    """One field."""

    path: str
    desired: str
    actual: str


def digest(value: Any) -> str:
    """A short text that is the same for equal values."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def stamped(body: Obj) -> Obj:
    """The manifest with the digest of itself."""
    meta = body["metadata"]
    return {**body, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), APPLIED: digest(body)}}}


def changes(desired: Obj, live: Obj) -> list[Change]:
    """Fields of the (stamped) manifest that are different in the cluster, and whether something of ours was dropped."""
    found = list(_compare("", desired, live))
    stamp = f".metadata.annotations[{APPLIED}]"
    others = [c for c in found if c.path != stamp]
    return others or found


def _compare(path: str, desired: Any, live: Any) -> Iterator[Change]:
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            if desired:
                yield Change(path, _text(desired), _text(live))
            return
        for key, value in desired.items():
            where = f"{path}.{key}" if key.replace("-", "").isalnum() and "." not in key else f"{path}[{key}]"
            yield from _compare(where, value, live.get(key))
    elif isinstance(desired, list):
        yield from _lists(path, desired, live if isinstance(live, list) else [])
    elif desired != live and not _same(path, desired, live):
        yield Change(path, _text(desired), _text(live))


def _lists(path: str, desired: list[Any], live: list[Any]) -> Iterator[Change]:
    key = _key_of(desired)
    if key is None:
        if len(desired) != len(live):
            yield Change(path, _text(desired), _text(live))
            return
        for index, (one, other) in enumerate(zip(desired, live, strict=True)):
            yield from _compare(f"{path}[{index}]", one, other)
        return
    known = {item.get(key): item for item in live if isinstance(item, dict)}
    for item in desired:  # further items are somebody else's: an injected sidecar, a finalizer
        yield from _compare(f"{path}[{item[key]}]", item, known.get(item[key]))


def _key_of(items: list[Any]) -> str | None:
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    for key in _KEYS:
        values = [item.get(key) for item in items]
        if None not in values and len(set(values)) == len(values):
            return key
    return None


def _same(path: str, desired: Any, live: Any) -> bool:
    """Whether two spellings mean the same: quantities, and what the API leaves out when it is empty."""
    if live is None and desired in ("", 0, False):
        return True
    if isinstance(desired, str) and isinstance(live, str) and _QUANTITIES & set(path.split(".")):
        try:
            return Quantity(desired) == Quantity(live)
        except InvalidSpec:
            return False
    return False


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 200 else text[:199] + "…"
