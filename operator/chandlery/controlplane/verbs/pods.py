"""What can be done with a pod besides the usual: eviction and binding (see `onnode` for what its node would answer)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson

from chandlery.controlplane import errors, metadata
from chandlery.controlplane.builtins.data import REF
from chandlery.controlplane.builtins.resources import definition_name
from chandlery.controlplane.builtins.strategy import BuiltinStrategy
from chandlery.controlplane.cache import Entry
from chandlery.controlplane.core import Core
from chandlery.controlplane.selectors import parse_labels
from chandlery.controlplane.store.base import Conflict
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource, UserInfo
from chandlery.controlplane.verbs.create import match_namespace
from chandlery.controlplane.verbs.delete import DeleteOptions, delete
from chandlery.controlplane.verbs.scale import selector_text
from chandlery.controlplane.verbs.update import check_precondition, etcd_key, update

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


_DONE = orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
_MOST_DISRUPTED = 2000
_APISERVER = UserInfo("system:apiserver", groups=("system:masters", "system:authenticated"))


def _check_name(ctx: RequestContext, obj: Obj, kind: str) -> None:
    """The object posted to a pod's endpoint must name the pod. Raises ApiError 400."""
    obj["metadata"] = obj.get("metadata") or {}
    match_namespace(ctx, obj)
    if (obj["metadata"].get("name") or "") != ctx.name:
        raise errors.bad_request(f"name in URL does not match name in {kind} object")


def _cannot_bind(ctx: RequestContext, why: str) -> ApiError:
    kind = "pods/binding"
    text = f'Operation cannot be fulfilled on {kind} "{ctx.name}": {why}'
    return ApiError(409, "Conflict", text, {"name": ctx.name, "kind": kind})


async def bind(core: Core, ctx: RequestContext, binding: Obj) -> bytes:
    """Assign a pod to a node. Raises ApiError 400, 404, 409, 500."""
    _check_name(ctx, binding, "Binding")
    target = binding.get("target") or {}
    node, wrong = str(target.get("name") or ""), []
    if target.get("kind") not in (None, "", "Node"):
        wrong.append(f'target.kind: Unsupported value: "{target["kind"]}": supported values: "<empty>", "Node"')
    if not node:
        wrong.append("target.name: Required value")
    if wrong:
        raise errors.plain_internal(wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]")
    about = binding["metadata"]
    while True:
        entry = core.get(ctx.resource, ctx.namespace, ctx.name)
        obj = entry.fresh()
        meta, spec = obj["metadata"], obj["spec"]
        check_precondition(ctx.resource, binding, obj, key=etcd_key(ctx.resource, ctx.namespace, ctx.name))
        if about.get("resourceVersion") and about["resourceVersion"] != meta["resourceVersion"]:
            raise errors.modified(ctx.resource, ctx.name)
        if meta.get("deletionTimestamp"):
            raise _cannot_bind(ctx, f"pod {ctx.name} is being deleted, cannot be assigned to a host")
        if spec.get("nodeName"):
            raise _cannot_bind(ctx, f'pod {ctx.name} is already assigned to node "{spec["nodeName"]}"')
        if spec.get("schedulingGates"):
            raise _cannot_bind(ctx, f"pod {ctx.name} has non-empty .spec.schedulingGates")
        spec["nodeName"] = node
        for field in ("annotations", "labels"):
            if about.get(field):
                meta[field] = {**(meta.get(field) or {}), **about[field]}
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
    return _DONE


async def evict(core: Core, ctx: RequestContext, eviction: Obj) -> bytes:
    """Delete a pod unless a PodDisruptionBudget forbids it. Raises ApiError 400, 403, 404, 429."""
    _check_name(ctx, eviction, "Eviction")
    body = eviction.get("deleteOptions") or {}
    if body.get("dryRun"):
        ctx.dry_run = True
    pod = core.get(ctx.resource, ctx.namespace, ctx.name).obj
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed", "Pending")
    if not ended and not pod["metadata"].get("deletionTimestamp"):
        budgets = _budgets(core, ctx.namespace, pod)
        if len(budgets) > 1:
            why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            failed = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": why}
            return orjson.dumps(failed | {"code": 500})
        if budgets and not _spare(pod, budgets[0]):
            await _take_from(core, ctx, budgets[0]["metadata"]["name"])
    conditions = body.get("preconditions") or {}
    options = DeleteOptions(
        uid=conditions.get("uid"),
        resource_version=conditions.get("resourceVersion"),
        grace=body.get("gracePeriodSeconds"),
        propagation=body.get("propagationPolicy"),
        dry_run=ctx.dry_run,
    )
    await delete(core, ctx, options)
    return _DONE


def _budgets(core: Core, namespace: str, pod: Obj) -> list[Obj]:
    """The disruption budgets that a pod falls under."""
    resource = core.registry.stored("policy", "poddisruptionbudgets")
    found = []
    for entry in core.table(resource).span(namespace) if resource is not None else ():
        selector = (entry.obj.get("spec") or {}).get("selector")
        labels = pod["metadata"].get("labels") or {}
        if selector is not None and parse_labels(selector_text(selector)).matches(labels):
            found.append(entry.obj)
    return found


def _spare(pod: Obj, budget: Obj) -> bool:
    """Whether a pod that isn't ready may go without being counted: its end disrupts nothing."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = int(status.get("desiredHealthy") or 0)
    return desired > 0 and int(status.get("currentHealthy") or 0) >= desired


def _refused(why: str) -> ApiError:
    text = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", text, {"causes": [{"reason": "DisruptionBudget", "message": why}]})


async def _take_from(core: Core, ctx: RequestContext, name: str) -> None:
    """Use up one of the disruptions that a budget allows. Raises ApiError 403, 429."""
    resource = core.registry.stored("policy", "poddisruptionbudgets")
    assert resource is not None
    about = RequestContext(
        user=_APISERVER,
        verb="update",
        resource=resource,
        namespace=ctx.namespace,
        name=name,
        subresource="status",
        dry_run=ctx.dry_run,
        field_manager="kube-apiserver",
    )

    async def change(live: Obj, entry: Entry) -> Obj:
        own = entry.fresh()
        status = own.setdefault("status", {})
        allowed = int(status.get("disruptionsAllowed") or 0)
        disrupted = status.get("disruptedPods") or {}
        if int(status.get("observedGeneration") or 0) < int(live["metadata"].get("generation") or 0):
            raise _refused(f"The disruption budget {name} is still being processed by the server.")
        forbidden = ""
        if allowed < 0:
            forbidden = "pdb disruptions allowed is negative"
        elif len(disrupted) > _MOST_DISRUPTED:
            forbidden = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        if forbidden:
            text = f'poddisruptionbudget.policy "{name}" is forbidden: {forbidden}'
            raise ApiError(403, "Forbidden", text, {"name": name, "group": "policy", "kind": "poddisruptionbudget"})
        if allowed == 0:
            wanted, healthy = int(status.get("desiredHealthy") or 0), int(status.get("currentHealthy") or 0)
            raise _refused(f"The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently")
        status["disruptionsAllowed"] = allowed - 1
        status["disruptedPods"] = {**disrupted, ctx.name: metadata.now_text()}
        return own

    await update(core, about, change, retry=True)
