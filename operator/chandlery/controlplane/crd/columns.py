"""The table of a custom resource: printer columns, and one object's cells."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from chandlery.controlplane.crd.jsonpath import JSONPath, JSONPathError, as_text
from chandlery.controlplane.types import Obj

_NAME_DESCRIPTION = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. "
    "More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
_AGE_DESCRIPTION = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed "
    "to be set in happens-before order across separate operations. Clients may not set this value. It is represented "
    "in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. "
    "More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
_DEFAULT_COLUMN = {
    "name": "Age",
    "type": "date",
    "jsonPath": ".metadata.creationTimestamp",
    "description": _AGE_DESCRIPTION,
}


class Columns:
    """Column definitions and cells of one version; without additionalPrinterColumns there is one more, Age."""

    def __init__(self, columns: list[Obj] | None) -> None:
        wanted = columns or [_DEFAULT_COLUMN]
        self.definitions: list[Obj] = [
            {"name": "Name", "type": "string", "format": "name", "description": _NAME_DESCRIPTION, "priority": 0}
        ]
        self._paths: list[tuple[str, JSONPath]] = []
        for column in wanted:
            path_text = column.get("jsonPath") or ""
            try:
                path = JSONPath(path_text)
            except JSONPathError:
                break  # as the reference server does: the columns up to the bad one
            self._paths.append((column.get("type") or "", path))
            self.definitions.append(
                {
                    "name": column.get("name") or "",
                    "type": column.get("type") or "",
                    "format": column.get("format") or "",
                    "description": column.get("description")
                    or f"Custom resource definition column (in JSONPath format): {path_text}",
                    "priority": column.get("priority") or 0,
                }
            )

    def cells(self, obj: Obj) -> list[Any]:
        row: list[Any] = [obj.get("metadata", {}).get("name", "")]
        for kind, path in self._paths:
            try:
                found = path.find(obj)
            except JSONPathError:
                found = []
            row.append(_cell(kind, found[0]) if found else None)
        return row


def _cell(kind: str, value: Any) -> Any:
    if kind == "string":
        return as_text(value)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return int(value) if number else None
    if kind == "number":
        return value if number else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "date":
        return human_date(value) if isinstance(value, str) else None
    return None


def human_date(text: str) -> str:
    """How long ago an RFC 3339 time was, as tables show it."""
    if text in ("", "null"):
        return "<unknown>"
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return "<invalid>"
    if then.tzinfo is None or "T" not in text:
        return "<invalid>"
    return human_duration((datetime.now(UTC) - then).total_seconds())


def human_duration(seconds: float) -> str:
    """A duration in at most two units: 5s, 3m20s, 2h, 4d3h, 2y10d."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    minutes, hours, days, years = whole // 60, whole // 3600, whole // 86400, whole // (86400 * 365)
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        rest = days % 365
        return f"{years}y{rest}d" if rest else f"{years}y"
    return f"{years}y"
