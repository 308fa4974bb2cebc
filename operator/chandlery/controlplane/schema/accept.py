"""The fast half of validation: does a value satisfy a schema, yes or no.

Each schema becomes one closure over exactly the checks that it needs. Only when the answer is no does
`chandlery.controlplane.schema.validation` walk the value again to say why; the two must agree, which
a property test watches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chandlery.controlplane.schema.node import Node

Accept = Callable[[Any], bool]

_SCALARS: dict[str, type] = {"string": str, "boolean": bool, "array": list, "object": dict}


def enum_contains(members: list[Any], value: Any) -> bool:
    """Membership as the reference server tests it: numbers compare across int and float, bool is not a number."""
    if value is None:
        return False
    kind = type(value)
    for member in members:
        other = type(member)
        if kind is other:
            if value == member:
                return True
        elif kind in (int, float) and other in (int, float) and (int(value) if other is int else value) == member:
            return True
    return False


def is_integral(value: Any) -> bool:
    """Whether a JSON number counts as an integer: ints, and floats without a fraction."""
    return type(value) is int or (type(value) is float and value.is_integer())


def is_int64(value: int) -> bool:
    return -(1 << 63) <= value < 1 << 63


def counts_as_integer(value: Any) -> bool:
    """Whether a value is of type integer: larger numbers are floats, and floats only while they are exact."""
    if type(value) is int:
        return is_int64(value)
    return type(value) is float and value.is_integer() and abs(value) < 1 << 53


def type_accepts(types: tuple[str, ...], has_format: bool, value: Any) -> bool:
    """The type rule for a value that isn't null."""
    kind = type(value)
    numeric = "number" in types or "integer" in types
    if has_format and not numeric and (kind is str or kind is list):
        return True
    for wanted in types:
        if wanted == "integer":
            if counts_as_integer(value):
                return True
        elif wanted == "number":
            if kind is int or kind is float:
                return True
        elif kind is _SCALARS.get(wanted):
            return True
    return not types and not has_format


def in_range(value: float, schema_type: str, number_format: str) -> bool:
    """Whether a number fits its type and format (int32, int64, float)."""
    if schema_type == "integer":
        if not is_integral(value):
            return False
        limit = 1 << (31 if number_format == "int32" else 63)
        return -limit <= value < limit
    if number_format == "float":
        return abs(value) <= 3.4028235677973366e38
    return True


def compile_accept(node: Node) -> Accept:
    """A predicate for values of this schema."""
    if node.trivial:
        return lambda _value: True
    kinds = _by_kind(node)
    types, nullable, has_format = node.types, node.nullable, bool(node.format)
    enum = node.enum
    all_of = [compile_accept(sub) for sub in node.all_of]
    any_of = [compile_accept(sub) for sub in node.any_of]
    one_of = [compile_accept(sub) for sub in node.one_of]
    negated = compile_accept(node.negated) if node.negated is not None else None
    composed = bool(all_of or any_of or one_of or negated)
    single = _SCALARS.get(types[0]) if len(types) == 1 and not has_format else None
    typed = bool(types or has_format)

    def accept(value: Any) -> bool:
        kind = type(value)
        if value is None:
            return (not types or nullable) and not enum
        if single is not None:
            if kind is not single:
                return False
        elif typed and not type_accepts(types, has_format, value):
            return False
        if enum and not enum_contains(enum, value):
            return False
        check = kinds.get(kind)
        if check is not None and not check(value):
            return False
        if composed:
            if any_of and not any(sub(value) for sub in any_of):
                return False
            if one_of and sum(sub(value) for sub in one_of) != 1:
                return False
            if not all(sub(value) for sub in all_of):
                return False
            if negated is not None and negated(value):
                return False
        return True

    return accept


