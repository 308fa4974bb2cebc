"""Typed walks over values: which fields there are, what changed, merging, removing.

Values are decoded JSON; types come from `schema`; sets are FieldsV1 dicts (see `sets`). A key that is absent and a key
whose value is null differ, as they do for clients. Source: structured-merge-diff (semantics).
"""

from __future__ import annotations

from json.encoder import encode_basestring
from typing import Any, Final

from chandlery.controlplane.codec.gotext import go_quote
from chandlery.controlplane.fields.schema import ATOMIC, DEDUCED, KEYED, Type
from chandlery.controlplane.fields.sets import Node, element_json, is_member

_MISSING: Final = object()
_NOTHING: Final[Node] = {}
_REMEMBERED: Final = 2000


class TypedError(Exception):
    """A value that its type can't hold; `errors` are sentences that begin with the path."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(errors[0] if len(errors) == 1 else "\n  ".join(["errors:", *errors]))
        self.errors = errors


class _Repeated(list[Any]):
    """The elements of a list that share one path element, when there are several."""


# --- path elements ------------------------------------------------------------------------------


def _json(value: Any) -> str:
    if type(value) is str:
        if value.isascii() and value.isprintable() and not ("<" in value or ">" in value or "&" in value):
            return str(encode_basestring(value))
    elif type(value) is int:
        return str(value)
    return element_json(value)


def element_of(t: Type, item: Any) -> str:
    """The path element of one element of a set or keyed list; ValueError with the reason when it has none."""
    if t.list_kind == KEYED:
        if len(t.keys) == 1 and type(item) is dict and type(name := item.get(t.keys[0])) is str:
            known = t.elements.get(name)
            if known is None:
                if len(t.elements) > _REMEMBERED:
                    t.elements.clear()
                known = t.elements[name] = f'k:{{"{t.keys[0]}":{_json(name)}}}'
            return known
        if item is None:
            raise ValueError("associative list with keys may not have a null element")
        if type(item) is not dict:
            raise ValueError("associative list with keys may not have non-map elements")
        found = []
        for key in t.keys:
            value = item.get(key, _MISSING)
            if value is _MISSING:
                value = t.defaults.get(key, _MISSING)
                if value is _MISSING:
                    continue
            found.append(f'"{key}":{_json(value)}')
        if not found:
            names = " ".join(go_quote(key) for key in t.keys)
            raise ValueError(
                f"associative list with keys has an element that omits all key fields [{names}]"
                " (and doesn't have default values for any key fields)"
            )
        return "k:{" + ",".join(found) + "}"
    if type(item) is dict:
        raise ValueError("associative list without keys has an element that's a map type")
    if type(item) is list:
        raise ValueError("not supported: associative list with lists as elements")
    if item is None:
        raise ValueError("associative list without keys has an element that's an explicit null")
    return "v:" + _json(item)


def _index(t: Type, items: list[Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for position, item in enumerate(items):
        try:
            element = element_of(t, item)
        except ValueError as error:
            raise TypedError([f"element {position}: {error}"]) from None
        if element in out:
            before = out[element]
            if type(before) is _Repeated:
                before.append(item)
            else:
                out[element] = _Repeated((before, item))
        else:
            out[element] = item
    return out


def _child(t: Type, key: str) -> Type:
    return t.fields.get(key) or t.elem or DEDUCED


# --- sets from values -----------------------------------------------------------------------------


def field_set(t: Type, value: Any) -> Node:
    """The fields that a configuration sets: its leaves, list elements and keys of maps (not the maps themselves)."""
    node, _ = _field_set(t, value)
    return node


def _field_set(t: Type, value: Any) -> tuple[Node, bool]:
    """(what is below, whether the path itself is set)."""
    kind = type(value)
    if kind is dict and t.is_map:
        if t.map_atomic:
            return {}, True
        out: Node = {}
        fields = t.fields
        for key, child in value.items():
            kind = type(child)
            if kind is not dict and kind is not list:
                out["f:" + key] = {}  # a scalar, or null
                continue
            known = fields.get(key)
            below, member = _field_set(known or t.elem or DEDUCED, child)
            if known is None or (not child and kind is dict):
                member = True
            if member:
                out["f:" + key] = {".": {}, **below} if below else {}
            elif below:
                out["f:" + key] = below
        return out, False
    if kind is list and t.is_list:
        if t.list_kind == ATOMIC:
            return {}, True
        out = {}
        for element, item in _index(t, value).items():
            if type(item) is _Repeated:
                out[element] = {}
            else:
                below, _ = _field_set(t.item, item)
                out[element] = {".": {}, **below} if below else {}
        return out, False
    if value is None:  # takes the first form that the type has: map, scalar, list
        if t.is_map:
            return {}, t.map_atomic
        return {}, bool(t.scalar) or t.list_kind == ATOMIC
    return {}, True


def whole(t: Type, value: Any) -> Node:
    """The set of everything in a value that appears or disappears at once: every level is a member."""
    kind = type(value)
    if kind is dict:
        if value and t.is_map and not t.map_atomic:
            out: Node = {".": {}}
            fields = t.fields
            for key, child in value.items():
                if child and ((kind := type(child)) is dict or kind is list):
                    out["f:" + key] = whole(fields.get(key) or t.elem or DEDUCED, child)
                else:
                    out["f:" + key] = {}
            return out
    elif kind is list and value and t.is_list and t.list_kind != ATOMIC:
        out = {".": {}}
        for element, item in _index(t, value).items():
            out[element] = {} if type(item) is _Repeated else whole(t.item, item)
        return out
    return {}


# --- comparison -------------------------------------------------------------------------------------


class Changes:
    """What differs between two values: three sets."""

    __slots__ = ("added", "modified", "removed")

    def __init__(self) -> None:
        self.added: Node = {}
        self.modified: Node = {}
        self.removed: Node = {}

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed)

    def take(self, element: str, below: Changes) -> None:
        if below.added:
            self.added[element] = below.added
        if below.modified:
            self.modified[element] = below.modified
        if below.removed:
            self.removed[element] = below.removed


def compare(t: Type, old: Any, new: Any) -> Changes:
    """What changed from `old` to `new`."""
    changes = Changes()
    compare_keys(t, old, new, changes)
    return changes


def compare_keys(
    t: Type, old: dict[str, Any], new: dict[str, Any], out: Changes, skipped: frozenset[str] = frozenset()
) -> None:
    """Add what changed from `old` to `new` to `out`; equal parts are skipped without looking at their types."""
    for key, value in new.items():
        before = old.get(key, _MISSING)
        if before is value or key in skipped:
            continue
        if before is _MISSING:
            out.added["f:" + key] = whole(_child(t, key), value)
        elif before != value:
            _compare_at(_child(t, key), before, value, "f:" + key, out)
    if old.keys() <= new.keys():
        return
    for key, value in old.items():
        if key not in new and key not in skipped:
            out.removed["f:" + key] = whole(_child(t, key), value)


def _compare_at(t: Type, old: Any, new: Any, element: str, out: Changes) -> None:
    """Compare two different values that are both present."""
    old_kind, new_kind = form_of(t, old), form_of(t, new)
    if old is None:
        old_kind = new_kind
    elif new is None:
        new_kind = old_kind
    if old_kind == new_kind:
        if old_kind == "scalar":
            out.modified[element] = {}
            return
        below = Changes()
        if _compare_form(t, old_kind, old, new, below):
            out.modified[element] = {}
        else:
            out.take(element, below)
        return
    # A value that changed its form: the old form loses its parts, the new one gains its own.
    below = Changes()
    leaf = False
    for form in (old_kind, new_kind):
        leaf = _compare_form(t, form, old, new, below) or leaf
    out.take(element, below)
    if leaf:
        out.modified[element] = {".": {}, **below.modified} if below.modified else {}


def form_of(t: Type, value: Any) -> str:
    """The form that a type has for this value: map, list or scalar; its first one when none fits."""
    kind = type(value)
    if kind is dict and t.is_map:
        return "map"
    if kind is list and t.is_list:
        return "list"
    if kind is not dict and kind is not list and value is not None and t.scalar:
        return "scalar"
    return "map" if t.is_map else "scalar" if t.scalar else "list"


def _compare_form(t: Type, form: str, old: Any, new: Any, out: Changes) -> bool:
    """Compare as one form; True when the value is owned as one piece there."""
    if form == "map":
        if t.map_atomic:
            return True
        left = old if type(old) is dict else _NOTHING
        right = new if type(new) is dict else _NOTHING
        if not left and not right:
            return True
        compare_keys(t, left, right, out)
        return False
    if form == "list":
        if t.list_kind == ATOMIC:
            return True
        before = old if type(old) is list else []
        after = new if type(new) is list else []
        if not before and not after:
            return True
        _compare_items(t, before, after, out)
        return False
    return True


def _compare_items(t: Type, old: list[Any], new: list[Any], out: Changes) -> None:
    before, after = _index(t, old), _index(t, new)
    for element, item in after.items():
        was = before.get(element, _MISSING)
        if type(item) is _Repeated:
            if type(was) is _Repeated:
                if was != item:
                    out.modified[element] = {}
            else:
                if was is not _MISSING:
                    out.removed[element] = whole(t.item, was)
                out.added[element] = {}
        elif type(was) is _Repeated:
            out.added[element] = whole(t.item, item)
            out.removed[element] = {}
        elif was is _MISSING:
            out.added[element] = whole(t.item, item)
        elif was is not item and was != item:
            _compare_at(t.item, was, item, element, out)
    for element, was in before.items():
        if element not in after:
            out.removed[element] = {} if type(was) is _Repeated else whole(t.item, was)


# --- merging ------------------------------------------------------------------------------------------


def merge(t: Type, old: Any, new: Any) -> Any:
    """`new` laid over `old`: granular parts are merged, atomic ones replaced."""
    if type(old) is dict and type(new) is dict and t.is_map and not t.map_atomic and (old or new):
        out = dict(old)
        for key, value in new.items():
            before = old.get(key, _MISSING)
            out[key] = value if before is _MISSING or before == value else merge(_child(t, key), before, value)
        return out
    if type(old) is list and type(new) is list and t.is_list and t.list_kind != ATOMIC and (old or new):
        return _merge_items(t, old, new)
    if new is None and old is not None:
        # Null is an empty map or list: what is there stays, unless the value is owned as one piece.
        if type(old) is dict and old and t.is_map and not t.map_atomic:
            return old
        if type(old) is list and old and not t.is_map and not t.scalar and t.list_kind != ATOMIC:
            return old
    return new


def _merge_items(t: Type, old: list[Any], new: list[Any]) -> list[Any]:
    """Elements of both: the order of `new` rules among its own, elements of `old` alone keep their places."""
    old_items, new_items = _index(t, old), _index(t, new)
    old_order = list(old_items)
    if len(old_order) != len(old):  # some are there twice
        old_order = [element_of(t, item) for item in old]
    new_order = list(new_items)
    shared = iter([element for element in new_order if element in old_items])
    next_shared = next(shared, None)
    out: list[Any] = []
    done: set[str] = set()

    def both(element: str) -> Any:
        was, item = old_items.get(element, _MISSING), new_items[element]
        if was is _MISSING or was == item:
            return item
        return merge(t.item, None if type(was) is _Repeated else was, item)

    i = j = 0
    while i < len(old_order) or j < len(new_order):
        if i < len(old_order) and j < len(new_order):
            element = old_order[i]
            if element == new_order[j]:
                done.add(element)
                out.append(both(element))
                i, j = i + 1, j + 1
                next_shared = next(shared, None)
                continue
            if element in new_items and next_shared is not None and next_shared != element:
                i += 1
                continue
        if i < len(old_order):
            element = old_order[i]
            if element not in new_items:
                out.append(old[i])
                i += 1
                continue
            if element in done:
                i += 1
        if j < len(new_order):
            element = new_order[j]
            done.add(element)
            out.append(both(element))
            j += 1
            if next_shared == element:
                next_shared = next(shared, None)
    return out


# --- removing -----------------------------------------------------------------------------------------


def remove(t: Type, value: Any, fields: Node) -> Any:
    """`value` without the paths of `fields`. A map or list that loses all it has becomes null."""
    kind = type(value)
    if kind is dict and t.is_map:
        if not value or t.map_atomic:
            return None
        out: dict[str, Any] = {}
        for key, child in value.items():
            below = fields.get("f:" + key)
            if below is None:
                out[key] = child
            elif not is_member(below):
                out[key] = remove(_child(t, key), child, below)
        return out or None
    if kind is list and t.is_list:
        if not value or t.list_kind == ATOMIC:
            return None
        items = []
        for item in value:
            below = fields.get(element_of(t, item))
            if below is None:
                items.append(item)
            elif not is_member(below):
                items.append(remove(t.item, item, below))
        return items or None
    return value


def with_named_fields(t: Type | None, fields: Node) -> Node:
    """The set with every declared field on the way to a member made a member too."""
    out: Node = {}
    for key, below in fields.items():
        if key == ".":
            out["."] = {}
            continue
        child: Type | None = None
        named = False
        if t is not None:
            if key[0] == "f":
                name = key[2:]
                child = t.fields.get(name)
                named = child is not None
                child = child or t.elem
            elif key[0] == "k" and t.is_list:
                child = t.item
        if not below:
            out[key] = below
            continue
        node = with_named_fields(child, below)
        if named:
            node["."] = {}
        out[key] = node
    return out
