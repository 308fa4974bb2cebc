"""The standard library: operators, conversions, strings, times, optional values.

Source: the CEL language definition, "Standard Definitions", and the extension for optional values.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
    Type,
    list_of,
    map_of,
    optional_of,
    param,
    type_of,
)  # fmt: skip
from chandlery.controlplane.cel.values import MIN_SECONDS, NONE, Duration, Optional, Timestamp, equal, is_list
from chandlery.controlplane.schema.regex import RegexError, compile_re2

A, B, V = param("A"), param("B"), param("V")
_LIST_A, _MAP_AB = list_of(A), map_of(A, B)
_NUMBERS: tuple[tuple[str, Type], ...] = (("int64", INT), ("uint64", UINT), ("double", DOUBLE))


def matches(text: Any, pattern: Any) -> bool:
    if type(text) is not str or type(pattern) is not str:
        raise op.no_overload()
    try:
        return compile_re2(pattern).search(text) is not None
    except RegexError as error:
        raise CelError(f"error parsing regexp: {error}") from None


def standard() -> Functions:
    """A fresh copy of the standard functions."""
    functions = Functions()
    _operators(functions)
    _conversions(functions)
    _strings(functions)
    _times(functions)
    _optionals(functions)
    return functions


def _operators(f: Functions) -> None:
    f.add("_?_:_", "conditional", (BOOL, A, A), A, _unused)
    f.add("_&&_", "logical_and", (BOOL, BOOL), BOOL, _unused)
    f.add("_||_", "logical_or", (BOOL, BOOL), BOOL, _unused)
    f.add("!_", "logical_not", (BOOL,), BOOL, op.negation)
    f.add("_==_", "equals", (A, A), BOOL, equal)
    f.add("_!=_", "not_equals", (A, A), BOOL, op.not_equal)
    for name, kind in (("bytes", BYTES), ("double", DOUBLE)):
        f.add("_+_", f"add_{name}", (kind, kind), kind, op.add)
    f.add("_+_", "add_duration_duration", (DURATION, DURATION), DURATION, op.add)
    f.add("_+_", "add_duration_timestamp", (DURATION, TIMESTAMP), TIMESTAMP, op.add)
    f.add("_+_", "add_timestamp_duration", (TIMESTAMP, DURATION), TIMESTAMP, op.add)
    f.add("_+_", "add_int64", (INT, INT), INT, op.add)
    f.add("_+_", "add_list", (_LIST_A, _LIST_A), _LIST_A, op.add)
    f.add("_+_", "add_string", (STRING, STRING), STRING, op.add)
    f.add("_+_", "add_uint64", (UINT, UINT), UINT, op.add)
    for name, kind in _NUMBERS:
        f.add("_/_", f"divide_{name}", (kind, kind), kind, op.divide)
        f.add("_*_", f"multiply_{name}", (kind, kind), kind, op.multiply)
        f.add("_-_", f"subtract_{name}", (kind, kind), kind, op.subtract)
        if kind is not DOUBLE:
            f.add("_%_", f"modulo_{name}", (kind, kind), kind, op.modulo)
        if kind is not UINT:
            f.add("-_", f"negate_{name}", (kind,), kind, op.negate)
    f.add("_-_", "subtract_duration_duration", (DURATION, DURATION), DURATION, op.subtract)
    f.add("_-_", "subtract_timestamp_duration", (TIMESTAMP, DURATION), TIMESTAMP, op.subtract)
    f.add("_-_", "subtract_timestamp_timestamp", (TIMESTAMP, TIMESTAMP), DURATION, op.subtract)
    for symbol, word, call in (
        ("_<_", "less", op.less),
        ("_<=_", "less_equals", op.less_equal),
        ("_>_", "greater", op.greater),
        ("_>=_", "greater_equals", op.greater_equal),
    ):
        for name, kind in (("bool", BOOL), ("string", STRING), ("bytes", BYTES)):
            f.add(symbol, f"{word}_{name}", (kind, kind), BOOL, call)
        for name, kind in (("timestamp", TIMESTAMP), ("duration", DURATION)):
            f.add(symbol, f"{word}_{name}", (kind, kind), BOOL, call)
        for left_name, left in _NUMBERS:
            for right_name, right in _NUMBERS:
                suffix = left_name if left is right else f"{left_name}_{right_name}"
                f.add(symbol, f"{word}_{suffix}", (left, right), BOOL, call)
    f.add("_[_]", "index_list", (_LIST_A, INT), A, op.index)
    f.add("_[_]", "index_map", (_MAP_AB, A), B, op.index)
    f.add("_[_]", "optional_list_index_int", (optional_of(list_of(V)), INT), optional_of(V), op.index)
    f.add("_[_]", "optional_map_index_value", (optional_of(map_of(A, V)), A), optional_of(V), op.index)
    f.add("@in", "in_list", (A, _LIST_A), BOOL, op.contained)
    f.add("@in", "in_map", (A, _MAP_AB), BOOL, op.contained)
    for name, kind in (("bytes", BYTES), ("list", _LIST_A), ("map", _MAP_AB), ("string", STRING)):
        f.add("size", f"size_{name}", (kind,), INT, op.size)
        f.member("size", f"{name}_size", (kind,), INT, op.size)


def _unused(*_args: Any) -> Any:
    raise op.no_overload()  # these are compiled into control flow


def _conversions(f: Functions) -> None:
    f.add("type", "type", (A,), type_of(A), op.type_of_value)
    f.add("dyn", "to_dyn", (A,), DYN, lambda value: value)
    table: tuple[tuple[str, Type, Any, tuple[tuple[str, Type], ...]], ...] = (
        ("bool", BOOL, op.as_bool, (("bool", BOOL), ("string", STRING))),
        ("bytes", BYTES, op.as_bytes, (("bytes", BYTES), ("string", STRING))),
        ("double", DOUBLE, op.as_double, (("double", DOUBLE), ("int64", INT), ("string", STRING), ("uint64", UINT))),
        ("duration", DURATION, op.as_duration, (("duration", DURATION), ("string", STRING))),
        (
            "int", INT, op.as_int,
            (("int64", INT), ("double", DOUBLE), ("duration", DURATION), ("string", STRING), ("timestamp", TIMESTAMP),
             ("uint64", UINT)),
        ),
        (
            "string", STRING, op.as_string,
            (("string", STRING), ("bool", BOOL), ("bytes", BYTES), ("double", DOUBLE), ("duration", DURATION),
             ("int64", INT), ("timestamp", TIMESTAMP), ("uint64", UINT)),
        ),
        ("timestamp", TIMESTAMP, op.as_timestamp, (("timestamp", TIMESTAMP), ("int64", INT), ("string", STRING))),
        ("uint", UINT, op.as_uint, (("uint64", UINT), ("double", DOUBLE), ("int64", INT), ("string", STRING))),
    )  # fmt: skip
    for name, result, call, sources in table:
        target = {"int": "int64", "uint": "uint64"}.get(name, name)
        for source, kind in sources:
            f.add(name, f"{source}_to_{target}", (kind,), result, call)


def _strings(f: Functions) -> None:
    def text(call: Any) -> Any:
        def checked(*args: Any) -> Any:
            if any(type(arg) is not str for arg in args):
                raise op.no_overload()
            return call(*args)

        return checked

    f.member("contains", "contains_string", (STRING, STRING), BOOL, text(lambda value, part: part in value))
    f.member("endsWith", "ends_with_string", (STRING, STRING), BOOL, text(str.endswith))
    f.member("startsWith", "starts_with_string", (STRING, STRING), BOOL, text(str.startswith))
    f.add("matches", "matches", (STRING, STRING), BOOL, matches)
    f.member("matches", "matches_string", (STRING, STRING), BOOL, matches)


# -- times


def _zone(name: str) -> tzinfo:
    sign = name[:1]
    digits = name[1:] if sign in "+-" and sign else name
    hours, colon, minutes = digits.partition(":")
    if colon and hours.isdigit() and minutes.isdigit():
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CelError(f"unknown time zone {name}") from None


def _when(value: Any, zone: str) -> datetime:
    if type(value) is not Timestamp:
        raise op.no_overload()
    return value.datetime().astimezone(_zone(zone))


def _times(f: Functions) -> None:
    parts: tuple[tuple[str, str, Any], ...] = (
        ("getFullYear", "year", lambda when: when.year),
        ("getMonth", "month", lambda when: when.month - 1),
        ("getDayOfYear", "day_of_year", lambda when: when.timetuple().tm_yday - 1),
        ("getDayOfMonth", "day_of_month", lambda when: when.day - 1),
        ("getDate", "day_of_month_1_based", lambda when: when.day),
        ("getDayOfWeek", "day_of_week", lambda when: (when.weekday() + 1) % 7),
        ("getHours", "hours", lambda when: when.hour),
        ("getMinutes", "minutes", lambda when: when.minute),
        ("getSeconds", "seconds", lambda when: when.second),
        ("getMilliseconds", "milliseconds", lambda when: when.microsecond // 1000),
    )
    for name, word, read in parts:
        f.member(name, f"timestamp_to_{word}", (TIMESTAMP,), INT, _part(read))
        f.member(name, f"timestamp_to_{word}_with_tz", (TIMESTAMP, STRING), INT, _part(read))
    units = (("getHours", "hours", 3_600), ("getMinutes", "minutes", 60), ("getSeconds", "seconds", 1))
    for name, word, seconds in units:
        f.member(name, f"duration_to_{word}", (DURATION,), INT, _whole(seconds * 1_000_000_000))
    f.member("getMilliseconds", "duration_to_milliseconds", (DURATION,), INT, _whole(1_000_000))


def _part(read: Any) -> Any:
    return lambda value, zone="UTC": read(_when(value, zone))


def _whole(unit: int) -> Any:
    def call(value: Any) -> int:
        if type(value) is not Duration:
            raise op.no_overload()
        return abs(value.nanos) // unit * (-1 if value.nanos < 0 else 1)

    return call


# -- optional values


def _optionals(f: Functions) -> None:
    some = optional_of(V)
    f.add("optional.of", "optional_of", (V,), some, Optional)
    f.add("optional.ofNonZeroValue", "optional_ofNonZeroValue", (V,), some, _non_zero)
    f.add("optional.none", "optional_none", (), some, lambda: NONE)
    f.member("value", "optional_value", (some,), V, _value)
    f.member("hasValue", "optional_hasValue", (some,), BOOL, lambda value: _opt(value).present)
    f.member("or", "optional_or_optional", (some, some), some, _unused)
    f.member("orValue", "optional_orValue_value", (some, V), V, _unused)
    f.add("_[?_]", "list_optindex_optional_int", (list_of(V), INT), some, op.optional_index)
    f.add("_[?_]", "optional_list_optindex_optional_int", (optional_of(list_of(V)), INT), some, op.optional_index)
    f.add("_[?_]", "map_optindex_optional_value", (map_of(A, V), A), some, op.optional_index)
    f.add("_[?_]", "optional_map_optindex_optional_value", (optional_of(map_of(A, V)), A), some, op.optional_index)
    f.member("first", "list_first", (list_of(V),), some, lambda items: Optional(items[0]) if items else NONE)
    f.member("last", "list_last", (list_of(V),), some, lambda items: Optional(items[-1]) if items else NONE)
    f.add("optional.unwrap", "optional_unwrap", (list_of(some),), list_of(V), _unwrap)
    f.member("unwrapOpt", "optional_unwrapOpt", (list_of(some),), list_of(V), _unwrap)


def _opt(value: Any) -> Optional:
    if type(value) is not Optional:
        raise op.no_overload()
    return value


def _value(value: Any) -> Any:
    if not _opt(value).present:
        raise CelError("optional.none() dereference")
    return value.value


def _non_zero(value: Any) -> Optional:
    zero = value is None or value in (0, "", b"", False) or (is_list(value) and not value) or value == {}
    if type(value) is Duration:
        zero = value.nanos == 0
    elif type(value) is Timestamp:
        zero = value.nanos == MIN_SECONDS * 1_000_000_000
    return NONE if zero else Optional(value)


def _unwrap(items: Any) -> list[Any]:
    return [item.value for item in items if _opt(item).present]
