"""A verb on a resource: from the request's parts to the verb's function, and its result as an answer."""

from __future__ import annotations

import asyncio

import orjson

from chandlery.controlplane import errors
from chandlery.controlplane.codec.body import APPLY_PATCH
from chandlery.controlplane.core import Core
from chandlery.controlplane.fields import default_manager
from chandlery.controlplane.server.call import Call
from chandlery.controlplane.server.encode import WatchEncoder, encode_list, render, transform_list, transform_object
from chandlery.controlplane.server.http import Response, Streaming
from chandlery.controlplane.server.negotiate import PLAIN
from chandlery.controlplane.server.warnings import warning_headers
from chandlery.controlplane.settings import ControlPlaneSettings
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource
from chandlery.controlplane.verbs import components, onnode, pods, read
from chandlery.controlplane.verbs.create import answer_virtual, create
from chandlery.controlplane.verbs.decode import decode, decode_options
from chandlery.controlplane.verbs.delete import delete, delete_collection, delete_options
from chandlery.controlplane.verbs.options import as_flag, list_options, write_options
from chandlery.controlplane.verbs.patch import accepted_types, patch
from chandlery.controlplane.verbs.scale import get_scale, patch_scale, put_scale
from chandlery.controlplane.verbs.update import put
from chandlery.controlplane.verbs.watch import Watch


