"""A bulkhead: one slow thing may fill its own places, never everybody's."""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from chandlery.foundation.concurrency import FairSemaphore
from chandlery.foundation.context import Context
from chandlery.foundation.errors import Overloaded


class Bulkhead:
    """At most `limit` calls at once and `queue` waiting, fair between keys; one more is refused with Overloaded.

    Args:
        name: of what is called, for the message.
        limit: calls at once.
        queue: calls that may wait.
    """

    def __init__(self, name: str, limit: int, *, queue: int = 100) -> None:
        if queue < 0:
            raise ValueError(f"queue: must not be negative (got {queue})")
        self._name, self._limit, self._queue = name, limit, queue
        self._places = FairSemaphore(limit)

    @property
    def active(self) -> int:
        return self._places.held

    @property
    def waiting(self) -> int:
        return self._places.waiting

    @property
    def full(self) -> bool:
        """One more would be refused."""
        return self._places.held >= self._limit and self._places.waiting >= self._queue

    @asynccontextmanager
    async def enter(self, ctx: Context, key: Hashable = None) -> AsyncIterator[None]:
        """A place, waited for up to the context's deadline (then Timeout)."""
        if self.full:
            raise Overloaded(
                f"{self._name}: {self._limit} calls are under way and {self._queue} wait; that is the limit"
            )
        if self._places.held < self._limit:
            await self._places.acquire(key)
        else:
            async with ctx.limit(f"a place at {self._name}"):
                await self._places.acquire(key)
        try:
            yield
        finally:
            self._places.release()
