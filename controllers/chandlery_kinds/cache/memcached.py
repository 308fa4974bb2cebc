"""Memcached: its command line from a spec, and the little of its text protocol that a driver needs.

Pure but for `MemcachedClient`. Source: memcached's doc/protocol.txt and its own help, version 1.6.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Mapping, Sequence
from typing import Self

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import ProviderError, Timeout, Unauthenticated, Unavailable
from chandlery_kinds.cache.model import CacheSpec, EvictionPolicy
from chandlery_kinds.cache.settings import memcached_arguments
from chandlery_kinds.cache.streams import open_stream

USER = "chandlery"
PROBE_KEY = "chandlery-is-it-ready"
MIB = 1 << 20


def megabytes(spec: CacheSpec) -> int:
    """Its unit; a started one counts."""
    return max(1, -(-spec.memory.bytes // MIB))


def lasting_arguments(spec: CacheSpec) -> list[str]:
    """What only a restart changes."""
    eviction = ["--disable-evictions"] if spec.eviction_policy is EvictionPolicy.NOEVICTION else []
    return [*eviction, *memcached_arguments(spec.configuration)]


def arguments(spec: CacheSpec, port: int, auth_file: str, host: str = "127.0.0.1") -> list[str]:
    """The whole command line. Passwords are in the file; as root it drops no rights: whoever starts it has done so."""
    where = ["--listen", host, "--port", str(port), "--udp-port", "0", "--auth-file", auth_file, "--user", "root"]
    return [*where, "--memory-limit", str(megabytes(spec)), *lasting_arguments(spec)]


def auth_file(user: str, passwords: Sequence[str]) -> str:
    """One line for each password that is good now."""
    return "".join(f"{user}:{password}\n" for password in passwords)


class MemcachedClient:
    """One connection. Not shared between tasks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str, seconds: float) -> None:
        self._reader = reader
        self._writer = writer
        self._where = where
        self._seconds = seconds

    @classmethod
    async def connect(
        cls, host: str, port: int, *, user: str, password: str, seconds: float = 5.0, tls: ssl.SSLContext | None = None
    ) -> Self:
        """Connect and authenticate: the first command of a connection is a `set` whose value is user and password.

        Raises:
            Unavailable: nobody listens.
            Unauthenticated: user or password is wrong.
            Timeout: no answer within `seconds`.
        """
        where = f"{host}:{port}"
        reader, writer = await open_stream(host, port, seconds, tls)
        client = cls(reader, writer, where, seconds)
        try:
            if await client.store("auth", f"{user} {password}") != "STORED":
                raise Unauthenticated(f"{where} refused the credentials")
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

    async def store(self, key: str, value: str, seconds: int = 10) -> str:
        """`set`; the answer is STORED, or why not."""
        data = value.encode()
        return await self._ask(b"set %s 0 %d %d\r\n%s\r\n" % (key.encode(), seconds, len(data), data))

    async def works(self) -> bool:
        """A value written and read again. A full cache that evicts nothing serves too: it says that it is full."""
        stored = await self.store(PROBE_KEY, "1")
        if stored.startswith("SERVER_ERROR out of memory"):
            return True
        if stored != "STORED":
            return False
        line = await self._ask(b"get %s\r\n" % PROBE_KEY.encode())
        if not line.startswith("VALUE"):
            return False
        return [await self._line(), await self._line()] == ["1", "END"]

    async def limit_memory(self, megabytes: int) -> None:
        """Change the limit while it runs.

        Raises:
            ProviderError: it refused.
        """
        answer = await self._ask(b"cache_memlimit %d\r\n" % megabytes)
        if answer != "OK":
            raise ProviderError(f"{self._where} refused the memory limit: {answer}")

    @property
    def shown(self) -> str:
        """SHA-256 of the certificate that the server shows; empty without TLS."""
        tls = self._writer.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        return hashlib.sha256(der).hexdigest() if der else ""

    async def refresh_certificates(self) -> None:
        """Have the certificate's files read again; open connections stay.

        Raises:
            ProviderError: it refused.
        """
        answer = await self._ask(b"refresh_certs\r\n")
        if answer != "OK":
            raise ProviderError(f"{self._where} didn't take its certificate: {answer}")

    async def statistics(self, of: str = "") -> Mapping[str, str]:
        """The reply of `stats`, or of `stats settings`."""
        found: dict[str, str] = {}
        line = await self._ask(f"stats {of}".rstrip().encode() + b"\r\n")
        while line != "END":
            _, name, *value = line.split(" ", 2)
            found[name] = value[0] if value else ""
            line = await self._line()
        return found

    async def _ask(self, command: bytes) -> str:
        try:
            self._writer.write(command)
            await self._writer.drain()
        except OSError as error:
            raise Unavailable(f"{self._where} closed the connection", retry_after=0.05) from error
        return await self._line()

    async def _line(self) -> str:
        try:
            async with ambient().timeout(self._seconds):
                line = await self._reader.readuntil(b"\r\n")
        except TimeoutError as error:
            raise Timeout(f"{self._where} did not answer within {self._seconds:g} s") from error
        except (OSError, EOFError) as error:
            raise Unavailable(f"{self._where} closed the connection", retry_after=0.05) from error
        return line[:-2].decode(errors="replace")
