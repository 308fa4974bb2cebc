"""An application that uses a queue: it connects, publishes and takes messages by what its binding says."""

from __future__ import annotations

from typing import Any, Self

import nats
import nats.errors


class Client:
    """A client of nats-py. `closed` counts how often it lost its connection, `errors` what it was told."""

    def __init__(self, binding: Any, *, reconnects: bool = False) -> None:
        self.entries = binding.entries
        self.reconnects = reconnects
        self.errors: list[str] = []
        self.closed = 0

    async def __aenter__(self) -> Self:
        async def note(error: Exception) -> None:
            self.errors.append(str(error))

        async def lost() -> None:
            self.closed += 1

        self.connection = await nats.connect(
            self.entries["servers"].split(","),
            error_cb=note,
            disconnected_cb=lost,
            connect_timeout=10,
            allow_reconnect=self.reconnects,
        )
        self.stream = self.connection.jetstream()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()

    async def publish(self, text: str, *, timeout: float = 10, **options: Any) -> Any:
        return await self.stream.publish(self.entries["subject"], text.encode(), timeout=timeout, **options)

    async def pull(
        self, count: int = 1, timeout: float = 10, stream: str = "stream", consumer: str = "consumer"
    ) -> list[Any]:
        """So many messages, or fewer when no more come in time."""
        subscription = await self.stream.pull_subscribe_bind(
            consumer=self.entries[consumer], stream=self.entries[stream]
        )
        found = await subscription.fetch(count, timeout=timeout)
        while len(found) < count:
            try:
                found += await subscription.fetch(count - len(found), timeout=timeout)
            except nats.errors.TimeoutError:
                break
        return found

    async def fails(self, count: int) -> None:
        """Take one message so many times without acknowledging it."""
        for _ in range(count):
            (job,) = await self.pull()
            await job.nak()

    async def gets_nothing(self) -> bool:
        """Whether there is nothing more to take; asking is also what makes the server give a message up."""
        try:
            await self.pull(timeout=0.3)
        except nats.errors.TimeoutError:
            return True
        return False
