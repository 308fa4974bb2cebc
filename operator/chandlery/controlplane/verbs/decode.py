"""From a request's body to an object of the type that its URL names."""

from __future__ import annotations

from chandlery.controlplane import errors
from chandlery.controlplane.codec import decode_body
from chandlery.controlplane.types import ApiError, Obj, RequestContext


def decode(ctx: RequestContext, raw: bytes, content_type: str) -> Obj:
    """The body as an object of `ctx.resource`; unknown and duplicate fields are treated as fieldValidation says.

    Raises ApiError 400, 415.
    """
    resource = ctx.resource
    obj, duplicates = decode_body(raw, content_type, strict=ctx.field_validation != "Ignore")
    set_type(ctx, obj)
    unknown = resource.strategy.decode(obj)
    report(ctx, [*duplicates, *unknown], strict_prefix=True)
    return obj


def set_type(ctx: RequestContext, obj: Obj) -> None:
    """Check apiVersion and kind against the URL; fill them for built-in types when absent."""
    resource = ctx.resource
    version = obj.get("apiVersion")
    if not version:
        obj["apiVersion"] = version = resource.api_version
    if not obj.get("kind"):
        obj["kind"] = resource.kind
    if version != resource.api_version:
        raise errors.bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    if obj.get("metadata") is None:
        obj["metadata"] = {}


def check_patched(ctx: RequestContext, obj: Obj) -> Obj:
    """A patched document as an object again."""
    if obj.get("metadata") is None:
        obj["metadata"] = {}
    unknown = ctx.resource.strategy.decode(obj)
    report(ctx, unknown, strict_prefix=False)
    return obj


def report(ctx: RequestContext, problems: list[str], *, strict_prefix: bool) -> None:
    """Refuse or warn about fields that the type doesn't know, or a body named twice."""
    if not problems or ctx.field_validation == "Ignore":
        return
    if ctx.field_validation == "Strict":
        text = "strict decoding error: " + ", ".join(problems)
        if strict_prefix and ctx.resource.builtin:
            kind, version = ctx.resource.kind, ctx.resource.version
            text = f'{kind} in version "{version}" cannot be handled as a {kind}: {text}'
        raise ApiError(400, "BadRequest", text)
    for problem in problems:
        if problem not in ctx.warnings:
            ctx.warnings.append(problem)


def decode_options(raw: bytes, content_type: str, kind: str) -> Obj | None:
    """An options object in a body (DeleteOptions), or None. Raises ApiError 400, 415."""
    if not raw.strip():
        return None
    body, _ = decode_body(raw, content_type, strict=False)
    found = body.get("kind")
    if found and found != kind:
        raise errors.bad_request(
            f"{found} in version \"{str(body.get('apiVersion', '')).rpartition('/')[2]}\" cannot be handled as a {kind}"
        )
    return body
