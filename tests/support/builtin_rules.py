"""What the rules of built-in kinds say of an object, without a server."""

from __future__ import annotations

import copy
from typing import Any

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.types import Obj, RequestContext, UserInfo

RESOURCES = {r.plural: r for r in builtin_resources() if r.version in ("v1", "v2")}


def context(plural: str, verb: str = "create", subresource: str = "") -> RequestContext:
    return RequestContext(UserInfo("ann"), verb, RESOURCES[plural], "d", "p", subresource)


def made(plural: str, obj: Obj) -> Obj:
    """An object as it is just before its validation."""
    strategy = RESOURCES[plural].strategy
    obj = copy.deepcopy(obj)
    obj["metadata"] = {"name": "p", "uid": "u", "resourceVersion": "1"} | obj.get("metadata", {})
    if RESOURCES[plural].namespaced:
        obj["metadata"]["namespace"] = "d"
    assert strategy.decode(obj) == []
    strategy.default(obj)
    strategy.prepare_for_create(context(plural), obj)
    return obj


def told(errors: list[Any]) -> list[str]:
    return sorted(f"{error.path}: {error.detail.splitlines()[0]}" for error in errors)


def refused(plural: str, obj: Obj) -> list[str]:
    return told(RESOURCES[plural].strategy.validate_create(context(plural), made(plural, obj)))
