"""The strategy of built-in types: one object per (group, version, kind)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.controlplane.types import FieldError, Obj, RequestContext


class BuiltinStrategy:
    """Decode, default, validate and print one built-in kind in one version."""

    def __init__(self, group: str, version: str, kind: str, definition: str, *, subresources: frozenset[str]) -> None:
        self.group = group
        self.version = version
        self.kind = kind
        self.definition = definition
        self.subresources = subresources

    def decode(self, obj: Obj) -> list[str]:
        return []

    def default(self, obj: Obj) -> None:
        pass

    def prepare_for_create(self, ctx: RequestContext, obj: Obj) -> None:
        if "status" in self.subresources:
            obj.pop("status", None)

    def prepare_for_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> None:
        if ctx.subresource == "status":
            for key in set(obj) | set(old):
                if key not in ("metadata", "status", "kind", "apiVersion"):
                    if key in old:
                        obj[key] = old[key]
                    else:
                        obj.pop(key, None)
        elif "status" in self.subresources:
            if "status" in old:
                obj["status"] = old["status"]
            else:
                obj.pop("status", None)

    def validate_create(self, ctx: RequestContext, obj: Obj) -> list[FieldError]:
        return []

    def validate_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> list[FieldError]:
        return []

    def warnings(self, ctx: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
        return []

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {}

    def selectable_field_names(self) -> frozenset[str]:
        return frozenset()

    def table_columns(self) -> Sequence[Obj]:
        return [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]

    def table_cells(self, obj: Obj) -> list[Any]:
        return [obj["metadata"]["name"]]

    async def to_storage(self, obj: Obj) -> Obj:
        return obj

    async def from_storage(self, obj: Obj) -> Obj:
        return obj
