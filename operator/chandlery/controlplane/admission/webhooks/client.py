"""Calling webhooks over HTTPS, by URL or by Service reference."""

from __future__ import annotations

import asyncio
import base64
import binascii
import importlib
import io
import json
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from chandlery.controlplane.admission.review import WebhookError
from chandlery.controlplane.codec import gojson
from chandlery.controlplane.types import Obj

if TYPE_CHECKING:
    import aiohttp

    from chandlery.controlplane.types import LocalApi

ServiceResolver = Callable[[str, str, int], str]
"""(namespace, name, port) of a Service -> `host:port` to connect to. Raises LookupError."""

_LARGE = 1024 * 1024
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
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def call(self, client: Obj, timeout: int, review: Obj, *, limit: int = _LARGEST_ANSWER) -> Any:
        """POST a review and return the answer, of at most so many bytes, as decoded JSON. Raises WebhookError."""
        url, shown, server_name = self._target(client, timeout)
        body = orjson.dumps(review)
        if self._session is None:
            # Imported by the first call, in a thread: a third of what a start would take, and few have webhooks.
            await asyncio.to_thread(importlib.import_module, "aiohttp")
        import aiohttp

        if self._session is None:
            # No proxies and no cookies from the environment: a webhook is called directly or not at all.
            self._session = aiohttp.ClientSession(
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=100, limit_per_host=20),
            )
        try:
            async with self._session.post(
                url,
                data=body if len(body) < _LARGE else io.BytesIO(body),
                headers={"Content-Type": "application/json", "Accept": "application/json, */*"},
                ssl=self._context(client.get("caBundle") or ""),
                server_hostname=server_name,
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=False,
            ) as response:
                answer = await _read(response.content, limit + 1)
                status = response.status
        except TimeoutError as error:
            message = f"failed to call webhook: Post {json.dumps(shown)}: context deadline exceeded"
            raise WebhookError(message) from error
        except (aiohttp.ClientError, OSError) as error:
            message = f"failed to call webhook: Post {json.dumps(shown)}: {_network_text(error)}"
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

    def _target(self, client: Obj, timeout: int) -> tuple[str, str, str | None]:
        """The URL to post to and to show, and the name that its certificate must carry (None: the URL's host)."""
        if client.get("url"):
            url = str(client["url"])
            mark = "&" if "?" in url else "?"
            url = f"{url}{mark}timeout={timeout}s"
            return url, url, None
        service = client["service"]
        namespace, name, port = service["namespace"], service["name"], service.get("port") or 443
        try:
            address = self._resolve(namespace, name, port)
        except LookupError as error:
            raise WebhookError(f"failed to call webhook: {error.args[0]}") from error
        path = f"{(service.get('path') or '/').lstrip('/')}?timeout={timeout}s"
        host = f"{name}.{namespace}.svc"
        return f"https://{address}/{path}", f"https://{host}:{port}/{path}", host

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
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(content: aiohttp.StreamReader, size: int) -> bytes:
    """The whole body, or its first `size` bytes and maybe more."""
    chunks = []
    while size > 0 and (chunk := await content.readany()):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _status_text(status: int, body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    if status in _STATUS_TEXTS:
        return _STATUS_TEXTS[status]
    if status >= 500:
        return f"an error on the server ({json.dumps(text or 'unknown')}) has prevented the request from succeeding"
    return f"the server responded with the status code {status} but did not return more information"


def _certificate_text(error: aiohttp.ClientConnectorCertificateError) -> str:
    """Why a webhook's certificate isn't trusted."""
    problem = error.certificate_error
    code = getattr(problem, "verify_code", 0)
    if code in (18, 19, 20, 21):  # self-signed, or an issuer that the bundle doesn't hold
        return "x509: certificate signed by unknown authority"
    if code == 10:
        return "x509: certificate has expired or is not yet valid"
    return f"x509: {getattr(problem, 'verify_message', '') or problem}"


def _network_text(error: BaseException) -> str:
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: failed to verify certificate: {_certificate_text(error)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error
        if isinstance(reason, ConnectionRefusedError):
            return f"dial tcp {error.host}:{error.port}: connect: connection refused"
        return f"dial tcp {error.host}:{error.port}: {reason.strerror or reason}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    return str(error) or type(error).__name__
