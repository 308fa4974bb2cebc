"""Checked trees to closures: evaluation without walking a tree.

A frame is a list: the budget, then one place for each variable and each macro variable. `&&`, `||`, `all` and `exists`
absorb errors where the other operand decides, as the language says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

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
from chandlery.controlplane.cel.decls import Overload
from chandlery.controlplane.cel.errors import CelCostError, CelError, PlanError
from chandlery.controlplane.cel.lists_lib import sort_by
from chandlery.controlplane.cel.types import Type, unwrap_optional
from chandlery.controlplane.cel.values import (
    NONE,
    CIDRValue,
    Duration,
    FormatValue,
    IPValue,
    Optional,
    QuantityValue,
    SemverValue,
    Timestamp,
    TypeValue,
    UInt,
    URLValue,
    is_list,
)  # fmt: skip
from chandlery.controlplane.schema.regex import RegexError, compile_re2

Frame = list[Any]
Run = Callable[[Frame], Any]

BUDGET = 1_000_000
"""What one evaluation may cost, in units of about one operation."""
_ABSENT: Any = object()
_WITH_PATTERN = frozenset(("matches", "find", "findAll"))
_CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"))
_KINDS: dict[str, type] = {
    "bool": bool, "int": int, "uint": UInt, "double": float, "string": str, "bytes": bytes, "map": dict,
    "timestamp": Timestamp, "duration": Duration, "type": TypeValue, "null": type(None),
}  # fmt: skip
_CLASSES: dict[str, type] = {
    "kubernetes.Quantity": QuantityValue, "net.IP": IPValue, "net.CIDR": CIDRValue, "kubernetes.URL": URLValue,
    "kubernetes.Semver": SemverValue, "kubernetes.NamedFormat": FormatValue, "optional_type": Optional,
}  # fmt: skip


def register_class(name: str, known: type) -> None:
    """Values of the opaque type `name` are instances of this class."""
    _CLASSES[name] = known


def fits(kind: Type, value: Any) -> bool:
    """Whether a value is of a declared type, as far as choosing an overload needs."""
    wanted = _KINDS.get(kind.kind)
    if wanted is not None:
        return type(value) is wanted
    if kind.kind == "list":
        return is_list(value) and (not value or kind.params[0].kind == "list" or fits(kind.params[0], value[0]))
    if kind.kind in ("dyn", "param"):
        return True
    known = _CLASSES.get(kind.name)
    return type(value) is known if known is not None else type(value) is dict


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

    __slots__ = ("_places", "_run", "_size", "names", "type")

    def __init__(self, expr: Expr, variables: Mapping[str, Type], names: frozenset[str]) -> None:
        check_constants(expr)
        planner = _Planner(variables)
        self._run = planner.plan(expr)
        self._size = planner.size
        self._places = planner.variables
        self.type = expr.type
        self.names = names
        """The variables that the expression mentions."""

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
                return itemgetter(scope[expr.name])
        raise AssertionError(f"the checker let {expr.name} through")

    # -- fields

    def _select(self, expr: Select) -> Run:
        if expr.resolved is not None:
            return self._ident(expr.resolved)
        operand, field = self.plan(expr.operand), expr.field
        target, optional = unwrap_optional(expr.operand.type)
        nullable = target.kind != "object"
        if optional:
            return self._optional_select(operand, field, nullable=nullable, test=expr.test)
        if expr.test:
            return _has(operand, field, nullable=nullable)
        if nullable:
            return _select_key(operand, field)

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
            found = value.get(field, _ABSENT)
            if found is _ABSENT or (found is None and not nullable):
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
            return _logic(args[0], args[1], decides=False)
        if name == "_||_":
            return _logic(args[0], args[1], decides=True)
        if name == "_?_:_":
            return _conditional(*args)
        if name in ("or", "orValue") and expr.overloads[0].id.startswith("optional_"):
            return _or_else(args[0], args[1], unwrap=name == "orValue")
        overloads: list[Overload] = expr.overloads
        calls = {overload.call for overload in overloads}
        if len(calls) == 1 and (_is_operator(name) or not any(node.type.kind == "dyn" for node in nodes)):
            return _direct(overloads[0].call, args)
        return _dispatch(overloads, args)

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
        each = _pairs(source, first, second, weight) if second else _items(source, first, weight)
        kind = expr.kind.removesuffix("2")
        if kind in ("all", "exists"):
            return _quantifier(each, body, decides=kind == "exists")
        if kind == "exists_one":
            return _exists_one(each, body)
        if kind == "filter":
            return _filter(each, body)
        if kind in ("map", "transformList"):
            return _transform(each, body, condition)
        if kind == "sortBy":
            return _sort_by(each, body)
        return _transform_map(each, body, condition, first, entries=kind == "transformMapEntry")


def _is_operator(name: str) -> bool:
    return name.startswith(("_", "!", "-", "@")) or name in ("size", "type", "dyn")


def _weight(expr: Expr) -> int:
    """About how many operations one evaluation takes, macros inside counted by themselves."""
    if isinstance(expr, Comprehension):
        return 1 + _weight(expr.range)
    return 1 + sum(_weight(child) for child in children(expr))


def _has(operand: Run, field: str, *, nullable: bool) -> Run:
    def has(frame: Frame) -> bool:
        value = operand(frame)
        if type(value) is not dict:
            raise op.no_overload()
        return (field in value) if nullable else value.get(field) is not None

    return has


def _select_key(operand: Run, field: str) -> Run:
    def select(frame: Frame) -> Any:
        value = operand(frame)
        if type(value) is dict:
            found = value.get(field, _ABSENT)
            if found is not _ABSENT:
                return found
            raise CelError(f"no such key: {field}")
        if type(value) is Optional:
            if value.present and type(value.value) is dict and field in value.value:
                return Optional(value.value[field])
            return NONE
        raise op.no_overload()

    return select


def _logic(left: Run, right: Run, *, decides: bool) -> Run:
    """`&&` (decided by False) and `||` (decided by True): an error counts only when the other side doesn't decide."""
    other = not decides

    def logic(frame: Frame) -> bool:
        try:
            first: object = left(frame)
        except CelCostError:
            raise
        except CelError as problem:
            return _decide(right, frame, problem, decides)
        if first is other:
            second: object = right(frame)
            if second is decides:
                return decides
            if second is other:
                return other
            raise op.no_overload()
        if first is decides:
            return decides
        return _decide(right, frame, op.no_overload(), decides)

    return logic


