"""Update: what PUT and the patches have in common from the changed object on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import orjson

from chandlery.controlplane import errors, metadata
from chandlery.controlplane.cache import Entry
from chandlery.controlplane.core import Core
from chandlery.controlplane.fields import on_write
from chandlery.controlplane.store.base import Conflict
from chandlery.controlplane.types import Obj, RequestContext, Resource
from chandlery.controlplane.verbs.create import insert, match_namespace
from chandlery.controlplane.verbs.owners import dedup_owners

Change = Callable[[Obj, Entry], Awaitable[Obj]]
"""Makes the wanted object (the caller's own) from the live one (shared) and its entry."""

_ATTEMPTS = 6


def same(left: Any, right: Any) -> bool:
    """Equality as JSON sees it: 1, 1.0 and true are three values."""
    if left is right:
        return True
    return left == right and orjson.dumps(left, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        right, option=orjson.OPT_SORT_KEYS
    )


def unchanged(obj: Obj, live: Obj) -> bool:
    """Whether storing `obj` would change nothing but the times in managedFields."""
    meta, before = obj["metadata"], live["metadata"]
    if meta.get("generation") != before.get("generation"):
        return False
    fields, fields_before = meta.get("managedFields"), before.get("managedFields")
    if fields != fields_before:
        if _timeless(fields) != _timeless(fields_before):
            return False
        obj = obj | {"metadata": meta | {"managedFields": fields_before}}
    return same(obj, live)


def _timeless(entries: list[Obj] | None) -> list[Obj]:
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries or ()]


async def update(
    core: Core, ctx: RequestContext, change: Change, *, retry: bool, owned: bool = False, precondition: bool = True
) -> bytes:
    """Change a live object; answers it as stored. Retries on concurrent writes when `retry`.

    `owned`: managedFields are already worked out (server-side apply). `precondition`: a uid in the object is one; in
    what a patch makes it is a field like others. Raises ApiError.
    """
    resource = ctx.resource
    for attempt in range(_ATTEMPTS):
        entry = core.get(resource, ctx.namespace, ctx.name)
        live = await core.object(resource, entry)
        warned = len(ctx.warnings)
        obj = await change(live, entry)
        try:
            return await replace(core, ctx, entry, live, obj, owned=owned, precondition=precondition)
        except Conflict:
            if not retry or attempt == _ATTEMPTS - 1:
                raise errors.modified(resource, ctx.name) from None
            del ctx.warnings[warned:]
    raise errors.modified(resource, ctx.name)  # pragma: no cover - the loop always ends before


def check_precondition(resource: Resource, obj: Obj, live: Obj, *, key: str) -> None:
    """The uid in a body is a precondition. Raises ApiError 409."""
    uid = obj["metadata"].get("uid")
    live_uid = live["metadata"].get("uid")
    if uid and uid != live_uid:
        raise errors.conflict(
            resource,
            live["metadata"]["name"],
            f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {live_uid or ''}",
        )


def etcd_key(resource: Resource, namespace: str, name: str) -> str:
    """The key that the real server would tell in its errors."""
    group, plural = resource.storage_key
    parts = ["", "registry"]
    if not resource.builtin or group in ("apiextensions.k8s.io", "apiregistration.k8s.io"):
        parts.append(group)
    parts.append(_ETCD_NAMES.get((group, plural), plural))
    if resource.namespaced:
        parts.append(namespace)
    return "/".join([*parts, name])


_ETCD_NAMES = {
    ("", "services"): "services/specs",
    ("", "endpoints"): "services/endpoints",
    ("", "nodes"): "minions",
    ("", "replicationcontrollers"): "controllers",
    ("networking.k8s.io", "ingresses"): "ingress",
}
"""Resources that the real server stores under another name than their own."""


