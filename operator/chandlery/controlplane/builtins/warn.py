"""Warnings: accepted, but suspicious or on its way out. Placeholder table is filled kind by kind."""

from __future__ import annotations

from collections.abc import Callable

from chandlery.controlplane.types import Obj, RequestContext

WARNINGS: dict[tuple[str, str], Callable[[RequestContext, Obj, Obj | None], list[str]]] = {}
