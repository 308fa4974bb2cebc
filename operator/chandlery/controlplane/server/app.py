"""From a request to an answer: authenticate, authorise, find the resource, run the verb; then count it and note it.

One handler for everything: custom resources come and go, and a route table would only be in the way.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import orjson

from chandlery.controlplane import errors
from chandlery.controlplane.auth import impersonate
from chandlery.controlplane.auth.authz import MASTERS
from chandlery.controlplane.core import Core
from chandlery.controlplane.server.call import Call, misplaced, selected_name, settle, verb_of
from chandlery.controlplane.server.documents import Documents, not_found
from chandlery.controlplane.server.encode import protobuf_status, render
from chandlery.controlplane.server.http import Request, Response, Streaming
from chandlery.controlplane.server.metrics import Metrics
from chandlery.controlplane.server.negotiate import PLAIN, PROTOBUF, Form, only_protobuf
from chandlery.controlplane.server.running import Running
from chandlery.controlplane.server.warnings import warning_headers
from chandlery.controlplane.settings import ControlPlaneSettings
from chandlery.controlplane.types import ApiError, UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.audit import AuditLog
    from chandlery.controlplane.auth import Authenticator, Authorizer

log = logging.getLogger(__name__)

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    408: "Timeout",
    413: "RequestEntityTooLarge",
    431: "RequestHeaderFieldsTooLarge",
}


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
        self._core, self._documents = core, documents
        self._authenticator, self._authorizer, self._audit, self._metrics = authenticator, authorizer, audit, metrics
        self.running = Running(core, settings)

    @property
    def open_watches(self) -> int:
        return len(self.running.watches)

    def stop(self) -> None:
        """Take no more writes and end the watches."""
        self.running.stopping = True
        self.running.end_watches()

    def screen(self, request: Request) -> None:
        """Whether a large body is worth waiting for. Raises ApiError 401."""
        self._authenticator.authenticate(request.headers, request.connection.peer_certificate())

    def refuse(self, request: Request, code: int, why: str) -> Response:
        """The answer to a request that is not handled."""
        call = Call(request)
        call.user = None
        error = ApiError(code, _REASONS.get(code, "BadRequest"), why)
        call.reason = error.reason
        response = self._error(call, error)
        self._metrics.observe(call.verb or request.method, call.target, code, time.perf_counter() - call.started)
        return response

    async def handle(self, request: Request) -> Response | Streaming:
        """Never raises but for a connection that broke: whatever goes wrong is an answer."""
        call = Call(request)
        response: Response | Streaming
        try:
            response = await self._dispatch(call)
        except ApiError as error:
            call.reason = error.reason
            response = self._error(call, error)
        except ConnectionError:
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

    def _record(self, audit: AuditLog, call: Call, response: Response | Streaming) -> None:
        """One line for every change, and for everything that was refused."""
        target, resource, code = call.target, call.resource, response.status
        name, after = target.name or call.made, None
        if resource is not None and code < 400 and name:
            after = self._core.find(resource, target.namespace if resource.namespaced else "", name)
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
            source=call.request.remote,
            user_agent=call.request.headers.facts.user_agent,
        )

    def _error(self, call: Call, error: ApiError) -> Response:
        form = call.form if not call.form.transforms else Form(call.form.media)
        if form is PLAIN and only_protobuf(call.request.headers.get("Accept", "")):
            body, media = protobuf_status(error.status()), PROTOBUF
        else:
            body, media = render(orjson.dumps(error.status()), form, pretty=False), form.media
        headers: dict[str, str | list[str]] = {"Content-Type": media, **error.headers}
        if call.warnings:
            headers["Warning"] = warning_headers(call.warnings)
        return Response(body, error.code, headers)

    async def _dispatch(self, call: Call) -> Response | Streaming:
        request, target = call.request, call.target
        headers = request.headers
        user = call.user = self._authenticator.authenticate(headers, request.connection.peer_certificate())
        if not target.resource:
            verb, about = request.method.lower(), {"path": target.path}
        else:
            verb = call.verb = verb_of(call)
            about = {
                "group": target.group,
                "resource": target.resource,
                "subresource": target.subresource,
                "namespace": target.namespace,
                "name": target.name or selected_name(call),
            }
        if headers.facts.impersonates:
            call.impersonator = user.name
            user = call.user = impersonate(user, headers, self._authorizer, verb, **about)
        if MASTERS not in user.groups:
            self._authorizer.check(user, verb, **about)
        if not target.resource:
            return await self._documents.answer(request, target, call.query)
        registry = self._core.registry
        resource = registry.find(target.group, target.version, target.resource)
        if resource is None:
            if registry.has_builtin_group(target.group):
                settle(call)
                raise errors.generic_not_found()
            return not_found()
        elsewhere = misplaced(call, resource)
        if elsewhere is not None:
            return elsewhere
        return await self.running.run(call, resource)
