"""The short way for the commonest request: a plain GET of one object, answered from the bytes in the cache.

What arrives whole in one piece, asks for JSON and needs no conversion is answered right in the protocol's callback: no
task, no request object, no response object. Everything else takes the long way, and so does every answer that
is not 200: this module only knows how to say yes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp.web_protocol import RequestHandler

from chandlery.controlplane.server.path import parse_path
from chandlery.controlplane.types import ApiError

if TYPE_CHECKING:
    from chandlery.controlplane.auth import Authenticator, Authorizer
    from chandlery.controlplane.core import Core
    from chandlery.controlplane.server.metrics import Metrics

_HEAD = (
    b"HTTP/1.1 200 OK\r\nCache-Control: no-cache, private\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nDate: %s\r\n\r\n"
)
_PLAIN = {"", "*/*", "application/json", "application/json, */*"}
_LONG_WAY = ("impersonate-", "content-length", "transfer-encoding", "expect", "upgrade", "connection", "if-")
_BUFFERED = 1 << 20


class Headers(dict[str, str]):
    """Header fields by their lower-case names, looked up in any case."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())


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
        self._date = b""
        self._date_at = 0.0

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
            connection.headers = read_headers(block)
            connection.header_block = block
        headers = connection.headers
        if headers is None:
            return None
        target = parse_path(line[4:-9].decode("latin-1"))
        if not target.name or target.subresource or target.watch:
            return None
        core = self._core
        resource = core.registry.find(target.group, target.version, target.resource)
        if resource is None or core.store.shared or "get" not in resource.verbs:
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
        now = time.time()
        if now - self._date_at >= 1.0:
            self._date_at = now
            self._date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)).encode()
        raw = entry.raw
        self._metrics.observe("get", target, 200, time.perf_counter() - started)
        return _HEAD % (len(raw), self._date) + raw


class Connection(RequestHandler):
    """A client's connection; remembers the certificate that it was opened with, and knows the short way."""

    __slots__ = ("_broken", "_peer", "_peer_known", "_quick", "header_block", "headers", "waiting_since")

    def __init__(self, *args: Any, quick: Quick | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._quick = quick
        self._peer: Any = None
        self._peer_known = False
        self._broken = False
        """A request has arrived in part: the parser holds its beginning."""
        self.header_block: bytes | None = None
        self.headers: Headers | None = None
        self.waiting_since = self._loop.time()
        """Since when the client owes us the rest of a request (or its first); 0.0 when it doesn't."""

    def peer_certificate(self) -> Any:
        """What `getpeercert` says of the client; None without a verified certificate."""
        if not self._peer_known and self.transport is not None:
            self._peer = self.transport.get_extra_info("peercert")
            self._peer_known = True
        return self._peer

    def data_received(self, data: bytes) -> None:
        waiter, transport = self._waiter, self.transport
        if (
            data[:5] == b"GET /"
            and data[-4:] == b"\r\n\r\n"
            and self._quick is not None
            and waiter is not None  # nothing is being handled
            and not (waiter.done() or self._broken or self._messages or self._force_close)
            and transport is not None
            and transport.get_write_buffer_size() < _BUFFERED
        ):
            answer = self._quick.answer(self, data)
            if answer is not None:
                self.waiting_since = 0.0
                transport.write(answer)
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                return
        super().data_received(data)
        waiter = self._waiter
        # No waiter: a request is being handled, or the very first bytes came before anybody waits for them.
        idle = self._current_request is None if waiter is None else not waiter.done()
        self._broken = idle and not self._messages
        if not self._broken:
            self.waiting_since = 0.0
        elif not self.waiting_since:
            self.waiting_since = self._loop.time()