def _decide(right: Run, frame: Frame, error: CelError, decides: bool) -> bool:
    """The left side failed: the right one may still decide."""
    try:
        value: object = right(frame)
        if value is decides:
            return decides
    except CelCostError:
        raise
    except CelError:
        pass
    raise error


def _conditional(condition: Run, if_true: Run, if_false: Run) -> Run:
    def conditional(frame: Frame) -> Any:
        value = condition(frame)
        if value is True:
            return if_true(frame)
        if value is False:
            return if_false(frame)
        raise op.no_overload()

    return conditional


def _or_else(left: Run, right: Run, *, unwrap: bool) -> Run:
    def or_else(frame: Frame) -> Any:
        value = left(frame)
        if type(value) is not Optional:
            raise op.no_overload()
        if value.present:
            return value.value if unwrap else value
        return right(frame)

    return or_else


def _direct(call: Callable[..., Any], args: list[Run]) -> Run:
    if len(args) == 1:
        only = args[0]
        return lambda frame: call(only(frame))
    if len(args) == 2:
        first, second = args
        return lambda frame: call(first(frame), second(frame))
    return lambda frame: call(*[arg(frame) for arg in args])


def _dispatch(overloads: list[Overload], args: list[Run]) -> Run:
    def dispatch(frame: Frame) -> Any:
        values = [arg(frame) for arg in args]
        for overload in overloads:
            if len(overload.args) == len(values) and all(map(fits, overload.args, values)):
                return overload.call(*values)
        raise op.no_overload()

    return dispatch


# -- loops: `each` yields after it put the variables into the frame


def _spend(frame: Frame, weight: int) -> None:
    frame[0] -= weight
    if frame[0] < 0:
        raise CelCostError("operation cancelled: actual cost limit exceeded")


def _items(source: Run, place: int, weight: int) -> Callable[[Frame], Any]:
    def each(frame: Frame) -> Any:
        values = source(frame)
        if type(values) is not dict and not is_list(values):
            raise op.no_overload()
        for value in values:
            _spend(frame, weight)
            frame[place] = value
            yield value

    return each


def _pairs(source: Run, first: int, second: int, weight: int) -> Callable[[Frame], Any]:
    def each(frame: Frame) -> Any:
        values = source(frame)
        if type(values) is not dict and not is_list(values):
            raise op.no_overload()
        for key, value in values.items() if type(values) is dict else enumerate(values):
            _spend(frame, weight)
            frame[first], frame[second] = key, value
            yield value

    return each


def _quantifier(each: Callable[[Frame], Any], body: Run, *, decides: bool) -> Run:
    def quantifier(frame: Frame) -> bool:
        error: CelError | None = None
        for _ in each(frame):
            try:
                result: object = body(frame)
                if result is decides:
                    return decides
                if type(result) is not bool:
                    error = error or op.no_overload()
            except CelCostError:
                raise
            except CelError as problem:
                error = error or problem
        if error is not None:
            raise error
        return not decides

    return quantifier


def _exists_one(each: Callable[[Frame], Any], body: Run) -> Run:
    def exists_one(frame: Frame) -> bool:
        return sum(_true(body(frame)) for _ in each(frame)) == 1

    return exists_one


def _true(value: Any) -> bool:
    if type(value) is not bool:
        raise op.no_overload()
    return value


def _filter(each: Callable[[Frame], Any], body: Run) -> Run:
    return lambda frame: [value for value in each(frame) if _true(body(frame))]


def _transform(each: Callable[[Frame], Any], body: Run, condition: Run | None) -> Run:
    if condition is None:
        return lambda frame: [body(frame) for _ in each(frame)]
    return lambda frame: [body(frame) for _ in each(frame) if _true(condition(frame))]


def _sort_by(each: Callable[[Frame], Any], body: Run) -> Run:
    def run(frame: Frame) -> list[Any]:
        items, keys = [], []
        for value in each(frame):
            items.append(value)
            keys.append(body(frame))
        return sort_by(items, keys)

    return run


def _transform_map(each: Callable[[Frame], Any], body: Run, condition: Run | None, place: int, *, entries: bool) -> Run:
    def run(frame: Frame) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        for _ in each(frame):
            if condition is not None and not _true(condition(frame)):
                continue
            value = body(frame)
            for key, member in value.items() if entries else ((frame[place], value),):
                if key in out:
                    raise CelError(f"insert failed: key {op.show_key(key)} already exists")
                out[key] = member
        return out

    return run