def _by_kind(node: Node) -> dict[type, Accept]:
    kinds: dict[type, Accept] = {}
    if (check := _string(node)) is not None:
        kinds[str] = check
    if (check := _number(node)) is not None:
        kinds[int] = kinds[float] = check
    if (check := _list(node)) is not None:
        kinds[list] = check
    if (check := _object(node)) is not None:
        kinds[dict] = check
    return kinds


def _string(node: Node) -> Accept | None:
    longest, shortest, search, check = node.max_length, node.min_length, node.pattern_search, node.format_check
    if longest is None and shortest is None and search is None and check is None:
        return None

    def accept(value: str) -> bool:
        size = len(value)
        if longest is not None and size > longest:
            return False
        if shortest is not None and size < shortest:
            return False
        if search is not None and search(value) is None:
            return False
        return check is None or check(value)

    return accept


def _number(node: Node) -> Accept | None:
    schema_type = node.types[0] if len(node.types) == 1 else ""
    number_format = node.format if schema_type in ("integer", "number") else ""
    low, high, factor = node.minimum, node.maximum, node.multiple_of
    if low is None and high is None and factor is None and schema_type != "integer" and not number_format:
        return None

    def accept(value: float) -> bool:
        if not in_range(value, schema_type, number_format):
            return False
        if high is not None and (
            not in_range(high, schema_type, number_format) or over_maximum(value, high, node.exclusive_maximum)
        ):
            return False
        if low is not None and (
            not in_range(low, schema_type, number_format) or under_minimum(value, low, node.exclusive_minimum)
        ):
            return False
        return factor is None or (in_range(factor, schema_type, number_format) and is_multiple(value, factor))

    return accept


def over_maximum(value: float, bound: float, exclusive: bool) -> bool:
    if type(value) is int:
        bound = int(bound)
    return value >= bound if exclusive else value > bound


def under_minimum(value: float, bound: float, exclusive: bool) -> bool:
    if type(value) is int:
        bound = int(bound)
    return value <= bound if exclusive else value < bound


def is_multiple(value: float, factor: float) -> bool:
    """Integers divide by the factor's integer part, floats by the factor with a tolerance of 1e-9."""
    if type(value) is int:
        whole = int(factor)
        return whole > 0 and value % whole == 0
    if factor <= 0:
        return False
    quotient = value / factor if factor >= 1 else 1 / factor * value
    if abs(quotient) > (1 << 53) - 1:
        return False
    nearest = round(quotient)
    return quotient == nearest or abs(quotient - nearest) < 1e-9 * max(abs(quotient), abs(nearest), 1e-300)


def _list(node: Node) -> Accept | None:
    items = node.items
    each = compile_accept(items) if items is not None and not items.trivial else None
    most, least, unique = node.max_items, node.min_items, node.unique
    if each is None and most is None and least is None and not unique:
        return None

    def accept(value: list[Any]) -> bool:
        if most is not None and len(value) > most:
            return False
        if least is not None and len(value) < least:
            return False
        if each is not None:
            for member in value:
                if not each(member):
                    return False
        return not unique or not any(member in value[:position] for position, member in enumerate(value))

    return accept


def _object(node: Node) -> Accept | None:
    fields = {name: compile_accept(sub) for name, sub in node.properties.items() if not sub.trivial}
    names = node.properties
    additional = node.additional
    others = compile_accept(additional) if additional is not None and not additional.trivial else None
    closed = node.additional_allowed is False
    required, most, least = node.required, node.max_properties, node.min_properties
    if not fields and others is None and not closed and not required and most is None and least is None:
        return None

    def accept(value: dict[str, Any]) -> bool:
        if most is not None and len(value) > most:
            return False
        if least is not None and len(value) < least:
            return False
        for name in required:
            if name not in value:
                return False
        if others is not None or closed:
            for name, member in value.items():
                if name not in names and (closed or (others is not None and not others(member))):
                    return False
        if fields:
            for name, member in value.items():
                check = fields.get(name)
                if check is not None and not check(member):
                    return False
        return True

    return accept
