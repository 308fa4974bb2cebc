"""From an HTTP request to a verb and back: authenticate, authorise, find the resource, run, encode.

One handler for everything: custom resources come and go, and a route table would only be in the way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from chandlery.controlplane import errors
from chandlery.controlplane.auth import impersonate
from chandlery.controlplane.codec import decode_body
from chandlery.controlplane.codec.body import APPLY_PATCH
from chandlery.controlplane.core import Core
from chandlery.controlplane.fields import default_manager
from chandlery.controlplane.selectors import parse_fields
from chandlery.controlplane.server.documents import Documents
from chandlery.controlplane.server.encode import (
    WatchEncoder,
    encode_list,
    protobuf_status,
    render,
    transform_list,
    transform_object,
)
from chandlery.controlplane.server.metrics import Metrics
from chandlery.controlplane.server.negotiate import PLAIN, PROTOBUF, Form, negotiate, only_protobuf
from chandlery.controlplane.server.path import Target, parse_path
from chandlery.controlplane.server.quick import Connection, Quick
from chandlery.controlplane.server.warnings import warning_headers
from chandlery.controlplane.settings import ControlPlaneSettings
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource, UserInfo
from chandlery.controlplane.verbs import pods, read
from chandlery.controlplane.verbs.create import answer_virtual, create
from chandlery.controlplane.verbs.decode import decode, decode_options
from chandlery.controlplane.verbs.delete import delete, delete_collection, delete_options
from chandlery.controlplane.verbs.options import as_flag, list_options, write_options
from chandlery.controlplane.verbs.patch import accepted_types, patch
from chandlery.controlplane.verbs.scale import get_scale, patch_scale, put_scale
from chandlery.controlplane.verbs.update import put
from chandlery.controlplane.verbs.watch import Watch

if TYPE_CHECKING:
    from chandlery.controlplane.audit import AuditLog
    from chandlery.controlplane.auth import Authenticator, Authorizer

log = logging.getLogger(__name__)

_NOT_FOUND = b"404 page not found\n"
_ACCEPTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


class HttpServer(web.Server):
    """Makes our connections, and requests that take bodies up to the limit."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        body_limit: int,
        quick: Quick | None = None,
    ) -> None:
        # What isn't HTTP is answered with 400 and is no news; what goes wrong in handlers, App.handle logs itself.
        quiet = logging.getLogger(f"{__name__}.http")
        quiet.setLevel(logging.CRITICAL)
        super().__init__(
            handler, access_log=None, keepalive_timeout=300.0, max_field_size=65_536, max_line_size=65_536, logger=quiet
        )
        self._body_limit = body_limit
        self._quick = quick

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, quick=self._quick, **self._kwargs)

    def _make_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=self._body_limit)


class Call:
    """One request while it is handled."""

    __slots__ = (
        "before",
        "form",
        "impersonator",
        "namespace",
        "query",
        "query_lists",
        "reason",
        "request",
        "resource",
        "started",
        "target",
        "user",
        "verb",
        "warnings",
    )

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request
        raw, _, query = request._message.path.partition("?")  # noqa: SLF001 - the parsed URL costs ten times as much
        self.target: Target = parse_path(raw.partition("#")[0])
        self.query: dict[str, str] = {}
        self.query_lists: dict[str, list[str]] = {}
        if query:
            for key, value in parse_qsl(query, keep_blank_values=True):
                self.query.setdefault(key, value)
                self.query_lists.setdefault(key, []).append(value)
        self.form: Form = PLAIN
        self.verb = ""
        self.user: UserInfo | None = None
        self.impersonator = ""
        self.warnings: list[str] = []
        self.resource: Resource | None = None
        self.before: bytes | None = None
        self.reason = ""
        self.started = time.perf_counter()


