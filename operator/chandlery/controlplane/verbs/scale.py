"""The scale subresource: an `autoscaling/v1` Scale as a view of another object."""

from __future__ import annotations

from typing import Any

import orjson

from chandlery.controlplane import errors
from chandlery.controlplane.builtins.decode import DecodeError, Where, struct
from chandlery.controlplane.cache import Entry
from chandlery.controlplane.codec import decode_body, decode_patch
from chandlery.controlplane.codec.body import APPLY_PATCH
from chandlery.controlplane.core import Core
from chandlery.controlplane.fields import apply_scale
from chandlery.controlplane.metadata import invalid, now_text
from chandlery.controlplane.patch import json_patch, merge_patch, strategic_merge_patch
from chandlery.controlplane.patch.render import patched_text
from chandlery.controlplane.types import Obj, RequestContext
from chandlery.controlplane.verbs.create import match_namespace
from chandlery.controlplane.verbs.decode import check_type
from chandlery.controlplane.verbs.update import check_name, update

_JSON_PATCH = "application/json-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"
_DEFAULT = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}


def _paths(ctx: RequestContext) -> Obj:
    return (
        {**_DEFAULT, **ctx.resource.subresources["scale"]}
        if ctx.resource.builtin
        else dict(ctx.resource.subresources["scale"])
    )


def _at(obj: Any, path: str) -> Any:
    for part in path.lstrip(".").split("."):
        if not isinstance(obj, dict):
            return None
        obj = obj.get(part)
    return obj


def _put(obj: Obj, path: str, value: Any) -> None:
    *parents, last = path.lstrip(".").split(".")
    for part in parents:
        child = obj.get(part)
        if not isinstance(child, dict):
            child = obj[part] = {}
        obj = child
    if value is None:
        obj.pop(last, None)
    else:
        obj[last] = value


def selector_text(selector: Obj | None) -> str:
    """A LabelSelector as the text form that Scale has."""
    if not selector:
        return ""
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression.get("key", ""), expression.get("operator")
        values = ",".join(sorted(expression.get("values") or ()))
        terms.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(operator, f"!{key}")
        )
    return ",".join(terms)


def scale_of(ctx: RequestContext, obj: Obj) -> Obj:
    """The Scale that shows `obj`. Raises ApiError 500 when the object has no replicas field."""
    paths, meta = _paths(ctx), obj["metadata"]
    replicas = _at(obj, paths["specReplicasPath"])
    if replicas is None and not ctx.resource.builtin and ctx.verb == "get":
        raise errors.internal(f'the spec replicas field "{paths["specReplicasPath"]}" does not exist')
    kept = {
        key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if key in meta
    }
    status: Obj = {"replicas": _at(obj, paths["statusReplicasPath"]) or 0}
    if ctx.resource.builtin:
        found = _at(obj, ".spec.selector")
        plain = ctx.resource.plural == "replicationcontrollers"
        selector = selector_text({"matchLabels": found} if plain and found else found)
    else:
        selector = _at(obj, paths["labelSelectorPath"]) or "" if paths.get("labelSelectorPath") else ""
    if selector:
        status["selector"] = selector
    spec: Obj = {"replicas": replicas} if replicas else {}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept, "spec": spec, "status": status}


async def get_scale(core: Core, ctx: RequestContext) -> bytes:
    entry = core.get(ctx.resource, ctx.namespace, ctx.name)
    return orjson.dumps(scale_of(ctx, await core.object(ctx.resource, entry)))


class Misfit(Exception):  # noqa: N818 - names what the value is
    """A value that a Scale can't hold."""