class Running:
    """Runs verbs against one `Core`."""

    def __init__(self, core: Core, settings: ControlPlaneSettings) -> None:
        self._core, self._settings = core, settings
        self.watches: dict[Watch, None] = {}
        self.stopping = False

    async def run(self, call: Call, resource: Resource) -> Response | Streaming:
        """The answer to a call that is allowed and in its place. Raises ApiError."""
        target, verb = call.target, call.verb
        assert call.user is not None
        ctx = RequestContext(
            user=call.user,
            verb=verb,
            resource=resource,
            namespace=target.namespace if resource.namespaced else "",
            name=target.name,
            subresource=target.subresource,
            user_agent=call.request.headers.facts.user_agent,
        )
        if resource.deprecation:
            ctx.warnings.append(resource.deprecation)
        if ctx.subresource in onnode.ON_NODE and verb not in ("list", "watch"):
            problem = onnode.on_node(self._core, ctx, call.query)
            if problem is None:
                return Response(status=204)
            raise problem
        if verb == "get":
            return await self._get(call, ctx)
        if verb == "list":
            return await self._list(call, ctx)
        if verb == "watch":
            return await self._watch(call, ctx)
        if self.stopping:
            raise ApiError(503, "ServiceUnavailable", "the control plane is shutting down")
        call.resource, call.warnings = resource, ctx.warnings
        if target.name:
            call.before = self._core.find(resource, ctx.namespace, target.name)
        return await self._mutate(call, ctx)

    def end_watches(self) -> None:
        self._core.cache.tell()
        for watch in list(self.watches):
            watch.end()

    async def _get(self, call: Call, ctx: RequestContext) -> Response:
        core, resource = self._core, ctx.resource
        if ctx.subresource == "scale":
            return answer(call, ctx, await get_scale(core, ctx), 200)
        if (resource.group, resource.plural, ctx.subresource) in core.virtual:
            raise errors.method_not_allowed()
        if as_flag(call.query.get("export")):
            raise errors.bad_request("the export parameter, deprecated since v1.14, is no longer supported")
        if core.store.shared and call.query.get("resourceVersion") != "0":
            await core.current()
        known = resource.storage_key != components.KEY
        entry = read.get(core, ctx, call.query) if known else await components.get(ctx)
        if call.form.as_:
            obj = await core.object(resource, entry)
            body = transform_object(resource, obj, call.form, call.query.get("includeObject", ""))
        else:
            body = entry.raw if entry.maker is resource else await core.served(resource, entry)
        return answer(call, ctx, body, 200)

    async def _list(self, call: Call, ctx: RequestContext) -> Response:
        options = list_options(call.query, ctx.resource, watch=False)
        if ctx.resource.storage_key == components.KEY:
            listing = await components.list_(self._core, ctx, options)
        else:
            listing = await read.list_(self._core, ctx, options)
        if call.form.as_:
            include = call.query.get("includeObject", "")
            body = await transform_list(self._core, ctx.resource, listing, call.form, include)
        else:
            body = await encode_list(self._core, ctx.resource, listing)
        return answer(call, ctx, body, 200)

    async def _watch(self, call: Call, ctx: RequestContext) -> Streaming:
        options = list_options(call.query, ctx.resource, watch=True)
        if len(self.watches) >= self._settings.max_watches:
            raise ApiError(
                429,
                "TooManyRequests",
                f"there are already {len(self.watches)} open watches, the most that this server takes",
                {"retryAfterSeconds": 5},
                headers={"Retry-After": "5"},
            )
        if ctx.name:
            # The old watch/.../name paths watch one object.
            call.query["fieldSelector"] = f"metadata.name={ctx.name}"
            options = list_options(call.query, ctx.resource, watch=True)
        encoder = WatchEncoder(self._core, ctx.resource, call.form, call.query.get("includeObject", ""))
        watch = Watch(self._core, ctx, options, encoder, encoder.key)
        watch.start()
        connection = call.request.connection
        self.watches[watch] = None
        connection.on_lost = watch.end
        try:
            connection.start_stream({"Content-Type": call.form.media})
            watch.send = connection.send_chunk
            async for chunk in watch.lines():
                if chunk:
                    await connection.write(chunk)
            connection.end_stream()
        except (ConnectionError, asyncio.CancelledError):
            connection.abort()
        except BaseException:
            connection.abort()  # its head has gone out: all that is left is to end it
            raise
        finally:
            connection.on_lost = None
            self.watches.pop(watch, None)
            watch.close()
        return Streaming()

    async def _mutate(self, call: Call, ctx: RequestContext) -> Response:
        request, core, resource, verb = call.request, self._core, ctx.resource, ctx.verb
        raw = request.body
        content_type = request.headers.facts.content_type
        if verb in ("delete", "deletecollection"):
            return await self._delete(call, ctx, raw, content_type)
        kind = {"create": "CreateOptions", "update": "UpdateOptions"}.get(verb, "PatchOptions")
        applying = verb == "patch" and content_type == APPLY_PATCH
        if verb == "patch" and content_type not in accepted_types(ctx):
            raise _unsupported_media(accepted_types(ctx), builtin=resource.builtin)
        options = write_options(call.query, call.query_lists.get("dryRun", []), kind, apply=applying)
        ctx.dry_run = options.dry_run
        ctx.field_manager = options.field_manager or default_manager(ctx.user_agent)
        ctx.field_validation = options.field_validation or "Warn"
        ctx.options = options.shown(kind)
        if verb == "create":
            virtual = core.virtual.get((resource.group, resource.plural, ctx.subresource))
            obj = decode(ctx, raw, content_type)
            if ctx.subresource in ("binding", "eviction"):
                act = pods.bind if ctx.subresource == "binding" else pods.evict
                return answer(call, ctx, await act(core, ctx, obj), 201)
            if virtual is not None:
                return answer(call, ctx, orjson.dumps(await answer_virtual(ctx, obj, virtual)), 201)
            made = await create(core, ctx, obj)
            call.made = ctx.name
            return answer(call, ctx, made, 201)
        if ctx.subresource == "scale":
            if verb == "update":
                return answer(call, ctx, await put_scale(core, ctx, raw, content_type), 200)
            scaled = await patch_scale(core, ctx, raw, content_type, force=bool(options.force))
            return answer(call, ctx, scaled, 200)
        if verb == "update":
            made, created = await put(core, ctx, decode(ctx, raw, content_type))
        else:
            made, created = await patch(core, ctx, raw, content_type, force=bool(options.force))
        return answer(call, ctx, made, 201 if created else 200)

    async def _delete(self, call: Call, ctx: RequestContext, raw: bytes, content_type: str) -> Response:
        core = self._core
        body = decode_options(raw, content_type, "DeleteOptions")
        removal = delete_options(body, call.query, call.query_lists.get("dryRun", []))
        ctx.options = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"} | (body or {})
        if ctx.verb == "deletecollection":
            selection = list_options(call.query, ctx.resource, watch=False)
            listing = await delete_collection(core, ctx, removal, selection)
            return answer(call, ctx, await encode_list(core, ctx.resource, listing), 200)
        made, gone = await delete(core, ctx, removal)
        return answer(call, ctx, made, 202 if not gone and removal.orphan is False else 200)


def answer(call: Call, ctx: RequestContext, body: bytes, status: int) -> Response:
    """JSON bytes as the response that the client asked for."""
    form = call.form
    if form.as_ and ctx.verb not in ("get", "list", "watch"):
        obj: Obj = orjson.loads(body)
        if obj.get("kind") == ctx.resource.kind:
            body = transform_object(ctx.resource, obj, form, call.query.get("includeObject", ""))
    pretty = "pretty" in call.query and as_flag(call.query["pretty"])
    if form is not PLAIN or pretty:
        body = render(body, form, pretty=pretty)
    headers: dict[str, str | list[str]] = {"Content-Type": form.media}
    if ctx.warnings:
        headers["Warning"] = warning_headers(ctx.warnings)
    return Response(body, status, headers)


def _unsupported_media(accepted: tuple[str, ...], *, builtin: bool) -> ApiError:
    if builtin:  # refused by the router there, not by the handler
        return ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    return ApiError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted),
    )
