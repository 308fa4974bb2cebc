"""Quantities exactly as Kubernetes parses, compares and prints them (apimachinery's resource.Quantity).

A quantity is a whole number of billionths, and remembers in which of three ways it was written: binary (Ki, Mi ...),
decimal (m, k, M ...) or with an exponent (1e3). Printing is canonical: no fraction, the largest suffix that keeps the
value exact. Finer than a billionth is rounded away from zero, and binary quantities are capped at 2**63-1, as there.
"""

import re
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import total_ordering
from typing import Any, Final

from chandlery.foundation.errors import InvalidSpec

NANO: Final = 1_000_000_000
_CAP: Final = (2**63 - 1) * NANO
# The parser in Go accepts text without a digit ("Mi" is 0); the API's own pattern doesn't, and neither do we.
_TEXT: Final = re.compile(r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")
_MAX_LENGTH: Final = 128
_MAX_EXPONENT: Final = 300  # beyond it a short text would ask for an endless number

PATTERN: Final = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)

_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAMES: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_NAMES: Final = {exponent: suffix for suffix, exponent in _BINARY.items()}


class Format(Enum):
    """How a quantity was written, and so how it is printed."""

    BINARY = "BinarySI"
    DECIMAL = "DecimalSI"
    EXPONENT = "DecimalExponent"


@total_ordering
class Quantity:
    """An amount of memory, CPU, storage or anything else that is counted.

    Args:
        value: text such as `512Mi`, `1.5`, `100m`, `1e3`; a whole number; another quantity.
        field: named in the error.

    Raises:
        InvalidSpec: the text is not a quantity.
    """

    __slots__ = ("_nano", "format")

    _nano: int
    format: Format

    def __init__(self, value: "str | int | float | Decimal | Fraction | Quantity", *, field: str = "quantity") -> None:
        if isinstance(value, Quantity):
            self._nano, self.format = value.nano, value.format
        elif isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | Fraction):
            raise _wrong(value, field)
        elif isinstance(value, str):
            self._nano, self.format = _parse(value, field)
        else:
            self._nano, self.format = _from_number(value, field), Format.DECIMAL

    @classmethod
    def of_nano(cls, nano: int, format: Format = Format.DECIMAL) -> "Quantity":  # noqa: A002 - Kubernetes' word for it
        made = cls.__new__(cls)
        made._nano, made.format = nano, format  # noqa: SLF001 - our own
        return made

    @classmethod
    def bytes(cls, count: int) -> "Quantity":
        """A number of bytes, printed with binary suffixes."""
        return cls.of_nano(count * NANO, Format.BINARY)

    @property
    def exact(self) -> Fraction:
        return Fraction(self._nano, NANO)

    @property
    def nano(self) -> int:
        """Billionths."""
        return self._nano

    @property
    def milli(self) -> int:
        """Thousandths, rounded away from zero: the number that CPU limits are made of."""
        return _divide_up(self._nano, NANO // 1000)

    def __int__(self) -> int:
        """Whole units, rounded away from zero, as Kubernetes' Value() does: never less than was asked for."""
        return _divide_up(self._nano, NANO)

    def __float__(self) -> float:
        return float(self.exact)

    def __str__(self) -> str:
        if self._nano == 0:
            return "0"
        whole, rest = divmod(self._nano, NANO)
        if self.format is Format.BINARY and rest == 0 and abs(whole) >= 1024:
            exponent = 0
            while whole % 1024 == 0 and exponent < 60:
                whole //= 1024
                exponent += 10
            return f"{whole}{_BINARY_NAMES.get(exponent, '')}"
        number, exponent = self._nano, -9
        while number % 1000 == 0:
            number //= 1000
            exponent += 3
        # Above E there is no suffix, and newer releases fall back on an exponent (older ones print a wrong number).
        if exponent and (self.format is Format.EXPONENT or exponent > 18):
            return f"{number}e{exponent}"
        return f"{number}{_DECIMAL_NAMES[exponent]}"

    def __repr__(self) -> str:
        return f"Quantity('{self}')"

    def __bool__(self) -> bool:
        return self._nano != 0

    def __hash__(self) -> int:
        return hash(self.exact)

    def __eq__(self, other: object) -> bool:
        mine = _nano_of(other)
        return NotImplemented if mine is None else self._nano == mine

    def __lt__(self, other: object) -> bool:
        mine = _nano_of(other)
        return NotImplemented if mine is None else self._nano < mine

    def __neg__(self) -> "Quantity":
        return Quantity.of_nano(-self._nano, self.format)

    def __add__(self, other: "Quantity | int") -> "Quantity":
        return self._combine(other, 1)

    def __sub__(self, other: "Quantity | int") -> "Quantity":
        return self._combine(other, -1)

    def __mul__(self, factor: int | Fraction) -> "Quantity":
        product = Fraction(self._nano) * Fraction(factor)
        return Quantity.of_nano(_divide_up(product.numerator, product.denominator), self.format)

    __rmul__ = __mul__

    def _combine(self, other: "Quantity | int", sign: int) -> "Quantity":
        theirs = Quantity(other)
        # Nothing plus something looks like the something.
        kept = theirs.format if self._nano == 0 and isinstance(other, Quantity) else self.format
        return Quantity.of_nano(self._nano + sign * theirs._nano, kept)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import PydanticCustomError, core_schema

        def validate(value: Any) -> Quantity:
            try:
                return cls(value, field="")
            except InvalidSpec as error:
                raise PydanticCustomError("quantity", "{text}", {"text": error.condition_message()}) from None

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="unless-none")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, source: Any, handler: Any) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": PATTERN,
            "x-kubernetes-int-or-string": True,
        }


