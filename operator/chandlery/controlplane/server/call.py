"""One request while it is handled, and what can be told of it before anything is done."""

from __future__ import annotations

import time
from functools import lru_cache
from urllib.parse import parse_qsl

from chandlery.controlplane import errors
from chandlery.controlplane.cache import Entry
from chandlery.controlplane.selectors import parse_fields
from chandlery.controlplane.server.documents import not_found
from chandlery.controlplane.server.http import Request, Response
from chandlery.controlplane.server.negotiate import PLAIN, PROTOBUF, Form, negotiate
from chandlery.controlplane.server.path import Target, parse_path
from chandlery.controlplane.types import ApiError, Resource, UserInfo
from chandlery.controlplane.verbs.options import as_flag

ACCEPTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_STREAMED = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_ON_CUSTOM = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
_ON_CUSTOM_SUBRESOURCE = ("get", "update", "patch")


_REMEMBERED = 400


@lru_cache(maxsize=256)
def _parameters(query: str) -> list[tuple[str, str]]:
    """The parameters of a query string, which most clients repeat."""
    return parse_qsl(query, keep_blank_values=True)


class Call:
    """One request while it is handled."""

    __slots__ = (
        "before",
        "form",
        "impersonator",
        "made",
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

    def __init__(self, request: Request) -> None:
        self.started = time.perf_counter()
        self.request = request
        raw, _, query = request.target.partition("?")
        self.target: Target = parse_path(raw.partition("#")[0])
        self.query: dict[str, str] = {}
        self.query_lists: dict[str, list[str]] = {}
        if query:
            for key, value in _parameters(query) if len(query) < _REMEMBERED else _parameters.__wrapped__(query):
                self.query.setdefault(key, value)
                self.query_lists.setdefault(key, []).append(value)
        self.form: Form = PLAIN
        self.verb = ""
        self.user: UserInfo | None = None
        self.impersonator = ""
        self.warnings: list[str] = []
        self.resource: Resource | None = None
        self.made = ""
        """The name of what was created."""
        self.before: Entry | None = None
        self.reason = ""


def verb_of(call: Call) -> str:
    """The API's verb for a request of a resource."""
    target, method = call.target, call.request.method
    if method in ("GET", "HEAD"):
        if target.watch or (not target.name and as_flag(call.query.get("watch"))):
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(method, "")  # other methods have no verb


def selected_name(call: Call) -> str:
    """The one name that a field selector allows: a right to that object is enough to list or watch it."""
    text = call.query.get("fieldSelector", "")
    if "metadata.name" not in text:
        return ""
    try:
        return parse_fields(text).exact("metadata.name") or ""
    except ApiError:
        return ""


def misplaced(call: Call, resource: Resource) -> Response | None:
    """The answer to a path or method that this resource doesn't have; settles the answer's form on the way.

    Raises ApiError 404, 405, 406.
    """
    target, verb = call.target, call.verb
    in_namespace = bool(target.namespace) and not (
        resource.plural == "namespaces" and resource.group == "" and target.name == target.namespace
    )
    if not resource.builtin:
        if (in_namespace != resource.namespaced and (in_namespace or verb not in ("list", "watch"))) or target.rest:
            return not_found()
        accept(call)
        if target.subresource and target.subresource not in resource.subresources:
            raise errors.not_found(resource, target.name)
        if verb not in (_ON_CUSTOM_SUBRESOURCE if target.subresource else _ON_CUSTOM) or _wrong_level(call):
            raise errors.method_not_supported(resource, verb)
        return None
    unacceptable = settle(call)
    _place(call, resource, in_namespace=in_namespace)
    if unacceptable is not None:
        raise unacceptable
    return None


def settle(call: Call) -> ApiError | None:
    """Settle the form of a built-in type's answer; why there is none that the client takes.

    An error is told all the same: it comes before what the client takes.
    """
    try:
        accept(call, builtin=True)
    except ApiError as error:
        return error
    return None


def _place(call: Call, resource: Resource, *, in_namespace: bool) -> None:
    """Whether a built-in resource has this path and method. Raises ApiError 404, 405."""
    target, verb = call.target, call.verb
    if call.request.method == "HEAD":
        raise errors.method_not_allowed()
    if target.name and resource.verbs == ("create",):
        raise errors.generic_not_found()
    if in_namespace and not resource.namespaced:
        raise errors.generic_not_found()
    if resource.namespaced and not in_namespace:
        if target.name:
            raise errors.generic_not_found()
        if verb not in ("list", "watch") and not (resource.verbs == ("create",) and verb == "create"):
            raise errors.method_not_allowed()
    if target.subresource:
        sub = resource.subresources.get(target.subresource)
        if sub is None or (target.rest and target.subresource != "proxy"):
            raise errors.generic_not_found()
        if verb not in sub.get("verbs", ()):
            raise errors.method_not_allowed()
        return
    if verb not in resource.verbs or _wrong_level(call):
        raise errors.method_not_allowed()


def _wrong_level(call: Call) -> bool:
    """Whether a collection is asked for what an object does, or the other way round."""
    named = bool(call.target.name)
    return (call.verb == "create" and named) or (call.verb in ("update", "patch") and not named)


def accept(call: Call, *, builtin: bool = False) -> None:
    """Settle the answer's form by the Accept header. Raises ApiError 406."""
    header = call.request.headers.facts.accept
    if not header:
        return
    if builtin and not _restful_accepts(header):
        raise ApiError(406, "NotAcceptable", f"406: Not Acceptable\n\nAvailable representations: {ACCEPTED}", {})
    form = negotiate(header, transforms=True, stream=call.verb == "watch")
    if form is None:
        only_protobuf = Form(PROTOBUF) if PROTOBUF in header else PLAIN  # that much it can be told
        call.form = Form((negotiate(header, transforms=True) or only_protobuf).media)
        offered = _STREAMED if call.verb == "watch" else ACCEPTED
        raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {offered}")
    call.form = form


def _restful_accepts(header: str) -> bool:
    """Whether the built-in types' router finds a representation: it knows no partial wildcards."""
    if header in ("*/*", "application/json") or not header.strip():
        return True
    for part in header.split(","):
        media = part.partition(";")[0].strip()
        if media in ("*/*", "", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"):
            return True
    return False
