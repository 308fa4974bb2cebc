"""Lists and sets: the Kubernetes list library, the list extension (version 3) and the set extension."""

from __future__ import annotations

import itertools
from functools import cmp_to_key
from typing import Any

from chandlery.controlplane.cel import operators as op
from chandlery.controlplane.cel.decls import Functions
from chandlery.controlplane.cel.errors import CelError
from chandlery.controlplane.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    list_of,
    param,
)  # fmt: skip
from chandlery.controlplane.cel.values import Duration, UInt, equal, is_list

T = param("T")
_COMPARABLE = (
    ("int", INT), ("uint", UINT), ("double", DOUBLE), ("bool", BOOL), ("duration", DURATION), ("timestamp", TIMESTAMP),
    ("string", STRING), ("bytes", BYTES),
)  # fmt: skip
_SUMMABLE = (("int", INT), ("uint", UINT), ("double", DOUBLE), ("duration", DURATION))
_ZEROS: dict[str, Any] = {"int": 0, "uint": UInt(0), "double": 0.0, "duration": Duration(0)}


def add_lists(f: Functions) -> None:
    for name, kind in _COMPARABLE:
        f.member("isSorted", f"list_{name}_is_sorted_bool", (list_of(kind),), BOOL, _is_sorted)
        f.member("max", f"list_{name}_max_{name}", (list_of(kind),), kind, _extreme("max", op.greater))
        f.member("min", f"list_{name}_min_{name}", (list_of(kind),), kind, _extreme("min", op.less))
    for name, kind in _SUMMABLE:
        f.member("sum", f"list_{name}_sum_{name}", (list_of(kind),), kind, _sum(_ZEROS[name]))
    f.member("indexOf", "list_a_index_of_int", (list_of(T), T), INT, _index_of)
    f.member("lastIndexOf", "list_a_last_index_of_int", (list_of(T), T), INT, _last_index_of)
    f.member("slice", "list_slice", (list_of(T), INT, INT), list_of(T), _slice)
    f.member("flatten", "list_flatten", (list_of(list_of(T)),), list_of(T), lambda items: _flatten(items, 1))
    f.member("flatten", "list_flatten_int", (list_of(DYN), INT), list_of(DYN), _flatten)
    for name, kind in _COMPARABLE:
        f.member("sort", f"list_{name}_sort", (list_of(kind),), list_of(kind), sort)
    f.add("lists.range", "lists_range", (INT,), list_of(INT), lambda count: list(range(count)))
    f.member("reverse", "list_reverse", (list_of(T),), list_of(T), lambda items: items[::-1])
    f.member("distinct", "list_distinct", (list_of(T),), list_of(T), _distinct)
    f.add("sets.contains", "list_sets_contains_list", (list_of(T), list_of(T)), BOOL, _contains_all)
    f.add("sets.equivalent", "list_sets_equivalent_list", (list_of(T), list_of(T)), BOOL, _equivalent)
    f.add("sets.intersects", "list_sets_intersects_list", (list_of(T), list_of(T)), BOOL, _intersects)


def _is_sorted(items: list[Any]) -> bool:
    return all(op.less_equal(one, other) for one, other in itertools.pairwise(items))


def _extreme(name: str, better: Any) -> Any:
    def call(items: list[Any]) -> Any:
        if not items:
            raise CelError(f"{name} called on empty list")
        best = items[0]
        for item in items[1:]:
            if better(item, best):
                best = item
        return best

    return call


def _sum(zero: Any) -> Any:
    def call(items: list[Any]) -> Any:
        total = zero
        for item in items:
            total = op.add(total, item)
        return total

    return call


def _index_of(items: list[Any], wanted: Any) -> int:
    return next((position for position, item in enumerate(items) if equal(item, wanted)), -1)


def _last_index_of(items: list[Any], wanted: Any) -> int:
    return next((position for position in range(len(items) - 1, -1, -1) if equal(items[position], wanted)), -1)


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(items):
        raise CelError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return list(items[start:end])


def _flatten(items: list[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    out: list[Any] = []
    for item in items:
        if is_list(item) and depth > 0:
            out.extend(_flatten(item, depth - 1))
        else:
            out.append(item)
    return out


def _order(left: Any, right: Any) -> int:
    if op.less(left, right):
        return -1
    return 1 if op.less(right, left) else 0


def sort(items: list[Any]) -> list[Any]:
    if items and any(type(item) is not type(items[0]) for item in items):
        raise CelError("list elements must have the same type")
    return sorted(items, key=cmp_to_key(_order))


def sort_by(items: list[Any], keys: list[Any]) -> list[Any]:
    """`items` in the order of `keys` (one for each)."""
    if keys and any(type(key) is not type(keys[0]) for key in keys):
        raise CelError("list elements must have the same type")
    pairs = list(zip(keys, items, strict=True))
    pairs.sort(key=cmp_to_key(_order_pairs))
    return [item for _, item in pairs]


def _order_pairs(one: tuple[Any, Any], other: tuple[Any, Any]) -> int:
    return _order(one[0], other[0])


def _distinct(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if not any(equal(item, known) for known in out):
            out.append(item)
    return out


def _contains_all(items: list[Any], wanted: list[Any]) -> bool:
    return all(any(equal(item, one) for item in items) for one in wanted)


def _equivalent(left: list[Any], right: list[Any]) -> bool:
    return _contains_all(left, right) and _contains_all(right, left)


def _intersects(left: list[Any], right: list[Any]) -> bool:
    return any(equal(item, one) for item in left for one in right)
