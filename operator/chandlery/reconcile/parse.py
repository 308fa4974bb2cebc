"""From stored objects to models."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from pydantic import ValidationError

from chandlery.driver.kind import Kind
from chandlery.model.base import AnyResource
from chandlery.reconcile.api import Obj
from chandlery.reconcile.decide import describe_invalid


class SpecCache:
    """Specs of late, parsed: a spec is immutable within a generation, and most passes are over an unchanged one."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._specs: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    def parse(self, kind: Kind, raw: Obj) -> tuple[AnyResource, bool]:
        """The object as its model, and whether its spec is new here; raises InvalidSpec as `parse` does."""
        meta = raw["metadata"]
        uid, generation = meta.get("uid", ""), meta.get("generation", 0)
        known = self._specs.get(uid)
        if known is not None and known[0] == generation:
            return parse(kind, {**raw, "spec": known[1]}), False
        obj = parse(kind, raw)
        self._specs[uid] = (generation, obj.spec)
        self._specs.move_to_end(uid)
        if len(self._specs) > self._size:
            self._specs.popitem(last=False)
        return obj, True


def parse(kind: Kind, raw: Obj) -> AnyResource:
    """The object as its model.

    Raises:
        InvalidSpec: naming every field at fault.
    """
    try:
        return kind.model.model_validate({**raw, "status": raw.get("status") or {}})
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if raw.get("status") and all(problem["loc"][:1] == ("status",) for problem in problems):
            return parse(kind, {**raw, "status": {}})  # a status is ours to repair, never a reason to stop
        raise describe_invalid(kind.name, problems) from None
