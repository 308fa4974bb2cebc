"""Checked trees to closures: evaluation without walking a tree.

Here is the plan: which closure stands for which node, and where variables have their places; `closures` has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from chandlery.controlplane.cel import closures
from chandlery.controlplane.cel import operators as op
from chandlery.controlplane.cel.ast import (
    Call,
    Comprehension,
    Const,
    Expr,
    Ident,
    ListExpr,
    MapExpr,
    Select,
    StructExpr,
)
from chandlery.controlplane.cel.checker import children
from chandlery.controlplane.cel.closures import ABSENT, Frame, Run
from chandlery.controlplane.cel.decls import Overload
from chandlery.controlplane.cel.errors import CelCostError, CelError, PlanError, deep_stack
from chandlery.controlplane.cel.types import Type, unwrap_optional
from chandlery.controlplane.cel.values import (
    NONE,
    Optional,
    UInt,
)  # fmt: skip
from chandlery.controlplane.schema.regex import RegexError, compile_re2

BUDGET = 1_000_000
"""What one evaluation may cost, in units of about one operation."""
_WITH_PATTERN = frozenset(("matches", "find", "findAll"))
_CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"))


def check_constants(expr: Expr) -> None:
    """Raise PlanError for a constant pattern or a conversion of a constant that fails whenever it is evaluated."""
    for child in children(expr):
        check_constants(child)
    if not isinstance(expr, Call):
        return
    nodes = ([expr.target] if expr.target is not None else []) + expr.args
    if expr.function in _WITH_PATTERN and len(nodes) > 1:
        pattern = nodes[1]
        if isinstance(pattern, Const) and isinstance(pattern.value, str):
            try:
                compile_re2(pattern.value)
            except RegexError as error:
                raise PlanError(f"error parsing regexp: {error}") from None
    elif expr.function in _CONVERSIONS and len(nodes) == 1 and isinstance(nodes[0], Const) and expr.overloads:
        try:
            expr.overloads[0].call(nodes[0].value)
        except CelError as error:
            raise PlanError(str(error)) from None


class Program:
    """A compiled expression."""

    __slots__ = ("_places", "_run", "_size", "fields", "names", "type")

    def __init__(self, expr: Expr, variables: Mapping[str, Type], names: frozenset[str]) -> None:
        planner = _Planner(variables)
        with deep_stack():
            check_constants(expr)
            self._run = planner.plan(expr)
        self._size = planner.size
        self._places = planner.variables
        self.type = expr.type
        self.names = names
        """The variables that the expression mentions."""
        self.fields = None if planner.whole else frozenset(planner.fields)
        """The fields of its variables that it looks at; None when it takes a variable as a whole somewhere."""

    def evaluate(self, values: Mapping[str, Any], budget: int = BUDGET) -> Any:
        """The result. Raises CelError, CelCostError when it costs more than the budget."""
        frame: Frame = [None] * self._size
        frame[0] = budget
        for name, value in values.items():
            place = self._places.get(name)
            if place is not None:
                frame[place] = value
        try:
            return self._run(frame)
        except RecursionError:
            raise CelCostError("operation cancelled: actual cost limit exceeded") from None


class _Planner:
    def __init__(self, variables: Mapping[str, Type]) -> None:
        self.variables = {name: place for place, name in enumerate(variables, 1)}
        self.scopes: list[dict[str, int]] = [self.variables]
        self.size = len(variables) + 1
        self.fields: set[str] = set()
        self.whole = False

    def plan(self, expr: Expr) -> Run:
        if isinstance(expr, Const):
            value = expr.value
            return lambda _frame: value
        if isinstance(expr, Ident):
            return self._ident(expr)
        if isinstance(expr, Select):
            return self._select(expr)
        if isinstance(expr, Call):
            return self._call(expr)
        if isinstance(expr, ListExpr):
            return self._list(expr)
        if isinstance(expr, MapExpr):
            return self._map(expr)
        if isinstance(expr, StructExpr):
            return self._message(expr)
        assert isinstance(expr, Comprehension)
        return self._comprehension(expr)

    def _ident(self, expr: Ident) -> Run:
        if expr.constant is not None:
            constant = expr.constant
            return lambda _frame: constant
        for scope in reversed(self.scopes):
            if expr.name in scope:
                self.whole |= scope is self.variables
                return itemgetter(scope[expr.name])
        raise AssertionError(f"the checker let {expr.name} through")

    # -- fields

    def _select(self, expr: Select) -> Run:
        if expr.resolved is not None:
            return self._ident(expr.resolved)
        before, field = self.whole, expr.field
        operand = self.plan(expr.operand)
        if isinstance(expr.operand, Ident):  # of a variable it takes this field only
            self.whole = before
            self.fields.add(field)
        target, optional = unwrap_optional(expr.operand.type)
        nullable = target.kind != "object"
        if optional:
            return self._optional_select(operand, field, nullable=nullable, test=expr.test)
        if expr.test:
            return closures.has_field(operand, field, nullable=nullable)
        if nullable:
            return closures.select_key(operand, field)

        def select(frame: Frame) -> Any:
            value = operand(frame)
            if type(value) is dict:
                found = value.get(field)
                if found is not None:
                    return found
                raise CelError(f"no such key: {field}")
            raise op.no_overload()

        return select

    def _optional_select(self, operand: Run, field: str, *, nullable: bool, test: bool) -> Run:
        def select(frame: Frame) -> Any:
            value = operand(frame)
            if type(value) is Optional:
                if not value.present:
                    return False if test else NONE
                value = value.value
            if type(value) is not dict:
                raise op.no_overload()
            found = value.get(field, ABSENT)
            if found is ABSENT or (found is None and not nullable):
                return False if test else NONE
            return True if test else Optional(found)

        return select

    # -- calls

    def _call(self, expr: Call) -> Run:
        name = expr.function
        if name == "_?._":
            operand = self.plan(expr.args[0])
            target, _ = unwrap_optional(expr.args[0].type)
            field = expr.args[1]
            assert isinstance(field, Const)
            return self._optional_select(operand, field.value, nullable=target.kind != "object", test=False)
        nodes = ([expr.target] if expr.target is not None else []) + expr.args
        args = [self.plan(node) for node in nodes]
        if name == "_&&_":
            return closures.logic(args[0], args[1], decides=False)
        if name == "_||_":
            return closures.logic(args[0], args[1], decides=True)
        if name == "_?_:_":
            return closures.conditional(*args)
        if name in ("or", "orValue") and expr.overloads[0].id.startswith("optional_"):
            return closures.or_else(args[0], args[1], unwrap=name == "orValue")
        overloads: list[Overload] = expr.overloads
        calls = {overload.call for overload in overloads}
        if len(calls) == 1 and (_is_operator(name) or not any(node.type.kind == "dyn" for node in nodes)):
            return closures.direct(overloads[0].call, args)
        return closures.dispatch(overloads, args)

    def _list(self, expr: ListExpr) -> Run:
        elements = [self.plan(element) for element in expr.elements]
        if all(isinstance(element, Const) for element in expr.elements) and not expr.optional:
            fixed = [element.value for element in expr.elements if isinstance(element, Const)]
            return lambda _frame: fixed
        optional = expr.optional
        if not optional:
            return lambda frame: [element(frame) for element in elements]

        def build(frame: Frame) -> list[Any]:
            out = []
            for position, element in enumerate(elements):
                value = element(frame)
                if position in optional:
                    if type(value) is not Optional:
                        raise op.no_overload()
                    if value.present:
                        out.append(value.value)
                else:
                    out.append(value)
            return out

        return build

    def _map(self, expr: MapExpr) -> Run:
        entries = [(self.plan(key), self.plan(value), optional) for key, value, optional in expr.entries]

        def build(frame: Frame) -> dict[Any, Any]:
            out: dict[Any, Any] = {}
            for key_run, value_run, optional in entries:
                key, value = key_run(frame), value_run(frame)
                if type(key) not in (str, int, bool, UInt):
                    raise CelError("unsupported key type")
                if optional:
                    if not value.present:
                        continue
                    value = value.value
                if key in out:
                    raise CelError("Failed with repeated key")
                out[key] = value
            return out

        return build

    def _message(self, expr: StructExpr) -> Run:
        fields = [(name, self.plan(value), optional) for name, value, optional in expr.fields]

        def build(frame: Frame) -> dict[str, Any]:
            out: dict[str, Any] = {}
            for name, run, optional in fields:
                value = run(frame)
                if optional:
                    if type(value) is not Optional:
                        raise op.no_overload()
                    if not value.present:
                        continue
                    value = value.value
                out[name] = value
            return out

        return build

    # -- macros

    def _place(self) -> int:
        self.size += 1
        return self.size - 1

    def _comprehension(self, expr: Comprehension) -> Run:
        source = self.plan(expr.range)
        first = self._place()
        scope = {expr.var: first}
        second = 0
        if expr.var2:
            second = scope[expr.var2] = self._place()
        self.scopes.append(scope)
        body = self.plan(expr.body)
        condition = self.plan(expr.condition) if expr.condition is not None else None
        self.scopes.pop()
        if expr.kind == "bind":

            def bind(frame: Frame) -> Any:
                frame[first] = source(frame)
                return body(frame)

            return bind
        weight = 2 + _weight(expr.body) + (_weight(expr.condition) if expr.condition is not None else 0)
        each = (
            closures.each_pair(source, first, second, weight) if second else closures.each_item(source, first, weight)
        )
        kind = expr.kind.removesuffix("2")
        if kind in ("all", "exists"):
            return closures.quantifier(each, body, decides=kind == "exists")
        if kind == "exists_one":
            return closures.exists_one(each, body)
        if kind == "filter":
            return closures.filtered(each, body)
        if kind in ("map", "transformList"):
            return closures.transform(each, body, condition)
        if kind == "sortBy":
            return closures.sorted_by(each, body)
        return closures.transform_map(each, body, condition, first, entries=kind == "transformMapEntry")


def _is_operator(name: str) -> bool:
    return name.startswith(("_", "!", "-", "@")) or name in ("size", "type", "dyn")


def _weight(expr: Expr) -> int:
    """About how many operations one evaluation takes, macros inside counted by themselves."""
    if isinstance(expr, Comprehension):
        return 1 + _weight(expr.range)
    return 1 + sum(_weight(child) for child in children(expr))
