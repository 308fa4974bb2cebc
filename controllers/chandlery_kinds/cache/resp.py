"""The little of Valkey's protocol (RESP2) that a driver needs.

Our own, against the habit of taking a library: redis-py costs 40 MB of memory and most of a second at import, more
than the operator's whole budget for a cache (docs/adr/0005). Source: the Redis serialization protocol specification.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import PermissionDenied, ProviderError, Timeout, Unauthenticated, Unavailable
from chandlery.foundation.fencing import ask
from chandlery_kinds.cache.streams import open_stream

_PIECE = 1 << 20


class ReplyError(ProviderError):
    """The engine refused a command; `message` is its own text, which begins with a code such as ERR or NOPERM."""


class RespClient:
    """One connection. Not shared between tasks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str, seconds: float) -> None:
        self._reader = reader
        self._writer = writer
        self._where = where
        self._seconds = seconds

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        user: str = "",
        password: str = "",
        seconds: float = 5.0,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Connect, by TLS with a context, and authenticate.

        Raises:
            Unavailable: nobody listens, or it is loading its data.
            Unauthenticated: user or password is wrong.
            Timeout: no answer within `seconds`.
        """
        where = f"{host}:{port}"
        reader, writer = await open_stream(host, port, seconds, tls)
        client = cls(reader, writer, where, seconds)
        try:
            if password:
                await client.command("AUTH", user or "default", password)
        except BaseException:
            await client.close()
            raise
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    @property
    def shown(self) -> str:
        """SHA-256 of the certificate that the server shows; empty without TLS."""
        tls = self._writer.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        return hashlib.sha256(der).hexdigest() if der else ""

    async def command(self, *words: str | bytes | int) -> Any:
        """One command. Simple strings and bulk strings come as str (bytes that aren't UTF-8 as bytes)."""
        return (await self.pipeline([words]))[0]

    async def pipeline(self, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
        """Several commands in one round trip. Raises the first refusal, after all replies are read."""
        out = bytearray()
        for words in commands:
            out += b"*%d\r\n" % len(words)
            for word in words:
                data = word if isinstance(word, bytes) else str(word).encode()
                out += b"$%d\r\n%s\r\n" % (len(data), data)
        try:
            async with ambient().timeout(self._seconds):
                ask()
                self._writer.write(bytes(out))
                await self._writer.drain()
                replies = [await self._reply() for _ in commands]
        except TimeoutError as error:
            raise Timeout(f"{self._where} did not answer within {self._seconds:g} s") from error
        except (OSError, EOFError) as error:
            raise Unavailable(f"{self._where} closed the connection", retry_after=0.05) from error
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise _translated(reply, self._where)
        return replies

    async def save_rdb(self, path: Path) -> None:
        """Receive the whole data as a new copy would, into a file. The connection is of no use afterwards.

        Source: Valkey's replication.c; `REPLCONF capa eof` asks for a stream that ends with a mark of 40 bytes.
        """
        await self.pipeline([("REPLCONF", "capa", "eof"), ("REPLCONF", "rdb-only", "1")])
        self._writer.write(b"SYNC\r\n")
        try:
            head = b"\n"
            while head == b"\n":  # so it says that it is still at it
                async with ambient().timeout(self._seconds):
                    head = await self._reader.readuntil(b"\n")
            if head.startswith(b"-"):
                raise _translated(ReplyError(head[1:].decode(errors="replace").strip()), self._where)
            if not head.startswith(b"$"):
                raise ProviderError(f"{self._where} sent {head[:40]!r} instead of its data")
            kind = head[1:].strip()
            with path.open("wb") as file:
                path.chmod(0o600)
                if kind.startswith(b"EOF:"):
                    await self._copy_until(kind[4:], file)
                else:
                    await self._copy(int(kind), file)
        except TimeoutError as error:
            raise Timeout(f"{self._where} sent nothing for {self._seconds:g} s") from error
        except (OSError, EOFError) as error:
            raise Unavailable(f"the data of {self._where} could not be read to its end: {error}") from error

    async def _piece(self, size: int) -> bytes:
        async with ambient().timeout(self._seconds):
            data = await self._reader.read(size)
        if not data:
            raise EOFError("the connection was closed")
        return data

    async def _copy(self, size: int, file: BinaryIO) -> None:
        while size:
            data = await self._piece(min(size, _PIECE))
            await asyncio.to_thread(file.write, data)
            size -= len(data)

    async def _copy_until(self, mark: bytes, file: BinaryIO) -> None:
        held = b""
        while not held.endswith(mark):
            held += await self._piece(_PIECE)
            if len(held) > _PIECE:
                await asyncio.to_thread(file.write, held[: -len(mark)])
                held = held[-len(mark) :]
        await asyncio.to_thread(file.write, held[: -len(mark)])

    async def _reply(self) -> Any:
        line = await self._reader.readuntil(b"\r\n")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest.decode()
            case b"-":
                return ReplyError(rest.decode(errors="replace"))
            case b":":
                return int(rest)
            case b"$":
                size = int(rest)
                if size < 0:
                    return None
                data = (await self._reader.readexactly(size + 2))[:-2]
                try:
                    return data.decode()
                except UnicodeDecodeError:
                    return data
            case b"*":
                count = int(rest)
                return None if count < 0 else [await self._reply() for _ in range(count)]
        raise ProviderError(f"{self._where} does not speak Valkey's protocol (got {line[:40]!r})")


def _translated(error: ReplyError, where: str) -> Exception:
    code = error.message.partition(" ")[0]
    if code in ("WRONGPASS", "NOAUTH"):
        return Unauthenticated(f"{where} refused the credentials")
    if code == "NOPERM":
        return PermissionDenied(f"{where}: {error.message}")
    if code in ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"):
        return Unavailable(f"{where}: {error.message}", retry_after=0.1)
    return error


def pairs(flat: Sequence[str] | None) -> dict[str, str]:
    """A reply that lists key, value, key, value as a dict (CONFIG GET, ACL GETUSER, HGETALL)."""
    flat = flat or ()
    return dict(zip(flat[::2], flat[1::2], strict=True))


def info(text: str) -> dict[str, str]:
    """The reply of INFO as a dict."""
    lines = (line.partition(":") for line in text.splitlines() if line and not line.startswith("#"))
    return {key: value for key, _, value in lines}
