"""Calling webhooks over HTTPS, by URL or by Service reference."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from chandlery.controlplane.admission.review import WebhookError
from chandlery.controlplane.admission.webhooks.https import BrokenAnswerError, Https, Target
from chandlery.controlplane.codec import gojson
from chandlery.controlplane.types import Obj

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

ServiceResolver = Callable[[str, str, int], str]
"""(namespace, name, port) of a Service -> `host:port` to connect to. Raises LookupError."""

_LARGEST_ANSWER = 3 * 1024 * 1024
_STATUS_TEXTS = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    403: "the server does not allow access to the requested resource",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    406: "the server was unable to respond with a content type that the client supports",
    409: "the server reported a conflict",
    415: "the server was unable to process the request content type",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


def resolve_by_endpoints(api: LocalApi) -> ServiceResolver:
    """Find a Service's address from its EndpointSlices, then its external name, then its cluster IP."""

    def resolve(namespace: str, name: str, port: int) -> str:
        service = api.get("", "services", namespace, name)
        if service is None:
            raise LookupError(f"service {json.dumps(name)} not found")
        spec = service.get("spec") or {}
        wanted = next((known for known in spec.get("ports") or () if known.get("port") == port), None)
        if wanted is None and spec.get("type") != "ExternalName":
            raise LookupError(f"no service port {port} found for service {json.dumps(name)}")
        for found in api.list("discovery.k8s.io", "endpointslices", namespace):
            if (found["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != name:
                continue
            for known in found.get("ports") or ():
                if (known.get("name") or "") != ((wanted or {}).get("name") or ""):
                    continue
                for endpoint in found.get("endpoints") or ():
                    if (endpoint.get("conditions") or {}).get("ready", True) and endpoint.get("addresses"):
                        return f"{endpoint['addresses'][0]}:{known['port']}"
        if spec.get("type") == "ExternalName":
            return f"{spec['externalName']}:{port}"
        if spec.get("clusterIP") in (None, "", "None"):
            raise LookupError(f"no endpoints available for service {json.dumps(name)}")
        return f"{spec['clusterIP']}:{port}"

    return resolve


class WebhookClient:
    """One pool of connections for all webhooks; TLS contexts are kept by CA bundle."""

    def __init__(self, resolve: ServiceResolver) -> None:
        self._resolve = resolve
        self._https: Https | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def call(self, client: Obj, timeout: int, review: Obj, *, limit: int = _LARGEST_ANSWER) -> Any:
        """POST a review and return the answer, of at most so many bytes, as decoded JSON. Raises WebhookError."""
        target, shown = self._target(client, timeout)
        context = self._context(client.get("caBundle") or "")
        if self._https is None:
            self._https = Https()
        try:
            async with asyncio.timeout(timeout):
                status, answer = await self._https.post(target, orjson.dumps(review), context=context, limit=limit + 1)
        except TimeoutError as error:
            message = f"failed to call webhook: Post {json.dumps(shown)}: context deadline exceeded"
            raise WebhookError(message) from error
        except OSError as error:
            message = f"failed to call webhook: Post {json.dumps(shown)}: {_network_text(error, target)}"
            raise WebhookError(message) from error
        if len(answer) > limit:
            raise WebhookError(f"failed to call webhook: the response is larger than {limit >> 20} MiB")
        if not 200 <= status < 300:
            raise WebhookError(f"failed to call webhook: {_status_text(status, answer)}")
        try:
            return gojson.loads(answer)
        except gojson.JsonError as error:
            text = f"failed to call webhook: couldn't get version/kind; json parse error: {error}"
            raise WebhookError(text) from error

    def _target(self, client: Obj, timeout: int) -> tuple[Target, str]:
        """Where to post to, and the URL to show."""
        if client.get("url"):
            url = str(client["url"])
            mark = "&" if "?" in url else "?"
            url = f"{url}{mark}timeout={timeout}s"
            return Target.of(url), url
        service = client["service"]
        namespace, name, port = service["namespace"], service["name"], service.get("port") or 443
        try:
            address = self._resolve(namespace, name, port)
        except LookupError as error:
            raise WebhookError(f"failed to call webhook: {error.args[0]}") from error
        path = f"{(service.get('path') or '/').lstrip('/')}?timeout={timeout}s"
        url = f"https://{name}.{namespace}.svc:{port}/{path}"
        return Target.of(url, address=address), url

    def _context(self, bundle: str) -> ssl.SSLContext:
        context = self._contexts.get(bundle)
        if context is None:
            try:
                pem = base64.b64decode(bundle).decode() if bundle else None
                context = ssl.create_default_context(cadata=pem)
            except (ValueError, binascii.Error, ssl.SSLError) as error:
                message = f"could not get REST client: unable to load root certificates: {error}"
                raise WebhookError(message) from error
            if len(self._contexts) > 200:
                self._contexts.clear()
            self._contexts[bundle] = context
        return context

    async def close(self) -> None:
        if self._https is not None:
            self._https.close()
            self._https = None


def _status_text(status: int, body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    if status in _STATUS_TEXTS:
        return _STATUS_TEXTS[status]
    if status >= 500:
        return f"an error on the server ({json.dumps(text or 'unknown')}) has prevented the request from succeeding"
    return f"the server responded with the status code {status} but did not return more information"


def _certificate_text(error: ssl.SSLCertVerificationError) -> str:
    """Why a webhook's certificate isn't trusted."""
    if error.verify_code in (18, 19, 20, 21):  # self-signed, or an issuer that the bundle doesn't hold
        return "x509: certificate signed by unknown authority"
    if error.verify_code == 10:
        return "x509: certificate has expired or is not yet valid"
    return f"x509: {error.verify_message or error}"


def _network_text(error: OSError, target: Target) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {_certificate_text(error)}"
    if isinstance(error, BrokenAnswerError | ConnectionResetError | BrokenPipeError):
        return str(error) or "EOF"
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {target.host}: {error.strerror or error}"
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {target.host}:{target.port}: connect: connection refused"
    return f"dial tcp {target.host}:{target.port}: {error.strerror or error}"
