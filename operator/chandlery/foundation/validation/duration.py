"""Lengths of time, as Go and Kubernetes write them (`1h30m`, `250ms`) and as ISO 8601 does (`PT1H30M`, `P7D`).

Days and weeks (`7d`, `2w`) are accepted as well, because people write them; they are always 24 hours and 7 days.
Printing is Go's: `168h0m0s`.
"""

import re
from datetime import timedelta
from fractions import Fraction
from functools import total_ordering
from typing import Any, Final

from chandlery.foundation.errors import InvalidSpec

SECOND: Final = 1_000_000_000
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": 86_400 * SECOND,
    "w": 604_800 * SECOND,
}
_ISO_UNITS: Final = {"W": "w", "D": "d", "H": "h", "M": "m", "S": "s"}
_MAX: Final = 2**63 - 1  # nanoseconds in Go's int64: about 292 years
_MAX_LENGTH: Final = 64
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h|d|w)")
_ISO: Final = re.compile(
    r"P(?=.)(?:([0-9.,]+)(W))?(?:([0-9.,]+)(D))?(?:T(?=.)(?:([0-9.,]+)(H))?(?:([0-9.,]+)(M))?(?:([0-9.,]+)(S))?)?"
)
_NUMBER: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)?")


@total_ordering
class Duration:
    """A length of time in whole nanoseconds, from -292 to 292 years.

    Args:
        value: text such as `90s`, `1h30m`, `7d`, `PT15M`; a number of seconds; a timedelta; another duration.
        field: named in the error.
        minimum: the shortest that is allowed, if any.
        maximum: the longest that is allowed, if any.

    Raises:
        InvalidSpec: not a duration, or outside of the bounds.
    """

    __slots__ = ("nanoseconds",)

    nanoseconds: int

    def __init__(
        self,
        value: "str | int | float | timedelta | Duration",
        *,
        field: str = "duration",
        minimum: "str | Duration | None" = None,
        maximum: "str | Duration | None" = None,
    ) -> None:
        if isinstance(value, Duration):
            self.nanoseconds = value.nanoseconds
        elif isinstance(value, str):
            self.nanoseconds = _parse(value, field)
        elif isinstance(value, timedelta):
            self.nanoseconds = (value.days * 86_400 + value.seconds) * SECOND + value.microseconds * 1000
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(value, field)
        else:
            try:
                self.nanoseconds = int(Fraction(value) * SECOND)
            except (ValueError, OverflowError):
                raise _wrong(value, field) from None
        if abs(self.nanoseconds) > _MAX:
            raise _wrong(value, field, "must be shorter than 292 years")
        if minimum is not None and self < Duration(minimum):
            raise InvalidSpec(f"must be at least {minimum}", field=field, value=str(value), hint="Use a longer time.")
        if maximum is not None and self > Duration(maximum):
            raise InvalidSpec(f"must be at most {maximum}", field=field, value=str(value), hint="Use a shorter time.")

    @classmethod
    def of_nanoseconds(cls, nanoseconds: int) -> "Duration":
        made = cls.__new__(cls)
        made.nanoseconds = nanoseconds
        return made

    @property
    def seconds(self) -> float:
        """All of it, in seconds: what clocks and timeouts take."""
        return self.nanoseconds / SECOND

    def timedelta(self) -> timedelta:
        """To the microsecond."""
        return timedelta(microseconds=self.nanoseconds // 1000)

    def __str__(self) -> str:
        rest = abs(self.nanoseconds)
        sign = "-" if self.nanoseconds < 0 else ""
        if rest == 0:
            return "0s"
        if rest < SECOND:
            unit = "ns" if rest < 1_000 else "\u00b5s" if rest < 1_000_000 else "ms"
            return f"{sign}{_decimal(rest, _UNITS[unit])}{unit}"
        hours, rest = divmod(rest, _UNITS["h"])
        minutes, rest = divmod(rest, _UNITS["m"])
        text = f"{_decimal(rest, SECOND)}s"
        if hours or minutes:
            text = f"{minutes}m{text}"
        return f"{sign}{hours}h{text}" if hours else f"{sign}{text}"

    def iso(self) -> str:
        """As ISO 8601: `P7DT1H`."""
        rest = abs(self.nanoseconds)
        days, rest = divmod(rest, _UNITS["d"])
        hours, rest = divmod(rest, _UNITS["h"])
        minutes, rest = divmod(rest, _UNITS["m"])
        text = f"{hours}H" * bool(hours) + f"{minutes}M" * bool(minutes) + f"{_decimal(rest, SECOND)}S" * bool(rest)
        sign = "-" if self.nanoseconds < 0 else ""
        return f"{sign}P{f'{days}D' * bool(days)}{f'T{text}' if text else '' if days else 'T0S'}"

    def __repr__(self) -> str:
        return f"Duration('{self}')"

    def __bool__(self) -> bool:
        return self.nanoseconds != 0

    def __hash__(self) -> int:
        return hash((Duration, self.nanoseconds))

    def __eq__(self, other: object) -> bool:
        return self.nanoseconds == other.nanoseconds if isinstance(other, Duration) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.nanoseconds < other.nanoseconds if isinstance(other, Duration) else NotImplemented

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import PydanticCustomError, core_schema

        def validate(value: Any) -> Duration:
            try:
                return cls(value, field="")
            except InvalidSpec as error:
                raise PydanticCustomError("duration", "{text}", {"text": error.condition_message()}) from None

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="unless-none")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, source: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string"}


def _parse(text: str, field: str) -> int:
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0
    if not body or len(body) > _MAX_LENGTH:
        raise _wrong(text, field)
    parts = _iso_parts(body, text, field) if body[0] == "P" else _go_parts(body, text, field)
    return sign * sum(int(Fraction(number) * _UNITS[unit]) for number, unit in parts)


def _go_parts(body: str, text: str, field: str) -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    position = 0
    while position < len(body):
        match = _PART.match(body, position)
        if match is None:
            if re.fullmatch(r"[0-9.]+", body):
                raise _wrong(text, field, "must have a unit")
            raise _wrong(text, field)
        parts.append((match.group(1), match.group(2)))
        position = match.end()
    return parts


def _iso_parts(body: str, text: str, field: str) -> list[tuple[str, str]]:
    match = _ISO.fullmatch(body)
    if match is None:
        if re.match(r"P[0-9.,]+[YM]", body):
            raise _wrong(text, field, "must not count in years or months, which differ in length")
        raise _wrong(text, field)
    groups = match.groups()
    parts = [(groups[i], _ISO_UNITS[groups[i + 1]]) for i in range(0, len(groups), 2) if groups[i] is not None]
    if any(_NUMBER.fullmatch(number) is None for number, _ in parts):
        raise _wrong(text, field)
    if any("." in number or "," in number for number, _ in parts[:-1]):
        raise _wrong(text, field, "may have a fraction in its last part only")
    return [(number.replace(",", "."), unit) for number, unit in parts]


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    if not rest:
        return str(whole)
    width = len(str(unit)) - 1
    return f"{whole}.{str(rest).rjust(width, '0').rstrip('0')}"


def _wrong(value: object, field: str, rule: str = "must be a length of time") -> InvalidSpec:
    return InvalidSpec(
        rule, field=field or None, value=value, hint="Write for example 30s, 15m, 1h30m, 7d, or PT15M (ISO 8601)."
    )
