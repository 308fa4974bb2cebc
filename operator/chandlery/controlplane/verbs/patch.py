"""Patch: the four formats, each made into the wanted object and then brought to storage as an update is."""

from __future__ import annotations

from typing import Any

import orjson

from chandlery.controlplane import errors, metadata
from chandlery.controlplane.builtins.resources import wrong_type
from chandlery.controlplane.cache import Entry
from chandlery.controlplane.codec import read_patch
from chandlery.controlplane.codec.body import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from chandlery.controlplane.codec.gojson import MAX_DEPTH, JsonError, check_depth, kind_of
from chandlery.controlplane.codec.gotext import go_value
from chandlery.controlplane.core import Core
from chandlery.controlplane.fields import apply as apply_fields
from chandlery.controlplane.fields import object_text
from chandlery.controlplane.patch import json_patch, merge_patch, strategic_merge_patch
from chandlery.controlplane.patch.json_patch import refused
from chandlery.controlplane.patch.render import patched_text
from chandlery.controlplane.patch.restore import restore_error
from chandlery.controlplane.store.base import Conflict
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext, Resource
from chandlery.controlplane.verbs.create import insert, match_namespace
from chandlery.controlplane.verbs.decode import refusal_text, strict_text, warn
from chandlery.controlplane.verbs.owners import dedup_owners
from chandlery.controlplane.verbs.update import check_name, update


