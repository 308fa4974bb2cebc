"""Operators and conversions on values. Each takes any value and refuses what it can't do: `no such overload`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from chandlery.controlplane.cel.errors import CelError
from chandlery.controlplane.cel.values import (
    NONE,
    Duration,
    MapList,
    Optional,
    QuantityValue,
    SetList,
    Timestamp,
    TypeValue,
    UInt,
    equal,
    is_list,
    map_key,
    type_name,
)  # fmt: skip
from chandlery.controlplane.schema.goduration import parse_duration
from chandlery.controlplane.schema.gotext import verb_v

_INT_MIN, _INT_MAX, _UINT_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


def no_overload() -> CelError:
    return CelError("no such overload")


def to_int64(value: int) -> int:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    raise CelError("integer overflow")


def to_uint64(value: int) -> UInt:
    if 0 <= value <= _UINT_MAX:
        return UInt(value)
    raise CelError("unsigned integer overflow")


def add(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int:
            return to_int64(left + right)
        if kind is str or kind is float or kind is bytes:
            return left + right
        if kind is UInt:
            return to_uint64(int(left) + int(right))
        if kind is Duration:
            return Duration(left.nanos + right.nanos)
    if is_list(left) and is_list(right):
        return _add_lists(left, right)
    if kind is Timestamp and type(right) is Duration:
        return Timestamp(left.nanos + right.nanos, left.zone)
    if kind is Duration and type(right) is Timestamp:
        return Timestamp(left.nanos + right.nanos, right.zone)
    raise no_overload()


def _add_lists(left: list[Any], right: list[Any]) -> list[Any]:
    if type(left) is SetList:
        return SetList([*left, *(item for item in right if not any(equal(item, known) for known in left))])
    if type(left) is MapList:
        merged = list(left)
        places = {map_key(item, left.keys): position for position, item in enumerate(merged)}
        for item in right:
            place = places.get(map_key(item, left.keys))
            if place is None:
                merged.append(item)
            else:
                merged[place] = item
        return MapList(merged, left.keys)
    return [*left, *right]


def subtract(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int:
            return to_int64(left - right)
        if kind is float:
            return left - right
        if kind is UInt:
            return to_uint64(int(left) - int(right))
        if kind is Duration or kind is Timestamp:
            return Duration(left.nanos - right.nanos)
    if kind is Timestamp and type(right) is Duration:
        return Timestamp(left.nanos - right.nanos, left.zone)
    raise no_overload()


def multiply(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int:
            return to_int64(left * right)
        if kind is float:
            return left * right
        if kind is UInt:
            return to_uint64(int(left) * int(right))
    raise no_overload()


def divide(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is not type(right):
        raise no_overload()
    if kind is float:
        if right == 0.0:
            if left == 0.0 or math.isnan(left):
                return math.nan
            return math.copysign(math.inf, left) * math.copysign(1.0, right)
        return left / right
    if kind is int or kind is UInt:
        if right == 0:
            raise CelError("division by zero")
        quotient = abs(int(left)) // abs(int(right))
        if kind is UInt:
            return UInt(quotient)
        return to_int64(quotient if (left < 0) == (right < 0) else -quotient)
    raise no_overload()


def modulo(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is not type(right) or kind not in (int, UInt):
        raise no_overload()
    if right == 0:
        raise CelError("modulus by zero")
    rest = abs(int(left)) % abs(int(right))
    return UInt(rest) if kind is UInt else (-rest if left < 0 else rest)


def negate(value: Any) -> Any:
    if type(value) is int:
        return to_int64(-value)
    if type(value) is float:
        return -value
    raise no_overload()


def negation(value: Any) -> Any:
    if type(value) is bool:
        return not value
    raise no_overload()


_ORDERED = frozenset((str, bytes, bool))
_NUMBERS = frozenset((int, UInt, float))


def comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def call(left: Any, right: Any) -> bool:
        kind, other = type(left), type(right)
        if kind in _NUMBERS and other in _NUMBERS:
            if kind is not other and float in (kind, other):
                return compare(float(left), float(right))
            return compare(left, right)
        if kind is other:
            if kind in _ORDERED:
                return compare(left, right)
            if kind is Timestamp or kind is Duration:
                return compare(left.nanos, right.nanos)
        raise no_overload()

    return call


less = comparison(operator.lt)
less_equal = comparison(operator.le)
greater = comparison(operator.gt)
greater_equal = comparison(operator.ge)


def not_equal(left: Any, right: Any) -> bool:
    return not equal(left, right)


def contained(item: Any, where: Any) -> bool:
    """`item in where`."""
    if is_list(where):
        kind = type(item)
        if kind is str:
            return item in where
        return any(equal(member, item) for member in where)
    if type(where) is dict:
        return find_key(where, item) is not None
    raise no_overload()


def find_key(where: dict[Any, Any], key: Any) -> tuple[Any] | None:
    """The value in a one-tuple; numbers find one another across types."""
    kind = type(key)
    if kind is str or kind is bool or kind is int or kind is UInt:
        found = where.get(key, NONE)
        return None if found is NONE else (found,)
    if kind is float:
        found = where.get(key, NONE) if key.is_integer() else NONE
        return None if found is NONE else (found,)
    raise no_overload()


def show_key(key: Any) -> str:
    """A key as error texts show it."""
    return key if isinstance(key, str) else verb_v(key)


def index(where: Any, key: Any) -> Any:
    """`where[key]`."""
    if is_list(where):
        position = key
        if type(key) is float and key.is_integer():
            position = int(key)
        if type(position) not in (int, UInt):
            raise CelError(f"unsupported index type '{type_name(key)}' in list")
        if not 0 <= position < len(where):
            raise CelError(f"index out of bounds: {position}")
        return where[position]
    if type(where) is dict:
        found = find_key(where, key)
        if found is None:
            raise CelError(f"no such key: {show_key(key)}")
        return found[0]
    if type(where) is Optional:
        return optional_index(where, key)
    raise no_overload()


def optional_index(where: Any, key: Any) -> Optional:
    """`where[?key]`."""
    if type(where) is Optional:
        return optional_index(where.value, key) if where.present else NONE
    if is_list(where):
        if type(key) not in (int, UInt, float):
            raise no_overload()
        return Optional(where[int(key)]) if 0 <= key < len(where) and key == int(key) else NONE
    if type(where) is dict:
        found = find_key(where, key)
        return NONE if found is None else Optional(found[0])
    raise no_overload()


def size(value: Any) -> int:
    if type(value) in (str, bytes, dict) or is_list(value):
        return len(value)
    raise no_overload()


# -- conversions


def _unconvertible(value: Any, wanted: str) -> CelError:
    return CelError(f"type conversion error from '{type_name(value)}' to '{wanted}'")


def as_int(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is UInt:
        return to_int64(int(value))
    if kind is float:
        if not -9223372036854775808.0 < value < 9223372036854775808.0:
            raise CelError("integer overflow")
        return int(value)
    if kind is str:
        text = value[1:] if value[:1] in ("+", "-") else value
        if text.isascii() and text.isdigit() and _INT_MIN <= int(value) <= _INT_MAX:
            return int(value)
        raise _unconvertible(value, "int")
    if kind is Timestamp:
        return int(value.nanos // 1_000_000_000)
    if kind is Duration:
        return int(value.nanos)
    raise no_overload()


def as_uint(value: Any) -> UInt:
    kind = type(value)
    if kind is UInt:
        return UInt(value)
    if kind is int:
        return to_uint64(value)
    if kind is float:
        if not 0 <= value < 18446744073709551616.0:
            raise CelError("unsigned integer overflow")
        return UInt(int(value))
    if kind is str:
        if value.isascii() and value.isdigit() and int(value) <= _UINT_MAX:
            return UInt(int(value))
        raise _unconvertible(value, "uint")
    raise no_overload()


def as_double(value: Any) -> float:
    kind = type(value)
    if kind is float:
        return float(value)
    if kind is int or kind is UInt:
        return float(int(value))
    if kind is str:
        try:
            if value.strip() == value and "_" not in value:
                return float(value)
        except ValueError:
            pass
        raise _unconvertible(value, "double")
    raise no_overload()


def as_string(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool or kind is int or kind is float:
        return verb_v(value)
    if kind is UInt or kind is Timestamp or kind is Duration:
        return str(value)
    if kind is bytes:
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
    raise no_overload()


def as_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode()
    raise no_overload()


def as_bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is str:
        if value in ("1", "t", "T", "true", "TRUE", "True"):
            return True
        if value in ("0", "f", "F", "false", "FALSE", "False"):
            return False
        raise _unconvertible(value, "bool")
    raise no_overload()


def as_timestamp(value: Any) -> Timestamp:
    if type(value) is Timestamp:
        return value
    if type(value) is int:
        return Timestamp(value * 1_000_000_000)
    if type(value) is str:
        found = Timestamp.parse(value)
        if found is None:
            raise _unconvertible(value, "google.protobuf.Timestamp")
        return found
    raise no_overload()


def as_duration(value: Any) -> Duration:
    if type(value) is Duration:
        return value
    if type(value) is str:
        nanos = parse_duration(value)
        if nanos is None:
            raise _unconvertible(value, "google.protobuf.Duration")
        return Duration(nanos)
    raise no_overload()


def type_of_value(value: Any) -> TypeValue:
    return TypeValue(type_name(value))


def exact(value: Any) -> Decimal:
    """A quantity's number."""
    if type(value) is QuantityValue:
        return value.value
    raise no_overload()
