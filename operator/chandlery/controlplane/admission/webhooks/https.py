"""POST over HTTPS with connections that are kept: all that calling a webhook takes, in a few kilobytes.

A client library for all of HTTP costs 8 MB from the first call on, in a server that is to fit a laptop. HTTP/1.1 only:
one request on a connection at a time, answers with a length, in chunks, or up to the end. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_MOST: Final = 100
"""Requests at once; more of them wait."""
_KEPT: Final = 20
"""Idle connections that are kept for one webhook."""
_IDLE_SECONDS: Final = 15.0
_HEAD: Final = 64 * 1024


class BrokenAnswerError(OSError):
    """What came is not HTTP, or ended too early; the text says what."""


class NoAnswerError(BrokenAnswerError):
    """The other end closed the connection without a word."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to, and what to say there."""

    host: str
    port: int
    path: str
    authority: str
    """For the Host field."""
    name: str
    """That the certificate must carry."""

    @classmethod
    def of(cls, url: str, *, address: str = "") -> Target:
        """The target of a URL; at this host:port when its own name isn't what is connected to."""
        split = urlsplit(url)
        name = split.hostname or ""
        where = urlsplit(f"//{address}") if address else split
        path = f"{split.path or '/'}?{split.query}" if split.query else split.path or "/"
        return cls(where.hostname or "", where.port or 443, path, split.netloc.rpartition("@")[2], name)


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0
    used: bool = False

    def close(self) -> None:
        self.writer.transport.abort()


_Key = tuple[str, int, str, ssl.SSLContext]


class Https:
    """The connections to all webhooks."""

    def __init__(self) -> None:
        self._idle: dict[_Key, deque[_Connection]] = {}
        self._places = asyncio.Semaphore(_MOST)
        self._tidying: asyncio.TimerHandle | None = None

    async def post(self, target: Target, body: bytes, *, context: ssl.SSLContext, limit: int) -> tuple[int, bytes]:
        """Status and body of the answer, of which no more than about `limit` bytes are read.

        Raises:
            OSError: it can't be reached, its certificate isn't trusted, or it doesn't answer (BrokenAnswerError).
        """
        key = (target.host, target.port, target.name, context)
        async with self._places:
            while True:
                connection = self._kept(key) or await _connect(target, context)
                whole = False
                try:
                    status, answer, whole = await _exchange(connection, target, body, limit)
                except (NoAnswerError, ConnectionError):
                    if not connection.used:
                        raise
                    # it was closed at the other end while it was idle: nothing of ours was read there
                else:
                    return status, answer
                finally:
                    if whole:
                        self._keep(key, connection)
                    else:
                        connection.close()

    def close(self) -> None:
        """Close what is idle; what is under way ends by itself."""
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def _kept(self, key: _Key) -> _Connection | None:
        """One that was used last, and not so long ago that the other end may have had enough of it."""
        connections = self._idle.get(key)
        while connections:
            connection = connections.pop()
            if not connections:
                del self._idle[key]
            fresh = asyncio.get_running_loop().time() - connection.idle_since < _IDLE_SECONDS
            if fresh and not connection.reader.at_eof() and not connection.writer.is_closing():
                return connection
            connection.close()
        return None

    def _keep(self, key: _Key, connection: _Connection) -> None:
        connection.idle_since, connection.used = asyncio.get_running_loop().time(), True
        connections = self._idle.setdefault(key, deque())
        connections.append(connection)
        if len(connections) > _KEPT:
            connections.popleft().close()
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._tidy)

    def _tidy(self) -> None:
        """Close what nobody used for a while: each TLS connection holds a third of a megabyte."""
        loop = asyncio.get_running_loop()
        for key, connections in list(self._idle.items()):
            while connections and loop.time() - connections[0].idle_since >= _IDLE_SECONDS:
                connections.popleft().close()
            if not connections:
                del self._idle[key]
        self._tidying = loop.call_later(_IDLE_SECONDS, self._tidy) if self._idle else None

    @property
    def idle(self) -> int:
        """Connections that are kept."""
        return sum(map(len, self._idle.values()))


async def _connect(target: Target, context: ssl.SSLContext) -> _Connection:
    streams = await asyncio.open_connection(
        target.host, target.port, ssl=context, server_hostname=target.name, limit=_HEAD
    )
    return _Connection(*streams)


async def _exchange(connection: _Connection, target: Target, body: bytes, limit: int) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection can be used again."""
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: chandlery-controlplane\r\n"
        "Accept: application/json, */*\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection.writer.write(head.encode() + body)
    try:
        await connection.writer.drain()
    except ConnectionError:
        pass  # it may have answered before it had read all
    status, fields = await _head(connection.reader)
    while 100 <= status < 200:
        status, fields = await _head(connection.reader)
    answer, whole = await _body(connection.reader, status, fields, limit)
    return status, answer, whole and "close" not in fields.get("connection", "").lower()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise NoAnswerError("EOF") from error
        raise BrokenAnswerError("unexpected EOF") from error
    except asyncio.LimitOverrunError as error:
        raise BrokenAnswerError("the answer's header is longer than 64 KiB") from error
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (len(code) == 3 and code.isdigit()):
        raise BrokenAnswerError(f"malformed HTTP response {first[:80]!r}")
    fields = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    if version == "HTTP/1.0":
        fields.setdefault("connection", "close")
    return int(code), fields


async def _body(reader: asyncio.StreamReader, status: int, fields: dict[str, str], limit: int) -> tuple[bytes, bool]:
    """The body, and whether it was read to its end and its end was told."""
    if status in (204, 304):
        return b"", True
    try:
        if "chunked" in fields.get("transfer-encoding", "").lower():
            return await _chunks(reader, limit)
        length = fields.get("content-length")
        if length is None:
            return await _some(reader, limit), False
        if not length.isdigit():
            raise BrokenAnswerError(f"bad Content-Length {length!r}")
        if int(length) > limit:
            return await reader.readexactly(limit), False
        return await reader.readexactly(int(length)), True
    except asyncio.IncompleteReadError as error:
        raise BrokenAnswerError("unexpected EOF") from error
    except asyncio.LimitOverrunError as error:
        raise BrokenAnswerError("invalid byte in chunk length") from error


async def _chunks(reader: asyncio.StreamReader, limit: int) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    left = limit
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise BrokenAnswerError("invalid byte in chunk length") from None
        if not size:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass  # trailers
            return b"".join(parts), True
        parts.append(await reader.readexactly(min(size, left)))
        left -= len(parts[-1])
        if size > len(parts[-1]) or not left:
            return b"".join(parts), False
        await reader.readexactly(2)


async def _some(reader: asyncio.StreamReader, limit: int) -> bytes:
    parts: list[bytes] = []
    while limit > 0 and (part := await reader.read(min(limit, _HEAD))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)
