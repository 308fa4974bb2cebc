"""Field errors in the API's own wording (apimachinery's `field.Error`).

A path is a string; the empty path is the object itself and prints as `<nil>`, as the reference server does
for errors that it can't place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chandlery.controlplane.schema.gotext import json_text, quote, verb_v
from chandlery.controlplane.types import FieldError


def child(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def key(path: str, name: str) -> str:
    return f"{path}[{name}]"


def index(path: str, position: int) -> str:
    return f"{path}[{position}]"


def shown(value: Any) -> str:
    """A bad value as an error text shows it."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool | int | float):
        return verb_v(value)
    return json_text(value)


def _error(path: str, cause: str, head: str, detail: str) -> FieldError:
    return FieldError(path or "<nil>", cause, f"{head}: {detail}" if detail else head)


def required(path: str, detail: str = "") -> FieldError:
    return _error(path, "FieldValueRequired", "Required value", detail)


def forbidden(path: str, detail: str) -> FieldError:
    return _error(path, "FieldValueForbidden", "Forbidden", detail)


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return _error(path, "FieldValueInvalid", f"Invalid value: {shown(value)}", detail)


def invalid_raw(path: str, text: str, detail: str) -> FieldError:
    """As `invalid`, for a value whose printed form the caller has already."""
    return _error(path, "FieldValueInvalid", f"Invalid value: {text}", detail)


def type_invalid(path: str, value: Any, detail: str) -> FieldError:
    return _error(path, "FieldValueTypeInvalid", f"Invalid value: {shown(value)}", detail)


def not_supported(path: str, value: Any, accepted: Iterable[str]) -> FieldError:
    values = ", ".join(quote(v) for v in accepted)
    return _error(path, "FieldValueNotSupported", f"Unsupported value: {shown(value)}", f"supported values: {values}")


def duplicate(path: str, value: Any) -> FieldError:
    return _error(path, "FieldValueDuplicate", f"Duplicate value: {shown(value)}", "")


def too_long(path: str, limit: int) -> FieldError:
    if limit < 0:
        return _error(path, "FieldValueTooLong", "Too long", "value is too long")
    plural = "byte" if limit == 1 else "bytes"
    return _error(path, "FieldValueTooLong", "Too long", f"may not be more than {limit} {plural}")


def too_many(path: str, actual: int, limit: int) -> FieldError:
    detail = "has too many items" if limit < 0 else f"must have at most {limit} {'item' if limit == 1 else 'items'}"
    return _error(path, "FieldValueTooMany", f"Too many: {actual}", detail)


def internal(path: str, detail: str) -> FieldError:
    return _error(path, "InternalError", "Internal error", detail)
