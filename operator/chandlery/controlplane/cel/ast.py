"""The syntax tree of the Common Expression Language. Every node knows its place in the text, for error messages."""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.cel.types import DYN, Type


class Expr:
    """A node; the checker fills in `type`."""

    __slots__ = ("offset", "type")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.type: Type = DYN


class Const(Expr):
    __slots__ = ("value",)

    def __init__(self, offset: int, value: Any) -> None:
        super().__init__(offset)
        self.value = value


class Ident(Expr):
    __slots__ = ("constant", "name")

    def __init__(self, offset: int, name: str) -> None:
        super().__init__(offset)
        self.name = name
        self.constant: Any = None
        """The value of a name that stands for a type."""


class Select(Expr):
    """`operand.field`; with `test` it is `has(operand.field)`."""

    __slots__ = ("field", "operand", "resolved", "test")

    def __init__(self, offset: int, operand: Expr, field: str, *, test: bool = False) -> None:
        super().__init__(offset)
        self.operand = operand
        self.field = field
        self.test = test
        self.resolved: Ident | None = None
        """Set when the whole chain is a qualified variable name."""


class Call(Expr):
    __slots__ = ("args", "function", "overloads", "target")

    def __init__(self, offset: int, function: str, target: Expr | None, args: list[Expr]) -> None:
        super().__init__(offset)
        self.function = function
        self.target = target
        self.args = args
        self.overloads: list[Any] = []


class ListExpr(Expr):
    __slots__ = ("elements", "optional")

    def __init__(self, offset: int, elements: list[Expr], optional: frozenset[int]) -> None:
        super().__init__(offset)
        self.elements = elements
        self.optional = optional


class MapExpr(Expr):
    __slots__ = ("entries",)

    def __init__(self, offset: int, entries: list[tuple[Expr, Expr, bool]]) -> None:
        super().__init__(offset)
        self.entries = entries


class StructExpr(Expr):
    """`Name{field: value}`; a field is (name, value, whether the value is optional)."""

    __slots__ = ("fields", "name")

    def __init__(self, offset: int, name: str, fields: list[tuple[str, Expr, bool]]) -> None:
        super().__init__(offset)
        self.name = name
        self.fields = fields


class Comprehension(Expr):
    """A macro over a range, kept whole.

    `kind` is the macro: all, exists, exists_one, map, filter (one variable), all2, exists2, exists_one2, transformList,
    transformMap, transformMapEntry (two), bind (no range: `init` is bound to `var` in `body`), sortBy.
    """

    __slots__ = ("body", "condition", "kind", "range", "var", "var2")

    def __init__(
        self,
        offset: int,
        kind: str,
        source: Expr,
        var: str,
        body: Expr,
        *,
        var2: str = "",
        condition: Expr | None = None,
    ) -> None:
        super().__init__(offset)
        self.kind = kind
        self.range = source
        self.var = var
        self.var2 = var2
        self.body = body
        self.condition = condition
