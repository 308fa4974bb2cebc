"""Ownership after the schema changed: a map or list that became atomic is owned as one piece from then on.

Source: structured-merge-diff (semantics); Kubernetes documentation, Server-Side Apply, "Merge strategy".
"""

from __future__ import annotations

from chandlery.controlplane.fields.managed import Managed
from chandlery.controlplane.fields.schema import ATOMIC, DEDUCED, Type
from chandlery.controlplane.fields.sets import Node
from chandlery.controlplane.types import Obj


def reconcile_with_schema(t: Type, managed: Managed) -> bool:
    """Replace sets that reach below what is atomic now, in place; whether any was replaced."""
    if not _can_fold(t):
        return False
    changed = False
    for identity, entry in list(managed.items()):
        fields = _fold(t, entry.fields)
        if fields is not entry.fields:
            managed[identity] = entry.with_fields(fields)
            changed = True
    return changed


def folds(t: Type, entries: list[Obj]) -> bool:
    """Whether `reconcile_with_schema` would replace a set of these managedFields."""
    return _can_fold(t) and any(_fold(t, entry["fieldsV1"]) is not entry["fieldsV1"] for entry in entries)


def _can_fold(t: Type) -> bool:
    if t.folds is None:
        # Metadata has the same schema in every version, so nothing there became atomic.
        t.folds = any(_may_fold(child, set()) for name, child in t.fields.items() if name != "metadata")
        t.folds |= t.elem is not None and _may_fold(t.elem, set())
    return t.folds


def _may_fold(t: Type, seen: set[int]) -> bool:
    """Whether anything here or below is atomic though it has parts."""
    if t is DEDUCED or id(t) in seen:
        return False
    seen.add(id(t))
    if _is_atomic(t):
        return True
    below = [*t.fields.values(), *([t.elem] if t.elem is not None else []), *([t.item] if t.is_list else [])]
    return any(_may_fold(child, seen) for child in below)


def _fold(t: Type, fields: Node) -> Node:
    out = fields
    for key, below in fields.items():
        if not below or key == ".":
            continue
        kind = key[0]
        child: Type | None
        if kind == "f":
            child = t.fields.get(key[2:]) or t.elem if t.is_map else None
        elif kind == "k":
            child = t.item if t.is_list else None
        else:
            child = None
        if child is None or child is DEDUCED:
            continue
        if _is_atomic(child):
            folded: Node = {}
        else:
            folded = _fold(child, below)
        if folded is not below:
            if out is fields:
                out = dict(fields)
            out[key] = folded
    return out


def _is_atomic(t: Type) -> bool:
    """Atomic in the form that the type has first: map, scalar, list."""
    if t.is_map:
        return t.map_atomic
    return not t.scalar and t.is_list and t.list_kind == ATOMIC
