"""Namespaces: nothing is made in one that is missing or going, and the system's own stay.

Source: Kubernetes docs, admission controller "NamespaceLifecycle".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chandlery.controlplane.admission.common import forbid
from chandlery.controlplane.types import ApiError, Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

_IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
_REVIEWS = frozenset({"localsubjectaccessreviews"})


def check_namespace(api: LocalApi, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> None:
    """Raises ApiError 403 or 404."""
    resource = ctx.resource
    if resource.plural == "namespaces" and not resource.group:
        name = ctx.name or (old or {}).get("metadata", {}).get("name", "")
        if obj is None and name in _IMMORTAL:
            raise forbid(ctx, old, "this namespace may not be deleted")
        return
    if obj is None or not resource.namespaced or not ctx.namespace or resource.plural in _REVIEWS:
        return
    namespace = api.get("", "namespaces", "", ctx.namespace)
    if namespace is None:
        message = f"namespaces {json.dumps(ctx.namespace)} not found"
        raise ApiError(404, "NotFound", message, {"name": ctx.namespace, "kind": "namespaces"})
    if old is None and not ctx.subresource and (namespace.get("status") or {}).get("phase") == "Terminating":
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {ctx.namespace} is being terminated",
            "field": "metadata.namespace",
        }
        why = f"unable to create new content in namespace {ctx.namespace} because it is being terminated"
        raise forbid(ctx, obj, why, causes=[cause])