class App:
    """Handles requests against one `Core`."""

    def __init__(
        self,
        core: Core,
        settings: ControlPlaneSettings,
        documents: Documents,
        authenticator: Authenticator,
        authorizer: Authorizer,
        audit: AuditLog | None,
        metrics: Metrics,
    ) -> None:
        self._core, self._settings, self._documents = core, settings, documents
        self._authenticator, self._authorizer, self._audit, self._metrics = authenticator, authorizer, audit, metrics
        self._watches: dict[Watch, web.BaseRequest] = {}
        self.stopping = False

    # -- the frame around every request

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        call = Call(request)
        try:
            response = await self._dispatch(call)
        except ApiError as error:
            call.reason = error.reason
            response = self._error(call, error)
        except web.HTTPRequestEntityTooLarge:
            limit = self._settings.max_request_bytes
            response = self._error(
                call, ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")
            )
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("a request failed: %s %s", request.method, call.target.path)
            response = self._error(call, errors.internal("the server failed to handle the request; its log says more"))
        self._metrics.observe(
            call.verb or request.method, call.target, response.status, time.perf_counter() - call.started
        )
        if self._audit is not None and (call.resource is not None or response.status in (401, 403)):
            self._record(self._audit, call, response)
        return response

    def _record(self, audit: AuditLog, call: Call, response: web.StreamResponse) -> None:
        """One line for every change, and for everything that was refused."""
        target, resource, code = call.target, call.resource, response.status
        name, after = target.name, None
        if resource is not None and code < 400:
            if not name and call.verb == "create" and isinstance(response, web.Response) and call.form is PLAIN:
                name = orjson.loads(response.body or b"{}").get("metadata", {}).get("name", "")  # type: ignore[arg-type]
            if name:
                entry = self._core.find(resource, target.namespace if resource.namespaced else "", name)
                after = None if entry is None else entry.raw
        audit.record(
            user=call.user or UserInfo(""),
            verb=call.verb or call.request.method.lower(),
            path=target.path,
            code=code,
            decision="forbid" if code in (401, 403) else "allow",
            reason=call.reason,
            group=target.group,
            resource=target.resource,
            subresource=target.subresource,
            namespace=target.namespace,
            name=name,
            before=call.before,
            after=after,
            impersonator=call.impersonator,
            source=call.request.remote or "",
            user_agent=call.request.headers.get("User-Agent", ""),
        )

    def _error(self, call: Call, error: ApiError) -> web.Response:
        form = call.form if not call.form.transforms else Form(call.form.media)
        if form is PLAIN and only_protobuf(call.request.headers.get("Accept", "")):
            body, media = protobuf_status(error.status()), PROTOBUF
        else:
            body, media = render(orjson.dumps(error.status()), form, pretty=False), form.media
        headers = {"Content-Type": media, **error.headers}
        response = web.Response(body=body, status=error.code, headers=headers)
        if call.warnings:
            for warning in warning_headers(call.warnings):
                response.headers.add("Warning", warning)
        return response

    def _peer(self, request: web.BaseRequest) -> Any:
        connection = request.protocol
        assert isinstance(connection, Connection)
        return connection.peer_certificate()

    # -- routing

    async def _dispatch(self, call: Call) -> web.StreamResponse:
        request, target = call.request, call.target
        headers = request.headers
        user = call.user = self._authenticator.authenticate(headers, self._peer(request))
        if not target.resource:
            verb, about = request.method.lower(), {"path": target.path}
        else:
            verb, about = (
                self._verb(call),
                {
                    "group": target.group,
                    "resource": target.resource,
                    "subresource": target.subresource,
                    "namespace": target.namespace,
                    "name": target.name or _selected_name(call),
                },
            )
            call.verb = verb
        if any(name in headers for name in _IMPERSONATION):
            user = call.user = impersonate(user, headers, self._authorizer, verb, **about)
        self._authorizer.check(user, verb, **about)
        if not target.resource:
            return await self._documents.answer(request, target, call.query)
        resource = self._core.registry.find(target.group, target.version, target.resource)
        if resource is None:
            if self._core.registry.has_builtin_version(target.group, target.version):
                self._accept(call, transforms=False, builtin=True)
                raise errors.generic_not_found()
            return _page_not_found()
        misplaced = self._misplaced(call, resource)
        if misplaced is not None:
            return misplaced
        return await self._run(call, resource)

    def _act_as(self, call: Call, user: UserInfo, verb: str, **asked: str) -> UserInfo:
        """The user after the Impersonate-* headers; also of a request that is then refused."""
        call.user = user
        if not any(header[:12].lower() == "impersonate-" for header in call.request.headers):
            return user
        call.impersonator = user.name
        return impersonate(user, call.request.headers, self._authorizer, verb, **asked)

    @staticmethod
    def _selected_name(call: Call, verb: str) -> str:
        """A list or watch of one object by its name is authorised as one about that object."""
        if verb not in ("list", "watch", "deletecollection"):
            return ""
        for part in call.query.get("fieldSelector", "").split(","):
            field, _, value = part.partition("=")
            if field == "metadata.name":
                return value.lstrip("=")
        return ""

    def _verb(self, call: Call) -> str:
        target, method = call.target, call.request.method
        if method in ("GET", "HEAD"):
            if target.watch or (as_flag(call.query.get("watch")) and not target.name):
                return "watch"
            return "get" if target.name else "list"
        if method == "POST":
            return "create"
        if method == "PUT":
            return "update"
        if method == "PATCH":
            return "patch"
        if method == "DELETE":
            return "delete" if target.name else "deletecollection"
        return method.lower()

    def _misplaced(self, call: Call, resource: Resource) -> web.StreamResponse | None:
        """404 and 405 for paths that this resource doesn't have."""
        target, verb = call.target, call.verb
        in_namespace = bool(target.namespace) and not (
            resource.plural == "namespaces" and resource.group == "" and target.name == target.namespace
        )
        if not resource.builtin:
            if in_namespace != resource.namespaced and (in_namespace or verb not in ("list", "watch")):
                return _page_not_found()
            if target.rest:
                return _page_not_found()
            self._accept(call, transforms=False)
            if target.subresource and target.subresource not in resource.subresources:
                raise errors.not_found(resource, target.name)
            known = (
                ("get", "update", "patch")
                if target.subresource
                else ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
            )
            if (
                verb not in known
                or (verb == "create" and target.name)
                or (verb in ("update", "patch") and not target.name)
            ):
                raise errors.method_not_supported(resource, verb)
            return None
        self._accept(call, transforms=verb in ("get", "list", "watch"), builtin=True)
        if call.request.method == "HEAD":
            raise errors.method_not_allowed()
        if in_namespace and not resource.namespaced:
            raise errors.generic_not_found()
        if resource.namespaced and not in_namespace:
            if target.name:
                raise errors.generic_not_found()
            if verb not in ("list", "watch") and not (resource.verbs == ("create",) and verb == "create"):
                raise errors.method_not_allowed()
        if target.subresource:
            sub = resource.subresources.get(target.subresource)
            if sub is None:
                raise errors.generic_not_found()
            if verb not in sub.get("verbs", ()):
                raise errors.method_not_allowed()
            return None
        if verb not in resource.verbs:
            raise errors.method_not_allowed()
        if (verb == "create" and target.name) or (verb in ("update", "patch") and not target.name):
            raise errors.method_not_allowed()
        return None

    def _accept(self, call: Call, *, transforms: bool, builtin: bool = False) -> None:
        header = call.request.headers.get("Accept", "")
        if not header:
            return
        if builtin and not _restful_accepts(header):
            raise ApiError(406, "NotAcceptable", f"406: Not Acceptable\n\nAvailable representations: {_ACCEPTED}", {})
        form = negotiate(header, transforms=True, stream=call.verb == "watch")
        if form is None:
            only_protobuf = Form(PROTOBUF) if PROTOBUF in header else PLAIN  # that much it can be told
            call.form = Form((negotiate(header, transforms=True) or only_protobuf).media)
            raise ApiError(
                406,
                "NotAcceptable",
                f"only the following media types are accepted: {_ACCEPTED}"
                if call.verb != "watch"
                else "only the following media types are accepted: application/json;stream=watch, "
                "application/vnd.kubernetes.protobuf;stream=watch",
            )
        call.form = form

    # -- verbs

    async def _run(self, call: Call, resource: Resource) -> web.StreamResponse:
        target, request, verb = call.target, call.request, call.verb
        assert call.user is not None
        ctx = RequestContext(
            user=call.user,
            verb=verb,
            resource=resource,
            namespace=target.namespace if resource.namespaced else "",
            name=target.name,
            subresource=target.subresource,
            user_agent=request.headers.get("User-Agent", ""),
        )
        if resource.deprecation:
            ctx.warnings.append(resource.deprecation)
        if verb == "get":
            if ctx.subresource in pods.ON_NODE:
                raise pods.on_node(self._core, ctx)
            return await self._get(call, ctx)
        if verb == "list":
            return await self._list(call, ctx)
        if verb == "watch":
            return await self._watch(call, ctx)
        if ctx.subresource in pods.ON_NODE:
            raise pods.on_node(self._core, ctx)
        if self.stopping:
            raise ApiError(503, "ServiceUnavailable", "the control plane is shutting down")
        call.resource, call.warnings = resource, ctx.warnings
        if self._audit is not None and target.name:
            entry = self._core.find(resource, ctx.namespace, target.name)
            call.before = None if entry is None else entry.raw
        return await self._mutate(call, ctx)

    async def _get(self, call: Call, ctx: RequestContext) -> web.StreamResponse:
        resource = ctx.resource
        if ctx.subresource == "scale":
            body = await get_scale(self._core, ctx)
            return self._answer(call, ctx, body, 200)
        if (resource.group, resource.plural, ctx.subresource) in self._core.virtual:
            raise errors.method_not_allowed()
        if self._core.store.shared and call.query.get("resourceVersion") != "0":
            await self._core.current()
        entry = read.get(self._core, ctx, call.query)
        if call.form.as_:
            obj = await self._core.object(resource, entry)
            body = transform_object(resource, obj, call.form, call.query.get("includeObject", ""))
        else:
            body = entry.raw if entry.maker is resource else await self._core.served(resource, entry)
        return self._answer(call, ctx, body, 200)

    async def _list(self, call: Call, ctx: RequestContext) -> web.StreamResponse:
        options = list_options(call.query, ctx.resource, watch=False)
        listing = await read.list_(self._core, ctx, options)
        if call.form.as_:
            body = await transform_list(
                self._core, ctx.resource, listing, call.form, call.query.get("includeObject", "")
            )
        else:
            body = await encode_list(self._core, ctx.resource, listing)
        return self._answer(call, ctx, body, 200)

    async def _watch(self, call: Call, ctx: RequestContext) -> web.StreamResponse:
        options = list_options(call.query, ctx.resource, watch=True)
        if len(self._watches) >= self._settings.max_watches:
            raise ApiError(
                429,
                "TooManyRequests",
                f"there are already {len(self._watches)} open watches, the most that this server takes",
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
        response = web.StreamResponse(headers={"Content-Type": call.form.media, "Cache-Control": "no-cache, private"})
        response.enable_chunked_encoding()
        self._watches[watch] = call.request
        try:
            await response.prepare(call.request)
            watch.send = partial(_send_at_once, call.request)
            async for chunk in watch.lines():
                if chunk:
                    await response.write(chunk)
                else:
                    call.request._payload_writer.send_headers()  # noqa: SLF001 - clients wait for them
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._watches.pop(watch, None)
            watch.close()
        return response

    @property
    def open_watches(self) -> int:
        return len(self._watches)

    def reap_watches(self) -> None:
        """End the watches of clients that have gone; call now and then."""
        for watch, request in list(self._watches.items()):
            transport = request.transport
            if transport is None or transport.is_closing():
                watch.end()

    def reap_silent(self, connections: Iterable[Any], now: float) -> None:
        """Close connections whose client began a request, or none at all, and fell silent; call now and then."""
        for connection in list(connections):
            since = connection.waiting_since if isinstance(connection, Connection) else 0.0
            if since and now - since > _HEAD_SECONDS and connection.transport is not None:
                connection.transport.abort()

    def end_watches(self) -> None:
        for watch in list(self._watches):
            watch.end()

    async def _mutate(self, call: Call, ctx: RequestContext) -> web.StreamResponse:
        request, core, resource, verb = call.request, self._core, ctx.resource, ctx.verb
        raw = await _body(request)
        content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if verb in ("delete", "deletecollection"):
            body = decode_options(raw, content_type, "DeleteOptions")
            removal = delete_options(body, call.query, call.query_lists.get("dryRun", []))
            ctx.options = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"} | (body or {})
            if verb == "deletecollection":
                selection = list_options(call.query, resource, watch=False)
                listing = await delete_collection(core, ctx, removal, selection)
                return self._answer(call, ctx, await encode_list(core, resource, listing), 200)
            answer, gone = await delete(core, ctx, removal)
            status = 202 if not gone and removal.orphan is False else 200
            return self._answer(call, ctx, answer, status)
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
            if ctx.subresource in ("binding", "eviction"):
                act = pods.bind if ctx.subresource == "binding" else pods.evict
                asked, _ = decode_body(raw, content_type, strict=False, kind=ctx.subresource.capitalize())
                return self._answer(call, ctx, await act(core, ctx, asked), 201)
            obj = decode(ctx, raw, content_type)
            if virtual is not None:
                return self._answer(call, ctx, orjson.dumps(await answer_virtual(ctx, obj, virtual)), 201)
            return self._answer(call, ctx, await create(core, ctx, obj), 201)
        if ctx.subresource == "scale":
            if verb == "update":
                return self._answer(call, ctx, await put_scale(core, ctx, raw, content_type), 200)
            return self._answer(
                call, ctx, await patch_scale(core, ctx, raw, content_type, force=bool(options.force)), 200
            )
        if verb == "update":
            return self._answer(call, ctx, await put(core, ctx, decode(ctx, raw, content_type)), 200)
        answer, created = await patch(core, ctx, raw, content_type, force=bool(options.force))
        return self._answer(call, ctx, answer, 201 if created else 200)

    def _answer(self, call: Call, ctx: RequestContext, body: bytes, status: int) -> web.Response:
        form = call.form
        if form.as_ and ctx.verb not in ("get", "list", "watch"):
            obj: Obj = orjson.loads(body)
            if obj.get("kind") == ctx.resource.kind:
                body = transform_object(ctx.resource, obj, form, call.query.get("includeObject", ""))
        pretty = "pretty" in call.query and as_flag(call.query["pretty"])
        if form is not PLAIN or pretty:
            body = render(body, form, pretty=pretty)
        response = web.Response(body=body, status=status, headers={"Content-Type": form.media})
        if ctx.warnings:
            for warning in warning_headers(ctx.warnings):
                response.headers.add("Warning", warning)
        return response


_BUFFERED = 256 * 1024
_BODY_SECONDS = 60.0
_HEAD_SECONDS = 30.0


async def _body(request: web.BaseRequest) -> bytes:
    """The body, for which a client has a minute. Raises ApiError 408."""
    if request.content.is_eof() or not request.can_read_body:
        return await request.read()
    try:
        return await asyncio.wait_for(request.read(), _BODY_SECONDS)
    except TimeoutError:
        raise ApiError(
            408, "Timeout", f"the body of the request did not arrive within {_BODY_SECONDS:.0f} seconds"
        ) from None


def _send_at_once(request: web.BaseRequest, chunk: bytes) -> bool:
    """Write to the connection unless it is closed or lags: then the watch's own task takes over."""
    transport = request.transport
    if transport is None or transport.is_closing() or transport.get_write_buffer_size() > _BUFFERED:
        return False
    transport.write(chunk)
    return True


_IMPERSONATION = ("Impersonate-User", "Impersonate-Group", "Impersonate-Uid")


def _selected_name(call: Call) -> str:
    """The one name that a field selector allows: a right to that object is enough to list or watch it."""
    text = call.query.get("fieldSelector", "")
    if "metadata.name" not in text:
        return ""
    try:
        return parse_fields(text).exact("metadata.name") or ""
    except ApiError:
        return ""


def _page_not_found() -> web.Response:
    return web.Response(
        body=_NOT_FOUND,
        status=404,
        headers={"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"},
    )


def _unsupported_media(accepted: tuple[str, ...], *, builtin: bool) -> ApiError:
    if builtin:  # refused by the router there, not by the handler
        return ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    return ApiError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted),
    )


def _restful_accepts(header: str) -> bool:
    """Whether the built-in types' router finds a representation: it knows no partial wildcards."""
    if not header.strip():
        return True
    for part in header.split(","):
        media = part.partition(";")[0].strip()
        if media in ("*/*", "", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"):
            return True
    return False