def accepted_types(ctx: RequestContext) -> tuple[str, ...]:
    if ctx.resource.builtin:
        return (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
    return (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)


async def patch(core: Core, ctx: RequestContext, raw: bytes, content_type: str, *, force: bool) -> tuple[bytes, bool]:
    """Patch one object; answers it as stored and whether it was created (apply can). Raises ApiError."""
    if content_type == APPLY_PATCH:
        return await _apply(core, ctx, raw, force=force)

    async def change(live: Obj, entry: Entry) -> Obj:
        body, problems = read_patch(raw, content_type, strict=ctx.field_validation != "Ignore")
        served = await core.served(ctx.resource, entry)
        clean = live if _is_clean(ctx.resource, entry) else None
        if clean is None:
            obj = make_patched(ctx, content_type, orjson.loads(served), body)
        else:
            obj = own_top(make_patched(ctx, content_type, clean, body), clean)
        obj = check_patched(ctx, content_type, obj, served, body, problems, clean)
        check_name(ctx, obj)
        return obj

    retry = not _pinned(raw, content_type)
    return await update(core, ctx, change, retry=retry, precondition=False), False


def _pinned(raw: bytes, content_type: str) -> bool:
    """Whether a patch says which resourceVersion it is for: it isn't tried again on another one."""
    if content_type == JSON_PATCH or b"resourceVersion" not in raw:
        return False
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    meta = body.get("metadata") if isinstance(body, dict) else None
    return bool(meta.get("resourceVersion")) if isinstance(meta, dict) else False


def _is_clean(resource: Resource, entry: Entry) -> bool:
    """Whether the live object is what this resource's rules make, so that decoding and defaulting leave it as it is.

    Then what is made of it may share the parts with it that a patch doesn't touch: nothing will change them, and what
    is the same object needs no comparing.
    """
    return not resource.builtin and entry.maker is resource


def own_top(obj: Obj, live: Obj) -> Obj:
    """The object with a top and a metadata of its own, for those are written to."""
    meta: Obj = live["metadata"]
    if obj is live:
        obj = dict(obj)
    if obj.get("metadata") is meta:
        obj["metadata"] = meta.copy()
    return obj


def make_patched(ctx: RequestContext, content_type: str, doc: Obj, body: Any) -> Obj:
    """The document with the patch applied; `doc` stays as it is; the result shares with it what is the same."""
    if content_type == JSON_PATCH:
        return json_patch(doc, body)
    if content_type == MERGE_PATCH:
        return merge_patch(doc, body)
    return strategic_merge_patch(doc, body, ctx.resource.schema, ctx.resource.definitions)


def check_patched(
    ctx: RequestContext,
    content_type: str,
    obj: Obj,
    served: bytes,
    body: Any,
    problems: list[str],
    clean: Obj | None = None,
) -> Obj:
    """A patched document as an object of its type again; `problems` are what the patch's decoder found.

    `served` is the document that was patched; `clean` too, when it needs no decoding itself.

    Raises ApiError 422 that names the whole patch when the document doesn't fit, or fieldValidation is Strict.
    """
    resource = ctx.resource
    before = b""
    if clean is None or content_type != MERGE_PATCH:  # what is merged nests no deeper than its two parts
        try:
            before = orjson.dumps(obj)
            if before.count(b"{") + before.count(b"[") > MAX_DEPTH:
                check_depth(obj)
        except (TypeError, JsonError):  # nests too deeply to be stored
            raise refused() from None
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    text = _mistyped(ctx, content_type, obj)
    if text:
        raise invalid_patch(ctx, content_type, before, served, body, text)
    try:
        quick = getattr(resource.strategy, "decode_changed", None) if clean is not None else None
        unknown = resource.strategy.decode(obj) if quick is None else quick(obj, clean)
    except ApiError as error:
        text = refusal_text(resource, error)
        if text is None:
            raise
        raise invalid_patch(ctx, content_type, before, served, body, text) from None
    found = [*problems, *unknown]
    if found and ctx.field_validation == "Strict":
        raise invalid_patch(ctx, content_type, before, served, body, strict_text(found))
    if found and ctx.field_validation != "Ignore":
        warn(ctx, found)
    return obj


def _mistyped(ctx: RequestContext, content_type: str, obj: Obj) -> str | None:
    """What is wrong with a patched document's apiVersion and kind; a strategic merge patch can't change them.

    Absent ones are those of the resource.
    """
    resource = ctx.resource
    if content_type == STRATEGIC_PATCH:
        if isinstance(obj.get("kind", ""), str | None) and isinstance(obj.get("apiVersion", ""), str | None):
            obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind
        return None
    for name in ("apiVersion", "kind"):
        found = obj.get(name)
        if found is not None and not isinstance(found, str):
            why = f"json: cannot unmarshal {kind_of(found)} into Go struct field .{name} of type string"
            return f"couldn't get version/kind; json parse error: {why}"
    if not resource.builtin:
        return None
    if not obj.get("apiVersion"):  # then it is read as the server's own form of the type, which shares no field with it
        warn(ctx, [f'unknown field "{key}"' for key in obj if key not in ("apiVersion", "kind")])
        obj["metadata"] = {}
        obj["apiVersion"] = resource.api_version
    obj["kind"] = obj.get("kind") or resource.kind
    if (obj["apiVersion"], obj["kind"]) == (resource.api_version, resource.kind):
        return None
    return wrong_type((resource.storage_key[0], resource.kind), obj["apiVersion"], obj["kind"])


def invalid_patch(
    ctx: RequestContext, content_type: str, before: bytes, served: bytes, body: Any, text: str
) -> ApiError:
    """The answer to a patch of `served` whose result can't be an object of the type; `before` b"": make it again."""
    if content_type == STRATEGIC_PATCH:
        value = go_value(body)
        resource = ctx.resource
        if not text.startswith("strict decoding error"):
            text = restore_error(orjson.loads(before), resource.schema, resource.definitions) or text
    else:
        doc = orjson.loads(before) if before else make_patched(ctx, content_type, orjson.loads(served), body)
        if ctx.resource.builtin:  # the fields that the patch left alone stand in the order of their type
            doc = orjson.loads(served)
            ctx.resource.strategy.decode(doc)
            doc = make_patched(ctx, content_type, doc, body)
        value = patched_text(doc, body, content_type, builtin=ctx.resource.builtin)
    return errors.invalid("", "", "", [metadata.invalid("patch", value, text)])


async def _apply(core: Core, ctx: RequestContext, raw: bytes, *, force: bool) -> tuple[bytes, bool]:
    resource = ctx.resource
    for _ in range(6):
        entry = core.find(resource, ctx.namespace, ctx.name)
        if entry is not None:

            async def change(live: Obj, _entry: Entry) -> Obj:
                return _merged(ctx, live, raw, force=force, clean=_is_clean(resource, _entry))

            try:
                return await update(core, ctx, change, retry=True, owned=True, precondition=False), False
            except ApiError as error:
                if error.code == 404 and core.find(resource, ctx.namespace, ctx.name) is None:
                    continue
                raise
        if ctx.subresource:
            raise errors.not_found(resource, ctx.name)
        obj = _merged(ctx, None, raw, force=force)
        ctx.verb = "create"
        resource.strategy.default(obj)
        dedup_owners(ctx, obj)
        obj = await core.mutate(ctx, obj, None)
        try:
            return await insert(core, ctx, obj, asked=False), True
        except Conflict:
            continue
        except ApiError as error:
            if error.reason == "AlreadyExists":
                continue
            raise
    raise errors.modified(resource, ctx.name)


def _merged(ctx: RequestContext, live: Obj | None, raw: bytes, *, force: bool, clean: bool = False) -> Obj:
    """The object that an apply patch makes of the live one."""
    resource = ctx.resource
    body, problems = read_patch(raw, APPLY_PATCH, strict=ctx.field_validation != "Ignore")
    merged = apply_fields(
        resource,
        live,
        body,
        manager=ctx.field_manager,
        force=force,
        subresource=ctx.subresource,
        now=metadata.now_text(),
    )
    if problems:
        if ctx.field_validation == "Strict":
            raise errors.bad_request(f"error strict decoding YAML: {', '.join(problems)}")
        warn(ctx, problems)
    # The merged object shares parts with the live one.
    obj: Obj = own_top(merged, live) if clean and live is not None else orjson.loads(orjson.dumps(merged))
    meta = obj["metadata"]
    if resource.builtin:
        try:
            resource.strategy.decode(obj)
        except ApiError as error:
            text = refusal_text(resource, error)
            if text is None:
                raise
            kind = object_text(body).partition("; ")[2]
            raise errors.plain_internal(
                f"failed to convert new object ({object_text(body)}) to proper version: "
                f"unable to convert unstructured object to {kind}: {text}"
            ) from None
        meta = obj["metadata"]
    else:  # fits its schema already; nulls stay for defaulting and validation to see
        for key in [key for key, value in meta.items() if value is None]:
            del meta[key]
    if live is None:
        meta.pop("resourceVersion", None)
    if live is None and meta.get("uid"):
        raise errors.conflict(
            resource,
            ctx.name,
            f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found",
        )
    match_namespace(ctx, obj)
    check_name(ctx, obj)
    return obj


def require_manager(manager: str) -> None:
    """Apply needs a field manager. Raises ApiError 422."""
    if not manager:
        raise errors.invalid_options(
            "PatchOptions",
            [FieldError("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")],
        )
