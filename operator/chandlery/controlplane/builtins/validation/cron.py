"""The five-field cron schedule and its errors.

Source: documentation of the standard cron format with descriptors (`@hourly`, `@every 5m`), and observed error texts.
"""

from __future__ import annotations

import re
import zoneinfo

_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, dict(zip("jan feb mar apr may jun jul aug sep oct nov dec".split(), range(1, 13), strict=True))),
    ("weekday", 0, 6, dict(zip("sun mon tue wed thu fri sat".split(), range(7), strict=True))),
)
_DESCRIPTORS = {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*")


class CronError(ValueError):
    """Not a schedule; the message is the API's."""


def _number(text: str, names: dict[str, int]) -> int:
    found = names.get(text.lower())
    if found is not None:
        return found
    if not re.fullmatch(r"[-+]?\d+", text):
        raise CronError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if len(text.lstrip("+-0")) > 18:
        raise CronError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": value out of range')
    value = int(text)
    if value < 0:
        raise CronError(f"negative number ({value}) not allowed: {text}")
    return value


def _range(text: str, low: int, high: int, names: dict[str, int]) -> None:
    parts = text.split("/")
    bounds = parts[0].split("-")
    single = len(bounds) == 1
    if bounds[0] in ("*", "?"):
        start, end = low, high
    else:
        start = _number(bounds[0], names)
        if len(bounds) == 1:
            end = start
        elif len(bounds) == 2:
            end = _number(bounds[1], names)
        else:
            raise CronError(f"too many hyphens: {text}")
    step = 1
    if len(parts) == 2:
        step = _number(parts[1], {})
        if single and bounds[0] not in ("*", "?"):
            end = high
    elif len(parts) > 2:
        raise CronError(f"too many slashes: {text}")
    if start < low:
        raise CronError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise CronError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise CronError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise CronError(f"step of range should be a positive number: {text}")


def check(schedule: str) -> None:
    """Raise CronError when the text is no schedule."""
    if not schedule:
        raise CronError("empty spec string")
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        zone, _, rest = schedule.partition("=")[2].partition(" ")
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise CronError(f"provided bad location {zone}: unknown time zone {zone}") from None
        schedule = rest.strip()
    if schedule.startswith("@"):
        if schedule in _DESCRIPTORS:
            return
        if schedule.startswith("@every "):
            text = schedule.removeprefix("@every ")
            if _DURATION.fullmatch(text):
                return
            raise CronError(f'failed to parse duration {schedule}: time: invalid duration "{text}"')
        raise CronError(f"unrecognized descriptor: {schedule}")
    fields = schedule.split()
    if len(fields) != 5:
        raise CronError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    for text, (_, low, high, names) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            if part:
                _range(part, low, high, names)
