"""From stored objects to models."""

from __future__ import annotations

from pydantic import ValidationError

from chandlery.driver.kind import Kind
from chandlery.model.base import AnyResource
from chandlery.reconcile.api import Obj
from chandlery.reconcile.decide import describe_invalid


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
