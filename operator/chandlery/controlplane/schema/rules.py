"""CEL rules of a schema (x-kubernetes-validations): placeholder until the engine is in."""

from __future__ import annotations

from chandlery.controlplane.schema.correlation import Correlation
from chandlery.controlplane.schema.node import Node
from chandlery.controlplane.types import FieldError, Obj


class Rules:
    @staticmethod
    def compile(node: Node) -> Rules | None:
        return None

    def validate(self, obj: Obj, old: Obj | None, correlation: Correlation | None) -> list[FieldError]:
        return []