def as_served(text: str, *, field: str = "quantity") -> str:
    """What an API server gives back for a quantity in a built-in object.

    That is the canonical text, except that its parser's fast path keeps what looks canonical to it (`+5`, `1.`).

    Raises:
        InvalidSpec: not a quantity.
    """
    canonical = str(Quantity(text, field=field))
    match = _TEXT.fullmatch(text)
    if match is None or not canonical or canonical == "0":
        return canonical
    whole, _, fraction = match.group(2).partition(".")
    digits = (whole.lstrip("0") or "0") + fraction
    suffix = match.group(3) or ""
    if suffix in _BINARY:
        power = _BINARY[suffix]
        quick = not fraction and 15 - len(digits) - power * 3 // 10 - 1 >= 0
        return text if quick and int(digits) & 7 else canonical
    scale = (_DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])) - len(fraction)
    quick = len(digits) <= 18 and scale >= -9
    return text if quick and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0" else canonical


def _parse(text: str, field: str) -> tuple[int, Format]:
    match = _TEXT.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise _wrong(text, field)
    sign, number, suffix = match.group(1), match.group(2), match.group(3) or ""
    whole, _, fraction = number.partition(".")
    digits = int(f"{whole}{fraction}" or "0")
    top, bottom = digits * NANO, 10 ** len(fraction)
    if suffix in _BINARY:
        style = Format.BINARY
        top <<= _BINARY[suffix]
    else:
        style = Format.DECIMAL if suffix in _DECIMAL else Format.EXPONENT
        exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
        if abs(exponent) > _MAX_EXPONENT:
            raise _wrong(text, field, f"must have an exponent from -{_MAX_EXPONENT} to {_MAX_EXPONENT}")
        if exponent >= 0:
            top *= 10**exponent
        else:
            bottom *= 10**-exponent
    nano = _divide_up(top, bottom)
    if style is Format.BINARY:
        nano = min(nano, _CAP)
        if 0 < nano < NANO:
            style = Format.DECIMAL
    return (-nano if sign == "-" else nano), style


def _from_number(number: float | Decimal | Fraction, field: str) -> int:
    try:
        # By way of its shortest text: the float 0.1 means one tenth here, not the binary number next to it.
        exact = Fraction(repr(number)) if isinstance(number, float) else Fraction(number)
    except (ValueError, OverflowError):
        raise _wrong(number, field) from None
    return _divide_up(exact.numerator * NANO, exact.denominator)


def _nano_of(other: object) -> int | None:
    if isinstance(other, Quantity):
        return other.nano
    if isinstance(other, int) and not isinstance(other, bool):
        return other * NANO
    return None


def _divide_up(number: int, by: int) -> int:
    """Rounded away from zero."""
    return -(-number // by) if number >= 0 else number // by


def _wrong(value: object, field: str, rule: str = "") -> InvalidSpec:
    return InvalidSpec(
        rule or "must be a quantity: a number with an optional suffix",
        field=field or None,
        value=value,
        hint="Write for example 512Mi or 10Gi for bytes (Ki Mi Gi Ti Pi Ei, or k M G T P E), 500m or 2 for CPUs.",
    )
