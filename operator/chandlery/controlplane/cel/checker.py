"""Type-checks a syntax tree: every node gets its type, every call the overloads that fit.

Source: the CEL language definition, "Gradual Type Checking". Problems are all collected, in the reference
implementation's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from chandlery.controlplane.cel.decls import Functions
from chandlery.controlplane.cel.errors import CompileError, deep_stack
from chandlery.controlplane.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    ERROR,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    Substitution,
    Type,
    list_of,
    map_of,
    most_general,
    optional_of,
    param,
    type_of,
    unwrap_optional,
)  # fmt: skip
from chandlery.controlplane.cel.values import MAX_SECONDS, MIN_SECONDS, Timestamp, TypeValue, UInt
from chandlery.controlplane.schema.goduration import parse_duration
from chandlery.controlplane.schema.regex import RegexError, compile_re2

RESERVED_FIELDS = frozenset(
    "as break const continue else for function if import let loop package namespace return var void while".split()
)
"""Words that are no names but may follow a dot."""
_CONSTANTS: dict[type, Type] = {
    bool: BOOL, int: INT, UInt: UINT, float: DOUBLE, str: STRING, bytes: BYTES, type(None): NULL,
}  # fmt: skip
TYPE_NAMES: dict[str, tuple[Type, TypeValue]] = {
    "bool": (type_of(BOOL), TypeValue("bool")),
    "int": (type_of(INT), TypeValue("int")),
    "uint": (type_of(UINT), TypeValue("uint")),
    "double": (type_of(DOUBLE), TypeValue("double")),
    "string": (type_of(STRING), TypeValue("string")),
    "bytes": (type_of(BYTES), TypeValue("bytes")),
    "list": (type_of(list_of(DYN)), TypeValue("list")),
    "map": (type_of(map_of(DYN, DYN)), TypeValue("map")),
    "null_type": (type_of(NULL), TypeValue("null_type")),
    "type": (type_of(Type("type", "type")), TypeValue("type")),
    "optional_type": (type_of(optional_of(DYN)), TypeValue("optional_type")),
    "google.protobuf.Timestamp": (type_of(TIMESTAMP), TypeValue("google.protobuf.Timestamp")),
    "google.protobuf.Duration": (type_of(DURATION), TypeValue("google.protobuf.Duration")),
    "net.IP": (type_of(Type("opaque", "net.IP")), TypeValue("net.IP")),
    "net.CIDR": (type_of(Type("opaque", "net.CIDR")), TypeValue("net.CIDR")),
    "kubernetes.Quantity": (type_of(Type("object", "kubernetes.Quantity")), TypeValue("kubernetes.Quantity")),
    "kubernetes.URL": (type_of(Type("object", "kubernetes.URL")), TypeValue("kubernetes.URL")),
    "kubernetes.Semver": (type_of(Type("object", "kubernetes.Semver")), TypeValue("kubernetes.Semver")),
}


class Checked:
    """What checking found: the type of the whole, and which variables were named."""

    __slots__ = ("expr", "names", "type")

    def __init__(self, expr: Expr, kind: Type, names: frozenset[str]) -> None:
        self.expr = expr
        self.type = kind
        self.names = names


def check(source: str, expr: Expr, variables: Mapping[str, Type], functions: Functions) -> Checked:
    """Raises CompileError with every problem."""
    checker = _Checker(variables, functions)
    with deep_stack():
        checker.check(expr)
        checker.settle(expr)
        if not checker.problems:
            checker.literals(expr)
    if checker.problems:
        raise CompileError(source, checker.problems)
    return Checked(expr, expr.type, frozenset(checker.names))


class _Checker:
    def __init__(self, variables: Mapping[str, Type], functions: Functions) -> None:
        self.scopes: list[Mapping[str, Type]] = [variables]
        self.functions = functions
        self.problems: list[tuple[int, str]] = []
        self.names: set[str] = set()
        self.known = Substitution()
        self.fresh = 0

    def problem(self, expr: Expr, message: str) -> None:
        self.problems.append((expr.offset, message))

    def new_param(self) -> Type:
        self.fresh += 1
        return param(f"_var{self.fresh - 1}")

    def find(self, name: str) -> Type | None:
        name = name.removeprefix(".")
        for depth in range(len(self.scopes) - 1, -1, -1):
            if name in self.scopes[depth]:
                if depth == 0:
                    self.names.add(name)
                return self.scopes[depth][name]
        return None

    def _is_local(self, qualified: str) -> bool:
        """Whether a chain of names starts with a macro's variable, which hides longer names outside."""
        first = qualified.partition(".")[0]
        return any(first in scope for scope in self.scopes[1:])

    def check(self, expr: Expr) -> None:
        if isinstance(expr, Const):
            expr.type = _CONSTANTS[type(expr.value)]
        elif isinstance(expr, Ident):
            self._ident(expr)
        elif isinstance(expr, Select):
            self._select(expr)
        elif isinstance(expr, Call):
            self._call(expr)
        elif isinstance(expr, ListExpr):
            self._list(expr)
        elif isinstance(expr, MapExpr):
            self._map(expr)
        elif isinstance(expr, Comprehension):
            self._comprehension(expr)
        elif isinstance(expr, StructExpr):
            self._message(expr)

    def _message(self, expr: StructExpr) -> None:
        name = expr.name.removeprefix(".")
        message = self.functions.message(name)
        expr.type = ERROR if message is None else message.type
        if message is None:
            self.problem(expr, f"undeclared reference to '{expr.name}' (in container '')")
        for field, value, optional in expr.fields:
            self.check(value)
            if message is None:
                continue
            wanted = message.field(field)
            if wanted is None:
                self.problem(value, f"undefined field '{field}'")
                continue
            given = self.known.apply(value.type)
            inner = unwrap_optional(given)[0] if optional else given
            if given.kind != "error" and not self.known.assignable(wanted, inner):
                text = f"expected type of field '{field}' is '{wanted}' but provided type is '{inner}'"
                self.problem(value, text)

    def _ident(self, expr: Ident) -> None:
        found = self.find(expr.name)
        if found is not None:
            expr.name = expr.name.removeprefix(".")
            expr.type = found
            return
        known = TYPE_NAMES.get(expr.name.removeprefix("."))
        if known is not None:
            expr.type, expr.constant = known
            return
        expr.type = ERROR
        self.problem(expr, f"undeclared reference to '{expr.name.removeprefix('.')}' (in container '')")

    def _select(self, expr: Select) -> None:
        if not expr.test and (name := _qualified(expr)) and not self._is_local(name):
            if (found := self.find(name)) is not None:
                expr.resolved = Ident(expr.offset, name)
                expr.type = expr.resolved.type = found
                return
            if name in TYPE_NAMES:
                expr.resolved = Ident(expr.offset, name)
                expr.type, expr.resolved.constant = TYPE_NAMES[name]
                return
        result = self._field(expr, expr.operand, expr.field, optional=False)
        expr.type = BOOL if expr.test else self.known.apply(result)

    def _field(self, expr: Expr, operand: Expr, name: str, *, optional: bool) -> Type:
        self.check(operand)
        target, was_optional = unwrap_optional(self.known.apply(operand.type))
        result = ERROR
        if target.kind == "map":
            result = target.params[1]
        elif target.kind == "object":
            fields = target.fields or {}
            found = fields.get(name)
            if found is None and name in RESERVED_FIELDS and f"__{name}__" in fields:
                name = f"__{name}__"
                found = fields[name]
                _rename(expr, name)
            if found is None:
                self.problem(expr, f"undefined field '{name}'")
            else:
                result = found
        elif target.kind == "param":
            self.known.assignable(DYN, target)
            result = DYN
        else:
            if target.kind not in ("dyn", "error"):
                self.problem(expr, f"type '{target}' does not support field selection")
            result = DYN
        return optional_of(result) if was_optional or optional else result

    def _call(self, expr: Call) -> None:
        if expr.function == "_?._":
            field = expr.args[1]
            assert isinstance(field, Const)
            expr.type = self.known.apply(self._field(expr, expr.args[0], field.value, optional=True))
            field.type = STRING
            return
        for arg in expr.args:
            self.check(arg)
        if expr.target is None:
            expr.function = expr.function.removeprefix(".")
            self._resolve(expr, None)
            return
        if prefix := _qualified(expr.target):
            name = f"{prefix.removeprefix('.')}.{expr.function}"
            if self.functions.find(name) is not None:
                expr.function, expr.target = name, None
                self._resolve(expr, None)
                return
        self.check(expr.target)
        self._resolve(expr, expr.target)

    def _resolve(self, expr: Call, target: Expr | None) -> None:
        function = self.functions.find(expr.function)
        if function is None:
            expr.type = ERROR
            self.problem(expr, f"undeclared reference to '{expr.function}' (in container '')")
            return
        if expr.function in ("_&&_", "_||_"):
            self._logic(expr, function.overloads)
            return
        given = [arg.type for arg in ([target] if target is not None else []) + expr.args]
        result: Type | None = None
        for overload in function.overloads:
            if overload.member != (target is not None):
                continue
            wanted, returned = overload.args, overload.result
            if overload.params:
                fresh = Substitution({name: self.new_param() for name in overload.params})
                wanted = tuple(fresh.apply(kind) for kind in wanted)
                returned = fresh.apply(returned)
            if not self.known.assignable_all(given, wanted):
                continue
            expr.overloads.append(overload)
            returned = self.known.apply(returned)
            if result is None:
                result = returned
            elif result.kind != "dyn" and returned != result:
                result = DYN
        if result is None:
            shown = [str(self.known.apply(kind, free_is_dyn=True)) for kind in given]
            signature = f"{shown[0]}.({', '.join(shown[1:])})" if target is not None else f"({', '.join(shown)})"
            self.problem(expr, f"found no matching overload for '{expr.function}' applied to '{signature}'")
            expr.type = ERROR
            return
        expr.type = result

    def _logic(self, expr: Call, overloads: list[Any]) -> None:
        expr.overloads = overloads[:1]
        expr.type = BOOL
        for arg in expr.args:
            if not self.known.assignable(arg.type, BOOL):
                self._mismatch(arg, BOOL, arg.type)
                expr.type = ERROR

    def _mismatch(self, expr: Expr, wanted: Type, found: Type) -> None:
        shown = self.known.apply(found)
        self.problem(expr, f"expected type '{wanted}' but found '{shown}'")

    def _join(self, previous: Type | None, current: Type) -> Type:
        if previous is None:
            return current
        return most_general(previous, current) if self.known.assignable(previous, current) else DYN

    def _unwrapped(self, expr: Expr, optional: bool) -> Type:
        if not optional:
            return expr.type
        inner, was_optional = unwrap_optional(expr.type)
        if not was_optional and inner.kind != "dyn":
            self._mismatch(expr, optional_of(inner), inner)
        return inner

    def _list(self, expr: ListExpr) -> None:
        item: Type | None = None
        for position, element in enumerate(expr.elements):
            self.check(element)
            item = self._join(item, self._unwrapped(element, position in expr.optional))
        expr.type = list_of(item if item is not None else self.new_param())

    def _map(self, expr: MapExpr) -> None:
        key_type: Type | None = None
        value_type: Type | None = None
        for key, value, optional in expr.entries:
            self.check(key)
            key_type = self._join(key_type, key.type)
            self.check(value)
            value_type = self._join(value_type, self._unwrapped(value, optional))
        expr.type = map_of(
            key_type if key_type is not None else self.new_param(),
            value_type if value_type is not None else self.new_param(),
        )

    # -- macros

    def _comprehension(self, expr: Comprehension) -> None:
        self.check(expr.range)
        if expr.kind == "bind":
            self.scopes.append({expr.var: expr.range.type})
            self.check(expr.body)
            self.scopes.pop()
            expr.type = expr.body.type
            return
        source = self.known.apply(expr.range.type)
        first, second = self._iteration(expr, source)
        scope = {expr.var: first}
        if expr.var2:
            scope[expr.var2] = second
        self.scopes.append(scope)
        if expr.condition is not None:
            self.check(expr.condition)
            self._assert_bool(expr.condition)
        self.check(expr.body)
        self.scopes.pop()
        expr.type = self.known.apply(self._result(expr, first))

    def _iteration(self, expr: Comprehension, source: Type) -> tuple[Type, Type]:
        two = bool(expr.var2)
        if source.kind == "list":
            return (INT, source.params[0]) if two else (source.params[0], DYN)
        if source.kind == "map":
            return source.params[0], source.params[1]
        if source.kind in ("dyn", "error", "param"):
            self.known.assignable(DYN, source)
            return DYN, DYN
        message = f"expression of type '{source}' cannot be range of a comprehension (must be list, map, or dynamic)"
        self.problem(expr.range, message)
        return ERROR, ERROR

    def _assert_bool(self, expr: Expr) -> None:
        if not self.known.assignable(BOOL, expr.type):
            # The condition stands inside a logical operator or a conditional there.
            self._mismatch(expr, BOOL, expr.type)

    def _result(self, expr: Comprehension, item: Type) -> Type:
        kind = expr.kind
        if kind in ("all", "exists", "all2", "exists2"):
            self._assert_bool(expr.body)
            return BOOL
        if kind in ("exists_one", "exists_one2"):
            self._assert_condition(expr, expr.body, [BOOL_AS_INT, BOOL_AS_INT])
            return BOOL
        if kind == "filter":
            self._assert_condition(expr, expr.body, [list_of(item), list_of(item)])
            return list_of(item)
        if kind in ("map", "transformList"):
            return list_of(expr.body.type)
        if kind == "transformMap":
            source = self.known.apply(expr.range.type)
            key = source.params[0] if source.kind == "map" else INT if source.kind == "list" else DYN
            return map_of(key, expr.body.type)
        if kind == "transformMapEntry":
            return self.known.apply(expr.body.type)
        return list_of(item)  # sortBy

    def _assert_condition(self, expr: Comprehension, condition: Expr, branches: list[Type]) -> None:
        """Conditions that the macro puts into a conditional are refused as that conditional is."""
        if not self.known.assignable(BOOL, condition.type):
            shown = self.known.apply(condition.type)
            signature = ", ".join(map(str, [shown, *branches]))
            self.problem(expr, f"found no matching overload for '_?_:_' applied to '({signature})'")

    # -- after checking

    def settle(self, expr: Expr) -> None:
        """Fill in what type parameters turned out to be."""
        for child in children(expr):
            self.settle(child)
        expr.type = self.known.apply(expr.type, free_is_dyn=True)

    def literals(self, expr: Expr, *, mixed: bool = False) -> None:
        """Constant arguments must be valid (durations, timestamps, patterns), lists and maps of one type.

        `mixed` is set inside the arguments of `format`, where lists may mix types.
        """
        mixed = mixed or (isinstance(expr, Call) and expr.function == "format")
        for child in children(expr):
            self.literals(child, mixed=mixed)
        if isinstance(expr, ListExpr) and not mixed:
            self._same_types([(e, p in expr.optional) for p, e in enumerate(expr.elements)])
        elif isinstance(expr, MapExpr) and not mixed:
            self._same_types([(key, False) for key, _, _ in expr.entries])
            self._same_types([(value, optional) for _, value, optional in expr.entries])
        if not isinstance(expr, Call):
            return
        name, args = expr.function, expr.args
        if name not in ("duration", "timestamp", "matches") or not args:
            return
        arg = args[0]
        if isinstance(arg, Const) and not _valid_literal(name, arg.value):
            self.problem(arg, f"invalid {name} argument")

    def _same_types(self, members: list[tuple[Expr, bool]]) -> None:
        first: Type | None = None
        for member, optional in members:
            kind = unwrap_optional(member.type)[0] if optional else member.type
            if first is None:
                first = kind
            elif kind != first:
                self.problem(member, f"expected type '{first}' but found '{kind}'")
                return


