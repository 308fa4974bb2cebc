"""Paths that are no resources: discovery, OpenAPI, version, health, metrics."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from chandlery.controlplane.discovery import Discovery
from chandlery.controlplane.errors import generic_not_found, method_not_allowed
from chandlery.controlplane.openapi import gnostic
from chandlery.controlplane.server.http import Request, Response
from chandlery.controlplane.server.metrics import Metrics
from chandlery.controlplane.server.negotiate import YAML, Form, negotiate, parse_accept
from chandlery.controlplane.server.path import Target
from chandlery.controlplane.types import ApiError, Obj

if TYPE_CHECKING:
    from chandlery.controlplane.openapi import OpenAPI

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
VERSION: Obj = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "cpython",
    "platform": f"{platform.system().lower()}/{_MACHINES.get(platform.machine(), platform.machine())}",
}

_ACCEPTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_HEALTH = {"healthz", "livez", "readyz"}
_CHECKS = ("ping", "log", "etcd")
"""The real server's names of its first checks; `etcd` is whatever store there is."""


class Documents:
    """Answers non-resource paths."""

    def __init__(
        self, discovery: Discovery, openapi: OpenAPI | None, metrics: Metrics, ready: Callable[[], list[str]]
    ) -> None:
        self._discovery, self._openapi, self._metrics = discovery, openapi, metrics
        self._ready = ready
        """The names of the checks that fail."""
        self._v2: tuple[str, bytes] = ("", b"")
        self.tokens: Any = None
        """Whoever signs ServiceAccount tokens: has `discovery()` and `jwks()`."""

    async def answer(self, request: Request, target: Target, query: Mapping[str, str]) -> Response:
        path = target.path.rstrip("/")
        parts = path.split("/")[1:]
        first = parts[0] if parts and parts[0] else ""
        if first == "":  # whatever the method
            return self._json(request, {"paths": self._discovery.paths()})
        if first in _HEALTH:  # whatever the method, too
            return self._health(first, parts[1:], verbose="verbose" in query)
        if request.method not in ("GET", "HEAD"):
            known = first in ("api", "apis") and self._discovery.document(parts) is not None
            if known or first in ("version", "openapi"):
                raise method_not_allowed()
            return self._nowhere(parts)
        if first in ("api", "apis"):
            return self._discover(request, parts)
        if first == "openapi":
            return await self._open_api(request, path, query)
        if first == "version" and len(parts) == 1:
            return self._json(request, VERSION)
        if first == "metrics" and len(parts) == 1:
            return Response(
                body=self._metrics.render(),
                headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
            )
        if self.tokens is not None:
            if path == "/.well-known/openid-configuration":
                return self._json(request, self.tokens.discovery())
            if path == "/openid/v1/jwks":
                return self._json(request, self.tokens.jwks(), "application/jwk-set+json")
        return not_found()

    def _discover(self, request: Request, parts: list[str]) -> Response:
        header = request.headers.get("Accept", "")
        if len(parts) == 1:
            version = _aggregated_version(header)
            if version:
                body, etag = self._discovery.aggregated(parts[0] == "apis", version)
                return self._tagged(
                    request, body, etag, f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                )
        document = self._discovery.document(parts)
        if document is None:
            return self._nowhere(parts)
        form = negotiate(header, transforms=False)
        if form is None:
            raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {_ACCEPTED}")
        return _respond(orjson.dumps(document), form)

    def _nowhere(self, parts: list[str]) -> Response:
        """Nothing is at this path: below the roots of built-in groups the router says so. Raises ApiError 404."""
        if parts[0] == "api" or (parts[0] == "apis" and len(parts) > 1 and self._discovery.is_builtin(parts[1])):
            raise generic_not_found()
        return not_found()

    async def _open_api(self, request: Request, path: str, query: Mapping[str, str]) -> Response:
        if self._openapi is None:
            return not_found()
        found = self._openapi.document(path, query.get("hash", ""))
        if found is None:
            return Response(status=404) if path.startswith("/openapi/v3/") else not_found()
        headers = dict(found.headers)
        if found.location:
            return Response(status=301, headers={"Location": found.location})
        if found.etag and found.etag in request.headers.get("If-None-Match", ""):
            headers.pop("Content-Type", None)
            return Response(status=304, headers=headers)
        if path == "/openapi/v2" and "proto-openapi" in request.headers.get("Accept", ""):
            kept, body = self._v2
            if kept != found.etag:
                body = gnostic.encode(orjson.loads(found.body))
                self._v2 = (found.etag, body)
            return Response(body=body, headers={**headers, "Content-Type": gnostic.MEDIA})
        return Response(body=found.body, headers=headers)

    def _health(self, which: str, rest: list[str], *, verbose: bool) -> Response:
        failing = self._ready() if which == "readyz" else []
        headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
        if rest and rest[0] not in _CHECKS:
            return not_found()
        if failing:
            lines = [f"[-]{name} failed: reason withheld" for name in failing]
            return Response(body=("\n".join([*lines, f"{which} check failed\n"])).encode(), status=500, headers=headers)
        if verbose:
            return Response(
                body="".join([*(f"[+]{name} ok\n" for name in _CHECKS), f"{which} check passed\n"]).encode(),
                headers=headers,
            )
        return Response(body=b"ok", headers=headers)

    def _json(self, request: Request, body: Obj, media: str = "") -> Response:
        if media:
            return Response(body=orjson.dumps(body), headers={"Content-Type": media})
        form = negotiate(request.headers.get("Accept", ""), transforms=False)
        return _respond(orjson.dumps(body), form or Form("application/json"))

    @staticmethod
    def _tagged(request: Request, body: bytes, etag: str, media: str) -> Response:
        headers = {"ETag": f'"{etag}"', "Vary": "Accept", "Cache-Control": "public"}
        if etag in request.headers.get("If-None-Match", ""):
            return Response(status=304, headers=headers)
        return Response(body=body, headers={"Content-Type": media, **headers})


def _respond(body: bytes, form: Form) -> Response:
    if form.media == YAML:
        from chandlery.controlplane.codec import encode_yaml

        body = encode_yaml(orjson.loads(body))
    return Response(body=body, headers={"Content-Type": form.media})


def _aggregated_version(header: str) -> str:
    """v2 or v2beta1 when the client would rather have aggregated discovery; "" else."""
    for wanted in parse_accept(header):
        if wanted.media not in ("application/json", "*/*"):
            continue
        parameters = dict(wanted.parameters)
        if not parameters:
            return ""
        aggregated = parameters.get("g") == "apidiscovery.k8s.io" and parameters.get("as") == "APIGroupDiscoveryList"
        if aggregated and parameters.get("v") in ("v2", "v2beta1"):
            return parameters["v"]
    return ""


def not_found() -> Response:
    return Response(
        body=b"404 page not found\n",
        status=404,
        headers={"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"},
    )


def digest(body: bytes) -> str:
    return hashlib.sha512(body).hexdigest().upper()