def _owners(ctx: RequestContext, obj: Obj) -> list[Obj]:
    """The managedFields that the Scale would show: who owns the replicas."""
    keys = [f"f:{part}" for part in _paths(ctx)["specReplicasPath"].lstrip(".").split(".")]
    found: list[Obj] = []
    for entry in obj["metadata"].get("managedFields") or ():
        fields: Any = entry.get("fieldsV1") or {}
        for key in keys:
            fields = fields.get(key) if isinstance(fields, dict) else None
        if fields is not None:
            shown = {key: entry[key] for key in ("manager", "operation") if key in entry}
            shown["apiVersion"] = "autoscaling/v1"
            if "time" in entry:
                shown["time"] = entry["time"]
            shown |= {"fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
            if entry.get("subresource"):
                shown["subresource"] = entry["subresource"]
            found.append(shown)
    return found


def _check(ctx: RequestContext, scale: Obj) -> int | None:
    try:
        decoded = struct("io.k8s.api.autoscaling.v1.Scale").decode(dict(scale), Where())
    except DecodeError as error:
        raise Misfit(str(error)) from None
    scale["metadata"] = decoded.get("metadata") or {}
    replicas: int | None = (scale.get("spec") or {}).get("replicas")
    if replicas is None:
        return None
    if replicas < 0:
        if ctx.resource.builtin:
            raise errors.invalid(
                "autoscaling",
                "Scale",
                ctx.name,
                [invalid("spec.replicas", replicas, "must be greater than or equal to 0")],
            )
        path = ctx.resource.subresources["scale"]["specReplicasPath"]
        raise errors.invalid_object(
            ctx.resource, ctx.name, [invalid(path, replicas, "should be a non-negative integer")]
        )
    return replicas


async def _store(core: Core, ctx: RequestContext, make: Any, *, retry: bool) -> bytes:
    path = _paths(ctx)["specReplicasPath"]

    async def change(live: Obj, entry: Entry) -> Obj:
        scale = await make(scale_of(ctx, live), live)
        replicas = _check(ctx, scale)
        obj = await core.own_object(ctx.resource, entry)
        _put(obj, path, (replicas or 0) if ctx.resource.builtin else replicas)
        version = (scale.get("metadata") or {}).get("resourceVersion")
        if version:
            obj["metadata"]["resourceVersion"] = version
        uid = (scale.get("metadata") or {}).get("uid")
        if uid:
            obj["metadata"]["uid"] = uid
        return obj

    body = await update(core, ctx, change, retry=retry)
    return orjson.dumps(scale_of(ctx, orjson.loads(body)))


async def _apply(core: Core, ctx: RequestContext, raw: bytes, *, force: bool) -> bytes:
    async def change(live: Obj, entry: Entry) -> Obj:
        replicas, managed = apply_scale(
            ctx.resource,
            live,
            scale_of(ctx, live),
            decode_patch(raw, APPLY_PATCH),
            manager=ctx.field_manager,
            force=force,
            now=now_text(),
        )
        _check(ctx, {"spec": {"replicas": replicas}})
        obj = await core.own_object(ctx.resource, entry)
        _put(obj, _paths(ctx)["specReplicasPath"], replicas)
        obj["metadata"]["managedFields"] = managed
        return obj

    body = await update(core, ctx, change, retry=True, owned=True, precondition=False)
    return orjson.dumps(scale_of(ctx, orjson.loads(body)))


async def put_scale(core: Core, ctx: RequestContext, raw: bytes, content_type: str) -> bytes:
    scale, _ = decode_body(raw, content_type, strict=False, kind="Scale")
    if ctx.resource.builtin:
        check_type(raw, scale, "autoscaling", "v1", "Scale")
    else:
        found, kind = str(scale.get("apiVersion") or "autoscaling/v1"), scale.get("kind") or "Scale"
        if (found, kind) != ("autoscaling/v1", "Scale"):
            raise errors.bad_request(
                f"no kind is registered for the type {found.rpartition('/')[2]}.{kind} in scheme "
                '"k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go:781"'
            )
    try:
        _check(ctx, scale)
    except Misfit as error:
        raise errors.bad_request(f'Scale in version "v1" cannot be handled as a Scale: {error}') from None
    scale["metadata"] = scale.get("metadata") or {}
    check_name(ctx, scale)
    match_namespace(ctx, scale)
    pinned = bool((scale.get("metadata") or {}).get("resourceVersion"))

    async def make(_live: Obj, _obj: Obj) -> Obj:
        return scale

    return await _store(core, ctx, make, retry=not pinned)


async def patch_scale(core: Core, ctx: RequestContext, raw: bytes, content_type: str, *, force: bool) -> bytes:
    if content_type == APPLY_PATCH:
        return await _apply(core, ctx, raw, force=force)
    body = decode_patch(raw, content_type)

    async def make(live: Obj, obj: Obj) -> Obj:
        if owners := _owners(ctx, obj):
            live["metadata"]["managedFields"] = owners
        if content_type == _JSON_PATCH:
            made = json_patch(live, body)
        elif content_type == _STRATEGIC:
            made = strategic_merge_patch(live, body, {"type": "object"}, {})
        else:
            made = merge_patch(live, body)
        try:
            _check(ctx, made)
        except Misfit as error:
            text = patched_text(made, body, content_type, builtin=True)
            raise errors.invalid("", "", "", [invalid("patch", text, str(error))]) from None
        return made

    return await _store(core, ctx, make, retry=True)
