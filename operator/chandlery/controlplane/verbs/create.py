"""Create: defaults, owners, admission, validation, storage."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import orjson

from chandlery.controlplane import errors, metadata
from chandlery.controlplane.builtins.data import REF
from chandlery.controlplane.builtins.resources import definition_name
from chandlery.controlplane.builtins.strategy import BuiltinStrategy
from chandlery.controlplane.core import Core
from chandlery.controlplane.fields import on_write
from chandlery.controlplane.store.base import Conflict
from chandlery.controlplane.types import Obj, RequestContext, Resource
from chandlery.controlplane.verbs.owners import dedup_owners

if TYPE_CHECKING:
    from chandlery.controlplane.auth import VirtualHandler

_NAME_ATTEMPTS = 8
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
_SYSTEM = ("creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


def match_namespace(ctx: RequestContext, obj: Obj) -> None:
    """Take the namespace from the URL; a different one in the body is an error."""
    meta = obj["metadata"]
    wanted = ctx.namespace if ctx.resource.namespaced else ""
    found = meta.get("namespace") or ""
    if not wanted:
        meta.pop("namespace", None)
    elif not found:
        meta["namespace"] = wanted
    elif found != wanted:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


async def answer_virtual(ctx: RequestContext, obj: Obj, handler: VirtualHandler) -> Obj:
    """What a resource that is never stored answers to a create."""
    obj.setdefault("metadata", {})
    match_namespace(ctx, obj)
    if not ctx.subresource:
        ctx.resource.strategy.default(obj)
    told = {key: value for key, value in obj.items() if key != "status"}
    if isinstance(told.get("spec"), dict):
        told["spec"] = {key: value for key, value in told["spec"].items() if value is not None}
    on_write(
        _shown_as(ctx.resource, ctx.subresource),
        None,
        told,
        manager=ctx.field_manager,
        subresource=ctx.subresource,
        now=metadata.now_text(),
    )
    return await handler(ctx, obj)


@cache
def _shown_as(resource: Resource, subresource: str) -> Resource:
    """The resource with the kind that its subresource takes (TokenRequest)."""
    sub = resource.subresources.get(subresource) or {}
    if not sub.get("version"):
        return resource
    group, version, kind = sub["group"], sub["version"], sub["kind"]
    name = definition_name(group, version, kind)
    return replace(
        resource,
        group=group,
        version=version,
        kind=kind,
        schema={"$ref": REF + name},
        strategy=BuiltinStrategy(group, version, kind, name, subresources=frozenset()),
    )


async def create(core: Core, ctx: RequestContext, obj: Obj) -> bytes:
    """Create the decoded `obj` (the caller's own); answers it as stored. Raises ApiError."""
    resource, strategy = ctx.resource, ctx.resource.strategy
    obj.setdefault("metadata", {})
    match_namespace(ctx, obj)
    for field in _SYSTEM:
        obj["metadata"].pop(field, None)
    strategy.default(obj)
    dedup_owners(ctx, obj)
    on_write(resource, None, obj, manager=ctx.field_manager, subresource="", now=metadata.now_text())
    obj = await core.mutate(ctx, obj, None)
    dedup_owners(ctx, obj)
    return await insert(core, ctx, obj)


def _may_create(core: Core, ctx: RequestContext) -> None:
    """Whether somebody whose update or apply patch would create an object may do so. Raises ApiError 403."""
    if core.authorizer is None:
        return
    resource = ctx.resource
    allowed, reason = core.authorizer.authorize(
        ctx.user, "create", group=resource.group, resource=resource.plural, namespace=ctx.namespace, name=ctx.name
    )
    if not allowed:
        raise errors.forbidden(resource, ctx.name, reason)


async def insert(core: Core, ctx: RequestContext, obj: Obj, *, asked: bool = True) -> bytes:
    """The second half: what the storage layer does with a new object after mutating admission.

    `asked` is false for an update or an apply patch of what isn't there: whoever sent it must be allowed to create too.
    """
    resource, strategy = ctx.resource, ctx.resource.strategy
    meta = obj["metadata"]
    if core.terminating(resource):
        raise errors.forbidden(
            resource, meta.get("name") or "", "create not allowed while custom resource definition is terminating"
        )
    meta.pop("deletionTimestamp", None)
    meta.pop("deletionGracePeriodSeconds", None)
    meta.pop("selfLink", None)
    meta["creationTimestamp"] = metadata.now_text()
    meta["uid"] = metadata.new_uid()
    meta.pop("generation", None)
    if resource.has_generation:
        meta["generation"] = 1
    generate = meta.get("generateName") if not meta.get("name") else None
    if generate:
        meta["name"] = metadata.generate_name(generate)
    strategy.prepare_for_create(ctx, obj)
    turns = AsyncExitStack()
    if core.store.shared:
        ctx.take_turns = partial(core.take_turns, ctx, turns)
    try:
        for attempt in range(_NAME_ATTEMPTS):
            if generate and attempt:
                before, meta["name"] = meta["name"], metadata.generate_name(generate)
                if (meta.get("labels") or {}).get(_NAMESPACE_LABEL) == before:
                    meta["labels"][_NAMESPACE_LABEL] = meta["name"]
            problems = metadata.validate_create(resource, obj) + strategy.validate_create(ctx, obj)
            if problems:
                group = resource.storage_key[0] if resource.builtin else resource.group
                raise errors.invalid(group, obj.get("kind") or resource.kind, meta.get("name") or "", problems)
            ctx.warnings += strategy.warnings(ctx, obj, None)
            if not asked:
                _may_create(core, ctx)
            if core.admission is not None:
                await core.admission.validate(ctx, obj, None)
            problems = core.allocate(ctx, obj, None)
            if problems:
                raise errors.invalid_object(resource, meta.get("name") or "", problems)
            if meta.get("resourceVersion"):
                raise errors.plain_internal("resourceVersion should not be set on objects to be created")
            name = meta["name"]
            found = core.find(resource, ctx.namespace, name)
            if found is None:
                if ctx.dry_run:
                    meta.pop("resourceVersion", None)
                    return orjson.dumps(obj)
                try:
                    made = await core.write(resource, ctx.namespace, name, 0, obj)
                    ctx.name = name
                    return made
                except Conflict:
                    found = core.find(resource, ctx.namespace, name)
            if generate and attempt < _NAME_ATTEMPTS - 1:
                continue
            ending = found is not None and bool(found.obj["metadata"].get("deletionTimestamp"))
            raise errors.already_exists(resource, name, generated=bool(meta.get("generateName")), ending=ending)
        raise errors.already_exists(resource, meta["name"])  # pragma: no cover - the loop always ends before
    finally:
        if ctx.charges and core.admission is not None:
            core.admission.settle(ctx)
        await turns.aclose()
