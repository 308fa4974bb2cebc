"""Types of the Common Expression Language, and when one may stand for another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Type:
    """A type; equal when kind, name and parameters are. `fields` are those of an object type."""

    __slots__ = ("_hash", "fields", "kind", "name", "params")

    def __init__(
        self, kind: str, name: str, params: Sequence[Type] = (), fields: Mapping[str, Type] | None = None
    ) -> None:
        self.kind = kind
        self.name = name
        self.params = tuple(params)
        self.fields = fields
        self._hash = hash((kind, name, self.params))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Type):
            return NotImplemented
        return self.kind == other.kind and self.name == other.name and self.params == other.params

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}({', '.join(map(str, self.params))})"

    __repr__ = __str__


BOOL = Type("bool", "bool")
INT = Type("int", "int")
UINT = Type("uint", "uint")
DOUBLE = Type("double", "double")
STRING = Type("string", "string")
BYTES = Type("bytes", "bytes")
NULL = Type("null", "null")
TIMESTAMP = Type("timestamp", "timestamp")
DURATION = Type("duration", "duration")
DYN = Type("dyn", "dyn")
ERROR = Type("error", "!error!")
TYPE = Type("type", "type")

QUANTITY = Type("object", "kubernetes.Quantity", fields={})
IP = Type("opaque", "net.IP")
CIDR = Type("opaque", "net.CIDR")
URL = Type("object", "kubernetes.URL", fields={})
SEMVER = Type("object", "kubernetes.Semver", fields={})
FORMAT = Type("object", "kubernetes.NamedFormat", fields={})


def list_of(item: Type) -> Type:
    return Type("list", "list", (item,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", "map", (key, value))


def optional_of(inner: Type) -> Type:
    return Type("opaque", "optional_type", (inner,))


def type_of(inner: Type) -> Type:
    return Type("type", "type", (inner,))


def param(name: str) -> Type:
    return Type("param", name)


def unwrap_optional(kind: Type) -> tuple[Type, bool]:
    if kind.kind == "opaque" and kind.name == "optional_type":
        return kind.params[0], True
    return kind, False


_PLAIN = frozenset(("bool", "int", "uint", "double", "string", "bytes"))
"""Kinds that only assign to themselves."""


class Substitution:
    """What is known of type parameters so far."""

    __slots__ = ("known",)

    def __init__(self, known: dict[str, Type] | None = None) -> None:
        self.known = known if known is not None else {}

    def assignable(self, wanted: Type, given: Type) -> bool:
        """Whether `given` may stand where `wanted` is expected; remembers parameters only when it may."""
        return self.assignable_all((wanted,), (given,))

    def assignable_all(self, wanted: Sequence[Type], given: Sequence[Type]) -> bool:
        if len(wanted) != len(given):
            return False
        certain = True
        for one, other in zip(wanted, given, strict=True):
            if one is other and one.kind in _PLAIN:
                continue
            if one.kind in _PLAIN and other.kind in _PLAIN and one.kind != other.kind:
                return False
            certain = False
        if certain:
            return True
        trial = Substitution(dict(self.known))
        if all(trial._assignable(one, other) for one, other in zip(wanted, given, strict=True)):
            self.known = trial.known
            return True
        return False

    def _assignable(self, left: Type, right: Type) -> bool:
        if right.kind == "param":
            valid, known = self._substitutes(left, right)
            if valid or known:
                return valid
        if left.kind == "param":
            return self._substitutes(right, left)[0]
        if left.kind in ("dyn", "error") or right.kind in ("dyn", "error"):
            return True
        if left.kind == "null":
            return _nullable(right)
        if right.kind == "null":
            return _nullable(left)
        if left.kind == "type":
            return right.kind == "type"
        if left.kind in ("list", "map", "opaque"):
            return (
                left.kind == right.kind
                and left.name == right.name
                and len(left.params) == len(right.params)
                and all(self._assignable(one, other) for one, other in zip(left.params, right.params, strict=True))
            )
        return left.kind == right.kind and left.name == right.name

    def _substitutes(self, concrete: Type, parameter: Type) -> tuple[bool, bool]:
        """(may `concrete` be what `parameter` stands for, was something known of it)."""
        if concrete == parameter:
            return True, True
        known = self.known.get(parameter.name)
        if known is not None:
            if known == concrete:
                return True, True
            if self._assignable(concrete, known):
                general = most_general(concrete, known)
                if not self._mentions(general, parameter):
                    self.known[parameter.name] = general
                return True, True
            return False, True
        if self._mentions(concrete, parameter):
            return False, False
        self.known[parameter.name] = concrete
        return True, False

    def _mentions(self, where: Type, parameter: Type) -> bool:
        if where == parameter:
            return True
        if where.kind == "param":
            inner = self.known.get(where.name)
            return inner is not None and self._mentions(inner, parameter)
        return any(self._mentions(inner, parameter) for inner in where.params)

    def apply(self, kind: Type, *, free_is_dyn: bool = False) -> Type:
        """The type with its parameters filled in."""
        if kind.kind == "param":
            inner = self.known.get(kind.name)
            if inner is not None:
                return self.apply(inner, free_is_dyn=free_is_dyn)
            return DYN if free_is_dyn else kind
        if not kind.params:
            return kind
        params = [self.apply(inner, free_is_dyn=free_is_dyn) for inner in kind.params]
        return Type(kind.kind, kind.name, params, kind.fields)


def _nullable(kind: Type) -> bool:
    return kind.kind in ("null", "opaque", "object", "timestamp", "duration")


def most_general(left: Type, right: Type) -> Type:
    return left if _no_more_specific(left, right) else right


def _no_more_specific(left: Type, right: Type) -> bool:
    if left.kind in ("dyn", "param"):
        return True
    if right.kind in ("dyn", "param"):
        return False
    if left.kind != right.kind or left.name != right.name or len(left.params) != len(right.params):
        return False
    return all(_no_more_specific(one, other) for one, other in zip(left.params, right.params, strict=True))
