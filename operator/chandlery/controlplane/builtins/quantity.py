"""`resource.Quantity`: parse, compare and write in canonical form.

Source: the documentation of the Quantity type (k8s.io/apimachinery/pkg/api/resource): a number with a decimal SI,
binary SI or exponent suffix; canonical form has no fraction, the largest suffix that keeps it exact, and
keeps the format.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

FORMAT_WRONG = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_WRONG = "unable to parse quantity's suffix"
NUMERIC_WRONG = "unable to parse numeric part of quantity"

_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_BY_EXPONENT = {v: k for k, v in _DECIMAL.items()}
_BINARY_BY_EXPONENT = {v: k for k, v in _BINARY.items()}
_NANO = Fraction(1, 10**9)
_CAP = Fraction(2**63 - 1)
"""No binary quantity is larger."""
_MOST = 1000
"""Digits and powers of ten that are still told apart: a request may not make the server count forever."""


class QuantityError(ValueError):
    """The text is no quantity; the message is the API's own."""


def _split(text: str) -> tuple[str, str]:
    """(number with sign, suffix)."""
    pos, end = 0, len(text)
    if text[:1] in ("+", "-"):
        pos = 1
    start = pos
    dot = False
    while pos < end and (text[pos].isdigit() or (text[pos] == "." and not dot)):
        dot = dot or text[pos] == "."
        pos += 1
    number = text[:start].replace("+", "") + text[start:pos]
    first = pos
    while pos < end and text[pos] in "eEinumkKMGTP":
        pos += 1
    if pos < end and text[pos] in "+-":
        pos += 1
    while pos < end and text[pos].isdigit():
        pos += 1
    if pos < end:
        raise QuantityError(FORMAT_WRONG)
    return number, text[first:]


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[Fraction, str]:
    """(value, format): format is `DecimalSI`, `BinarySI` or `DecimalExponent`. Raises QuantityError."""
    if not text or not text.isascii():
        raise QuantityError(FORMAT_WRONG)
    number, suffix = _split(text)
    if suffix in _BINARY:
        scale, style = Fraction(2 ** _BINARY[suffix]), "BinarySI"
    elif suffix in _DECIMAL:
        exponent = _DECIMAL[suffix]
        scale, style = Fraction(10) ** exponent, "DecimalSI"
    elif 1 < len(suffix) < 16 and suffix[0] in "eE" and suffix[1:].lstrip("+-").isdigit():
        scale, style = Fraction(10) ** max(-_MOST, min(_MOST, int(suffix[1:]))), "DecimalExponent"
    else:
        raise QuantityError(SUFFIX_WRONG)
    digits = number.lstrip("-")
    if not any(c.isdigit() for c in digits) or len(digits) > _MOST:
        raise QuantityError(NUMERIC_WRONG)
    value = Fraction(digits if digits[-1] != "." else digits[:-1]) if digits[0] != "." else Fraction("0" + digits)
    value *= scale
    if style == "BinarySI":
        value = min(value, _CAP)
    if value and value % _NANO:  # never finer than nano: rounded away from zero
        value = (value // _NANO + 1) * _NANO
    return (-value if number.startswith("-") else value), style


def _decimal(value: Fraction, style: str) -> str:
    sign, value = ("-" if value < 0 else ""), abs(value)
    exponent = -9
    mantissa = int(value / _NANO)
    while mantissa % 10 == 0:
        mantissa //= 10
        exponent += 1
    while exponent % 3:
        mantissa *= 10
        exponent -= 1
    if style == "DecimalExponent":
        return f"{sign}{mantissa}" + (f"e{exponent}" if exponent else "")
    while exponent not in _DECIMAL_BY_EXPONENT:  # larger than exa
        mantissa *= 1000
        exponent -= 3
    return f"{sign}{mantissa}{_DECIMAL_BY_EXPONENT[exponent]}"


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The one way this quantity is written: "0.5" -> "500m", "1024Mi" -> "1Gi"."""
    value, style = parse(text)
    return write(value, style)


def write(value: Fraction, style: str = "DecimalSI") -> str:
    """A value in canonical form of the given format."""
    if not value:
        return "0"
    if style == "BinarySI" and (abs(value) < 1024 or value.denominator != 1):
        style = "DecimalSI"
    if style != "BinarySI":
        return _decimal(value, style)
    number, exponent = int(value), 0
    while number % 1024 == 0 and exponent < 60:
        number //= 1024
        exponent += 10
    return f"{number}{_BINARY_BY_EXPONENT.get(exponent, '')}"
