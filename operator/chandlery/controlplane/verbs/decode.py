"""From a request's body to an object of the type that its URL names."""

from __future__ import annotations

from chandlery.controlplane import errors
from chandlery.controlplane.builtins.decode import DecodeError, Where, struct
from chandlery.controlplane.builtins.resources import definition_name, wrong_type
from chandlery.controlplane.codec import decode_body, in_document_order, warning_texts
from chandlery.controlplane.codec.body import media_type, missing_kind, unrecognized
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource


def decode(ctx: RequestContext, raw: bytes, content_type: str) -> Obj:
    """The body as an object of `ctx.resource`; unknown and duplicate fields are treated as fieldValidation says.

    Raises ApiError 400, 415.
    """
    resource = ctx.resource
    strict = ctx.field_validation != "Ignore"
    obj, duplicates = decode_body(raw, content_type, strict=strict, kind=resource.kind)
    set_type(ctx, obj, raw)
    unknown = _decode_other(ctx, obj) if _is_other(ctx) else resource.strategy.decode(obj)
    if resource.builtin and duplicates and media_type(content_type) == "application/json":
        problems = in_document_order(raw, [*duplicates, *unknown])
    else:
        problems = [*duplicates, *unknown]
    report(ctx, problems)
    return obj


def set_type(ctx: RequestContext, obj: Obj, raw: bytes) -> None:
    """Check apiVersion and kind against the URL; fill them for built-in types when absent. Raises ApiError 400."""
    resource = ctx.resource
    version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    if not resource.builtin:
        if not kind:
            raise missing_kind(raw, resource.kind)
        if version != resource.api_version:
            if version.rpartition("/")[0] == resource.group:
                # No schema is known for that version: every field of the body is unknown to it.
                report(ctx, [f'unknown field "{key}"' for key in sorted(obj) if key not in _TYPED])
            raise errors.bad_request(
                f"the API version in the data ({version}) does not match the expected API version "
                f"({resource.api_version})"
            )
    else:
        group, wanted_version, wanted = expected_type(ctx)
        check_type(raw, obj, group, wanted_version, wanted)
    if obj.get("metadata") is None:
        obj["metadata"] = {}


def _is_other(ctx: RequestContext) -> bool:
    """Whether the subresource takes objects of another kind than the resource (TokenRequest ...)."""
    sub = ctx.resource.subresources.get(ctx.subresource) or {}
    return ctx.resource.builtin and bool(sub.get("kind")) and sub["kind"] != ctx.resource.kind


def _decode_other(ctx: RequestContext, obj: Obj) -> list[str]:
    """Bring a subresource's own kind into shape, in place; the unknown fields. Raises ApiError 400."""
    sub = ctx.resource.subresources[ctx.subresource]
    group, version, kind = sub.get("group") or "", sub.get("version") or ctx.resource.version, sub["kind"]
    where = Where()
    try:
        done = struct(definition_name(group, version, kind)).decode(obj, where)
    except DecodeError as error:
        raise errors.bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {error}') from None
    obj.clear()
    obj.update(done)
    return where.unknown


_TYPED = ("apiVersion", "kind", "metadata")


def expected_type(ctx: RequestContext) -> tuple[str, str, str]:
    """(group, version, kind) of what an endpoint of a built-in resource takes: its own kind or its subresource's."""
    resource = ctx.resource
    sub = resource.subresources.get(ctx.subresource) or {}
    if not sub.get("kind") or sub["kind"] == resource.kind:
        return resource.group, resource.version, resource.kind
    return sub.get("group") or "", sub.get("version") or resource.version, sub["kind"]


def check_type(raw: bytes, obj: Obj, group: str, version: str, kind: str) -> None:
    """Check a body's apiVersion and kind against what is expected; fill them when absent. Raises ApiError 400."""
    expected = f"{group}/{version}" if group else version
    found = (obj.get("apiVersion") or expected).removeprefix("/")
    found_kind = obj.get("kind") or kind
    if found.count("/") > 1:
        raise unrecognized(raw, kind, f"unexpected GroupVersion string: {found}")
    if (found, found_kind) == ("policy/v1beta1", "Eviction"):
        found = expected  # the one endpoint that takes two versions
    if (found, found_kind) != (expected, kind):
        stored = "" if (group, kind) == ("events.k8s.io", "Event") else group
        why = wrong_type((stored, kind), found, found_kind)
        if why is None:
            raise errors.bad_request(
                f"the API version in the data ({found}) does not match the expected API version ({expected})"
            )
        raise errors.bad_request(
            f'{found_kind} in version "{found.rpartition("/")[2]}" cannot be handled as a {kind}: {why}'
        )
    obj["apiVersion"], obj["kind"] = expected, kind


def refusal_text(resource: Resource, error: ApiError) -> str | None:
    """What a strategy said about a value that its type can't hold, without the part about the kind."""
    prefix = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
    if error.code != 400 or not error.message.startswith(prefix):
        return None
    return error.message.removeprefix(prefix)


def report(ctx: RequestContext, problems: list[str]) -> None:
    """Refuse or warn about fields that the type doesn't know, or a body named twice. Raises ApiError 400."""
    if not problems or ctx.field_validation == "Ignore":
        return
    if ctx.field_validation == "Strict":
        kind, version = ctx.resource.kind, ctx.resource.version
        text = strict_text(problems)
        raise ApiError(400, "BadRequest", f'{kind} in version "{version}" cannot be handled as a {kind}: {text}')
    warn(ctx, problems)


def strict_text(problems: list[str]) -> str:
    return "strict decoding error: " + ", ".join(problems)


def warn(ctx: RequestContext, problems: list[str]) -> None:
    for problem in warning_texts(problems):
        if problem not in ctx.warnings:
            ctx.warnings.append(problem)


def decode_options(raw: bytes, content_type: str, kind: str) -> Obj | None:
    """An options object in a body (DeleteOptions), or None. Raises ApiError 400, 415."""
    if not raw.strip():
        return None
    try:
        body, _ = decode_body(raw, content_type, strict=False, kind=kind)
    except ApiError as error:
        prefix = f"the object provided is unrecognized (must be of type {kind}): "
        if error.code == 400 and error.message.startswith(prefix):
            raise errors.bad_request(error.message.removeprefix(prefix).rpartition(" (")[0]) from None
        raise
    found = body.get("kind")
    if found and found != kind:
        raise errors.bad_request(
            f'no kind "{found}" is registered for version "{body.get("apiVersion", "")}" in scheme '
            '"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"'
        )
    try:
        done: Obj = struct(f"io.k8s.apimachinery.pkg.apis.meta.v1.{kind}").decode(body, Where())
    except DecodeError as error:
        version = str(body.get("apiVersion") or "v1").rpartition("/")[2]
        raise errors.bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {error}') from None
    return done
