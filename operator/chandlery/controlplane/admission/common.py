"""What the admission plugins share: operations, names, and the 403 in admission's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chandlery.controlplane.types import ApiError, Obj, RequestContext, UserInfo

API_SERVER = UserInfo("system:apiserver", groups=("system:masters",))
"""Who writes what admission itself has to write."""

OPERATIONS = {
    "create": "CREATE",
    "update": "UPDATE",
    "patch": "UPDATE",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}


def operation(obj: Obj | None, old: Obj | None) -> str:
    """CREATE, UPDATE or DELETE, told by what is there: an apply that makes an object is a CREATE."""
    if obj is None:
        return "DELETE"
    return "CREATE" if old is None else "UPDATE"


def name_of(ctx: RequestContext, obj: Obj | None, old: Obj | None) -> str:
    """The object's name; "" while the server has yet to generate it."""
    for candidate in (obj, old):
        name = (candidate or {}).get("metadata", {}).get("name", "")
        if name:
            return str(name)
    return ctx.name


def forbid(ctx: RequestContext, obj: Obj | None, why: str, *, causes: list[Obj] | None = None) -> ApiError:
    """A 403 that names the object, or its generateName while it has no name."""
    meta = (obj or {}).get("metadata", {})
    name = meta.get("name") or ctx.name or meta.get("generateName") or "Unknown"
    details: Obj = {"name": name}
    if ctx.resource.group:
        details["group"] = ctx.resource.group
    details["kind"] = ctx.resource.plural
    if causes:
        details["causes"] = causes
    message = f"{ctx.resource.group_resource} {json.dumps(name)} is forbidden: {why}"
    return ApiError(403, "Forbidden", message, details)


def matches_selector(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether labels match a `metav1.LabelSelector`; an absent or empty one matches everything."""
    if not selector:
        return True
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], expression.get("values") or ()
        match expression["operator"]:
            case "In":
                good = labels.get(key) in values
            case "NotIn":
                good = labels.get(key) not in values
            case "Exists":
                good = key in labels
            case "DoesNotExist":
                good = key not in labels
            case _:
                good = False
        if not good:
            return False
    return True
