"""JSON merge patch (RFC 7386)."""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.types import ApiError, Obj


def merge_patch(doc: Obj, patch: Any) -> Obj:
    """The document with a merge patch applied; neither is changed, the result shares parts with both.

    Raises ApiError 400 when the patch isn't an object.
    """
    if not isinstance(patch, dict):
        raise ApiError(400, "BadRequest", "Invalid JSON Patch")
    return _merged(doc, patch)


def _merged(doc: Obj, patch: Obj) -> Obj:
    out = dict(doc)
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
            continue
        current = out.get(key)
        if isinstance(current, dict):
            out[key] = _merged(current, value) if isinstance(value, dict) else value
        else:
            out[key] = _without_nulls(value)
    return out


def _without_nulls(value: Any) -> Any:
    """A new value as it is stored: null keys of objects vanish, null elements of lists stay."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_without_nulls(child) for child in value]
    return value
