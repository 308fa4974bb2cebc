"""The parameters that a policy is evaluated with: which objects a binding's paramRef chooses.

Source: `admissionregistration.k8s.io/v1` of the Kubernetes API reference, ParamKind and ParamRef.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chandlery.controlplane.admission.common import matches_selector
from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi


def params_of(api: LocalApi, ctx: RequestContext, param_kind: Obj | None, ref: Obj | None) -> list[Obj | None]:
    """The parameter objects to evaluate with, one after another. Raises ValueError when they can't be had."""
    if param_kind is None or not ref:
        return [None]
    version, kind = param_kind["apiVersion"], param_kind["kind"]
    group = version.partition("/")[0] if "/" in version else ""
    resource = next((r for r in api.resources() if r.group == group and r.kind == kind), None)
    if resource is None:
        raise ValueError(f"failed to find resource referenced by paramKind: '{version}, Kind={kind}'")
    namespace = ""
    if resource.namespaced:
        namespace = ref.get("namespace") or ctx.namespace
        if not namespace:
            raise ValueError("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
    found: list[Obj | None] = []
    if ref.get("name"):
        one = api.get(resource.group, resource.plural, namespace, ref["name"])
        found = [one] if one is not None else []
    else:
        found = [
            obj
            for obj in api.list(resource.group, resource.plural, namespace)
            if matches_selector(ref.get("selector"), obj["metadata"].get("labels") or {})
        ]
    if found or ref.get("parameterNotFoundAction") == "Allow":
        return found
    raise ValueError("no params found for policy binding with `Deny` parameterNotFoundAction")


def namespace_of(api: LocalApi, ctx: RequestContext) -> Obj | None:
    """The namespace of the request, as expressions see it; None for objects in none."""
    if not ctx.resource.namespaced or not ctx.namespace:
        return None
    return api.get("", "namespaces", "", ctx.namespace)
