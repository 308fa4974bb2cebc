"""The rules of built-in kinds, with the API's own words."""

from __future__ import annotations

from collections.abc import Callable

from chandlery.controlplane.types import FieldError, Obj, RequestContext

CREATE_RULES: dict[tuple[str, str], Callable[[RequestContext, Obj], list[FieldError]]] = {}
UPDATE_RULES: dict[tuple[str, str], Callable[[RequestContext, Obj, Obj], list[FieldError]]] = {}
