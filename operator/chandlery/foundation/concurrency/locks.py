"""Locks that several processes share: one protocol, and its memory adapter.

A lock that can be lost needs two things. It ends by itself after `ttl` seconds without a renewal, so that a dead
holder blocks nobody. And every hold has a fencing token, larger than any before it: a holder that was paused past its
end, and doesn't know it, is refused by whoever remembers a newer token (`Fence`).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import ChandleryError, Conflict, Fenced


@dataclass(frozen=True, slots=True)
class Hold:
    """A lock that is held.

    Attributes:
        name: the lock's name.
        holder: who holds it: unique per process, such as a pod's name and a random part.
        token: grows with every new hold of this name.
        ttl: seconds from the last renewal until the hold ends by itself.
    """

    name: str
    holder: str
    token: int
    ttl: float


class Lock(Protocol):
    """Something that hands out holds: in memory, in a Kubernetes Lease, in etcd."""

    async def try_acquire(self, ctx: Context, name: str, holder: str, ttl: float) -> Hold | None:
        """Take the lock if it is free or its hold has ended; None when somebody else has it.

        Asking again while holding it renews the hold and keeps the token.
        """
        ...

    async def acquire(self, ctx: Context, name: str, holder: str, ttl: float) -> Hold:
        """Wait for the lock, up to the context's deadline (then Timeout)."""
        ...

    async def renew(self, ctx: Context, hold: Hold) -> None:
        """Start the time to live again; Fenced when the lock is no longer ours."""
        ...

    async def release(self, ctx: Context, hold: Hold) -> None:
        """Give it back; no error when it was lost already."""
        ...


@dataclass(slots=True)
class _Entry:
    hold: Hold | None
    ends: float
    last_token: int