async def replace(
    core: Core, ctx: RequestContext, entry: Entry, live: Obj, obj: Obj, *, owned: bool, precondition: bool = True
) -> bytes:
    """Bring `obj` to storage in place of `live`. Raises Conflict when the entry is no longer current."""
    resource, strategy = ctx.resource, ctx.resource.strategy
    meta, before = obj.setdefault("metadata", {}), live["metadata"]
    match_namespace(ctx, obj)
    strategy.default(obj)
    dedup_owners(ctx, obj)
    if ctx.subresource in _PARTS:  # what this endpoint doesn't change must not be owned through it
        strategy.prepare_for_update(ctx, obj, live)
    if not owned:
        on_write(resource, live, obj, manager=ctx.field_manager, subresource=ctx.subresource, now=metadata.now_text())
        if not resource.builtin and _outlived(core, resource, before):
            obj["metadata"].pop("managedFields", None)
    obj = await core.mutate(ctx, obj, live)
    meta = obj["metadata"]
    dedup_owners(ctx, obj)
    if precondition:
        check_precondition(resource, obj, live, key=etcd_key(resource, ctx.namespace, ctx.name))
    version = meta.get("resourceVersion") or ""
    if not version or version == "0":
        if not allows_unconditional(resource):
            raise errors.invalid(
                resource.group,
                resource.plural,
                ctx.name,
                [metadata.invalid("metadata.resourceVersion", 0, "must be specified for an update")],
            )
        meta["resourceVersion"] = before["resourceVersion"]
    elif not version.isdigit():
        raise errors.plain_internal(f'strconv.ParseUint: parsing "{version}": invalid syntax')
    elif version != before["resourceVersion"]:
        raise errors.modified(resource, ctx.name)
    _keep_system_fields(meta, before)
    strategy.prepare_for_update(ctx, obj, live)
    if resource.has_generation and meta.get("generation") == before.get("generation") and _spec_changed(ctx, obj, live):
        meta["generation"] = (before.get("generation") or 0) + 1
    # Metadata is looked at by the storage layer and by the type: each problem has two causes, and is told once.
    problems = metadata.validate_update(resource, obj, live) * 2 + strategy.validate_update(ctx, obj, live)
    if not resource.builtin:
        problems += metadata.validate_common(resource, meta, before)
    if problems:
        group = resource.storage_key[0] if resource.builtin else str(obj.get("apiVersion") or "").rpartition("/")[0]
        raise errors.invalid(group, obj.get("kind") or resource.kind, meta.get("name") or "", problems)
    ctx.warnings += strategy.warnings(ctx, obj, live)
    turns = AsyncExitStack()
    if core.store.shared:
        ctx.take_turns = partial(core.take_turns, ctx, turns)
    try:
        if core.admission is not None:
            await core.admission.validate(ctx, obj, live)
        problems = core.allocate(ctx, obj, live) if not ctx.subresource else []
        if problems:
            raise errors.invalid_object(resource, ctx.name, problems)
        if finished(obj):
            return await remove_instead(core, ctx, entry, obj)
        if unchanged(obj, live):
            return await core.served(resource, entry)
        if ctx.dry_run:
            return orjson.dumps(obj)
        return await core.write(resource, ctx.namespace, ctx.name, entry.rev, obj)
    finally:
        if ctx.charges and core.admission is not None:
            core.admission.settle(ctx)
        await turns.aclose()


_PARTS = frozenset({"ephemeralcontainers", "resize"})


def _outlived(core: Core, resource: Resource, before: Obj) -> bool:
    """Whether managedFields speak of a version that is no longer served: then they can't be kept up."""
    served = core.registry.find
    for entry in before.get("managedFields") or ():
        group, _, version = str(entry.get("apiVersion") or "").rpartition("/")
        if group == resource.group and version != resource.version and served(group, version, resource.plural) is None:
            return True
    return False


def created_by_put(resource: Resource) -> bool:
    """Whether a PUT creates what isn't there."""
    return resource.builtin and resource.storage_key in _CREATED_BY_PUT


