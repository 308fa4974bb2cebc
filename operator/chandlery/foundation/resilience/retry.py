"""Trying again: full-jitter exponential backoff, within the context's deadline, and within a budget.

The budget keeps retries from multiplying an outage: when most calls fail, only a small part of them is repeated.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import (
    ChandleryError,
    CircuitOpen,
    Overloaded,
    RateLimited,
    Timeout,
    Unavailable,
    as_error,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before the n-th retry: anything from zero to `initial * factor**n`, at most `maximum`.

    Full jitter (Brooker, "Exponential Backoff and Jitter", 2015) spreads those who failed together.

    Attributes:
        initial: seconds, the ceiling of the first wait.
        maximum: seconds, the ceiling of every wait.
        factor: growth per retry.
        floor: part of the ceiling (0 to 1) that is always waited; 0 is full jitter.
    """

    initial: float = 0.2
    maximum: float = 30.0
    factor: float = 2.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.initial <= 0 or self.maximum < self.initial or self.factor < 1 or not 0 <= self.floor <= 1:
            raise ValueError(f"initial > 0, maximum >= initial, factor >= 1, floor from 0 to 1 (got {self})")

    def ceiling(self, retries: int) -> float:
        """Seconds that the wait after this many retries may have."""
        try:
            return min(self.maximum, self.initial * self.factor**retries)
        except OverflowError:
            return self.maximum

    def delay(self, retries: int, jitter: Callable[[], float] = random.random) -> float:
        """Seconds to wait after this many retries (0 for the first); `jitter` gives 0 to 1, evenly spread."""
        return self.ceiling(retries) * (self.floor + (1 - self.floor) * jitter())


class RetryBudget:
    """How many retries a group of callers may make together.

    Each call earns a part of a retry; a few more come with time, so that quiet callers can retry too.

    Args:
        ratio: retries per call, such as 0.2 for one in five.
        per_second: retries that come with time alone.
        capacity: retries that may be saved up.
        clock: for `per_second`.
    """

    def __init__(
        self, *, ratio: float = 0.2, per_second: float = 1.0, capacity: float = 50.0, clock: Clock = SYSTEM
    ) -> None:
        if ratio < 0 or per_second < 0 or capacity < 1:
            raise ValueError("ratio and per_second must not be negative, and capacity at least 1")
        self._ratio, self._per_second, self._capacity, self._clock = ratio, per_second, capacity, clock
        self._balance = capacity
        self._since = clock.monotonic()

    @property
    def balance(self) -> float:
        """Retries that are left."""
        now = self._clock.monotonic()
        self._balance = min(self._capacity, self._balance + (now - self._since) * self._per_second)
        self._since = now
        return self._balance

    def earn(self) -> None:
        """A first attempt was made."""
        self._balance = min(self._capacity, self.balance + self._ratio)

    def spend(self) -> bool:
        """Pay for a retry; False when there is nothing left."""
        if self.balance < 1:
            return False
        self._balance -= 1
        return True


def transient(error: ChandleryError) -> bool:
    """Whether the same call may succeed in a moment: the other side is away, slow or busy.

    Our own refusals (an open circuit, a full queue) aren't: they exist to keep callers away.
    """
    return isinstance(error, Unavailable | Timeout | RateLimited) and not isinstance(error, CircuitOpen | Overloaded)


async def retry(
    ctx: Context,
    call: Callable[[Context], Awaitable[T]],
    *,
    doing: str = "this",
    attempts: int = 4,
    attempt_timeout: float | None = None,
    backoff: Backoff = Backoff(),
    budget: RetryBudget | None = None,
    when: Callable[[ChandleryError], bool] = transient,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Call until it succeeds, fails for good, or attempts, budget or time are used up; then raise the last error.

    A wait that would reach past the deadline isn't begun. What the other side asks for (Retry-After) is waited for
    in full. Errors that aren't ours pass through `as_error` to be judged, and are raised as they came.

    Args:
        ctx: its deadline holds for all attempts together.
        call: gets a context with the attempt's own deadline.
        doing: for the log and for Timeout's message.
        attempts: in all, at least 1.
        attempt_timeout: seconds for each attempt.
        backoff: between attempts.
        budget: shared with others who call the same thing.
        when: which errors are worth another attempt.
        jitter: 0 to 1, evenly spread.
    """
    if attempts < 1:
        raise ValueError(f"attempts: must be at least 1 (got {attempts})")
    if budget is not None:
        budget.earn()
    for retries in range(attempts):
        try:
            if attempt_timeout is None and ctx.deadline is None:
                return await call(ctx)  # nothing to limit: the common way of each request to the API server
            async with ctx.limit(doing, timeout=attempt_timeout) as inner:
                return await call(inner)
        except Exception as error:
            ours = as_error(error)
            if retries + 1 == attempts or not when(ours):
                raise
            delay = backoff.delay(retries, jitter)
            if ours.retry_after_given and ours.retry_after is not None:
                delay += ours.retry_after
            left = ctx.remaining()
            if (left is not None and delay >= left) or (budget is not None and not budget.spend()):
                raise
            ctx.logger.debug("trying again", doing=doing, retry=retries + 1, seconds=round(delay, 3), error=ours)
        await ctx.clock.sleep(delay)
    raise AssertionError("unreachable")
