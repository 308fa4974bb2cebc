"""Laying an apply configuration over an object without asking who owns what.

Source: Kubernetes documentation, "Mutating Admission Policy", ApplyConfiguration: it may not touch what is owned as one
piece, because nobody could tell what of it was meant.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.fields.fit import validate
from chandlery.controlplane.fields.schema import ATOMIC, Type, type_of
from chandlery.controlplane.fields.walk import TypedError, merge
from chandlery.controlplane.types import Obj, Resource


class AtomicError(ValueError):
    """The configuration doesn't fit the schema or has parts that are owned as one piece."""


def merged(resource: Resource, obj: Obj, configuration: Obj) -> Obj:
    """The object with the configuration laid over it. Raises AtomicError."""
    t = type_of(resource)
    try:
        validate(t, configuration)
        pieces = _atomic(t, configuration, "")
        if pieces:
            raise AtomicError(f"may not mutate atomic arrays, maps or structs: {', '.join(pieces)}")
        out: Obj = merge(t, obj, configuration)
    except TypedError as error:
        raise AtomicError(str(error)) from error
    return out


def _atomic(t: Type, value: Any, path: str) -> list[str]:
    """The paths of all maps and lists in a value that are owned as one piece."""
    if isinstance(value, dict) and t.is_map:
        if t.map_atomic:
            return [path or "."]
        out = []
        for key, member in value.items():
            child = t.fields.get(key, t.elem)
            if child is not None:
                out += _atomic(child, member, f"{path}.{key}")
        return out
    if isinstance(value, list) and t.is_list:
        if t.list_kind == ATOMIC:
            return [path]
        return [piece for index, item in enumerate(value) for piece in _atomic(t.item, item, f"{path}[{index}]")]
    return []
