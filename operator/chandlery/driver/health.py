"""How one provider is: whether it can be reached, and how many passes may be with it at once.

A provider that fails again and again is left alone for a while, so that its failures cost nobody's time, and then
tried by one object; a slow one can fill its own places only, never all workers. Only what speaks of the provider itself
counts (`ProviderUnavailable`, raised by its transport): one broken engine says nothing about the others. Deletions
always go through: what is refused them would be a finalizer that stays.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from itertools import islice
from typing import Final

from chandlery.foundation.clock import Clock, Timer
from chandlery.foundation.context import Context
from chandlery.foundation.errors import CircuitOpen, ProviderUnavailable
from chandlery.foundation.resilience import CircuitBreaker, State

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
        self._active, self._limit = 0, places
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

    def asked(self) -> AbstractAsyncContextManager[None]:
        """Around one call.

        Raises:
            ProviderUnavailable: it is left alone now; says why, and how soon it is tried again.
        """
        return _Asked(self)

    def _begin(self) -> tuple[int, bool]:
        try:
            return self._breaker.begin()
        except CircuitOpen as error:
            raise self._left_alone(error.retry_after) from None

    def _end(self, call: tuple[int, bool], error: BaseException | None) -> None:
        if isinstance(error, ProviderUnavailable):
            self._why = error.message
            self._breaker.end(call, good=False)
            if not self.well:
                raise self._left_alone(max(error.retry_after or 0.0, self._breaker.left)) from error
        else:  # an answer, be it a refusal, speaks for it; a call that was cancelled says nothing
            self._breaker.end(call, good=True if error is None or isinstance(error, Exception) else None)

    def _left_alone(self, seconds: float | None) -> ProviderUnavailable:
        # whoever tried says the same as those who were not let through, and it names a bound instead of a moment:
        # another text would be a write to each object's status, at each try
        return ProviderUnavailable(
            f"{self.name} failed again and again ({self._why}) and is left alone for a while",
            hint=f"Check that it runs and can be reached; it is tried again at least every {REST[1]:.0f} s.",
            retry_after=seconds,
        )

    @property
    def full(self) -> bool:
        """All places are taken."""
        return self._active >= self._limit

    def sends_away(self, who: Hashable, again: Callable[[], None]) -> bool:
        """Whether all places are taken; then who asked is called `again`, in turn, when there is one."""
        if not self.full:
            return False
        self._sent_away.setdefault(who, again)
        return True

    def room(self, who: Hashable = None, again: Callable[[], None] = lambda: None) -> AbstractContextManager[None]:
        """A place for one pass. Who is sent away is called `again`, in turn, when there is one.

        Raises:
            NoRoom: on entering, when all are taken.
        """
        return _Room(self, who, again)

    def _enter(self, who: Hashable, again: Callable[[], None]) -> None:
        if self.sends_away(who, again):
            raise NoRoom(self.name)
        self._sent_away.pop(who, None)
        self._active += 1

    def _leave(self) -> None:
        self._active -= 1
        # as many as there are places: one that was called before may have had no more to do here
        for first in list(islice(self._sent_away, max(0, self._limit - self._active))):
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


class _Asked:
    """`Health.asked` as a class: a generator costs more than the rest of it, three times a pass."""

    __slots__ = ("_call", "_health")

    def __init__(self, health: Health) -> None:
        self._health = health

    async def __aenter__(self) -> None:
        self._call = self._health._begin()  # noqa: SLF001 - one thing in two classes

    async def __aexit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        self._health._end(self._call, error)  # noqa: SLF001


class _Room:
    """`Health.room`, a class for the same reason."""

    __slots__ = ("_again", "_health", "_who")

    def __init__(self, health: Health, who: Hashable, again: Callable[[], None]) -> None:
        self._health, self._who, self._again = health, who, again

    def __enter__(self) -> None:
        self._health._enter(self._who, self._again)  # noqa: SLF001

    def __exit__(self, *_: object) -> None:
        self._health._leave()  # noqa: SLF001
