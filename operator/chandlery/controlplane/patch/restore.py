"""What the real server says about a strategic merge patch whose result doesn't fit the type.

Such a result never becomes JSON there: it is converted straight from maps to structs, with error texts of its own.
Source: recordings; Go documentation of reflect kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.controlplane.codec.gotext import go_type
from chandlery.controlplane.types import Obj


def restore_error(value: Any, schema: Obj, definitions: Mapping[str, Obj]) -> str | None:
    """The first mismatch between a value and its schema, in the converter's words; None when it finds none."""
    return _Restorer(definitions).check(value, schema, 0)


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "map"
    return "slice" if isinstance(value, list) else go_type(value)


class _Restorer:
    def __init__(self, definitions: Mapping[str, Obj]) -> None:
        self.definitions = definitions

    def resolve(self, schema: Obj) -> Obj:
        for _ in range(10):
            target = schema.get("$ref") or next((s["$ref"] for s in schema.get("allOf") or () if "$ref" in s), None)
            if target is None:
                break
            schema = self.definitions.get(target.rsplit("/", 1)[-1], {})
        return schema

    def check(self, value: Any, schema: Obj, depth: int) -> str | None:
        if value is None or depth > 100:
            return None
        schema = self.resolve(schema)
        match schema.get("type"):
            case "object":
                return self.object(value, schema, depth)
            case "array":
                if not isinstance(value, list):
                    return f"cannot restore slice from {_kind(value)}"
                items = schema.get("items") or {}
                return next((found for item in value if (found := self.check(item, items, depth + 1))), None)
            case "string" if not schema.get("format"):
                if isinstance(value, str):
                    return None
                number = isinstance(value, int) and not isinstance(value, bool)
                return "cannot convert int64 to string" if number else "unrecognized type: string"
            case "integer":
                go = schema.get("format") or "int64"
                if isinstance(value, float) and not value.is_integer():
                    return f"cannot convert float64 to {go}"
                number = isinstance(value, int | float) and not isinstance(value, bool)
                return None if number else f"unrecognized type: {go}"
            case "boolean":
                return None if isinstance(value, bool) else "unrecognized type: bool"
            case _:
                return None

    def object(self, value: Any, schema: Obj, depth: int) -> str | None:
        properties = schema.get("properties")
        extra = schema.get("additionalProperties")
        if not isinstance(value, dict):
            if properties is None and not extra:
                return None
            what = "struct from:" if properties is not None else "map from"
            return f"cannot restore {what} {_kind(value)}"
        for key, child in value.items():
            below = (properties or {}).get(key) or (extra if isinstance(extra, dict) else None)
            if below is not None:
                found = self.check(child, below, depth + 1)
                if found:
                    return found
        return None
