"""Queues in tests: several that know one another, a clock that goes ahead, and an application that uses one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Self

import nats
import nats.errors
from local_harness import Harness

from chandlery.driver.protocol import DriverContext
from chandlery.foundation.clock import SystemClock
from chandlery.foundation.context import Context
from chandlery.providers.local.rotation import ROTATE_ANNOTATION


class Shifted(SystemClock):
    """The machine's clock, set forward by a test: what is due in an hour is due now."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class Namespace(Harness):
    """Several objects by name, which the drivers find as the loop would give them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.clock = Shifted()

    @property
    def ctx(self) -> DriverContext:
        return replace(super().ctx, base=Context(clock=self.clock))

    def queue(self, name: str, **spec: Any) -> Any:
        made = self.object(**spec)
        return self.know(made.model_copy(update={"metadata": made.metadata.model_copy(update={"name": name})}))

    def know(self, obj: Any) -> Any:
        raw = obj.model_dump(by_alias=True, exclude_none=True, mode="json")
        self.reader.objects[obj.kind, "default", obj.metadata.name] = raw
        return obj

    def rotated(self, obj: Any, value: str) -> Any:
        """The object with the annotation that asks for new passwords."""
        meta = obj.metadata.model_copy(update={"annotations": {ROTATE_ANNOTATION: value}})
        return self.know(obj.model_copy(update={"metadata": meta}))

    def forget(self, obj: Any) -> None:
        del self.reader.objects[obj.kind, "default", obj.metadata.name]

    async def together(self, *objects: Any) -> list[Any]:
        """As the loop does, which works on all of them at once."""
        return await asyncio.gather(*(self.converge(obj) for obj in objects))


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
