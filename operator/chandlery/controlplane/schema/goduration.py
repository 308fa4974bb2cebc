"""Durations in the `1h30m` notation, to the nanosecond."""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
MAX = (1 << 63) - 1


def parse_duration(text: str) -> int | None:
    """Nanoseconds; None when the text is no duration or doesn't fit into 63 bits."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    total = 0
    position = 0
    while position < len(body):
        match = _PART.match(body, position)
        if match is None or not (match[1] or match[2]):
            return None
        unit = _UNITS[match[3]]
        total += int(match[1] or "0") * unit
        if match[2]:
            total += int(match[2]) * unit // 10 ** len(match[2])
        position = match.end()
    if not body:
        return None
    negative = text.startswith("-")
    if total > MAX + (1 if negative else 0):
        return None
    return -total if negative else total


_WORDS = (
    (("ns",), "nano", 1),
    (("us", "µs"), "micro", 1_000),
    (("ms",), "milli", 1_000_000),
    (("s",), "sec", 1_000_000_000),
    (("m",), "min", 60_000_000_000),
    (("h", "hr"), "hour", 3_600_000_000_000),
    (("d",), "day", 86_400_000_000_000),
    (("w", "wk"), "week", 604_800_000_000_000),
)
_SPOKEN = re.compile(r"(\d+)\s*([A-Za-zµ]+)")


def parse_spoken_duration(text: str) -> int | None:
    """Nanoseconds of `1h30m`, and of `2 days 3 hours` as the format `duration` takes it; None when it is neither."""
    exact = parse_duration(text)
    if exact is not None:
        return exact
    total, found = 0, False
    for match in _SPOKEN.finditer(text):
        unit = match[2].lower()
        for names, beginning, size in _WORDS:
            if unit in names or unit.startswith(beginning):
                total += int(match[1]) * size
                found = True
    return total if found and total <= MAX else None


def format_duration(nanoseconds: int) -> str:
    """`1h30m0s`, `1.5s`, `100ms`, `0s`."""
    value = abs(nanoseconds)
    sign = "-" if nanoseconds < 0 else ""
    if value == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if value < size * 1000 and size < 1_000_000_000:
            return f"{sign}{_decimal(value, size)}{unit}"
    seconds = _decimal(value % 60_000_000_000, 1_000_000_000)
    minutes = value // 60_000_000_000
    if not minutes:
        return f"{sign}{seconds}s"
    if minutes < 60:
        return f"{sign}{minutes}m{seconds}s"
    return f"{sign}{minutes // 60}h{minutes % 60}m{seconds}s"


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(size)) - 1}d}".rstrip("0")
