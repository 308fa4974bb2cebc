"""Text as the reference server's language prints it: JSON, quoted strings, numbers.

Error messages quote values, so their exact form is part of the API's observable behaviour.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_QUOTE = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


def json_text(value: Any, *, sort: bool = True) -> str:
    """Compact JSON with sorted keys and HTML-sensitive characters escaped.

    `sort=False` keeps the order of the outermost mapping (for values that are structs there, not maps).
    """
    if isinstance(value, dict):
        keys = sorted(value) if sort else list(value)
        return "{" + ",".join(f"{json_text(str(k))}:{json_text(value[k])}" for k in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(json_text(v) for v in value) + "]"
    if isinstance(value, float):
        return json_float(value)
    text = json.dumps(value, ensure_ascii=False)
    for char, escape in _HTML.items():
        if char in text:
            text = text.replace(char, escape)
    return text


def json_float(value: float) -> str:
    """A float64 as JSON: plain digits from 1e-6 up to 1e21, else an exponent (ECMAScript's rule)."""
    if math.isnan(value) or math.isinf(value):
        raise ValueError("JSON has no NaN and no infinity")
    magnitude = abs(value)
    if magnitude and (magnitude < 1e-6 or magnitude >= 1e21):
        exact = Decimal(repr(value)).normalize()
        digits = "".join(map(str, exact.as_tuple().digits))
        mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
        return f"{'-' if exact.is_signed() else ''}{mantissa}e{exact.adjusted():+d}"
    return plain_float(value)


def plain_float(value: float) -> str:
    """The shortest digits that give this float64 back, without an exponent and without a trailing `.0`."""
    text = repr(value)
    if "e" in text or "E" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")


def integral(value: float) -> int:
    """An integral float64 as the integer that its shortest decimal form names (1e20 -> 10**20)."""
    return int(Decimal(repr(value)))


def verb_v(value: Any) -> str:
    """Numbers and booleans as `%v`: a float below 1e-4 or from 1e6 up (its decimal exponent) has an exponent."""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, float):
        if math.isinf(value):
            return "+Inf" if value > 0 else "-Inf"
        if math.isnan(value):
            return "NaN"
        exact = Decimal(repr(value)).normalize()
        exponent = exact.adjusted() if exact else 0
        if exponent < -4 or exponent >= 6:
            digits = "".join(map(str, exact.as_tuple().digits))
            mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
            sign = "-" if exact.is_signed() else ""
            return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
        return plain_float(value)
    return str(value)


def quote(text: str) -> str:
    """A string as `%q` prints it."""
    out = ['"']
    for char in text:
        if (escaped := _QUOTE.get(char)) is not None:
            out.append(escaped)
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
