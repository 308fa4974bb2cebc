"""A typed bus inside the process: whoever knows something says so, whoever cares listens, neither knows the other.

An event is any frozen dataclass. Subscribers are isolated: an error in one is logged and counted, and neither the
publisher nor the others notice. Plain functions run at once, in the order of subscription; coroutine functions run in
a task of their own, one event after the other, behind a bounded queue, so a slow one delays nobody.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from chandlery.foundation.context import Context, Logger
from chandlery.foundation.errors import Cancelled

__all__ = ["Bus", "Subscription"]

E = TypeVar("E")
QUEUE: Final = 1000


class Subscription:
    """What `subscribe` returns: the place to end it and to read its counters.

    Attributes:
        name: of the subscriber, for logs.
        failed: how many events ended in an error.
        dropped: how many were given up because the subscriber was too slow.
    """

    __slots__ = (
        "_bus",
        "_idle",
        "_kind",
        "_limit",
        "_queue",
        "_task",
        "_waits",
        "_wake",
        "dropped",
        "failed",
        "handler",
        "name",
    )

    def __init__(self, bus: "Bus", handler: Callable[[Any], Any], name: str, limit: int) -> None:
        self._bus, self.handler, self.name, self._limit = bus, handler, name, limit
        self._waits = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
        self.failed = self.dropped = 0
        self._queue: deque[Any] = deque()
        self._task: asyncio.Task[None] | None = None
        self._wake, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()

    def cancel(self) -> None:
        """Hear no more; what waits is dropped."""
        self._bus._remove(self)  # noqa: SLF001 - the two are one thing
        if self._task is not None:
            self._task.cancel()
        self._queue.clear()
        self._idle.set()

    def deliver(self, event: Any) -> None:
        if not self._waits:
            try:
                self.handler(event)
            except Exception as error:  # noqa: BLE001 - isolation is the purpose
                self._complain(event, error)
            return
        if len(self._queue) >= self._limit:
            self._queue.popleft()  # the newest matters most to a level-triggered world
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # at 1, 2, 4, 8 ...: said, but not a flood
                self._bus.logger.warning("a slow subscriber lost events", subscriber=self.name, dropped=self.dropped)
        self._queue.append(event)
        self._idle.clear()
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"events:{self.name}")

    async def drained(self) -> None:
        await self._idle.wait()

    async def stopped(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            while self._queue:
                event = self._queue.popleft()
                try:
                    await self.handler(event)
                except Exception as error:  # noqa: BLE001 - isolation is the purpose
                    self._complain(event, error)
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()

    def _complain(self, event: Any, error: Exception) -> None:
        self.failed += 1
        self._bus.logger.error(
            "a subscriber failed", subscriber=self.name, event_type=type(event).__name__, error=repr(error)
        )


class Bus:
    """Publish and subscribe by type; a subscriber to a class hears its subclasses too.

    Args:
        logger: hears of subscribers that fail or are too slow.
    """

    def __init__(self, *, logger: Logger | None = None) -> None:
        self.logger: Logger = logger or Context().logger
        self._subscriptions: dict[type, list[Subscription]] = {}
        self._closed = False

    def subscribe(
        self,
        kind: type[E],
        handler: Callable[[E], None] | Callable[[E], Awaitable[None]],
        *,
        name: str = "",
        queue: int = QUEUE,
    ) -> Subscription:
        """Hear every event of a type from now on.

        Args:
            kind: the event's class.
            handler: a function, or a coroutine function.
            name: for logs; the handler's own by default.
            queue: how many events may wait for a coroutine function; the oldest is dropped beyond that.
        """
        name = name or getattr(handler, "__qualname__", repr(handler))
        subscription = Subscription(self, handler, name, queue)
        # A new list each time: a subscriber may come or go while an event is being delivered.
        self._subscriptions[kind] = [*self._subscriptions.get(kind, ()), subscription]
        return subscription

    def publish(self, event: object) -> None:
        """Tell everybody who listens; never waits, never raises because of a subscriber.

        Raises:
            Cancelled: the bus is closed.
        """
        if self._closed:
            raise Cancelled("the event bus is closed")
        for kind in type(event).__mro__:
            for subscription in self._subscriptions.get(kind, ()):
                subscription.deliver(event)

    async def drain(self) -> None:
        """Wait until every subscriber has dealt with what was published so far."""
        for subscription in self._all():
            await subscription.drained()

    async def close(self) -> None:
        """Let subscribers finish what waits, then end their tasks."""
        self._closed = True
        await self.drain()
        everybody = self._all()
        for subscription in everybody:
            subscription.cancel()
        for subscription in everybody:
            await subscription.stopped()

    def _all(self) -> list[Subscription]:
        return [each for many in self._subscriptions.values() for each in many]

    def _remove(self, subscription: Subscription) -> None:
        for kind, many in self._subscriptions.items():
            if subscription in many:
                self._subscriptions[kind] = [each for each in many if each is not subscription]