class MemoryLocks:
    """The memory adapter: for one process, and for tests that play several."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._queues: dict[str, deque[asyncio.Event]] = {}

    async def try_acquire(self, ctx: Context, name: str, holder: str, ttl: float) -> Hold | None:
        ctx.check(f"the lock {name}")
        return self._take(name, holder, ttl)

    async def acquire(self, ctx: Context, name: str, holder: str, ttl: float) -> Hold:
        async with ctx.limit(f"the lock {name}"):
            turn = asyncio.Event()
            queue = self._queues.setdefault(name, deque())
            queue.append(turn)
            try:
                while True:
                    hold = self._take(name, holder, ttl) if queue[0] is turn else None
                    if hold is not None:
                        return hold
                    await self._wait(name, turn, first=queue[0] is turn)
            finally:
                queue.remove(turn)
                self._wake(name)  # the next one is first now: it takes the lock, or waits for its end

    async def renew(self, ctx: Context, hold: Hold) -> None:
        ctx.check(f"the lock {hold.name}")
        entry = self._entries.get(hold.name)
        if entry is None or entry.hold != hold:
            raise Fenced(f"the lock {hold.name} is no longer held by {hold.holder}")
        entry.ends = self._clock.monotonic() + hold.ttl

    async def release(self, ctx: Context, hold: Hold) -> None:
        entry = self._entries.get(hold.name)
        if entry is not None and entry.hold == hold:
            entry.hold = None
            self._wake(hold.name)

    def holder(self, name: str) -> str | None:
        """Who holds it now."""
        entry = self._entries.get(name)
        if entry is None or entry.hold is None or self._clock.monotonic() >= entry.ends:
            return None
        return entry.hold.holder

    def _take(self, name: str, holder: str, ttl: float) -> Hold | None:
        if ttl <= 0:
            raise ValueError(f"ttl: must be positive (got {ttl})")
        now = self._clock.monotonic()
        entry = self._entries.setdefault(name, _Entry(None, 0.0, 0))
        if entry.hold is not None and now < entry.ends:
            if entry.hold.holder != holder:
                return None
            entry.hold = Hold(name, holder, entry.hold.token, ttl)
        else:
            entry.last_token += 1
            entry.hold = Hold(name, holder, entry.last_token, ttl)
        entry.ends = now + ttl
        return entry.hold

    async def _wait(self, name: str, turn: asyncio.Event, *, first: bool) -> None:
        """Until the lock may be ours: only who is first in the line watches for the end of the present hold."""
        turn.clear()
        left = max(0.0, self._entries[name].ends - self._clock.monotonic()) if first else 0.0
        timer = self._clock.call_later(left, turn.set) if first else None
        try:
            await turn.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _wake(self, name: str) -> None:
        queue = self._queues.get(name)
        if queue:
            queue[0].set()
        else:
            self._queues.pop(name, None)


@asynccontextmanager
async def held(ctx: Context, locks: Lock, name: str, holder: str, *, ttl: float = 15.0) -> AsyncIterator[Context]:
    """Hold a lock around a block, renewing it; yields a context that carries the fencing token.

    When the lock is lost (taken over, or not renewed within its time to live) the block is cancelled at once and
    Fenced is raised, because work without the lock would be work of two.

    Args:
        ctx: its deadline counts for waiting and for the block.
        locks: where the lock is kept.
        name: of the lock.
        holder: who we are.
        ttl: seconds; renewed three times within it.
    """
    clock = ctx.clock
    asked = clock.monotonic()
    hold = await locks.acquire(ctx, name, holder, ttl)
    # Counted from before the request: where the answer was slow, the store's clock started earlier than ours.
    keeper = _Keeper(ctx, locks, hold, max(asked, clock.monotonic() - ttl))
    try:
        async with keeper:
            yield ctx.child(fencing_token=hold.token)
    finally:
        # On its own deadline: the block's may have passed, and a lock not given back blocks others for its ttl.
        try:
            await locks.release(Context(clock=clock).child(timeout=ttl), hold)
        except ChandleryError as error:
            ctx.logger.warning("could not give a lock back; it ends by itself", lock=name, error=error)


class _Keeper:
    """Renews a hold in the background, and cancels the task that relies on it when that fails."""

    def __init__(self, ctx: Context, locks: Lock, hold: Hold, since: float) -> None:
        self._ctx = Context(clock=ctx.clock, logger=ctx.logger, trace_id=ctx.trace_id, clients=ctx.clients)
        self._locks, self._hold, self._since = locks, hold, since
        self._owner: asyncio.Task[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancelling = 0
        self._lost: ChandleryError | None = None

    async def __aenter__(self) -> None:
        owner = asyncio.current_task()
        assert owner is not None
        self._owner, self._cancelling = owner, owner.cancelling()
        self._task = asyncio.create_task(self._keep(), name=f"lock:{self._hold.name}")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        owner, task = self._owner, self._task
        assert owner is not None
        assert task is not None
        self._owner = None
        task.cancel()
        await asyncio.wait({task})
        if self._lost is None:
            return
        outside = owner.uncancel() > self._cancelling
        if not outside and (kind is None or issubclass(kind, asyncio.CancelledError)):
            raise self._lost from error

    async def _keep(self) -> None:
        clock, ttl = self._ctx.clock, self._hold.ttl
        renewed = self._since
        while True:
            await clock.sleep(max(0.0, renewed + ttl / 3 - clock.monotonic()))
            left = renewed + ttl - clock.monotonic()
            if left <= 0:
                self._lose(Fenced(f"the lock {self._hold.name} could not be renewed for {ttl:g} s"))
                return
            asked = clock.monotonic()
            try:
                ctx = self._ctx.child(timeout=left)
                async with ctx.limit("renewing a lock"):
                    await self._locks.renew(ctx, self._hold)
                renewed = asked
            except Conflict as error:
                self._lose(error if isinstance(error, Fenced) else Fenced(str(error)))
                return
            except Exception as error:  # noqa: BLE001 - anything else may pass before the hold ends
                self._ctx.logger.warning("could not renew a lock yet", lock=self._hold.name, error=error)
                await clock.sleep(min(ttl / 10, max(0.0, renewed + ttl - clock.monotonic())))

    def _lose(self, why: ChandleryError) -> None:
        self._lost = why
        if self._owner is not None:
            self._owner.cancel()


class Fence:
    """What a guarded thing remembers: the newest token that it has seen, per name."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}

    def admit(self, name: str, token: int | None) -> None:
        """Let a change through, or raise Fenced when a newer holder has been here already."""
        newest = self._newest.get(name, 0)
        if token is None or token < newest:
            raise Fenced(f"the lock {name} has been taken over: token {token} came after {newest}")
        self._newest[name] = token
