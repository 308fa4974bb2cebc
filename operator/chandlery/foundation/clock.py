"""Time as a dependency: everything that waits or asks for the time goes through a `Clock`.

`SystemClock` is asyncio's own time. `FakeClock` stands still until a test advances it, wakes sleepers in the order of
their deadlines, and lets the tasks that became ready run before time moves on. Nothing in the loop, the providers and
the drivers calls `asyncio.sleep`, `loop.call_later`, `asyncio.timeout` or `time.*` for waiting (ruff refuses it): one
fake clock drives every timer. Deep inside a driver, where a client of an engine is far from any context, `ambient()` is
the clock of the verb under way. The control plane and the command line live by the machine's own time.
"""

import asyncio
import heapq
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Protocol, Self, runtime_checkable

__all__ = ["SYSTEM", "Clock", "Expiring", "FakeClock", "SystemClock", "Timer", "ambient", "rfc3339", "ticking"]


class Expiring(Protocol):
    """What `timeout` gives: the shape of asyncio.Timeout."""

    def expired(self) -> bool: ...
    async def __aenter__(self) -> Any: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class Timer(Protocol):
    """A callback that is due later; the shape of asyncio.TimerHandle."""

    def cancel(self) -> None: ...
    def cancelled(self) -> bool: ...


@runtime_checkable
class Clock(Protocol):
    """What the project knows about time."""

    def now(self) -> datetime:
        """Wall time, aware, UTC; may jump. For what people and other machines read."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back. For deadlines and durations."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less lets other tasks run once."""
        ...

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Run a callback later, in this event loop."""
        ...

    def timeout(self, seconds: float | None) -> Expiring:
        """A block that is cancelled, and raises TimeoutError, when it takes longer; None never does."""
        ...


_ELAPSED: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""On Linux the one that goes on while the machine is suspended: leases that others have watched run out meanwhile are
over for us too."""


class SystemClock:
    """The machine's clock and asyncio's timers."""

    __slots__ = ()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(_ELAPSED)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, seconds), callback, *args)

    def timeout(self, seconds: float | None) -> Expiring:
        return asyncio.timeout(seconds)


SYSTEM: Final[Clock] = SystemClock()

_AMBIENT: Final[ContextVar[Clock]] = ContextVar("chandlery_clock", default=SYSTEM)


def ambient() -> Clock:
    """The clock of the work under way in this task: a driver's verb sets it for everything that it calls and starts."""
    return _AMBIENT.get()


class ticking:  # noqa: N801 - reads as a block; a class, because each verb of a driver is such a block
    """A block whose work, and the tasks that it starts, find this clock by `ambient`."""

    __slots__ = ("_clock", "_token")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._token = _AMBIENT.set(self._clock)

    def __exit__(self, *_: object) -> None:
        _AMBIENT.reset(self._token)


_NANO: Final = 1_000_000_000
# Tasks that wake one another without waiting for time settle within a few rounds; one that spins never does.
_SETTLE_ROUNDS: Final = 2_000


