"""What can be done with a pod besides the usual: eviction, binding, and the endpoints that need its node.

Nothing here runs pods, so their logs, shells and ports answer as a cluster does whose nodes are not there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson

from chandlery.controlplane import errors, metadata
from chandlery.controlplane.builtins.data import REF
from chandlery.controlplane.builtins.resources import definition_name
from chandlery.controlplane.builtins.strategy import BuiltinStrategy
from chandlery.controlplane.core import Core
from chandlery.controlplane.selectors import parse_labels
from chandlery.controlplane.store.base import Conflict
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext, Resource
from chandlery.controlplane.verbs.delete import DeleteOptions, delete
from chandlery.controlplane.verbs.scale import selector_text

ON_NODE = frozenset({"log", "exec", "attach", "portforward", "proxy"})
"""Subresources that a node would answer."""

SUBRESOURCES: dict[tuple[str, str], dict[str, Obj]] = {
    ("", "pods"): {
        "attach": {"verbs": ["create", "get"], "kind": "PodAttachOptions"},
        "binding": {"verbs": ["create"], "kind": "Binding"},
        "ephemeralcontainers": {"verbs": ["get", "patch", "update"], "kind": "Pod"},
        "eviction": {"verbs": ["create"], "kind": "Eviction", "group": "policy", "version": "v1"},
        "exec": {"verbs": ["create", "get"], "kind": "PodExecOptions"},
        "log": {"verbs": ["get"], "kind": "Pod"},
        "portforward": {"verbs": ["create", "get"], "kind": "PodPortForwardOptions"},
        "proxy": {"verbs": ["create", "delete", "get", "patch", "update"], "kind": "PodProxyOptions"},
        "resize": {"verbs": ["get", "patch", "update"], "kind": "Pod"},
    },
    ("", "services"): {
        "proxy": {"verbs": ["create", "delete", "get", "patch", "update"], "kind": "ServiceProxyOptions"}
    },
    ("", "nodes"): {"proxy": {"verbs": ["create", "delete", "get", "patch", "update"], "kind": "NodeProxyOptions"}},
}


def install(resources: list[Resource]) -> None:
    """Add these subresources to the built-in resources, and `bindings`, which is `pods/binding` under another path."""
    for resource in resources:
        more = SUBRESOURCES.get((resource.group, resource.plural))
        if more:
            merged = {**resource.subresources, **more}
            resource.subresources = {name: merged[name] for name in sorted(merged)}
    pod = next(resource for resource in resources if (resource.group, resource.plural) == ("", "pods"))
    if not any((resource.group, resource.plural) == ("", "bindings") for resource in resources):
        definition = definition_name("", "v1", "Binding")
        resources.append(
            Resource(
                group="",
                version="v1",
                plural="bindings",
                singular="binding",
                kind="Binding",
                list_kind="BindingList",
                namespaced=True,
                strategy=BuiltinStrategy("", "v1", "Binding", definition, subresources=frozenset()),
                schema={"$ref": REF + definition},
                definitions=pod.definitions,
                verbs=("create",),
                has_generation=False,
                builtin=True,
            )
        )


def binding_handler(core: Core) -> Callable[[RequestContext, Obj], Awaitable[Obj]]:
    """Answers a create of `bindings`: the binding's name is the pod's."""

    async def handle(ctx: RequestContext, binding: Obj) -> Obj:
        pod = core.registry.stored("", "pods")
        assert pod is not None
        about = replace(ctx, resource=pod, name=str(binding["metadata"].get("name") or ""), subresource="binding")
        return orjson.loads(await bind(core, about, binding))  # type: ignore[no-any-return]

    return handle


def on_node(core: Core, ctx: RequestContext) -> ApiError:
    """The answer of an endpoint that needs a node (raises ApiError 404 when the object isn't there)."""
    entry = core.get(ctx.resource, ctx.namespace, ctx.name)
    if ctx.resource.plural == "services":
        return ApiError(
            503, "ServiceUnavailable", f'no endpoints available for service "{ctx.name}"', {"name": ctx.name}
        )
    if ctx.resource.plural == "nodes":
        return errors.internal(f"node {ctx.name} can't be reached: no kubelet runs there")
    node = (entry.obj.get("spec") or {}).get("nodeName")
    if not node:
        return errors.bad_request(f"pod {ctx.name} does not have a host assigned")
    return errors.internal(f"node {node} can't be reached: no kubelet runs there")


async def bind(core: Core, ctx: RequestContext, binding: Obj) -> bytes:
    """Assign a pod to a node. Raises ApiError 404, 409."""
    node = str((binding.get("target") or {}).get("name") or "")
    if not node:
        raise errors.invalid(
            "", "Binding", ctx.name, [FieldError("target.name", "FieldValueRequired", "Required value")]
        )

    while True:
        entry = core.get(ctx.resource, ctx.namespace, ctx.name)
        obj = entry.fresh()
        if obj["metadata"].get("deletionTimestamp"):
            raise errors.conflict(
                ctx.resource, ctx.name, f"pod {ctx.name} is being deleted, cannot be assigned to a host"
            )
        if (obj.get("spec") or {}).get("nodeName"):
            raise errors.conflict(
                ctx.resource, ctx.name, f'pod {ctx.name} is already assigned to node "{obj["spec"]["nodeName"]}"'
            )
        obj["spec"]["nodeName"] = node
        conditions: list[Any] = obj.setdefault("status", {}).get("conditions") or []
        conditions = [c for c in conditions if c.get("type") != "PodScheduled"]
        conditions.append(
            {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": metadata.now_text()}
        )
        obj["status"]["conditions"] = conditions
        if ctx.dry_run:
            break
        try:
            await core.write(ctx.resource, ctx.namespace, ctx.name, entry.rev, obj)
            break
        except Conflict:
            continue
    return orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})


async def evict(core: Core, ctx: RequestContext, eviction: Obj) -> bytes:
    """Delete a pod unless a PodDisruptionBudget forbids it. Raises ApiError 404, 429."""
    entry = core.get(ctx.resource, ctx.namespace, ctx.name)
    budgets = core.registry.stored("policy", "poddisruptionbudgets")
    if budgets is not None:
        for budget in core.table(budgets).span(ctx.namespace):
            selector = (budget.obj.get("spec") or {}).get("selector")
            if selector is None or not parse_labels(selector_text(selector)).matches(entry.labels):
                continue
            if int((budget.obj.get("status") or {}).get("disruptionsAllowed") or 0) <= 0:
                text = f"The disruption budget {budget.name} does not allow evicting pods currently"
                raise ApiError(
                    429,
                    "TooManyRequests",
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    {"causes": [{"reason": "DisruptionBudget", "message": text}]},
                )
    body = eviction.get("deleteOptions") or {}
    conditions = body.get("preconditions") or {}
    options = DeleteOptions(
        uid=conditions.get("uid"),
        resource_version=conditions.get("resourceVersion"),
        grace=body.get("gracePeriodSeconds"),
        propagation=body.get("propagationPolicy"),
        dry_run=ctx.dry_run,
    )
    await delete(core, ctx, options)
    return orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