BOOL_AS_INT = INT


def _rename(expr: Expr, name: str) -> None:
    """Let a selection name the field as its declaration does."""
    if isinstance(expr, Select):
        expr.field = name
    elif isinstance(expr, Call) and isinstance(expr.args[1], Const):
        expr.args[1].value = name


def _valid_literal(name: str, text: Any) -> bool:
    if name == "timestamp" and type(text) is int:
        return MIN_SECONDS <= text <= MAX_SECONDS
    if not isinstance(text, str):
        return True
    if name == "duration":
        return parse_duration(text) is not None
    if name == "timestamp":
        return Timestamp.parse(text) is not None
    try:
        compile_re2(text)
    except RegexError:
        return False
    return True


def children(expr: Expr) -> list[Expr]:
    """The nodes directly below one."""
    if isinstance(expr, Select):
        return [] if expr.resolved is not None else [expr.operand]
    if isinstance(expr, Call):
        return ([expr.target] if expr.target is not None else []) + expr.args
    if isinstance(expr, ListExpr):
        return expr.elements
    if isinstance(expr, MapExpr):
        return [node for key, value, _ in expr.entries for node in (key, value)]
    if isinstance(expr, Comprehension):
        return [expr.range, expr.body] + ([expr.condition] if expr.condition is not None else [])
    if isinstance(expr, StructExpr):
        return [value for _, value, _ in expr.fields]
    return []


def _qualified(expr: Expr) -> str:
    if isinstance(expr, Ident):
        return expr.name
    if isinstance(expr, Select) and not expr.test and (prefix := _qualified(expr.operand)):
        return f"{prefix}.{expr.field}"
    return ""
