"""HTTP/1.1 on a connection: llhttp parses, one request is handled at a time, answers go out in order.

A request reaches its handler once it has arrived whole. Bounds: the head, the body, how long either may take to arrive
(`reap`), how many requests may wait behind the one that is handled, how much may wait to be read by the client.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import httptools

from chandlery.controlplane.server.http import Headers, Request, Response, Streaming, head, plain_head
from chandlery.controlplane.server.knownheads import KnownHeads

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response | Streaming]]
Refuse = Callable[[Request, int, str], Response]
"""Makes the answer to a request that is not handled: a status code and why."""
Shortcut = Callable[["Connection", bytes], bytes | None]
"""The whole answer to a plain request, or None."""

HEAD_LIMIT = 64 * 1024
BODY_SECONDS = 60.0
HEAD_SECONDS = 30.0
IDLE_SECONDS = 300.0
STALL_SECONDS = 60.0
"""How long a client may leave an answer unread (a watch has a bound of its own)."""
_BUFFERED = 256 * 1024
_WAITING = 16
_SCREENED = 64 * 1024
_STRANGE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) /[^ \r\n]* HTTP/1\.[01]\r\n")
"""Bodies from this size on are only taken from clients that are known."""


class HttpServer:
    """Makes connections, and knows those that are open."""

    def __init__(
        self,
        handle: Handler,
        *,
        refuse: Refuse,
        body_limit: int,
        shortcut: Shortcut | None = None,
        screen: Callable[[Request], None] | None = None,
    ) -> None:
        self.handle, self.refuse, self.shortcut = handle, refuse, shortcut
        self.screen = screen
        """Looks at the head of a request with a large body; raises when the body need not be waited for."""
        self.body_limit = body_limit
        self.connections: set[Connection] = set()
        self.stopping = False

    def __call__(self) -> Connection:
        return Connection(self, asyncio.get_running_loop())

    def reap(self, now: float) -> None:
        """Let go of clients that fell silent; call now and then. `now` is the loop's time."""
        for connection in list(self.connections):
            connection.reap(now)

    async def shutdown(self, seconds: float) -> None:
        """Close what is idle, let what is being answered finish for so long, then close that too."""
        self.stopping = True
        for connection in list(self.connections):
            connection.close_when_done()
        running = [connection.task for connection in self.connections if connection.task is not None]
        if running:
            await asyncio.wait(running, timeout=seconds)
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_arrived",
        "_body",
        "_body_size",
        "_broken",
        "_complete",
        "_drained",
        "_head_size",
        "_headers",
        "_idle_since",
        "_in_message",
        "_known",
        "_loop",
        "_method",
        "_parser",
        "_peer",
        "_peer_known",
        "_pending",
        "_pending_request",
        "_reading",
        "_request",
        "_server",
        "_stalled_since",
        "_target",
        "close_after",
        "header_block",
        "on_lost",
        "plain_headers",
        "remote",
        "task",
        "transport",
        "waiting_since",
    )  # fmt: skip

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop = server, loop
        self.transport: Any = None
        self.remote = ""
        self.task: asyncio.Task[None] | None = None
        self.close_after = False
        """The request that is handled is the last one."""
        self.waiting_since = loop.time()
        """Since when the client owes us the rest of a request (or its first); 0.0 when it doesn't."""
        self.header_block: bytes | None = None
        self.plain_headers: Headers | None = None
        """What the shortcut made of `header_block`: clients send the same one again and again."""
        self.on_lost: Callable[[], None] | None = None
        """Told when the client has gone; what writes goes on to its end all the same."""
        self._peer: Any = None
        self._peer_known = False
        self._idle_since = self.waiting_since
        self._drained: asyncio.Future[None] | None = None
        self._stalled_since = 0.0
        self._reading = True
        self._broken = False
        self._pending: deque[Request] = deque()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._method = ""
        """The method of the request that is parsed, when the parser must not know."""
        self._known = KnownHeads()
        self._arrived: Request | None = None
        self._in_message = False
        self._headers = Headers()
        self._target: list[bytes] = []
        self._head_size = 0
        self._request: Request | None = None
        self._body: list[bytes] = []
        self._body_size = 0

    # -- the transport's side

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        transport.set_write_buffer_limits(high=_BUFFERED)
        self._server.connections.add(self)
        if self._server.stopping:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._pending.clear()
        self._broken = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("the client has gone"))
            self._drained.exception()  # whoever waited may be gone too
        if self.on_lost is not None:
            self.on_lost()
        # The parser points back at us: without this only the collector, which comes by rarely, would let go of either.
        self._parser = self.on_lost = None

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._loop.create_future()
            self._stalled_since = self._loop.time()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def eof_received(self) -> bool:
        return False  # closes; TLS knows no half-closed connections

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        alone = not self._in_message and self.task is None and self._drained is None
        if alone:
            if data[:5] == b"GET /":
                if data[-4:] == b"\r\n\r\n" and self._server.shortcut is not None:
                    answer = self._server.shortcut(self, data)
                    if answer is not None:
                        self.waiting_since = 0.0
                        self._idle_since = self._loop.time()
                        self.transport.write(answer)
                        return
            else:
                request = self._known.read(self, data, min(_SCREENED, self._server.body_limit))
                if request is not None:
                    self.waiting_since = 0.0
                    self.task = self._loop.create_task(self._handle(request))
                    return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.close_after = self._broken = True  # another protocol follows, which isn't spoken here
        except httptools.HttpParserError:
            if self._broken:  # it was answered from within the parser
                return
            if not alone or not self._read_strange(data):
                self._refuse(400, "the request is not HTTP/1.1 as it should be")
                return
        arrived, self._arrived = self._arrived, None
        if alone and arrived is not None and not self._pending and not self._in_message:
            self._known.learn(data, arrived)
        if self._in_message:
            if self._request is None:
                self._head_size += len(data)  # what the parser still holds is not known: count it as head
                if self._head_size > 2 * HEAD_LIMIT:
                    self._refuse(431, f"the head of the request is longer than {HEAD_LIMIT} bytes")
                    return
            if not self.waiting_since:
                self.waiting_since = self._loop.time()
        else:
            self.waiting_since = 0.0

    def _read_strange(self, data: bytes) -> bool:
        """Read a request whose method the parser doesn't know: any word may be one. Whether it was one."""
        found = _STRANGE.match(data)
        if found is None:
            return False
        self._parser = httptools.HttpRequestParser(self)
        self._method = found[1].decode()
        try:
            self._parser.feed_data(b"GET" + data[found.end(1) :])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return False
        return True

    # -- the parser's side

    def on_message_begin(self) -> None:
        self._in_message = True
        self._headers = Headers()
        self._target = []
        self._head_size = 0
        self._request = None
        self._body = []
        self._body_size = 0

    def on_url(self, part: bytes) -> None:
        self._head_size += len(part)
        self._target.append(part)
        if self._head_size > HEAD_LIMIT:
            self._refuse(431, f"the head of the request is longer than {HEAD_LIMIT} bytes")
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD_LIMIT:
            self._refuse(431, f"the head of the request is longer than {HEAD_LIMIT} bytes")
            raise _Refused
        self._headers.add(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        method = self._method or parser.get_method().decode("latin-1")
        self._method = ""
        request = Request(self, method, b"".join(self._target).decode("latin-1"), headers)
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        self._request = request
        length = headers.get("content-length")
        size = int(length) if length is not None and length.isdigit() else 0
        if size > self._server.body_limit:
            self._too_large()
        if self._server.screen is not None and (size > _SCREENED or "transfer-encoding" in headers):
            try:
                self._server.screen(request)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
                self._refuse(getattr(error, "code", 401), str(getattr(error, "message", error)))
                raise _Refused from None
        if headers.get("expect", "").lower() == "100-continue" and self.task is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self._body_size += len(part)
        if self._body_size > self._server.body_limit:
            self._too_large()
        self._body.append(part)

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        body = self._body
        request.body = body[0] if len(body) == 1 else b"".join(body)
        self._body = []
        self._in_message = False
        self._request = None
        self._arrived = request
        if self.task is None and not self._pending:
            self.task = self._loop.create_task(self._handle(request))
            return
        self._pending.append(request)
        if len(self._pending) >= _WAITING and self._reading:
            self._reading = False
            self.transport.pause_reading()

    def _too_large(self) -> None:
        self._refuse(413, f"Request entity too large: limit is {self._server.body_limit}")
        raise _Refused

    # -- answering

    async def _handle(self, request: Request) -> None:
        try:
            while True:
                last = not request.keep_alive or self.close_after
                answer = await self._server.handle(request)
                last = last or self.close_after or self._server.stopping
                if self.gone:
                    break
                if isinstance(answer, Response):
                    self._respond(request, answer, keep_alive=not last)
                if self._drained is not None:
                    await self._drained
                if last:
                    self.transport.close()
                    break
                if not self._pending:
                    break
                request = self._pending.popleft()
                if not self._reading and len(self._pending) < _WAITING // 2:
                    self._reading = True
                    self.transport.resume_reading()
        except ConnectionError:
            self.abort()
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception:
            log.exception("an answer could not be sent")
            self.abort()
        finally:
            self.task = None
            self._idle_since = self._loop.time()

    def _respond(self, request: Request, answer: Response, *, keep_alive: bool) -> None:
        body, headers = answer.body, answer.headers
        media = headers.get("Content-Type") if keep_alive and body and len(headers) == 1 else None
        if type(media) is str:
            front = plain_head(answer.status, media, len(body))
        else:
            front = head(answer.status, headers, length=len(body), keep_alive=keep_alive)
        if request.method == "HEAD" or not body:
            self.transport.write(front)
        elif len(body) < 16_384:
            self.transport.write(front + body)
        else:
            self.transport.writelines((front, body))

    def _refuse(self, status: int, why: str) -> None:
        """Answer what can't be handled, and end the connection."""
        self._broken = True
        self._in_message = False
        self.waiting_since = 0.0
        if self.transport.is_closing():
            return
        if self.task is not None:  # an earlier request is being answered: this one only ends the connection
            self.close_after = True
            self._pending.clear()
            return
        request = self._request or Request(self, "", "", Headers())
        answer = self._server.refuse(request, status, why)
        self.transport.write(head(answer.status, answer.headers, length=len(answer.body), keep_alive=False))
        self.transport.write(answer.body)
        self.transport.close()

    # -- streams

    def start_stream(self, headers: dict[str, str]) -> None:
        """Send the head of a chunked answer."""
        self.transport.write(head(200, headers, length=None, keep_alive=True))

    def send_chunk(self, chunk: bytes) -> bool:
        """Send a chunk that is framed already, unless the client is gone or lags: then False."""
        if self._drained is not None or self.transport.is_closing():
            return False
        self.transport.write(chunk)
        return True

    async def write(self, data: bytes) -> None:
        """Send some bytes of a stream as a chunk, and wait while the client lags. Raises ConnectionError."""
        if self.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        if self._drained is not None:
            await self._drained

    def end_stream(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"0\r\n\r\n")

    # -- housekeeping

    @property
    def gone(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    def peer_certificate(self) -> Any:
        """What `getpeercert` says of the client; None without a verified certificate."""
        if not self._peer_known and self.transport is not None:
            self._peer = self.transport.get_extra_info("peercert")
            self._peer_known = True
        return self._peer

    def reap(self, now: float) -> None:
        since = self.waiting_since
        if self._drained is not None and self.on_lost is None and now - self._stalled_since > STALL_SECONDS:
            self.abort()
            return
        if since and self.task is None:
            if self._request is not None:
                if now - since > BODY_SECONDS:
                    self._refuse(408, f"the body of the request did not arrive within {BODY_SECONDS:.0f} seconds")
            elif now - since > HEAD_SECONDS:
                self.abort()
        elif not since and self.task is None and now - self._idle_since > IDLE_SECONDS:
            self.transport.close()

    def close_when_done(self) -> None:
        self.close_after = True
        if self.task is None and self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        self._broken = True
        if self.transport is not None:
            self.transport.abort()


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The request was answered from within the parser."""
