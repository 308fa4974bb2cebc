"""The string extension (version 2) and the regex library: charAt, indexOf, replace, split, format, find and so on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from chandlery.controlplane.cel import operators as op
from chandlery.controlplane.cel.decls import Functions
from chandlery.controlplane.cel.errors import CelError
from chandlery.controlplane.cel.types import DYN, INT, STRING, list_of
from chandlery.controlplane.cel.values import Duration, Timestamp, TypeValue, UInt, is_list, type_name
from chandlery.controlplane.schema.gotext import quote
from chandlery.controlplane.schema.regex import RegexError, compile_re2

_QUOTED = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\",
    '"': '\\"',
}  # fmt: skip
_SPACE = "".join(char for char in map(chr, range(0x3001)) if char.isspace() and not "\x1c" <= char <= "\x1f")


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
    f.member("trim", "string_trim", (STRING,), STRING, lambda text: text.strip(_SPACE))
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
    if not part:
        return start
    if start < 0:
        raise CelError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return len(text) if not part else text.rfind(part)
    if not part:
        return start
    if start < 0:
        raise CelError(f"index out of range: {start}")
    return -1 if start >= len(text) else text.rfind(part, 0, start + len(part))


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
    for item in items:
        if type(item) is not str:
            raise CelError(f"join: invalid input: {op.as_string(item)}")
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
        position += 1
        if char != "%":
            out.append(char)
            continue
        if template[position : position + 1] == "%":
            out.append("%")
            position += 1
            continue
        if used >= len(args):
            raise CelError(f"index {used} out of range")
        if position >= len(template):
            raise CelError("unexpected end of string")
        precision, position = _precision(template, position)
        clause = template[position]
        position += 1
        if clause not in _CLAUSES:
            raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{clause}"')
        out.append(_CLAUSES[clause](args[used], precision))
        used += 1
    return "".join(out)


def _precision(template: str, position: int) -> tuple[int, int]:
    """The precision of a clause, and where it goes on."""
    if template[position] != ".":
        return 6, position
    start = position = position + 1
    while template[position : position + 1] in _DIGITS:
        position += 1
    problem = "could not parse formatting clause: error while parsing precision: "
    if position >= len(template):
        raise CelError(f"{problem}could not find end of precision specifier")
    if start == position:
        raise CelError(
            f'{problem}error while converting precision to integer: strconv.Atoi: parsing "": invalid syntax'
        )
    return min(int(template[start:position]), _MOST_DIGITS), position


def _as_text(value: Any, _precision: int = 0) -> str:
    kind = type(value)
    if value is None:
        return "null"
    if kind is TypeValue:
        return str(value.name)
    if is_list(value):
        return "[" + ", ".join(map(_as_literal, value)) + "]"
    if kind is dict:
        pairs = sorted((_as_key(key), _as_literal(member)) for key, member in value.items())
        return "{" + ", ".join(f"{key}:{member}" for key, member in pairs) + "}"
    if kind in (str, bool, int, UInt, float, bytes, Timestamp, Duration):
        return op.as_string(value)
    accepted = "strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
    raise _wrong(f"string clause can only be used on {accepted}", value)


def _as_key(key: Any) -> str:
    if type(key) not in (str, bool, int, UInt):
        raise CelError(f"error during formatting: no formatting function for map key of type {type_name(key)}")
    return _as_literal(key)


def _as_literal(value: Any) -> str:
    """A member of a list or map, written as an expression would."""
    kind = type(value)
    if kind is str:
        return quote(value)
    if kind is bytes:
        return "b" + quote(op.as_string(value))
    if kind is float:
        if math.isnan(value) or math.isinf(value):
            return f'"{op.as_string(value)}"'
        return f"{value:.6f}"
    if kind is Timestamp or kind is Duration:
        return f'{"timestamp" if kind is Timestamp else "duration"}("{value}")'
    if kind in (int, UInt, bool, dict, TypeValue) or value is None or is_list(value):
        return _as_text(value)
    raise CelError(f"error during formatting: no formatting function for {type_name(value)}")


def _wrong(what: str, value: Any) -> CelError:
    return CelError(f"error during formatting: {what}, was given {type_name(value)}")


def _decimal(value: Any, _precision: int) -> str:
    if type(value) in (int, UInt):
        return str(int(value))
    raise _wrong("decimal clause can only be used on integers", value)


def _double(value: Any, clause: str) -> float:
    if type(value) is str and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    if type(value) is not float:
        raise _wrong(f"{clause} clause can only be used on doubles", value)
    return value


def _special(value: float) -> str:
    """NaN and the infinities as they are written in English text."""
    return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"


def _fixed(value: Any, precision: int) -> str:
    number = _double(value, "fixed-point")
    if not math.isfinite(number):
        return _special(number)
    return f"{number:,.{precision}f}"


def _scientific(value: Any, precision: int) -> str:
    number = _double(value, "scientific")
    if not math.isfinite(number):
        return _special(number)
    mantissa, _, exponent = f"{number:.{precision}e}".partition("e")
    return f"{mantissa}×10{'⁻' if exponent[0] == '-' else ''}{exponent[1:].translate(_SUPERSCRIPT)}"


def _based(value: Any, form: str) -> str:
    kind = type(value)
    if kind is bool and form == "b":
        return str(int(value))
    if kind is int or kind is UInt:
        return format(int(value), form)
    if form in ("x", "X") and kind in (str, bytes):
        text: str = (value if kind is bytes else value.encode()).hex()
        return text.upper() if form == "X" else text
    raise _wrong(_BASES[form.lower()], value)


_DIGITS = tuple("0123456789")
_MOST_DIGITS = 2000
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_BASES = {
    "b": "only integers and bools can be formatted as binary",
    "o": "octal clause can only be used on integers",
    "x": "only integers, byte buffers, and strings can be formatted as hex",
}
_CLAUSES: dict[str, Callable[[Any, int], str]] = {
    "s": _as_text,
    "d": _decimal,
    "f": _fixed,
    "e": _scientific,
    "b": lambda value, _precision: _based(value, "b"),
    "o": lambda value, _precision: _based(value, "o"),
    "x": lambda value, _precision: _based(value, "x"),
    "X": lambda value, _precision: _based(value, "X"),
}
