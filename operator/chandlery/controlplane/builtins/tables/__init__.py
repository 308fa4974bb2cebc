"""Tables: columns and cells of built-in kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chandlery.controlplane.types import Obj


def columns_of(key: tuple[str, str, str]) -> Sequence[Obj]:
    return [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]


def printer_of(key: tuple[str, str, str]) -> Callable[[Obj], list[Any]]:
    return lambda obj: [obj["metadata"]["name"]]