_CREATED_BY_PUT = {
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("coordination.k8s.io", "leases"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
}


def allows_unconditional(resource: Resource) -> bool:
    """Whether a PUT without resourceVersion takes what is there (custom resources and leases want one)."""
    return resource.builtin and (resource.group, resource.plural) not in _CONDITIONAL


_CONDITIONAL = {
    ("coordination.k8s.io", "leases"),
    ("node.k8s.io", "runtimeclasses"),
    ("policy", "poddisruptionbudgets"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csistoragecapacities"),
    ("storage.k8s.io", "volumeattachments"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
}


def _keep_system_fields(meta: Obj, before: Obj) -> None:
    """What an update can't touch is taken over from the live object."""
    meta.pop("selfLink", None)
    if not meta.get("uid"):
        meta["uid"] = before.get("uid")
    for field in ("creationTimestamp", "generation"):
        if field in before:
            meta[field] = before[field]
        else:
            meta.pop(field, None)
    if before.get("deletionTimestamp"):
        meta["deletionTimestamp"] = before["deletionTimestamp"]
    if before.get("deletionGracePeriodSeconds") is not None and meta.get("deletionGracePeriodSeconds") is None:
        meta["deletionGracePeriodSeconds"] = before["deletionGracePeriodSeconds"]


def _spec_changed(ctx: RequestContext, obj: Obj, live: Obj) -> bool:
    """Whether anything but metadata changed (nor status, where that is a subresource)."""
    key = ctx.resource.storage_key
    if ctx.resource.builtin and (key in _NO_NEW_GENERATION or ctx.subresource == "status"):
        return False
    apart = {"metadata", "apiVersion", "kind"}
    if ctx.resource.builtin or "status" in ctx.resource.subresources:
        apart.add("status")
    counted = _COUNTED_METADATA.get(key) if ctx.resource.builtin else None
    if counted and (obj["metadata"].get(counted) or {}) != (live["metadata"].get(counted) or {}):
        return True
    keys = (obj.keys() | live.keys()) - apart
    return any(not same(obj.get(key), live.get(key)) for key in keys)


_COUNTED_METADATA = {("apps", "deployments"): "annotations", ("discovery.k8s.io", "endpointslices"): "labels"}
"""What of metadata counts as a change of generation."""
_NO_NEW_GENERATION = {("scheduling.k8s.io", "priorityclasses")}
"""Kinds whose generation stays at 1."""


def finished(obj: Obj) -> bool:
    """Whether an object that is being deleted has nothing left that holds it."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers") or meta.get("deletionGracePeriodSeconds"):
        return False
    return obj.get("kind") != "Namespace" or not (obj.get("spec") or {}).get("finalizers")


async def remove_instead(core: Core, ctx: RequestContext, entry: Entry, obj: Obj) -> bytes:
    """The last finalizer went: delete the object, and answer it as it would have been stored."""
    answer = orjson.dumps(obj)
    if not ctx.dry_run:
        await core.remove(ctx.resource, entry)
    return answer


def check_name(ctx: RequestContext, obj: Obj) -> None:
    """The name in the object must be that of the URL. Raises ApiError 400."""
    name = obj["metadata"].get("name") or ""
    if not name:
        raise errors.bad_request(
            f"the name of the object ({ctx.name} based on URL) was undeterminable: name must be provided"
        )
    if name != ctx.name:
        raise errors.bad_request(f"the name of the object ({name}) does not match the name on the URL ({ctx.name})")


async def put(core: Core, ctx: RequestContext, body: Obj) -> tuple[bytes, bool]:
    """Replace by PUT: `body` is the decoded object, the caller's own; answers it and whether it was created."""
    meta = body.setdefault("metadata", {})
    check_name(ctx, body)
    match_namespace(ctx, body)
    raw = orjson.dumps(body)
    first = True

    async def change(_live: Obj, _entry: Entry) -> Obj:
        nonlocal first
        if first:
            first = False
            return body
        return orjson.loads(raw)  # type: ignore[no-any-return]

    if created_by_put(ctx.resource) and core.find(ctx.resource, ctx.namespace, ctx.name) is None:
        return await _create(core, ctx, body), True
    return await update(core, ctx, change, retry=not meta.get("resourceVersion")), False


async def _create(core: Core, ctx: RequestContext, obj: Obj) -> bytes:
    """A PUT of what isn't there, for the kinds that are created so. Raises ApiError."""
    resource, strategy = ctx.resource, ctx.resource.strategy
    ctx.verb = "create"
    strategy.default(obj)
    dedup_owners(ctx, obj)
    on_write(resource, None, obj, manager=ctx.field_manager, subresource="", now=metadata.now_text())
    obj = await core.mutate(ctx, obj, None)
    dedup_owners(ctx, obj)
    nothing: Obj = {"metadata": {"name": ctx.name}}
    check_precondition(resource, obj, nothing, key=etcd_key(resource, ctx.namespace, ctx.name))
    obj["metadata"].pop("resourceVersion", None)
    return await insert(core, ctx, obj, asked=False)
