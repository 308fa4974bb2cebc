"""Field sets by shape: which fields an object sets is in its keys, hardly in its values, and clients write few shapes.

A shape is a flat tuple, cheap to make and to look up: what an object has where, without its values. Equal shapes of one
type have equal sets, so a set is worked out for the first object of a shape and shared by all that follow. What is
odd (repeated or nameless elements of lists, very large objects) has no shape and takes the long way.
"""

from __future__ import annotations

from typing import Any, Final

from chandlery.controlplane.fields import managed as mf
from chandlery.controlplane.fields.schema import ATOMIC, DEDUCED, Type
from chandlery.controlplane.fields.walk import element_of
from chandlery.controlplane.types import Obj

Shape = tuple[object, ...]

_MOST: Final = 600
"""Longer shapes aren't kept: those of objects that hold data under keys of its own."""
_KEPT: Final = 128
"""Shapes of one type that are kept at once."""
_MAP, _LIST, _NOTHING, _END = 1, 2, 3, 0


class _OddError(Exception):
    """The object has no shape."""


def of_new(t: Type, obj: Obj, skipped: frozenset[str]) -> Shape | None:
    """The shape that decides what the creation of an object makes its creator own; None when it has none.

    `skipped` are the keys at the top that are looked at apart (metadata) or not at all.
    """
    out: list[object] = []
    try:
        _outline(t, {key: value for key, value in obj.items() if key not in skipped}, out)
        meta = obj.get("metadata")
        if type(meta) is dict:
            out.append(_END)
            kept = {key: value for key, value in meta.items() if key not in mf.STRIPPED}
            _outline(t.fields["metadata"], kept, out)
    except (_OddError, ValueError):
        return None
    return tuple(out) if len(out) <= _MOST else None


def _outline(t: Type, value: dict[str, Any], out: list[object]) -> None:
    """Keys, and what is below those that are owned part by part: `walk.whole` asks for nothing else."""
    fields = t.fields
    for key, child in value.items():
        out.append(key)
        if child:
            kind = type(child)
            if kind is dict:
                below = fields.get(key) or t.elem or DEDUCED
                if below.is_map and not below.map_atomic:
                    out.append(_MAP)
                    _outline(below, child, out)
                    out.append(_END)
            elif kind is list:
                below = fields.get(key) or t.elem or DEDUCED
                if below.is_list and below.list_kind != ATOMIC:
                    _elements(below, child, out)
        elif type(child) is dict:
            out.append(_NOTHING)  # not the same as null, where the type has a map of its own there
    if len(out) > _MOST:
        raise _OddError


def _elements(t: Type, items: list[Any], out: list[object]) -> None:
    out.append(_LIST)
    item_type, seen = t.item, set()
    for item in items:
        element = element_of(t, item)
        seen.add(element)
        out.append(element)
        if item and type(item) is dict and item_type.is_map and not item_type.map_atomic:
            out.append(_MAP)
            _outline(item_type, item, out)
            out.append(_END)
    if len(seen) != len(items):
        raise _OddError
    out.append(_END)


def of_configuration(t: Type, patch: Obj, subresource: str) -> Shape | None:
    """The shape that decides whether an apply patch fits its type and which fields it sets; None when it has none."""
    out: list[object] = [subresource]
    try:
        _forms(t, patch, out)
    except (_OddError, ValueError):
        return None
    return tuple(out) if len(out) <= _MOST else None


def _forms(t: Type, value: dict[str, Any], out: list[object]) -> None:
    """Keys and the types of their values, all the way down: that is what fitting depends on."""
    fields = t.fields
    for key, child in value.items():
        kind = type(child)
        out.append(key)
        out.append(kind)
        if kind is dict:
            _forms(fields.get(key) or t.elem or DEDUCED, child, out)
            out.append(_END)
        elif kind is list:
            _item_forms(fields.get(key) or t.elem or DEDUCED, child, out)
    if len(out) > _MOST:
        raise _OddError


def _item_forms(t: Type, items: list[Any], out: list[object]) -> None:
    named = t.is_list and t.list_kind != ATOMIC
    seen = set()
    for item in items:
        if named:
            element = element_of(t, item)
            seen.add(element)
            out.append(element)
        kind = type(item)
        out.append(kind)
        if kind is dict:
            _forms(t.item, item, out)
            out.append(_END)
        elif kind is list:
            _item_forms(t.item, item, out)
    if named and len(seen) != len(items):
        raise _OddError
    out.append(_END)


def keep(known: dict[Shape, Any], shape: Shape, fields: Any) -> None:
    """Remember what belongs to a shape; nobody may change it from now on."""
    if len(known) >= _KEPT:
        known.clear()
    known[shape] = fields


def only_maps(value: Any) -> bool:
    """Whether a value is nothing but maps."""
    return type(value) is dict and all(map(only_maps, value.values()))
