"""A bounded pool of workers that is fair between keys and never runs more than a key's share at once."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from chandlery.foundation.errors import Cancelled, Overloaded

T = TypeVar("T")
Work = Callable[[], Awaitable[Any]]


class WorkerPool:
    """Runs coroutine functions, at most `size` at once; use it as an async context manager, or call `close`.

    Args:
        size: how many run at once.
        capacity: how many may wait; one more is refused with Overloaded.
        per_key: how many of one key may run at once; 1 keeps a key's work in order.
        name: for messages and task names.
    """

    def __init__(self, size: int, *, capacity: int = 10_000, per_key: int = 1, name: str = "pool") -> None:
        if size < 1 or capacity < 0 or per_key < 1:
            raise ValueError(f"size and per_key: at least 1, capacity: at least 0 (got {size}, {per_key}, {capacity})")
        self._size, self._capacity, self._per_key, self._name = size, capacity, per_key, name
        self._waiting: OrderedDict[Hashable, deque[tuple[Work, asyncio.Future[Any]]]] = OrderedDict()
        self._running: dict[Hashable, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._queued = 0
        self._closed = False

    @property
    def running(self) -> int:
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        return self._queued

    def submit(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> "asyncio.Future[T]":
        """Queue work for a key; the future ends as the work does. Cancelling it takes waiting work out of the queue.

        Raises:
            Overloaded: too much waits already.
            Cancelled: the pool is closed.
        """
        if self._closed:
            raise Cancelled(f"the {self._name} is closed")
        if self._queued >= self._capacity and (self.running >= self._size or self._busy(key)):
            raise Overloaded(f"the {self._name} is full: {self._queued} wait")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append((work, future))
        self._queued += 1
        future.add_done_callback(partial(self._withdrawn, key))
        self._dispatch()
        return future

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Queue work and wait for its result; when the caller is cancelled, the work is too."""
        return await self.submit(key, work)

    async def idle(self) -> None:
        """Wait until nothing runs and nothing waits."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self, *, drain: bool = False) -> None:
        """Take no more work; finish what there is (`drain`), or drop what waits and cancel what runs."""
        self._closed = True
        if drain:
            await self.idle()
            return
        for queue in self._waiting.values():
            for _, future in queue:
                future.cancel()
        self._waiting.clear()
        self._queued = 0
        for task in self._tasks:
            task.cancel()
        await self.idle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(drain=kind is None)

    def _busy(self, key: Hashable) -> bool:
        return self._running.get(key, 0) >= self._per_key

    def _dispatch(self) -> None:
        while len(self._tasks) < self._size:
            key = next((key for key in self._waiting if not self._busy(key)), None)
            if key is None:
                return
            queue = self._waiting[key]
            work, future = queue.popleft()
            self._queued -= 1
            if queue:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
            if future.done():  # cancelled while it waited
                continue
            self._running[key] = self._running.get(key, 0) + 1
            task = asyncio.create_task(self._work(work, future), name=f"{self._name}:{key}")
            self._tasks.add(task)
            future.add_done_callback(partial(self._given_up, task))
            task.add_done_callback(partial(self._finished, key))

    async def _work(self, work: Work, future: asyncio.Future[Any]) -> None:
        try:
            result = await work()
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whoever holds the future gets it
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)

    def _withdrawn(self, key: Hashable, future: "asyncio.Future[Any]") -> None:
        queue = self._waiting.get(key) if future.cancelled() else None
        for position, (_, waiting) in enumerate(queue or ()):
            if waiting is future and queue is not None:
                del queue[position]
                self._queued -= 1
                if not queue:
                    del self._waiting[key]
                return

    @staticmethod
    def _given_up(task: "asyncio.Task[None]", future: "asyncio.Future[Any]") -> None:
        if future.cancelled():
            task.cancel()

    def _finished(self, key: Hashable, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        left = self._running[key] - 1
        if left:
            self._running[key] = left
        else:
            del self._running[key]
        self._dispatch()
