"""The strategy of built-in types: one object per (group, version, kind)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.controlplane.builtins import convert, prepare
from chandlery.controlplane.builtins.decode import DecodeError, Where, struct
from chandlery.controlplane.builtins.defaults import DEFAULTS
from chandlery.controlplane.builtins.defaults.workloads import check_template_generation
from chandlery.controlplane.builtins.gates import drop_switched_off
from chandlery.controlplane.builtins.selectable import SELECTABLE
from chandlery.controlplane.builtins.tables import columns_of, conditions_of, printer_of
from chandlery.controlplane.builtins.validation import CREATE_RULES, UPDATE_RULES
from chandlery.controlplane.builtins.warn import WARNINGS
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext

_TOP = ("kind", "apiVersion", "metadata")


class BuiltinStrategy:
    """Decode, default, validate and print one built-in kind in one version."""

    def __init__(self, group: str, version: str, kind: str, definition: str, *, subresources: frozenset[str]) -> None:
        self.group = group
        self.version = version
        self.kind = kind
        self.definition = definition
        self.subresources = subresources
        self.has_status = "status" in subresources
        self._key = (group, version, kind)
        self._kind = (group, kind)
        self._default = DEFAULTS.get(self._key)
        self._select = SELECTABLE.get(self._key, {})

    def decode(self, obj: Obj) -> list[str]:
        where = Where()
        try:
            done = struct(self.definition).decode(obj, where)
            if self.kind == "DaemonSet":
                check_template_generation(done)
        except DecodeError as error:
            raise ApiError(
                400,
                "BadRequest",
                f'{self.kind} in version "{self.version}" cannot be handled as a {self.kind}: {error}',
            ) from None
        obj.clear()
        obj.update(done)
        if self.kind == "Secret" and "stringData" in obj:
            extra = {
                key: base64.b64encode(text.encode()).decode() for key, text in (obj.pop("stringData") or {}).items()
            }
            if extra:
                obj["data"] = {**(obj.get("data") or {}), **extra}
        return where.unknown

    def default(self, obj: Obj) -> None:
        if self._default is not None:
            self._default(obj)

    def empty_status(self) -> Any:
        """The status of an object that has none yet, as it is written."""
        zero = struct(self.definition).always.get("status")
        return zero() if zero is not None else None

    def prepare_for_create(self, ctx: RequestContext, obj: Obj) -> None:
        if self.has_status and self._kind not in prepare.STATUS_CREATED:
            obj.pop("status", None)
            status = self.empty_status()
            if status is not None:
                obj["status"] = status
        drop_switched_off(self._kind, obj, None)
        hook = prepare.CREATE.get(self._kind)
        if hook is not None:
            hook(ctx, obj)

    def prepare_for_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> None:
        if ctx.subresource == "status":
            for key in [key for key in obj if key not in _TOP and key != "status"]:
                if key not in old:
                    del obj[key]
            for key, value in old.items():
                if key not in _TOP and key != "status":
                    obj[key] = value
            if self._kind in prepare.STATUS_KEEPS_METADATA:
                _keep(obj, old, ("labels", "annotations", "finalizers", "ownerReferences"))
            elif self._kind in prepare.STATUS_KEEPS:
                _keep(obj, old, prepare.STATUS_KEEPS[self._kind])
            if self._kind == prepare.SIGNING_REQUEST:
                prepare.condition_times(obj, old)
            if self._kind == ("", "Pod"):
                # Kubelets that don't know the class leave it out, and old ones spoiled the owners.
                _keep(obj, old, ("ownerReferences",))
                status, before = obj.get("status"), old.get("status") or {}
                if isinstance(status, dict) and not status.get("qosClass") and "qosClass" in before:
                    status["qosClass"] = before["qosClass"]
            return
        if self.has_status and ctx.subresource not in prepare.STATUS_PARTS:
            if "status" in old:
                obj["status"] = old["status"]
            else:
                obj.pop("status", None)
        if self._kind == ("", "Namespace") and ctx.subresource != "finalize":
            obj["spec"] = old.get("spec", {})
        drop_switched_off(self._kind, obj, old)
        hook = prepare.PARTS.get((*self._kind, ctx.subresource)) if ctx.subresource else prepare.UPDATE.get(self._kind)
        if hook is not None:
            hook(ctx, obj, old)

    def validate_create(self, ctx: RequestContext, obj: Obj) -> list[FieldError]:
        rule = CREATE_RULES.get(self._kind)
        return rule(ctx, obj) if rule is not None else []

    def validate_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> list[FieldError]:
        rule = UPDATE_RULES.get(self._kind)
        return rule(ctx, obj, old) if rule is not None else []

    def warnings(self, ctx: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
        rule = WARNINGS.get(self._kind)
        return rule(ctx, obj, old) if rule is not None else []

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {name: read(obj) for name, read in self._select.items()}

    def selectable_field_names(self) -> frozenset[str]:
        return frozenset(self._select)

    def table_columns(self) -> Sequence[Obj]:
        return columns_of(self.group, self.kind)

    def table_cells(self, obj: Obj) -> list[Any]:
        return printer_of(self._key)(obj)

    def table_conditions(self, obj: Obj) -> list[Obj]:
        """Conditions of the table row: a finished pod is `Completed`."""
        return conditions_of(self.kind, obj)

    async def to_storage(self, obj: Obj) -> Obj:
        change = convert.TO_STORAGE.get(self._key)
        return change(obj) if change is not None else obj

    async def from_storage(self, obj: Obj) -> Obj:
        change = convert.FROM_STORAGE.get(self._key)
        return change(obj) if change is not None else obj


def _keep(obj: Obj, old: Obj, fields: Sequence[str]) -> None:
    meta, before = obj["metadata"], old["metadata"]
    for field in fields:
        if field in before:
            meta[field] = before[field]
        else:
            meta.pop(field, None)
