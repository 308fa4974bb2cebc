"""The short way for the commonest request: a plain GET of one object, answered from the bytes in the cache.

What arrives whole in one piece, asks for JSON and needs no conversion is answered right in the protocol's callback: no
task, no request object, no response object. Everything else takes the long way, and so does every answer that
is not 200: this module only knows how to say yes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chandlery.controlplane.server.http import Headers, date
from chandlery.controlplane.server.path import parse_path
from chandlery.controlplane.types import ApiError

if TYPE_CHECKING:
    from chandlery.controlplane.auth import Authenticator, Authorizer
    from chandlery.controlplane.core import Core
    from chandlery.controlplane.server.connection import Connection
    from chandlery.controlplane.server.metrics import Metrics

_HEAD = (
    b"HTTP/1.1 200 OK\r\nCache-Control: no-cache, private\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nDate: %s\r\n\r\n"
)
_PLAIN = {"", "*/*", "application/json", "application/json, */*"}
_LONG_WAY = ("impersonate-", "content-length", "transfer-encoding", "expect", "upgrade", "connection", "if-")


def read_headers(block: bytes) -> Headers | None:
    """The header fields of a plain request; None when one of them needs the long way."""
    found = Headers()
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        key = name.decode("latin-1").lower()
        if not colon or not key or key != key.strip() or key in found or key.startswith(_LONG_WAY):
            return None
        found[key] = value.strip().decode("latin-1")
    return found if found.get("accept", "") in _PLAIN else None


class Quick:
    """Answers plain GETs of stored objects."""

    def __init__(self, core: Core, authenticator: Authenticator, authorizer: Authorizer, metrics: Metrics) -> None:
        self._core, self._metrics = core, metrics
        self._authenticator, self._authorizer = authenticator, authorizer

    def answer(self, connection: Connection, data: bytes) -> bytes | None:
        """The whole response, or None: then the request takes the long way."""
        started = time.perf_counter()
        line, _, block = data.partition(b"\r\n")
        if not line.endswith(b" HTTP/1.1") or b"?" in line or b"%" in line:
            return None
        block = block[:-4]
        if block != connection.header_block:
            if b"\r\n\r\n" in block:
                return None
            connection.plain_headers = read_headers(block)
            connection.header_block = block
        headers = connection.plain_headers
        if headers is None:
            return None
        target = parse_path(line[4:-9].decode("latin-1"))
        if not target.name or target.subresource or target.watch:
            return None
        core = self._core
        resource = core.registry.find(target.group, target.version, target.resource)
        if resource is None or core.store.shared or resource.deprecation or "get" not in resource.verbs:
            return None
        namespace = target.namespace if resource.namespaced else ""
        if bool(namespace) != resource.namespaced or (
            target.namespace and not namespace and target.resource != "namespaces"
        ):
            return None
        entry = core.find(resource, namespace, target.name)
        if entry is None or not core.is_plain(resource, entry):
            return None
        try:
            user = self._authenticator.authenticate(headers, connection.peer_certificate())
        except ApiError:
            return None
        allowed, _ = self._authorizer.authorize(
            user,
            "get",
            group=target.group,
            resource=target.resource,
            namespace=target.namespace,
            name=target.name,
        )
        if not allowed:
            return None
        raw = entry.raw
        self._metrics.observe("get", target, 200, time.perf_counter() - started)
        return _HEAD % (len(raw), date().encode()) + raw
