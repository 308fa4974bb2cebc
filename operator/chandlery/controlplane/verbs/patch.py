"""Patch: the four formats, each made into the wanted object and then brought to storage as an update is."""

from __future__ import annotations

from typing import Any

import orjson

from chandlery.controlplane import errors, metadata
from chandlery.controlplane.cache import Entry
from chandlery.controlplane.codec import decode_patch
from chandlery.controlplane.core import Core
from chandlery.controlplane.fields import apply as apply_fields
from chandlery.controlplane.patch import json_patch, merge_patch, strategic_merge_patch
from chandlery.controlplane.store.base import Conflict
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext
from chandlery.controlplane.verbs.create import insert, match_namespace
from chandlery.controlplane.verbs.decode import check_patched
from chandlery.controlplane.verbs.owners import dedup_owners
from chandlery.controlplane.verbs.update import update

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


def accepted_types(ctx: RequestContext) -> tuple[str, ...]:
    if ctx.resource.builtin:
        return (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
    return (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)


async def patch(core: Core, ctx: RequestContext, raw: bytes, content_type: str, *, force: bool) -> tuple[bytes, bool]:
    """Patch one object; answers it as stored and whether it was created (apply can). Raises ApiError."""
    if content_type == APPLY_PATCH:
        return await _apply(core, ctx, raw, content_type, force=force)
    body = decode_patch(raw, content_type)

    async def change(live: Obj, entry: Entry) -> Obj:
        obj = make_patched(ctx, content_type, orjson.loads(await core.served(ctx.resource, entry)), body)
        return check_patched(ctx, obj)

    pinned = content_type != JSON_PATCH and isinstance(body, dict) and bool(
        (body.get("metadata") or {}).get("resourceVersion") if isinstance(body.get("metadata"), dict) else False
    )
    return await update(core, ctx, change, retry=not pinned), False


def make_patched(ctx: RequestContext, content_type: str, doc: Obj, body: Any) -> Obj:
    """The document with the patch applied; `doc` is the caller's own."""
    if content_type == JSON_PATCH:
        return json_patch(doc, body)
    if content_type == MERGE_PATCH:
        return merge_patch(doc, body)
    return strategic_merge_patch(doc, body, ctx.resource.schema, ctx.resource.definitions)


async def _apply(
    core: Core, ctx: RequestContext, raw: bytes, content_type: str, *, force: bool
) -> tuple[bytes, bool]:
    resource = ctx.resource
    body = decode_patch(raw, content_type)
    if not isinstance(body, dict):
        raise errors.bad_request("error decoding YAML: the patch must be an object")
    for _ in range(6):
        entry = core.find(resource, ctx.namespace, ctx.name)
        if entry is not None:

            async def change(live: Obj, entry: Entry) -> Obj:
                return _merged(ctx, live, orjson.loads(orjson.dumps(body)), force=force)

            try:
                return await update(core, ctx, change, retry=True, owned=True), False
            except ApiError as error:
                if error.code == 404 and core.find(resource, ctx.namespace, ctx.name) is None:
                    continue
                raise
        if ctx.subresource:
            raise errors.not_found(resource, ctx.name)
        obj = _merged(ctx, None, orjson.loads(orjson.dumps(body)), force=force)
        if (obj["metadata"].get("uid")):
            raise errors.conflict(
                resource, ctx.name, f"uid mismatch: the provided object specified uid {obj['metadata']['uid']}, and no existing object was found"
            )
        match_namespace(ctx, obj)
        ctx.verb = "create"
        resource.strategy.default(obj)
        dedup_owners(ctx, obj)
        if core.admission is not None:
            obj = await core.admission.mutate(ctx, obj, None) or obj
        try:
            return await insert(core, ctx, obj), True
        except Conflict:
            continue
        except ApiError as error:
            if error.reason == "AlreadyExists":
                continue
            raise
    raise errors.modified(resource, ctx.name)


def _merged(ctx: RequestContext, live: Obj | None, body: Obj, *, force: bool) -> Obj:
    meta = body.setdefault("metadata", {})
    if isinstance(meta, dict) and not meta.get("name"):
        meta["name"] = ctx.name
    if isinstance(meta, dict) and ctx.resource.namespaced and not meta.get("namespace"):
        meta["namespace"] = ctx.namespace
    body = check_patched(ctx, body)
    return apply_fields(
        ctx.resource,
        live,
        body,
        manager=ctx.field_manager,
        force=force,
        subresource=ctx.subresource,
        now=metadata.now_text(),
    )


def require_manager(manager: str) -> None:
    """Apply needs a field manager. Raises ApiError 422."""
    if not manager:
        raise errors.invalid_options(
            "PatchOptions",
            [FieldError("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")],
        )
