"""The string extension (version 2) and the regex library: charAt, indexOf, replace, split, format, find and so on."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from chandlery.controlplane.cel import operators as op
from chandlery.controlplane.cel.decls import Functions
from chandlery.controlplane.cel.errors import CelError
from chandlery.controlplane.cel.types import DYN, INT, STRING, list_of
from chandlery.controlplane.cel.values import Duration, Timestamp, TypeValue, UInt, is_list, type_name
from chandlery.controlplane.schema.gotext import plain_float
from chandlery.controlplane.schema.regex import RegexError, compile_re2

_QUOTED = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\",
    '"': '\\"',
}  # fmt: skip


def add_strings(f: Functions) -> None:
    one, two = (STRING, STRING), (STRING, STRING, INT)
    f.member("charAt", "string_char_at_int", (STRING, INT), STRING, _char_at)
    f.member("indexOf", "string_index_of_string", one, INT, _index_of)
    f.member("indexOf", "string_index_of_string_int", two, INT, _index_of)
    f.member("lastIndexOf", "string_last_index_of_string", one, INT, _last_index_of)
    f.member("lastIndexOf", "string_last_index_of_string_int", two, INT, _last_index_of)
    f.member("lowerAscii", "string_lower_ascii", (STRING,), STRING, _lower)
    f.member("upperAscii", "string_upper_ascii", (STRING,), STRING, _upper)
    f.member("replace", "string_replace_string_string", (STRING, STRING, STRING), STRING, _replace)
    f.member("replace", "string_replace_string_string_int", (STRING, STRING, STRING, INT), STRING, _replace)
    f.member("split", "string_split_string", one, list_of(STRING), _split)
    f.member("split", "string_split_string_int", two, list_of(STRING), _split)
    f.member("substring", "string_substring_int", (STRING, INT), STRING, _substring)
    f.member("substring", "string_substring_int_int", (STRING, INT, INT), STRING, _substring)
    f.member("trim", "string_trim", (STRING,), STRING, lambda text: text.strip())
    f.member("format", "string_format", (STRING, list_of(DYN)), STRING, format_string)
    f.add("strings.quote", "strings_quote", (STRING,), STRING, _quote)
    f.member("join", "list_join", (list_of(STRING),), STRING, _join)
    f.member("join", "list_join_string", (list_of(STRING), STRING), STRING, _join)
    f.member("find", "string_find_string", one, STRING, _find)
    f.member("findAll", "string_find_all_string", one, list_of(STRING), _find_all)
    f.member("findAll", "string_find_all_string_int", two, list_of(STRING), _find_all)


def _char_at(text: str, position: int) -> str:
    if not 0 <= position <= len(text):
        raise CelError(f"index out of range: {position}")
    return text[position : position + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if start < 0 or start > len(text):
        raise CelError(f"index out of range: {start}")
    return start if not part else text.find(part, start)


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return len(text) if not part else text.rfind(part)
    if start < 0 or start > len(text):
        raise CelError(f"index out of range: {start}")
    return start if not part else text.rfind(part, 0, start + len(part))


def _lower(text: str) -> str:
    return "".join(char.lower() if "A" <= char <= "Z" else char for char in text)


def _upper(text: str) -> str:
    return "".join(char.upper() if "a" <= char <= "z" else char for char in text)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    return text.replace(old, new, count if count >= 0 else -1)


def _split(text: str, separator: str, count: int = -1) -> list[str]:
    if count == 0:
        return []
    if not separator:
        chars = list(text)
        if 0 < count < len(chars):
            return [*chars[: count - 1], "".join(chars[count - 1 :])]
        return chars
    return text.split(separator, count - 1 if count > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    last = len(text) if end is None else end
    if end is None and not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    if start > last:
        raise CelError(f"invalid substring range. start: {start}, end: {last}")
    for position in (start, last):
        if not 0 <= position <= len(text):
            raise CelError(f"index out of range: {position}")
    return text[start:last]


def _quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(char, char) for char in text) + '"'


def _join(items: list[Any], separator: str = "") -> str:
    if any(type(item) is not str for item in items):
        raise op.no_overload()
    return separator.join(items)


def _pattern(pattern: str) -> Any:
    try:
        return compile_re2(pattern)
    except RegexError as error:
        raise CelError(f"Illegal regex: error parsing regexp: {error}") from None


def _find(text: str, pattern: str) -> str:
    match = _pattern(pattern).search(text)
    return match.group() if match else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match.group() for match in _pattern(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


# -- format


def format_string(template: str, args: list[Any]) -> str:
    """`"%s and %d".format([...])`: s, d, f, e, b, o, x, X with an optional precision, and %%."""
    out: list[str] = []
    position = used = 0
    while position < len(template):
        char = template[position]
        if char != "%":
            out.append(char)
            position += 1
            continue
        position += 1
        if position >= len(template):
            raise CelError("unexpected end of string")
        if template[position] == "%":
            out.append("%")
            position += 1
            continue
        precision = 6
        if template[position] == ".":
            digits = ""
            position += 1
            while position < len(template) and template[position].isdigit():
                digits += template[position]
                position += 1
            if not digits:
                raise CelError("error while parsing precision: unable to find end of precision specifier")
            precision = int(digits)
        clause = template[position : position + 1]
        position += 1
        if clause not in _CLAUSES:
            raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{clause}"')
        if used >= len(args):
            raise CelError(f"index {used} out of range")
        out.append(_CLAUSES[clause](args[used], precision))
        used += 1
    return "".join(out)


def _as_text(value: Any, _precision: int = 0) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is UInt:
        return str(int(value))
    if kind is float:
        if math.isnan(value) or math.isinf(value):
            return _special(value)
        return plain_float(value)
    if kind is bytes:
        return str(value, "utf-8", "replace")
    if kind is Timestamp or kind is Duration:
        return str(value)
    if kind is TypeValue:
        return str(value.name)
    if is_list(value):
        return "[" + ", ".join(_as_text(item) for item in value) + "]"
    if kind is dict:
        pairs = sorted((_as_text(key), _as_text(member)) for key, member in value.items())
        return "{" + ", ".join(f"{key}: {member}" for key, member in pairs) + "}"
    raise _wrong("string", value, "strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps")


def _wrong(clause: str, value: Any, accepted: str) -> CelError:
    return CelError(
        f"error during formatting: {clause} clause can only be used on {accepted}, was given {type_name(value)}"
    )


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _decimal(value: Any, _precision: int) -> str:
    kind = type(value)
    if kind is int or kind is UInt:
        return str(int(value))
    if kind is float and (math.isnan(value) or math.isinf(value)):
        return _special(value)
    raise _wrong("decimal", value, "integers")


def _float(value: Any, precision: int, form: str, name: str) -> str:
    if type(value) in (int, UInt):
        value = float(value)
    if type(value) is str and value in ("NaN", "Infinity", "-Infinity"):
        return str(value)
    if type(value) is not float:
        raise _wrong(name, value, "doubles")
    if math.isnan(value) or math.isinf(value):
        return _special(value)
    return format(Decimal(value), f".{precision}{form}") if form == "f" else f"{value:.{precision}e}"


def _based(value: Any, form: str, name: str) -> str:
    kind = type(value)
    if kind is bool and form == "b":
        return str(int(value))
    if kind is int or kind is UInt:
        return format(int(value), form)
    if form in ("x", "X") and kind in (str, bytes):
        text: str = (value if kind is bytes else value.encode()).hex()
        return text.upper() if form == "X" else text
    accepted = {"b": "integers and bools", "o": "integers"}.get(form, "integers, byte buffers, and strings")
    raise _wrong(name, value, accepted)


_CLAUSES: dict[str, Callable[[Any, int], str]] = {
    "s": _as_text,
    "d": _decimal,
    "f": lambda value, precision: _float(value, precision, "f", "fixed-point"),
    "e": lambda value, precision: _float(value, precision, "e", "scientific"),
    "b": lambda value, _precision: _based(value, "b", "binary"),
    "o": lambda value, _precision: _based(value, "o", "octal"),
    "x": lambda value, _precision: _based(value, "x", "hex"),
    "X": lambda value, _precision: _based(value, "X", "hex"),
}
