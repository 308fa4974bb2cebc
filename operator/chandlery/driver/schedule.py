"""When something that repeats is due: backups and rotations on a cron schedule, or on request by an annotation. Pure.

What is due is computed anew in every pass from the schedule, the time, and one moment on record: since when nothing
was due any more. Nothing is queued. So a restart loses nothing, and what was missed while nobody looked is done once,
not once for each time it was missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from chandlery.foundation.validation.cron import Cron, check_timezone


@dataclass(frozen=True, slots=True)
class Due:
    """What a schedule says now."""

    at: datetime | None
    """The first moment that was missed (UTC): it is to be done now. None: nothing is due."""
    next: datetime | None
    """The next moment that is still to come (UTC); None: there is no schedule."""

    def wait(self, now: datetime) -> float | None:
        """Seconds until the next moment; 0 when something is due, None without a schedule."""
        if self.at is not None:
            return 0.0
        return None if self.next is None else max(0.0, (self.next - now).total_seconds())


NEVER = Due(None, None)


def due(schedule: str | None, *, since: datetime, now: datetime, zone: str = "UTC", suspended: bool = False) -> Due:
    """Whether a moment of the schedule lies after `since` and not after `now`.

    Args:
        schedule: five fields of cron, or `@daily` and the like; None: never.
        since: up to when everything is done: the start of the last one, or when the schedule was first seen (aware).
        now: the present moment (aware).
        zone: IANA name of the zone whose wall clock the schedule means.
        suspended: nothing is due and nothing is to come.

    Raises:
        InvalidSpec: the schedule or the zone is wrong.
    """
    if schedule is None or suspended:
        return NEVER
    cron, tz = Cron(schedule), check_timezone(zone)
    first = cron.next(since, tz)
    if first > now:
        return Due(None, first)
    return Due(first, cron.next(now, tz))


def requested(annotations: Mapping[str, str], name: str, handled: str | None) -> str | None:
    """The annotation's text when it asks for something that wasn't done yet: any text but the last one."""
    text = annotations.get(name, "").strip()
    return text if text and text != handled else None


def stamp(moment: datetime) -> str:
    """A moment as RFC 3339 in UTC with whole seconds, for records and status."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The other way around; any RFC 3339 with a zone."""
    return datetime.fromisoformat(text).astimezone(UTC)


__all__ = ["NEVER", "Due", "due", "moment", "requested", "stamp"]
