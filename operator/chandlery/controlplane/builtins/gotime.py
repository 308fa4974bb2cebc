"""Times as Go reads and writes them: RFC 3339, with the texts of its parse errors.

Source: Go `time` documentation (layouts, accepted fractions), metav1.Time and metav1.MicroTime.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

RFC3339 = "2006-01-02T15:04:05Z07:00"
MICRO = "2006-01-02T15:04:05.000000Z07:00"

_SIMPLE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)
_SIMPLE_MICRO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z", re.ASCII)
_STEPS = (
    (r"\d{4}", "2006"), ("-", "-"), (r"\d\d", "01"), ("-", "-"), (r"\d\d", "02"), ("T", "T"),
    (r"\d\d", "15"), (":", ":"), (r"\d\d", "04"), (":", ":"), (r"\d\d", "05"),
)  # fmt: skip


class TimeError(ValueError):
    """Not a time; the message is Go's."""


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def parse(text: str, layout: str = RFC3339) -> datetime:
    """The moment, in UTC. Raises TimeError."""

    def bad(rest: str, step: str) -> TimeError:
        return TimeError(f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{step}"')

    pos = 0
    numbers: list[int] = []
    for pattern, step in _STEPS:
        m = re.compile(pattern, re.ASCII).match(text, pos)
        if m is None:
            raise bad(text[pos:], step)
        if len(step) > 1 or step.isdigit():
            numbers.append(int(m.group()))
        pos = m.end()
    micro = 0
    fraction = re.compile(r"[.,](\d+)").match(text, pos)
    if layout == MICRO and (fraction is None or len(fraction.group(1)) != 6):
        raise bad(text[pos:], ".000000")
    if fraction is not None:
        micro = int(fraction.group(1)[:6].ljust(6, "0"))
        pos = fraction.end()
    zone = text[pos:]
    m = re.fullmatch(r"(Z|[+-]\d\d:\d\d)(.*)", zone, re.DOTALL)
    if m is None:
        raise bad(zone, "Z07:00")
    if m.group(2):
        raise TimeError(f'parsing time "{text}": extra text: "{m.group(2)}"')
    year, month, day, hour, minute, second = numbers
    for name, ok in (
        ("month", 1 <= month <= 12),
        ("day", 1 <= month <= 12 and 1 <= day <= _days(year, month)),
        ("hour", hour < 24),
        ("minute", minute < 60),
        ("second", second < 60),
    ):
        if not ok:
            raise TimeError(f'parsing time "{text}": {name} out of range')
    offset = timedelta()
    if m.group(1) != "Z":
        sign = -1 if zone[0] == "-" else 1
        offset = sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    try:
        return datetime(year, month, day, hour, minute, second, micro, tzinfo=UTC) - offset
    except (ValueError, OverflowError):
        raise TimeError(f'parsing time "{text}": year out of range') from None


def _usual(text: str) -> bool:
    """Whether a text that looks like a UTC time is one: most times come as they are served."""
    try:
        year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
        datetime(year, month, day, int(text[11:13]), int(text[14:16]), int(text[17:19]), tzinfo=UTC)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4096)  # an object's times come by again with each of its patches
def normal_time(text: str) -> str:
    """A metav1.Time as it is served: UTC, whole seconds."""
    if _SIMPLE.match(text) and _usual(text):
        return text
    return parse(text).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def normal_micro_time(text: str) -> str:
    """A metav1.MicroTime as it is served: UTC, six digits of fraction."""
    if _SIMPLE_MICRO.match(text) and _usual(text):
        return text
    return parse(text, MICRO).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
