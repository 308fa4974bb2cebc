"""Planning: which differences may be repaired now, and which wait for a window or for a person. Pure.

| disruption         | without a maintenance window | with one                         |
|--------------------|------------------------------|----------------------------------|
| none, reload       | at once                      | at once                          |
| restart, failover  | at once                      | in the window, or once approved  |
| replace, data-loss | once approved                | once approved                    |

A restart or failover doesn't wait either while the resource serves nobody: it costs nothing then. Approval is by
change, not by object: the annotation `chandlery.dev/approve` holds the tokens of single changes, so that what a person
agreed to can't turn into something else afterwards.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chandlery.driver.protocol import Difference, Disruption, Observation, Plan
from chandlery.foundation.errors import InvalidSpec
from chandlery.model.parts import MaintenanceWindow, Weekday

NO_PLAN: Final = Plan()
APPROVE_ANNOTATION: Final = "chandlery.dev/approve"
DAYS: Final = tuple(Weekday)


@dataclass(frozen=True, slots=True)
class Window:
    """A weekly maintenance window. `days` as datetime.weekday() counts them; empty means every day."""

    start: timedelta
    """Since midnight, in the window's own time zone."""
    duration: timedelta
    days: frozenset[int] = frozenset()
    zone: str = "UTC"

    def open_at(self, now: datetime) -> bool:
        return any(begin <= now < end for begin, end in self._around(now))

    def next_open(self, now: datetime) -> datetime:
        """`now` when it is open, else when it opens next."""
        return now if self.open_at(now) else min(begin for begin, _ in self._around(now) if begin > now)

    def _around(self, now: datetime) -> list[tuple[datetime, datetime]]:
        """The windows from a week before to a week after, as UTC instants (wall times move with daylight saving)."""
        local = now.astimezone(_zone(self.zone))
        found = []
        for offset in range(-8, 9):
            midnight = (local + timedelta(days=offset)).replace(hour=0, minute=0, second=0, microsecond=0)
            if self.days and midnight.weekday() not in self.days:
                continue
            begin = (midnight + self.start).astimezone(UTC)
            found.append((begin, begin + self.duration))
        return found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidSpec(
            "no such time zone",
            field="spec.maintenanceWindow.timeZone",
            value=name,
            hint="Use a name of the IANA time zone database, such as Europe/Berlin.",
        ) from error


def plan(
    observed: Observation,
    *,
    uid: str,
    generation: int,
    now: datetime,
    window: Window | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Plan:
    """Split the differences into what may be done now and what is held, in order of rising disruption."""
    approved = approvals(annotations or {})
    open_now = window is None or window.open_at(now)
    do: list[Difference] = []
    held: list[Difference] = []
    for difference in sorted(observed.differences, key=lambda d: d.disruption):
        allowed = (
            difference.disruption <= Disruption.RELOAD
            or (difference.disruption <= Disruption.FAILOVER and (open_now or not observed.ready))
            or token(difference, uid=uid, generation=generation) in approved
        )
        (do if allowed else held).append(difference)
    return Plan(tuple(do), tuple(held))


def approvals(annotations: Mapping[str, str]) -> frozenset[str]:
    """The tokens in the annotation, separated by commas or blanks."""
    return frozenset(filter(None, re.split(r"[,\s]+", annotations.get(APPROVE_ANNOTATION, ""))))


def token(difference: Difference, *, uid: str, generation: int) -> str:
    """Eight hexadecimal digits that stand for this change to this object at this generation.

    Secret values stay out: a short hash of a password could be guessed.
    """
    values = ("", "") if difference.sensitive else (difference.desired, difference.actual)
    text = "\x1f".join((uid, str(generation), difference.field, difference.disruption.label, *values))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def window_of(spec: Any) -> Window | None:
    """The maintenance window in a spec, None without one.

    Raises:
        InvalidSpec: a time zone that doesn't exist here.
    """
    found: MaintenanceWindow | None = getattr(spec, "maintenance_window", None)
    if found is None:
        return None
    _zone(found.time_zone)
    hours, minutes = found.start.split(":")
    return Window(
        start=timedelta(hours=int(hours), minutes=int(minutes)),
        duration=timedelta(seconds=found.duration.seconds),
        days=frozenset(DAYS.index(day) for day in found.days),
        zone=str(found.time_zone),
    )
