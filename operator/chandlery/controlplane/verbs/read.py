"""Get and list."""

from __future__ import annotations

import base64
import posixpath
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from chandlery.controlplane import errors
from chandlery.controlplane.cache import Entry, table_key
from chandlery.controlplane.codec import gojson
from chandlery.controlplane.codec.gotext import go_quote
from chandlery.controlplane.core import Core
from chandlery.controlplane.types import Obj, RequestContext, Resource
from chandlery.controlplane.verbs.options import ListOptions, Query, revision, wrap_revision_error


@dataclass(slots=True)
class Listing:
    """A list's answer: entries in key order and the list's own metadata."""

    entries: list[Entry]
    revision: int
    continue_: str = ""
    remaining: int | None = None
    extra: Obj = field(default_factory=dict)


def get(core: Core, ctx: RequestContext, query: Query) -> Entry:
    """The entry, not older than the asked revision. Raises ApiError 404, 504."""
    wanted = query.get("resourceVersion")
    if wanted:
        try:
            number = revision(wanted)
        except ValueError as error:
            raise wrap_revision_error(error, list_=False) from None
        if number > core.cache.revision:
            raise errors.too_large_revision(number, core.cache.revision)
    return core.get(ctx.resource, ctx.namespace, ctx.name)


def field_values(resource: Resource, entry: Entry, obj: Obj) -> Mapping[str, str]:
    """What a field selector sees."""
    values = dict(resource.strategy.selectable_fields(obj))
    values["metadata.name"] = entry.name
    values["metadata.namespace"] = entry.namespace
    return values


def only_metadata(options: ListOptions) -> bool:
    return options.fields is None or all(
        name in ("metadata.name", "metadata.namespace") for name, _, _ in options.fields.terms
    )


async def matches(core: Core, resource: Resource, options: ListOptions, entry: Entry) -> bool:
    """Whether an entry passes the selectors."""
    if options.labels is not None and not options.labels.matches(entry.labels):
        return False
    if options.fields is None:
        return True
    if only_metadata(options):
        return options.fields.matches({"metadata.name": entry.name, "metadata.namespace": entry.namespace})
    return options.fields.matches(field_values(resource, entry, await core.object(resource, entry)))


def encode_continue(rev: int, start: str) -> str:
    """The real server's token: base64url of JSON, without padding."""
    raw = orjson.dumps({"v": "meta.k8s.io/v1", "rv": rev, "start": start})
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_continue(token: str) -> tuple[int, str]:
    """(revision or -1, start key). Raises ApiError 400."""

    def fail(why: str) -> Exception:
        return errors.bad_request(f"invalid continue token: continue key is not valid: {why}")

    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise fail(f"illegal base64 data at input byte {_first_bad(token)}") from None
    try:
        body = gojson.loads(raw)
    except gojson.JsonError as error:
        raise fail(str(error)) from None
    if body is None:
        body = {}
    if not isinstance(body, dict):
        raise fail(f"json: cannot unmarshal {gojson.kind_of(body)} into Go value of type storage.continueToken")
    for key, kind, name in (("v", str, "string"), ("rv", int, "int64"), ("start", str, "string")):
        value = body.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            what = gojson.kind_of(value) + (f" {value}" if isinstance(value, float) and kind is int else "")
            raise fail(f"json: cannot unmarshal {what} into Go struct field continueToken.{key} of type {name}")
    version, rv, start = body.get("v") or "", body.get("rv") or 0, body.get("start") or ""
    if version != "meta.k8s.io/v1":
        raise fail(f"server does not recognize this encoded version {go_quote(version)}")
    if rv == 0:
        raise fail("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not start:
        raise fail("encoded start key empty (version meta.k8s.io/v1)")
    key = start if start.startswith("/") else "/" + start
    if posixpath.normpath(key) != key:
        raise fail(start)
    return rv, start


def _first_bad(token: str) -> int:
    """Where a base64 decoder without padding stops."""
    for index, char in enumerate(token):
        if not (char.isascii() and (char.isalnum() or char in "-_")):
            return index
    return max(0, len(token) - len(token) % 4)


async def list_(core: Core, ctx: RequestContext, options: ListOptions) -> Listing:
    """Select entries. Raises ApiError 400, 410, 504."""
    resource, cache = ctx.resource, core.cache
    if options.resource_version != "0":
        await core.current()
    table = core.table(resource)
    namespace = ctx.namespace if resource.namespaced else ""
    at = cache.revision
    start = ""
    inconsistent = False
    if options.continue_:
        if options.resource_version and options.resource_version != "0":
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        at, start = decode_continue(options.continue_)
        start = start.removeprefix("/")
        if namespace:
            start = f"{namespace}/{start}"
        inconsistent = at < 0
        if inconsistent:
            at = cache.revision
    elif options.resource_version:
        try:
            wanted = revision(options.resource_version)
        except ValueError as error:
            raise wrap_revision_error(error, list_=True) from None
        if wanted > cache.revision:
            raise errors.too_large_revision(wanted, cache.revision)
        if options.match == "Exact" or (options.limit and wanted and not options.match):
            at = wanted
    limit = options.limit
    if not options.continue_ and options.resource_version == "0" and options.match != "Exact":
        limit = 0  # served from the cache, which answers whole
    entries, keys = table.entries, table.keys
    if at < table.revision:
        past = table.at(at)
        if past is None:
            raise _expired(options, start, namespace)
        entries, keys = past, sorted(past)
    first = bisect_left(keys, start or (f"{namespace}/" if namespace else ""))
    last = bisect_left(keys, f"{namespace}0") if namespace else len(keys)
    picked = keys[first:last]
    if options.fields is not None:
        name = options.fields.exact("metadata.name")
        where = namespace or (options.fields.exact("metadata.namespace") or "" if resource.namespaced else "")
        if name is not None and (where or not resource.namespaced):
            key = table_key(resource, where, name)
            picked = [key] if key in entries and (not start or key >= start) else []
    unselected = options.labels is None and options.fields is None
    if unselected:
        chosen = [entries[key] for key in (picked[:limit] if limit else picked)]
        remaining = len(picked) - len(chosen)
    else:
        chosen = []
        remaining = 0
        for key in picked:
            entry = entries[key]
            if await matches(core, resource, options, entry):
                if limit and len(chosen) == limit:
                    remaining = -1
                    break
                chosen.append(entry)
    listing = Listing(chosen, at)
    if remaining:
        next_key = chosen[-1].key + "\0"
        token_start = "/" + (next_key.partition("/")[2] if namespace else next_key)
        listing.continue_ = encode_continue(at if not inconsistent else -1, token_start)
        if unselected:
            listing.remaining = remaining
    return listing


def _expired(options: ListOptions, start: str, namespace: str) -> Exception:
    if not options.continue_:
        return errors.expired("The resourceVersion for the provided list is too old.")
    token_start = "/" + (start.partition("/")[2] if namespace else start)
    return errors.expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        {"continue": encode_continue(-1, token_start)},
    )
