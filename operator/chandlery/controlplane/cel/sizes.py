"""How large the values of an expression can be: what its cost is made of.

Source: the cost model of CEL in Kubernetes ("Resource use by CEL functions").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from chandlery.controlplane.cel.ast import Const, Expr, Ident, ListExpr, MapExpr
from chandlery.controlplane.cel.declared import Declared
from chandlery.controlplane.cel.types import Type, unwrap_optional

MOST = (1 << 64) - 1
_SCALARS = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))


class Range(NamedTuple):
    """From the least to the most; sums and products stop at 2**64-1."""

    low: int
    high: int

    def plus(self, other: Range) -> Range:
        return Range(min(self.low + other.low, MOST), min(self.high + other.high, MOST))

    def times(self, other: Range) -> Range:
        return Range(min(self.low * other.low, MOST), min(self.high * other.high, MOST))

    def scaled(self, factor: float) -> Range:
        return Range(_scale(self.low, factor), _scale(self.high, factor))

    def union(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


def _scale(value: int, factor: float) -> int:
    scaled = math.ceil(float(value) * factor)
    return MOST if scaled >= 1 << 64 else scaled


def exactly(value: int) -> Range:
    return Range(value, value)


ZERO, ONE, UNKNOWN = exactly(0), exactly(1), Range(0, MOST)


@dataclass(frozen=True, slots=True)
class Entries:
    """Sizes of a container's keys (or indexes) and values."""

    kind: str
    key: Range
    value: Range

    def union(self, other: Entries | None) -> Entries | None:
        if other is None:
            return None
        return Entries(self.kind, self.key.union(other.key), self.value.union(other.value))


@dataclass(slots=True)
class Local:
    path: tuple[str, ...]
    size: Range | None
    entries: Entries | None


class Sizes:
    """What is known of the sizes of an expression's values; `root` declares `self` and `oldSelf`."""

    def __init__(self, root: Declared) -> None:
        self.root = root
        self.paths: dict[int, tuple[str, ...]] = {}
        self.sizes: dict[int, Range] = {}
        self.entries: dict[int, Entries] = {}
        self.locals: dict[str, list[Local]] = {}

    def local(self, name: str) -> Local | None:
        stack = self.locals.get(name)
        return stack[-1] if stack else None

    def path(self, expr: Expr) -> tuple[str, ...]:
        if isinstance(expr, Ident) and (local := self.local(expr.name)) is not None:
            return local.path
        return self.paths.get(id(expr), ())

    def declared_size(self, path: tuple[str, ...]) -> Range | None:
        """What the schema says of the value at a path of names, `@items`, `@keys` and `@values`."""
        if not path:
            return None
        at: Declared | None = self.root
        for step in path[1:]:
            assert at is not None
            if step in ("@items", "@values"):
                at = at.item
            elif step == "@keys":
                at = at.key
            else:
                at = at.fields.get(step)
            if at is None:
                return None
        assert at is not None
        return Range(0, at.most)

    def size(self, expr: Expr) -> Range | None:
        known = self.sizes.get(id(expr))
        if known is not None:
            return known
        if isinstance(expr, Const):
            return exactly(len(expr.value) if isinstance(expr.value, str | bytes) else 1)
        if isinstance(expr, ListExpr):
            return exactly(len(expr.elements))
        if isinstance(expr, MapExpr):
            return exactly(len(expr.entries))
        declared = self.declared_size(self.path(expr))
        if declared is not None:
            self.sizes[id(expr)] = declared
            return declared
        if is_scalar(expr.type):
            return ONE
        if isinstance(expr, Ident) and (local := self.local(expr.name)) is not None:
            return local.size
        return None

    def known_size(self, expr: Expr) -> Range:
        return self.size(expr) or UNKNOWN

    def library_size(self, expr: Expr) -> Range:
        """As the Kubernetes functions see it."""
        return self.size(expr) or UNKNOWN

    def entry_sizes(self, expr: Expr) -> Entries | None:
        known = self.entries.get(id(expr))
        if known is not None:
            return known
        if isinstance(expr, Ident) and (local := self.local(expr.name)) is not None:
            return local.entries
        return None

    def copy_sizes(self, to: Expr, source: Expr) -> None:
        if (size := self.size(source)) is not None:
            self.sizes[id(to)] = size
        if (entries := self.entry_sizes(source)) is not None:
            self.entries[id(to)] = entries

    def item_size_of(self, items: Expr) -> Range | None:
        """The size of a list's items; None when it isn't known to be a list."""
        if not items.type.params:
            return None
        path = self.path(items)
        if path and path[0] == "@result":
            path = ()
        return (self.declared_size((*path, "@items")) if path else None) or UNKNOWN

    def push(self, name: str, path: tuple[str, ...], size: Range | None, entries: Entries | None) -> None:
        self.locals.setdefault(name, []).append(Local(path, size, entries))

    def pop(self, name: str) -> None:
        self.locals[name].pop()


def is_scalar(kind: Type) -> bool:
    inner, optional = unwrap_optional(kind)
    return is_scalar(inner) if optional else kind.kind in _SCALARS