class FakeClock:
    """A clock that only a test moves.

    Time is kept in whole nanoseconds, so that ten steps of 0.1 are one second.

    Args:
        start: wall time at the beginning.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("start: must be aware, such as datetime(2026, 1, 1, tzinfo=UTC)")
        self._wall = start
        self._ns = 1_000 * _NANO  # not zero: code that takes 0.0 for "never" would pass by accident
        self._began = self._ns
        self._sequence = 0
        self._timers: list[tuple[int, int, _FakeTimer]] = []

    def now(self) -> datetime:
        return self._wall + timedelta(microseconds=(self._ns - self._began) // 1000)

    def monotonic(self) -> float:
        return self._ns / _NANO

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, _wake, future)
        try:
            await future
        finally:
            timer.cancel()

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        # At least a nanosecond: a remaining time too small to count must still move a loop that waits for it.
        due = self._ns + (max(1, round(seconds * _NANO)) if seconds > 0 else 0)
        self._sequence += 1
        timer = _FakeTimer(callback, args)
        heapq.heappush(self._timers, (due, self._sequence, timer))
        return timer

    def timeout(self, seconds: float | None) -> Expiring:
        return _FakeTimeout(self, seconds)

    @property
    def pending(self) -> int:
        """How many timers wait."""
        return sum(not timer.cancelled() for _, _, timer in self._timers)

    def next_due(self) -> float | None:
        """Seconds until the next timer, None when nothing waits."""
        self._drop_cancelled()
        return max(0, self._timers[0][0] - self._ns) / _NANO if self._timers else None

    async def advance(self, seconds: float) -> None:
        """Move time on, waking whoever is due at the moment it is due, and let ready tasks run before and after."""
        if seconds < 0:
            raise ValueError(
                f"seconds: must not be negative (got {seconds}); use step_wall for a jump of the wall clock"
            )
        target = self._ns + round(seconds * _NANO)
        await self.settle()
        while self._fire_next(target):
            await self.settle()
        self._ns = target

    async def advance_until(self, condition: Callable[[], bool], *, limit: float = 3600.0) -> float:
        """Let time pass, from timer to timer, until the condition holds; returns the seconds that passed.

        Raises:
            TimeoutError: the condition doesn't hold after `limit` seconds, or nothing is left to wait for.
        """
        began = self._ns
        target = began + round(limit * _NANO)
        await self.settle()
        while not condition():
            if not self._fire_next(target):
                passed = (self._ns - began) / _NANO
                why = "the limit is reached" if self._timers else "no timer is left"
                raise TimeoutError(f"the condition does not hold after {passed:g} s of fake time: {why}")
            await self.settle()
        return (self._ns - began) / _NANO

    def step_wall(self, seconds: float) -> None:
        """Make the wall clock jump, as NTP or a person does; monotonic time and timers stay."""
        self._wall += timedelta(seconds=seconds)

    async def settle(self) -> None:
        """Let every task that can run do so, until all of them wait for something."""
        # The queue of ready callbacks is asyncio's own affair, yet the only exact answer; elsewhere a few rounds do.
        ready = getattr(asyncio.get_running_loop(), "_ready", None)
        for round_ in range(_SETTLE_ROUNDS):
            await asyncio.sleep(0)
            if (not ready) if ready is not None else round_ >= 100:
                return

    def _fire_next(self, target: int) -> bool:
        """Run all timers of the earliest moment up to the target; False when there is none."""
        self._drop_cancelled()
        if not self._timers or self._timers[0][0] > target:
            return False
        moment = self._timers[0][0]
        self._ns = max(self._ns, moment)
        while self._timers and self._timers[0][0] == moment:
            heapq.heappop(self._timers)[2].fire()
        return True

    def _drop_cancelled(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)


class _FakeTimer:
    __slots__ = ("_args", "_callback", "_cancelled")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._callback = callback
        self._args = args
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def fire(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._callback(*self._args)


class _FakeTimeout:
    """asyncio.timeout on a fake clock, with the same rules about cancellations from outside."""

    def __init__(self, clock: FakeClock, seconds: float | None) -> None:
        self._clock = clock
        self._seconds = seconds
        self._task: asyncio.Task[Any] | None = None
        self._timer: Timer | None = None
        self._cancelling = 0
        self._expired = False

    def expired(self) -> bool:
        return self._expired

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("timeout() works inside a task only")
        self._task = task
        self._cancelling = task.cancelling()
        if self._seconds is not None:
            self._timer = self._clock.call_later(self._seconds, self._expire)
            if self._seconds <= 0:
                self._timer.cancel()
                asyncio.get_running_loop().call_soon(self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        timer, task = self._timer, self._task
        self._timer = self._task = None
        if timer is not None:
            timer.cancel()
        ours = self._expired and task is not None and task.uncancel() <= self._cancelling
        if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def _expire(self) -> None:
        if self._task is not None and not self._expired:
            self._expired = True
            self._task.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def rfc3339(moment: datetime) -> str:
    """As metav1.Time writes it: whole seconds, UTC, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
