"""Cron schedules of five fields, with the meaning that Kubernetes CronJobs give them.

`minute hour day-of-month month day-of-week`; lists, ranges, steps, names (JAN, MON), 7 for Sunday (which a
CronJob itself refuses: `portable` spells it another way), and `@hourly`,
`@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`. When both days are restricted, either is enough.

Around daylight saving: a time that the clock skips runs right after the gap, as long after it as it lay inside; a time
that comes twice runs once, unless the schedule runs at every hour.
"""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

from chandlery.foundation.errors import InvalidSpec

_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS: Final = {
    "JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAY": 5, "JUN": 6,
    "JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10, "NOV": 11, "DEC": 12,
}  # fmt: skip
_DAYS: Final = {"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6}
_LONGEST: Final = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}
# From one 29 February to the next may be eight years, and a weekday is an alternative to it, never a further condition.
_HORIZON_DAYS: Final = 9 * 366

_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)


class Cron:
    """A parsed schedule.

    Args:
        text: five fields, or one of the `@` words.
        field: named in the error.

    Raises:
        InvalidSpec: not a schedule, or one that never comes (30 February).
    """

    __slots__ = (
        "_any_day",
        "_any_weekday",
        "_days",
        "_every_hour",
        "_hours",
        "_minutes",
        "_months",
        "_weekdays",
        "text",
    )

    def __init__(self, text: str, *, field: str = "schedule") -> None:
        if not isinstance(text, str):
            raise _wrong(text, field, "must be text")
        self.text = " ".join(text.split())
        spelled = _MACROS.get(self.text.lower(), self.text)
        if spelled.startswith("@"):
            raise _wrong(text, field, f"must be one of {', '.join(_MACROS)}, or five fields")
        if spelled.upper().startswith(("TZ=", "CRON_TZ=")):
            raise _wrong(text, field, "must not name a time zone: that is a field of its own")
        parts = spelled.split()
        if len(parts) != 5:
            raise _wrong(text, field, f"must have five fields, and has {len(parts)}")
        sets = [_parse(part, spec, text, field) for part, spec in zip(parts, _FIELDS, strict=True)]
        (self._minutes, _), (self._hours, self._every_hour), (self._days, self._any_day) = sets[:3]
        (self._months, _), (weekdays, self._any_weekday) = sets[3:]
        self._weekdays = frozenset(day % 7 for day in weekdays)
        if self._any_weekday and not any(day <= _LONGEST[month] for day in self._days for month in self._months):
            raise _wrong(text, field, "never comes: no month of these has such a day")

    def next(self, after: datetime, tz: tzinfo = UTC) -> datetime:
        """The first moment later than `after` (aware), as UTC.

        Args:
            after: aware; the answer is strictly later.
            tz: the zone whose wall clock the schedule means.
        """
        if after.tzinfo is None:
            raise ValueError("after: must be aware")
        after = after.astimezone(UTC)
        day = after.astimezone(tz).date() - timedelta(days=1)  # a gap can carry a time into the next day
        for _ in range(_HORIZON_DAYS):
            # Two days at once: what a gap at midnight carries over may come after the next day's first moments.
            both = [each for each in (day, day + timedelta(days=1)) if self._matches(each)]
            later = [moment for each in both for moment in self._moments(each, tz) if moment > after]
            if later:
                return min(later)
            day += timedelta(days=1)
        raise AssertionError(f"{self.text!r} does not come within nine years")  # the constructor excludes it

    def _matches(self, day: date) -> bool:
        if day.month not in self._months:
            return False
        in_month, in_week = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return in_month and in_week if self._any_day or self._any_weekday else in_month or in_week

    def _moments(self, day: date, tz: tzinfo) -> set[datetime]:
        moments: set[datetime] = set()
        for hour in self._hours:
            for minute in self._minutes:
                wall = datetime.combine(day, time(hour, minute), tz)
                moments.add(wall.astimezone(UTC))
                if self._every_hour:
                    again = wall.replace(fold=1).astimezone(UTC)
                    if again.astimezone(tz).replace(tzinfo=None) == wall.replace(tzinfo=None):
                        moments.add(again)
        return moments

    def portable(self) -> str:
        """The same schedule in plain numbers and ranges, as every cron reads it."""
        weekday = "*" if self._any_weekday else _spell(self._weekdays)
        day = "*" if self._any_day else _spell(self._days)
        hour = "*" if self._every_hour else _spell(self._hours)
        month = "*" if len(self._months) == 12 else _spell(self._months)
        minute = "*" if len(self._minutes) == 60 else _spell(self._minutes)
        return f"{minute} {hour} {day} {month} {weekday}"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Cron({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Cron) else NotImplemented

    def __hash__(self) -> int:
        return hash((Cron, self.text))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import PydanticCustomError, core_schema

        def validate(value: Any) -> Cron:
            try:
                return value if isinstance(value, cls) else cls(value, field="")
            except InvalidSpec as error:
                raise PydanticCustomError("cron", "{text}", {"text": error.condition_message()}) from None

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="unless-none")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, source: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string"}


def check_timezone(name: str, *, field: str = "timeZone") -> ZoneInfo:
    """An IANA time zone that this machine knows."""
    try:
        # Names with dots or a leading slash would be paths; ZoneInfo refuses them with ValueError.
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError, TypeError):
        raise InvalidSpec(
            "must be an IANA time zone", field=field, value=name, hint="Write for example Europe/Zurich or Etc/UTC."
        ) from None


def _parse(part: str, spec: tuple[str, int, int, dict[str, int]], text: str, field: str) -> tuple[frozenset[int], bool]:
    """The numbers that match, and whether the field is unrestricted."""
    label, low, high, names = spec
    numbers: set[int] = set()
    unrestricted = False
    for item in part.split(","):
        span, slash, step_text = item.partition("/")
        if slash and (not step_text.isascii() or not step_text.isdigit() or int(step_text) == 0):
            raise _wrong(text, field, f"{label}: the step after '/' must be a number of at least 1")
        step = int(step_text) if slash else 1
        if span in {"*", "?"}:
            first, last = low, 6 if names is _DAYS else high
            unrestricted = unrestricted or step == 1
        else:
            begin, dash, end = span.partition("-")
            first = _number(begin, spec, text, field)
            last = _number(end, spec, text, field) if dash else high if slash else first
            if first > last:
                raise _wrong(text, field, f"{label}: {span} runs backwards")
        numbers.update(range(first, last + 1, step))
    return frozenset(numbers), unrestricted


def _spell(numbers: frozenset[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))


def _number(word: str, spec: tuple[str, int, int, dict[str, int]], text: str, field: str) -> int:
    label, low, high, names = spec
    if word.upper() in names:
        return names[word.upper()]
    if not re.fullmatch(r"[0-9]{1,2}", word) or not low <= int(word) <= high:
        also = f" or {next(iter(names))}-{list(names)[-1]}" if names else ""
        raise _wrong(text, field, f"{label}: {word or 'nothing'!r} must be {low}-{high}{also}")
    return int(word)


def _wrong(value: object, field: str, rule: str) -> InvalidSpec:
    return InvalidSpec(
        rule,
        field=field or None,
        value=value,
        hint='Write minute, hour, day of month, month, day of week: "30 2 * * *" is 02:30 every day.',
    )
