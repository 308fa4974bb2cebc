"""How table cells write ages, selectors, labels, access modes and lists.

Source: observed answers of kube-apiserver 1.36; kubectl documentation for the form of durations.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from chandlery.controlplane.builtins import gotime
from chandlery.controlplane.types import Obj

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"

_MODES = (("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP"))


def duration(seconds: float) -> str:
    """A length of time, coarser as it grows: 119s, 2m5s, 179m, 7h5m, 47h, 7d3h, 729d, 7y3d."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    minutes, hours = total // 60, total // 3600
    if total < 120:
        return f"{total}s"
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{hours // 24}d{hours % 24}h" if hours % 24 else f"{hours // 24}d"
    if hours < 365 * 2 * 24:
        return f"{hours // 24}d"
    if hours < 365 * 8 * 24:
        days = hours // 24 % 365
        return f"{hours // 24 // 365}y{days}d" if days else f"{hours // 24 // 365}y"
    return f"{hours // 24 // 365}y"


def _moment(text: str) -> datetime | None:
    try:
        return gotime.parse(text)
    except gotime.TimeError:
        return None


def since(text: Any) -> str:
    """The age of a time, `<unknown>` when there is none."""
    moment = _moment(text) if isinstance(text, str) else None
    if moment is None:
        return UNKNOWN
    return duration((datetime.now(UTC) - moment).total_seconds())


def between(start: str, end: str) -> str:
    first, last = _moment(start), _moment(end)
    return "" if first is None or last is None else duration((last - first).total_seconds())


def age(obj: Obj) -> str:
    return since(obj["metadata"].get("creationTimestamp"))


def labels(found: Any) -> str:
    """A set of labels as `a=b,c=d`."""
    return ",".join(f"{key}={found[key]}" for key in sorted(found)) if found else NONE


def selector_text(selector: Any) -> str:
    """A label selector as `a=b,c in (d,e)`."""
    if not selector:
        return ""
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for rule in selector.get("matchExpressions") or ():
        key, operator, values = rule.get("key", ""), rule.get("operator"), ",".join(sorted(rule.get("values") or ()))
        if operator == "In":
            parts.append((key, f"{key} in ({values})"))
        elif operator == "NotIn":
            parts.append((key, f"{key} notin ({values})"))
        elif operator == "Exists":
            parts.append((key, key))
        elif operator == "DoesNotExist":
            parts.append((key, f"!{key}"))
    return ",".join(text for _, text in sorted(parts, key=lambda part: part[0]))


def selector(found: Any) -> str:
    return selector_text(found) or NONE


def access_modes(modes: Iterable[str]) -> str:
    have = set(modes or ())
    return ",".join(short for name, short in _MODES if name in have)


def containers(template: Any) -> tuple[str, str]:
    """(names, images), separated by commas."""
    found = ((template or {}).get("spec") or {}).get("containers") or ()
    return ",".join(c.get("name", "") for c in found), ",".join(c.get("image", "") for c in found)


def first_of(items: list[str], limit: int, total: int | None = None) -> str:
    """The first few, and how many more there are."""
    shown = ",".join(items[:limit])
    count = len(items) if total is None else total
    return f"{shown} + {count - limit} more..." if count > limit else shown
