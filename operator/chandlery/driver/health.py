"""How one provider is: whether it can be reached, and how many passes may be with it at once.

A provider that fails again and again is left alone for a while, so that its failures cost nobody's time, and then
tried by one object; a slow one can fill its own places only, never all workers. Only what speaks of the provider itself
counts (`ProviderUnavailable`, raised by its transport): one broken engine says nothing about the others. Deletions
always go through: what is refused them would be a finalizer that stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from chandlery.foundation.clock import Clock, Timer
from chandlery.foundation.context import Context
from chandlery.foundation.errors import CircuitOpen, ProviderUnavailable
from chandlery.foundation.resilience import Bulkhead, CircuitBreaker, State

WINDOW: Final = 60.0
"""Seconds that a call counts."""
ENOUGH: Final = 3
"""Calls, half of which must have failed."""
REST: Final = (1.0, 60.0)
"""Seconds that it is left alone: at first, and at most."""


class NoRoom(Exception):  # noqa: N818 - not an error: the pass comes back when there is room, and nothing is told
    """All places at the provider are taken."""


class Health:
    """One for each session.

    Args:
        provider: its name.
        config: the ProviderConfig's name; "" for none.
        clock: drives window and rest.
        places: passes at once.
        wake: called when it should be tried (False: by one object), and when it can be reached again (True: by all).
    """

    def __init__(
        self,
        provider: str,
        config: str,
        clock: Clock,
        *,
        places: int = 24,
        wake: Callable[[bool], None] = lambda _all: None,
    ) -> None:
        self.name = f"the provider {provider}" + (f" of the ProviderConfig {config}" if config else "")
        self._clock = clock
        self._wake = wake
        self._timer: Timer | None = None
        self._why = ""
        self._away = False
        self._context = Context(clock=clock)
        self._places = Bulkhead(self.name, places, queue=0)
        self._limit = places
        self._sent_away: dict[Hashable, Callable[[], None]] = {}
        self._breaker = CircuitBreaker(
            self.name,
            clock=clock,
            window=WINDOW,
            minimum=ENOUGH,
            rest=REST[0],
            longest_rest=REST[1],
            on_change=self._changed,
        )

    @property
    def well(self) -> bool:
        return self._breaker.state is State.CLOSED

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        """Around one call.

        Raises:
            ProviderUnavailable: it is left alone now; says why, and how soon it is tried again.
        """
        try:
            call = self._breaker.begin()
        except CircuitOpen as error:
            raise self._left_alone(error.retry_after) from None
        try:
            yield
        except ProviderUnavailable as error:
            self._why = error.message
            self._breaker.end(call, good=False)
            if self.well:
                raise
            raise self._left_alone(max(error.retry_after or 0.0, self._breaker.left)) from error
        except Exception:
            self._breaker.end(call, good=True)  # an answer, be it a refusal
            raise
        except BaseException:
            self._breaker.end(call, good=None)
            raise
        else:
            self._breaker.end(call, good=True)

    def _left_alone(self, seconds: float | None) -> ProviderUnavailable:
        # whoever tried says the same as those who were not let through, and it names a bound instead of a moment:
        # another text would be a write to each object's status, at each try
        return ProviderUnavailable(
            f"{self.name} failed again and again ({self._why}) and is left alone for a while",
            hint=f"Check that it runs and can be reached; it is tried again at least every {REST[1]:.0f} s.",
            retry_after=seconds,
        )

    @asynccontextmanager
    async def room(self, who: Hashable = None, again: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """A place for one pass. Who is sent away is called `again`, in turn, when there is one.

        Raises:
            NoRoom: all are taken.
        """
        if self._places.full:
            self._sent_away.setdefault(who, again)
            raise NoRoom(self.name)
        self._sent_away.pop(who, None)
        try:
            async with self._places.enter(self._context):
                yield
        finally:
            # as many as there are places: one that was called before may have had no more to do here
            for first in list(islice(self._sent_away, max(0, self._limit - self._places.active))):
                self._sent_away.pop(first)()

    def close(self) -> None:
        """Nobody needs it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _changed(self, _name: str, state: State) -> None:
        if state is State.OPEN:
            if not self._away:
                self._away = True
                self._context.logger.warning("a provider can't be reached", provider=self.name, why=self._why)
            self.close()
            self._timer = self._clock.call_later(self._breaker.left, self._wake, False)
        elif state is State.CLOSED:
            self._away = False
            self._context.logger.info("a provider can be reached again", provider=self.name)
            self._wake(True)
