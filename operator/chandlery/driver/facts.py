"""Whether a driver's facts fit into the kind's status: the API server prunes silently what its schema doesn't have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import orjson
from pydantic import ValidationError

from chandlery.model.base import AnyResource
from chandlery.model.schema import structural_schema


def unknown_facts(model: type[AnyResource], facts: Mapping[str, Any]) -> list[str]:
    """Paths below `status` that the kind's schema doesn't have, sorted; a list's items count as one path, `nodes[]`."""
    return sorted(set(_unknown(_status(model), facts, "")))


def misfit(model: type[AnyResource], facts: Mapping[str, Any]) -> str:
    """Why the API server would refuse these facts: a value of another type; "" when it wouldn't."""
    given = {name: value for name, value in facts.items() if value is not None}
    try:
        model.model_fields["status"].annotation.model_validate_json(orjson.dumps(given), strict=True)  # type: ignore[union-attr]
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return f"status.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return ""


@cache
def _status(model: type[AnyResource]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = structural_schema(model)["properties"]["status"]
    return found


def _unknown(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        known = schema.get("properties")
        rest = schema.get("additionalProperties")
        for name, inner in value.items():
            here = f"{path}.{name}" if path else str(name)
            if known is not None and name in known:
                if isinstance(inner, Mapping | list | tuple):
                    yield from _unknown(known[name], inner, here)
            elif isinstance(rest, Mapping):
                yield from _unknown(rest, inner, f"{path}.*")
            elif not schema.get("x-kubernetes-preserve-unknown-fields") and inner is not None:
                yield here
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _unknown(schema.get("items", {}), item, f"{path}[]")
