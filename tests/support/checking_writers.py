"""Clients that write all the time and remember what was acknowledged, so that a loss can be proved.

Each writes numbers, one after the other, reconnecting for as long as it takes; `lost()` reads all of them back.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import asyncpg
import nats
import nats.errors
import nats.js.errors
import redis.asyncio as redis

PAUSE = 0.03
SECONDS = 2.0
"""How long a writer waits for one answer."""
FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
FAILURES += (redis.RedisError, nats.errors.Error, nats.js.errors.Error, aiohttp.ClientError)
Binding = Callable[[], Awaitable[Mapping[str, str]]]


class Writer(ABC):
    """One client of one object. `binding` reads the object's binding Secret."""

    def __init__(self, name: str, binding: Binding) -> None:
        self.name = name
        self.binding = binding
        self.acknowledged: list[int] = []
        self.number = 0
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def connect(self, entries: Mapping[str, str]) -> Any: ...

    @abstractmethod
    async def write(self, connection: Any, number: int) -> None:
        """Returns when the number is acknowledged."""

    @abstractmethod
    async def read(self, connection: Any) -> set[int]: ...

    @abstractmethod
    async def close(self, connection: Any) -> None: ...

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        while self._task is not None and not self._task.done():
            self._task.cancel()  # a client library may swallow it: say it until it is heard
            await asyncio.wait({self._task}, timeout=0.5)

    async def _run(self) -> None:
        while True:
            try:
                connection = await self._connected()
                try:
                    while True:
                        self.number += 1
                        async with asyncio.timeout(SECONDS):
                            await self.write(connection, self.number)
                        self.acknowledged.append(self.number)
                        await asyncio.sleep(PAUSE)
                finally:
                    await self._closed(connection)
            except (*FAILURES, KeyError):
                await asyncio.sleep(PAUSE)

    async def _connected(self) -> Any:
        entries = await self.binding()
        async with asyncio.timeout(SECONDS * 2):
            return await self.connect(entries)

    async def _closed(self, connection: Any) -> None:
        with contextlib.suppress(*FAILURES, Exception):
            async with asyncio.timeout(SECONDS):
                await self.close(connection)

    async def lost(self, seconds: float = 60.0) -> list[int]:
        """What was acknowledged before now and isn't there."""
        wanted = list(self.acknowledged)
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                connection = await self._connected()
                try:
                    async with asyncio.timeout(30.0):
                        there = await self.read(connection)
                finally:
                    await self._closed(connection)
            except (*FAILURES, KeyError):
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.1)
            else:
                return [number for number in wanted if number not in there]

    async def more(self, count: int = 3, seconds: float = 60.0) -> None:
        """Wait until so many more are acknowledged: it serves again."""
        target = len(self.acknowledged) + count
        deadline = asyncio.get_running_loop().time() + seconds
        while len(self.acknowledged) < target:
            assert asyncio.get_running_loop().time() < deadline, f"{self.name} takes no writes"
            await asyncio.sleep(0.02)


class CacheWriter(Writer):
    copies = 0
    """Copies that must have a write before it counts as acknowledged (WAIT)."""

    async def connect(self, entries: Mapping[str, str]) -> Any:
        return redis.from_url(entries["uri"], single_connection_client=True, socket_timeout=SECONDS, retry=None)

    async def write(self, connection: Any, number: int) -> None:
        await connection.sadd("acknowledged", number)
        if self.copies and await connection.wait(self.copies, int(SECONDS * 500)) < self.copies:
            raise TimeoutError("no copy has it")

    async def read(self, connection: Any) -> set[int]:
        return {int(member) for member in await connection.smembers("acknowledged")}

    async def close(self, connection: Any) -> None:
        await connection.aclose()


class CopiedCacheWriter(CacheWriter):
    copies = 1


