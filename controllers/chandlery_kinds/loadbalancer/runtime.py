"""HAProxy's runtime API over its socket. Source: the HAProxy 2.8 management guide, "Unix Socket commands"."""

from __future__ import annotations

import asyncio
import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import Timeout, Unavailable

SECONDS = 5.0


class Runtime:
    """Commands to one HAProxy. Each command is a connection of its own, as the socket wants it without a prompt."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def command(self, text: str) -> str:
        """One command's answer.

        Raises:
            Unavailable: nobody answers on the socket.
        """
        # A socket's path may have 107 characters only; by way of the folder's descriptor it is always short enough.
        try:
            folder = os.open(self._socket.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise Unavailable(f"{self._socket.parent} can't be opened: {error.strerror}", retry_after=0.05) from error
        try:
            async with ambient().timeout(SECONDS):
                reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{self._socket.name}")
                try:
                    writer.write(text.encode() + b"\n")
                    await writer.drain()
                    answer = await reader.read()
                finally:
                    writer.close()
        except TimeoutError as error:
            raise Timeout(f"HAProxy did not answer `{text.split(maxsplit=1)[0]}` within {SECONDS:g} s") from error
        except OSError as error:
            raise Unavailable(f"HAProxy does not answer: {error.strerror or error}", retry_after=0.05) from error
        finally:
            os.close(folder)
        return answer.decode(errors="replace").strip()

    async def environment(self, name: str) -> str:
        """A variable of the process: which configuration is at work."""
        answer = await self.command(f"show env {name}")
        return answer.partition("=")[2]

    async def statistics(self) -> Sequence[Mapping[str, str]]:
        """One row for each frontend, backend and server."""
        text = await self.command("show stat")
        lines = text.removeprefix("# ").splitlines()
        return list(csv.DictReader(lines))

    async def version(self) -> str:
        text = await self.command("show info")
        found = next((line for line in text.splitlines() if line.startswith("Version:")), "")
        return found.partition(":")[2].strip().partition("-")[0]
