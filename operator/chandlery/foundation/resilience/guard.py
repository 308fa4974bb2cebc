"""All of it around one call, in the one order that makes sense."""

from collections.abc import Awaitable, Callable, Hashable
from contextlib import AsyncExitStack
from typing import TypeVar

from chandlery.foundation.context import Context
from chandlery.foundation.errors import ChandleryError
from chandlery.foundation.resilience.breaker import CircuitBreaker
from chandlery.foundation.resilience.bucket import TokenBucket
from chandlery.foundation.resilience.bulkhead import Bulkhead
from chandlery.foundation.resilience.retry import Backoff, RetryBudget, retry, transient

T = TypeVar("T")


class Guard:
    """Bulkhead, then retries, and for each attempt: rate limit, circuit breaker, timeout.

    The bulkhead is outermost, so that a call that waits to be repeated keeps its place and the load stays bounded. The
    rate limit counts attempts, for that is what the other side counts. The breaker sees each attempt too, and comes
    after the rate limit, so that waiting for a token is never a probe under way. The timeout is innermost: what we
    wait for on our own side is not the other side's slowness.

    Args:
        attempts: in all; 1 for calls that must not be repeated.
        attempt_timeout: seconds for each attempt.
        backoff: between attempts.
        budget: of retries.
        bulkhead: places.
        bucket: rate limit.
        breaker: circuit breaker.
        when: which errors are worth another attempt.
    """

    def __init__(
        self,
        *,
        attempts: int = 4,
        attempt_timeout: float | None = 30.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        budget: RetryBudget | None = None,
        bulkhead: Bulkhead | None = None,
        bucket: TokenBucket | None = None,
        breaker: CircuitBreaker | None = None,
        when: Callable[[ChandleryError], bool] = transient,
    ) -> None:
        self._attempts, self._attempt_timeout, self._backoff = attempts, attempt_timeout, backoff
        self._budget, self._bulkhead, self._bucket, self._breaker = budget, bulkhead, bucket, breaker
        self._when = when

    async def call(
        self,
        ctx: Context,
        call: Callable[[Context], Awaitable[T]],
        *,
        doing: str = "this",
        key: Hashable = None,
        attempts: int | None = None,
    ) -> T:
        """Make a call under all the protections; the errors are those of the parts."""

        async def attempt(inner: Context) -> T:
            if self._bucket is not None:
                await self._bucket.take(inner)
            async with AsyncExitStack() as stack:
                if self._breaker is not None:
                    await stack.enter_async_context(self._breaker.watch())
                limited = await stack.enter_async_context(inner.limit(doing, timeout=self._attempt_timeout))
                return await call(limited)

        async with AsyncExitStack() as stack:
            if self._bulkhead is not None:
                await stack.enter_async_context(self._bulkhead.enter(ctx, key))
            return await retry(
                ctx,
                attempt,
                doing=doing,
                attempts=attempts or self._attempts,
                backoff=self._backoff,
                budget=self._budget,
                when=self._when,
            )
        raise AssertionError("unreachable")
