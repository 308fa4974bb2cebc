"""Talks to QEMU by QMP (QEMU documentation: QMP Reference Manual), and to the guest's agent, over unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import EngineFailed, Timeout, Unavailable
from chandlery.providers.local.asking import reachable

_FORWARD = re.compile(r"^\s*(TCP|UDP)\[(\w+)\]\s+\S+\s+(\S+)\s+(\d+)\s+(\S+)\s+(\d+)", re.MULTILINE)
_MANY = 1 << 22


class Refused(EngineFailed):
    """QEMU said no to a command."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One line of `info usernet`: a forward, or a connection through one."""

    protocol: str
    state: str
    host: str
    port: int
    guest_port: int


def parse_usernet(text: str) -> list[Connection]:
    """The user network's table of forwards and connections."""
    return [Connection(found[1], found[2], found[3], int(found[4]), int(found[6])) for found in _FORWARD.finditer(text)]


class Qmp:
    """One conversation with QEMU. Use as an async context manager."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
        self._reader = reader
        self._writer = writer
        self._seconds = seconds
        self.version = ""

    @classmethod
    async def connect(cls, path: Path, seconds: float = 2.0) -> Qmp:
        """Connect and agree on capabilities.

        Raises:
            Unavailable: nobody answers at the socket.
        """
        reader, writer = await _open(path, seconds)
        client = cls(reader, writer, seconds)
        try:
            async with ambient().timeout(seconds):
                greeting = await client._read()
                while "QMP" not in greeting:  # what was meant for the one before us
                    greeting = await client._read()
            parts = greeting["QMP"]["version"]["qemu"]
            client.version = f"{parts['major']}.{parts['minor']}.{parts['micro']}"
            await client.execute("qmp_capabilities")
        except TimeoutError as error:
            await client.close()
            raise Unavailable(f"QEMU doesn't greet at {path}", retry_after=0.1) from error
        except OSError as error:
            await client.close()
            raise Unavailable(f"the connection to QEMU broke: {error}", retry_after=0.1) from error
        except BaseException:
            await client.close()
            raise
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def execute(self, command: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        """Run a command; underscores in arguments' names become hyphens.

        Raises:
            Refused: QEMU said no.
            Unavailable: the connection broke.
        """
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            self._writer.write(json.dumps(request).encode() + b"\n")
            await self._writer.drain()
            async with ambient().timeout(seconds or self._seconds):
                while True:
                    answer = await self._read()
                    if "return" in answer:
                        return answer["return"]
                    if "error" in answer:
                        raise Refused(f"QEMU refused {command}: {answer['error'].get('desc', 'no reason given')}")
        except TimeoutError as error:
            raise Timeout(f"QEMU did not answer {command} in {seconds or self._seconds:.0f} s") from error
        except OSError as error:
            raise Unavailable(f"the connection to QEMU broke: {error}", retry_after=0.1) from error

    async def monitor(self, line: str) -> str:
        """A command of the human monitor, for what QMP has no command for."""
        return str(await self.execute("human-monitor-command", command_line=line))

    async def events(self) -> AsyncIterator[str]:
        """The names of events as they come, until the connection ends."""
        while True:
            try:
                message = await self._read()
            except (OSError, Unavailable):
                return
            if "event" in message:
                yield str(message["event"])

    async def _read(self) -> dict[str, Any]:
        line = await self._reader.readline()
        if not line:
            raise Unavailable("QEMU closed the connection", retry_after=0.1)
        message: dict[str, Any] = json.loads(line)
        return message


async def ask_agent(path: Path, command: str, seconds: float = 0.5) -> Any:
    """One question to qemu-guest-agent.

    Raises:
        Unavailable: it doesn't answer; most guests have none.
    """
    reader, writer = await _open(path, seconds)
    try:
        async with ambient().timeout(seconds):
            # What an earlier question left in the channel ends at the 0xff that the agent puts before this answer.
            number = os.getpid() & 0xFFFF
            sync = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
            writer.write(b"\xff" + json.dumps(sync).encode() + b"\n")
            await reader.readuntil(b"\xff")
            while json.loads(await reader.readline()).get("return") != number:
                pass
            writer.write(json.dumps({"execute": command}).encode() + b"\n")
            answer = json.loads(await reader.readline())
    except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError) as error:
        raise Unavailable("the guest's agent doesn't answer") from error
    finally:
        writer.close()
    if "error" in answer:
        raise Unavailable(f"the guest's agent refused {command}: {answer['error'].get('desc', '')}")
    return answer["return"]


async def _open(path: Path, seconds: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        with reachable(path) as name:
            async with ambient().timeout(seconds):
                return await asyncio.open_unix_connection(name, limit=_MANY)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"nobody answers at {path}: {error}", retry_after=0.1) from error