class DatabaseWriter(Writer):
    async def connect(self, entries: Mapping[str, str]) -> Any:
        connection = await asyncpg.connect(entries["uri"], timeout=SECONDS, command_timeout=20)
        try:
            await connection.execute("CREATE TABLE IF NOT EXISTS acknowledged (n int)", timeout=SECONDS)
        except asyncpg.UniqueViolationError:
            pass  # both of two connections made it
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def write(self, connection: Any, number: int) -> None:
        await connection.execute("INSERT INTO acknowledged VALUES ($1)", number)

    async def read(self, connection: Any) -> set[int]:
        return {row["n"] for row in await connection.fetch("SELECT n FROM acknowledged")}

    async def close(self, connection: Any) -> None:
        connection.terminate()


class QueueWriter(Writer):
    """Reads as a worker does: what it has seen once is acknowledged and gone from the queue."""

    def __init__(self, name: str, binding: Binding) -> None:
        super().__init__(name, binding)
        self.seen: set[int] = set()

    async def connect(self, entries: Mapping[str, str]) -> Any:
        async def quiet(_: Exception) -> None:
            return None

        connection = await nats.connect(
            entries["servers"].split(","), allow_reconnect=False, connect_timeout=2, error_cb=quiet
        )
        return connection, entries

    async def write(self, connection: Any, number: int) -> None:
        client, entries = connection
        await client.jetstream().publish(entries["subject"], str(number).encode(), timeout=SECONDS)

    async def read(self, connection: Any) -> set[int]:
        client, entries = connection
        stream = client.jetstream()
        subscription = await stream.pull_subscribe_bind(consumer=entries["consumer"], stream=entries["stream"])
        wanted = set(self.acknowledged)
        deadline = asyncio.get_running_loop().time() + 20.0
        while not wanted <= self.seen and asyncio.get_running_loop().time() < deadline:
            try:
                batch = await subscription.fetch(200, timeout=1.0)
            except nats.errors.TimeoutError:
                continue  # one that was handed out before a crash comes again when its time to be acknowledged is over
            for message in batch:
                self.seen.add(int(message.data))
                await message.ack()
        await client.flush()
        return self.seen

    async def close(self, connection: Any) -> None:
        await connection[0].close()


class MachineWriter(Writer):
    """Has a guest write sectors of its disk, which it acknowledges when the disk has said that they are safe."""

    USER_DATA = r"""#!/bin/sh
mkdir -p /www/cgi-bin
for device in /sys/block/vd*; do
    [ "$(cat "$device/ro")" = 0 ] && ln -sf "/dev/${device##*/}" /dev/safe
done
cat >/www/cgi-bin/write <<'END'
#!/bin/sh
printf '%-511s\n' "$QUERY_STRING" | dd of=/dev/safe bs=512 seek="$QUERY_STRING" count=1 conv=notrunc,fsync || exit 1
printf 'Content-Type: text/plain\r\n\r\nsafe %s\n' "$QUERY_STRING"
END
cat >/www/cgi-bin/read <<'END'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
dd if=/dev/safe bs=512 count="$QUERY_STRING" | tr -d ' \000'
END
chmod +x /www/cgi-bin/*
"""

    async def connect(self, entries: Mapping[str, str]) -> Any:
        timeout = aiohttp.ClientTimeout(total=20.0)
        return aiohttp.ClientSession(entries["uri"], timeout=timeout, connector=aiohttp.TCPConnector(force_close=True))

    async def write(self, connection: Any, number: int) -> None:
        async with connection.get(f"/cgi-bin/write?{number}") as answer:
            if (await answer.text()).strip() != f"safe {number}":
                raise OSError(f"the guest answers {answer.status}")

    async def read(self, connection: Any) -> set[int]:
        async with connection.get(f"/cgi-bin/read?{max(self.acknowledged, default=0) + 1}") as answer:
            answer.raise_for_status()
            return {int(line) for line in (await answer.text()).split()}

    async def close(self, connection: Any) -> None:
        await connection.close()
