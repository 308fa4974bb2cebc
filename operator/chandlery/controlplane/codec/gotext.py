"""Values as Go's fmt package prints them: some of the API's error texts contain such prints.

`int`, `float`, `str`, `bool`, `None`, `list` and `dict` stand for int64, float64, string, bool, nil,
[]interface {} and map[string]interface {}. Source: Go documentation, package fmt (verbs %v, %#v, %T, %q).
"""

from __future__ import annotations

from math import isnan
from typing import Any


def go_float(value: float) -> str:
    """%v of a float64: the shortest form, with an exponent below 1e-4 and from 1e21 on."""
    if isnan(value):
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e21:
        return f"{value:.0f}" if value or str(value)[0] != "-" else "-0"
    text = repr(value)
    if "e" not in text:
        if abs(value) >= 1e-4:
            return text
        mantissa, exponent = f"{value:.17e}".split("e")
        digits = text.replace("-", "").replace(".", "").lstrip("0")
        mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
        return f"{'-' if value < 0 else ''}{mantissa}e{int(exponent):+03d}"
    mantissa, exponent = text.split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+03d}"


def go_quote(text: str) -> str:
    """%q of a string: double quotes, control characters escaped, everything printable as it is."""
    out = ['"']
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char in _NAMED:
            out.append(_NAMED[char])
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        elif ord(char) < 0x10000:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(f"\\U{ord(char):08x}")
    out.append('"')
    return "".join(out)


_NAMED = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def go_value(value: Any) -> str:
    """%v: `map[a:1 b:[x y]]`."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case float():
            return go_float(value)
        case dict():
            return "map[" + " ".join(f"{key}:{go_value(value[key])}" for key in sorted(value)) + "]"
        case list():
            return "[" + " ".join(map(go_value, value)) + "]"
        case _:
            return str(value)


def go_literal(value: Any) -> str:
    """%#v: `map[string]interface {}{"a":1}`."""
    match value:
        case None:
            return "interface {}(nil)"
        case bool():
            return "true" if value else "false"
        case float():
            return go_float(value)
        case str():
            return go_quote(value)
        case dict():
            inner = ", ".join(f"{go_quote(key)}:{go_literal(value[key])}" for key in sorted(value))
            return "map[string]interface {}{" + inner + "}"
        case list():
            return "[]interface {}{" + ", ".join(map(go_literal, value)) + "}"
        case _:
            return str(value)


def go_type(value: Any) -> str:
    """%T of a decoded JSON value."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "bool"
        case int():
            return "int64"
        case float():
            return "float64"
        case str():
            return "string"
        case dict():
            return "map[string]interface {}"
        case _:
            return "[]interface {}"
