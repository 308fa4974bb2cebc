"""A token bucket: a steady rate, with bursts."""

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import RateLimited


class TokenBucket:
    """At most `burst` at once and `rate` a second on average; those who wait are served in order.

    A waiter reserves its tokens at once (the balance goes below zero), so that no later one can overtake it, and gives
    them back when it goes away.

    Args:
        rate: tokens a second.
        burst: tokens that the bucket holds; full at the beginning.
        clock: fills the bucket.
    """

    __slots__ = ("_clock", "_since", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, *, clock: Clock = SYSTEM) -> None:
        if rate <= 0 or burst <= 0:
            raise ValueError(f"rate and burst: must be positive (got {rate}, {burst})")
        self.rate, self.burst = rate, burst
        self._clock = clock
        self._tokens = burst
        self._since = clock.monotonic()

    @property
    def tokens(self) -> float:
        """What is left; below zero when some wait."""
        now = self._clock.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._since) * self.rate)
        self._since = now
        return self._tokens

    def try_take(self, amount: float = 1.0) -> bool:
        """Take tokens if they are there now."""
        if amount > self.tokens:
            return False
        self._tokens -= amount
        return True

    async def take(self, ctx: Context, amount: float = 1.0) -> float:
        """Wait for tokens; returns the seconds waited.

        Raises:
            RateLimited: they won't be there before the context's deadline (nothing is waited or taken), or the amount
                is more than the bucket can ever hold.
        """
        if amount > self.burst:
            raise RateLimited(
                f"{amount:g} at once are more than the limit of {self.burst:g} allows", field="amount", retry_after=None
            )
        wait = (amount - self.tokens) / self.rate
        left = ctx.remaining()
        if left is not None and wait > left:
            raise RateLimited(f"more than {self.rate:g} a second were asked for", retry_after=wait)
        self._tokens -= amount
        if wait <= 0:
            return 0.0
        try:
            await self._clock.sleep(wait)
        except BaseException:
            self._tokens = min(self.burst, self.tokens + amount)
            raise
        return wait
