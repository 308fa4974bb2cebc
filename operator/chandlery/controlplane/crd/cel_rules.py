"""CEL rules in a CRD's schema: do they compile, and may they cost what they cost."""

from __future__ import annotations

from chandlery.controlplane.types import FieldError, Obj


class CelContext:
    def property(self, name: str, schema: Obj) -> CelContext:
        return self

    def items(self, schema: Obj) -> CelContext:
        return self

    def additional(self, schema: Obj) -> CelContext:
        return self

    def total_errors(self, path: str) -> list[FieldError]:
        return []


def root_context(schema: Obj) -> CelContext:
    return CelContext()


def check_rules(schema: Obj, path: str, context: CelContext, uncorrelatable: str, limit_cost: bool) -> list[FieldError]:
    return []
