"""The management plugin's HTTP API of one broker, and as much AMQP as it takes to be a client for a moment."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import EngineFailed, NotFound, Unauthenticated, Unavailable
from chandlery.foundation.fencing import ask

if TYPE_CHECKING:
    import aiohttp

SECONDS = 5.0


class Management:
    """One session at the HTTP API, as the administrator."""

    def __init__(
        self, port: int, user: str, password: str, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self._base = f"{'http' if tls is None else 'https'}://{host}:{port}/api/"
        self._tls = tls
        self._login = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Basic {self._login}"}, timeout=aiohttp.ClientTimeout(total=SECONDS)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Any:
        """What is there.

        Raises:
            NotFound, Unauthenticated, Unavailable, EngineFailed.
        """
        return await self._ask("GET", path)

    async def put(self, path: str, body: Any) -> None:
        await self._ask("PUT", path, body)

    async def post(self, path: str, body: Any) -> None:
        await self._ask("POST", path, body)

    async def delete(self, path: str) -> None:
        """Gone afterwards; nothing there is fine."""
        try:
            await self._ask("DELETE", path)
        except NotFound:
            return

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        import aiohttp
        from yarl import URL

        assert self._session is not None
        url = URL(self._base + path, encoded=True)  # names hold escaped slashes
        if method != "GET":
            ask()
        try:
            async with self._session.request(method, url, json=body, ssl=self._tls or True) as answer:
                if answer.status == 404:
                    raise NotFound(f"RabbitMQ has no {path}")
                if answer.status == 401:
                    raise Unauthenticated("RabbitMQ refused the driver's own credentials")
                if answer.status >= 400:
                    text = await answer.text()
                    try:
                        said = json.loads(text)
                        reason = said.get("reason") or said.get("error")
                    except ValueError:
                        reason = text[:200]
                    if answer.status >= 500:
                        raise Unavailable(f"RabbitMQ says: {reason or answer.status}", retry_after=0.5)
                    raise EngineFailed(f"RabbitMQ refused: {reason}")
                return await answer.json(content_type=None) if method == "GET" else None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"RabbitMQ doesn't answer: {error or 'no answer'}", retry_after=0.2) from error


@dataclass(frozen=True, slots=True)
class Declared:
    """What a passive declaration answers."""

    messages: int
    consumers: int


_START, _START_OK, _TUNE, _TUNE_OK, _OPEN, _OPEN_OK, _CLOSE = (
    (10, 10), (10, 11), (10, 30), (10, 31), (10, 40), (10, 41), (10, 50),
)  # fmt: skip
_CHANNEL_OPEN, _CHANNEL_OPEN_OK, _CHANNEL_CLOSE = (20, 10), (20, 11), (20, 40)
_DECLARE, _DECLARE_OK = (50, 10), (50, 11)
_REFUSED = (403, 530)
"""Wrong password, or no right to the virtual host."""


class AmqpLogin:
    """A connection by AMQP 0-9-1 that logs in and asks for a queue: the readiness that a client would see.

    Source: the AMQP 0-9-1 specification, sections 2.3 and 4.2.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def ask(
        cls,
        host: str,
        port: int,
        login: tuple[str, str],
        vhost: str,
        queue: str,
        tls: ssl.SSLContext | None = None,
    ) -> Declared:
        """Log in and look at a queue.

        Raises:
            Unavailable: nobody answers, or the queue has no leader now.
            Unauthenticated: user or password is wrong, or has no right.
            NotFound: there is no such queue.
        """
        try:
            async with ambient().timeout(SECONDS):
                reader, writer = await asyncio.open_connection(host, port, ssl=tls)
                try:
                    found = cls(reader, writer)
                    await found._open(login, vhost)
                    return await found._declared(queue)
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            raise Unavailable(f"{host}:{port} doesn't answer: {error or 'no answer'}", retry_after=0.2) from error

    async def _open(self, login: tuple[str, str], vhost: str) -> None:
        self._writer.write(b"AMQP\x00\x00\x09\x01")
        await self._expect(_START)
        # so that a refused login is said at once, instead of a connection that ends after a while
        able = _short("authentication_failure_close") + b"t\x01"
        properties = _short("capabilities") + b"F" + _long(able)
        plain = f"\0{login[0]}\0{login[1]}".encode()
        self._send(0, _START_OK, _long(properties) + _short("PLAIN") + _long(plain) + _short("en_US"))
        tune = await self._expect(_TUNE)
        channels, frame = struct.unpack_from(">HI", tune)
        self._send(0, _TUNE_OK, struct.pack(">HIH", channels, frame, 0))
        self._send(0, _OPEN, _short(vhost) + _short("") + b"\0")
        await self._expect(_OPEN_OK)
        self._send(1, _CHANNEL_OPEN, _short(""))
        await self._expect(_CHANNEL_OPEN_OK)

    async def _declared(self, queue: str) -> Declared:
        self._send(1, _DECLARE, b"\0\0" + _short(queue) + b"\x01" + _long(b""))
        answer = await self._expect(_DECLARE_OK)
        messages, consumers = struct.unpack_from(">II", answer, 1 + answer[0])
        self._send(0, _CLOSE, struct.pack(">H", 200) + _short("") + b"\0\0\0\0")
        return Declared(messages, consumers)

    def _send(self, channel: int, method: tuple[int, int], arguments: bytes) -> None:
        payload = struct.pack(">HH", *method) + arguments
        self._writer.write(struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce")

    async def _expect(self, method: tuple[int, int]) -> bytes:
        """The arguments of the next method, which must be this one."""
        while True:
            kind, _, size = struct.unpack(">BHI", await self._reader.readexactly(7))
            payload = (await self._reader.readexactly(size + 1))[:-1]
            if kind != 1:
                continue  # a heartbeat
            found = struct.unpack_from(">HH", payload)
            if found == method:
                return payload[4:]
            if found in (_CLOSE, _CHANNEL_CLOSE):
                code = struct.unpack_from(">H", payload, 4)[0]
                said = payload[7 : 7 + payload[6]].decode(errors="replace")
                if code in _REFUSED:
                    raise Unauthenticated(f"RabbitMQ: {said}")
                raise NotFound(f"RabbitMQ: {said}") if code == 404 else Unavailable(f"RabbitMQ: {said}")


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
