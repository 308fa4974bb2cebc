"""A semaphore that serves keys in turn, so that one busy key can't starve the others."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class FairSemaphore:
    """At most `limit` holders; those who wait are served round-robin over their keys, in order within a key.

    Args:
        limit: holders at once, at least 1; may be changed later with `resize`.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit: must be at least 1 (got {limit})")
        self._limit = limit
        self._held = 0
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def held(self) -> int:
        return self._held

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._waiting.values())

    def resize(self, limit: int) -> None:
        """Change the number of places; those beyond a smaller limit are not thrown out, only not replaced."""
        if limit < 1:
            raise ValueError(f"limit: must be at least 1 (got {limit})")
        self._limit = limit
        self._grant()

    async def acquire(self, key: Hashable = None) -> None:
        if self._held < self._limit and not self._waiting:
            self._held += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release()  # granted at the same moment: hand it on
            else:
                self._withdraw(key, place)
            raise

    def release(self) -> None:
        if self._held < 1:
            raise RuntimeError("release without acquire")
        self._held -= 1
        self._grant()

    @asynccontextmanager
    async def hold(self, key: Hashable = None) -> AsyncIterator[None]:
        await self.acquire(key)
        try:
            yield
        finally:
            self.release()

    def _grant(self) -> None:
        while self._waiting and self._held < self._limit:
            key, queue = next(iter(self._waiting.items()))
            place = queue.popleft()
            if queue:
                self._waiting.move_to_end(key)  # its next one waits until every other key had a turn
            else:
                del self._waiting[key]
            if not place.done():
                self._held += 1
                place.set_result(None)

    def _withdraw(self, key: Hashable, place: asyncio.Future[None]) -> None:
        queue = self._waiting.get(key)
        if queue is None or place not in queue:
            return
        queue.remove(place)
        if not queue:
            del self._waiting[key]
