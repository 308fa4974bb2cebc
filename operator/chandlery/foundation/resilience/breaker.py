"""A circuit breaker: what fails again and again is left alone for a while, then tried with care."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.errors import ChandleryError, CircuitOpen, ProviderError, Timeout, Unavailable, as_error


class State(Enum):
    """Closed lets calls through, open refuses them, half-open lets a few probes through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


def failure(error: ChandleryError) -> bool:
    """Whether an error speaks against the other side's health; a refusal of a bad request doesn't."""
    return isinstance(error, Unavailable | Timeout | ProviderError) and not isinstance(error, CircuitOpen)


class CircuitBreaker:
    """Counts outcomes over a sliding time; opens when too many of enough calls failed.

    Args:
        name: of what is called, for the message.
        clock: drives the window and the rest.
        window: seconds that outcomes count.
        minimum: calls within the window before anything is concluded from them.
        ratio: part of them that must fail to open (0 to 1).
        rest: seconds to stay open the first time; doubled each time that the probes fail.
        longest_rest: seconds, the end of doubling.
        probes: calls that must succeed, one by one or at once, to close again.
        failed: which errors count.
        on_change: told of each change of state.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock = SYSTEM,
        window: float = 30.0,
        minimum: int = 5,
        ratio: float = 0.5,
        rest: float = 5.0,
        longest_rest: float = 120.0,
        probes: int = 1,
        failed: Callable[[ChandleryError], bool] = failure,
        on_change: Callable[[str, State], None] | None = None,
    ) -> None:
        if window <= 0 or minimum < 1 or not 0 < ratio <= 1 or rest <= 0 or longest_rest < rest or probes < 1:
            raise ValueError("window and rest > 0, minimum and probes >= 1, ratio in (0, 1], longest_rest >= rest")
        self._name, self._clock, self._failed, self._on_change = name, clock, failed, on_change
        self._window, self._minimum, self._ratio = window, minimum, ratio
        self._first_rest, self._longest_rest, self._probes = rest, longest_rest, probes
        self._state = State.CLOSED
        self._rest = rest
        self._until = 0.0
        self._probing = self._proved = 0
        self._period = 0  # counts changes of state, so that a late answer can't speak for a time before its own
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._bad = 0  # of them; counted as they come and go, for there may be thousands within the window

    @property
    def state(self) -> State:
        if self._state is State.OPEN and self._clock.monotonic() >= self._until:
            self._change(State.HALF_OPEN)
        return self._state

    @property
    def left(self) -> float:
        """Seconds until a call is let through; 0 unless it is open."""
        return max(0.0, self._until - self._clock.monotonic()) if self._state is State.OPEN else 0.0

    def check(self) -> None:
        """Raise CircuitOpen when a call would be refused now."""
        state = self.state
        if state is State.OPEN:
            raise CircuitOpen(f"{self._name} failed too often and is left alone", retry_after=max(0.001, self.left))
        if state is State.HALF_OPEN and self._probing + self._proved >= self._probes:
            raise CircuitOpen(f"{self._name} is being tried after many failures", retry_after=self._first_rest)

    def begin(self) -> tuple[int, bool]:
        """Before one call; what `end` wants to know of it. Raises CircuitOpen."""
        self.check()
        probe = self._state is State.HALF_OPEN
        if probe:
            self._probing += 1
        return self._period, probe

    def end(self, call: tuple[int, bool], *, good: bool | None) -> None:
        """After the call that `begin` let through; None for one that was cancelled: it says nothing either way."""
        period, probe = call
        if period != self._period:
            return
        if good is None:
            self._probing -= probe
        else:
            self._ended(probe=probe, good=good)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """`begin` and `end` around a block."""
        call = self.begin()
        try:
            yield
        except Exception as error:
            self.end(call, good=not self._failed(as_error(error)))
            raise
        except BaseException:
            self.end(call, good=None)
            raise
        else:
            self.end(call, good=True)

    def _ended(self, *, probe: bool, good: bool) -> None:
        if probe:
            self._probing -= 1
            if not good:
                self._rest = min(self._longest_rest, self._rest * 2)
                self._open()
                return
            self._proved += 1
            if self._proved >= self._probes:
                self._rest = self._first_rest
                self._change(State.CLOSED)
            return
        now = self._clock.monotonic()
        self._outcomes.append((now, good))
        self._bad += not good
        while self._outcomes and self._outcomes[0][0] <= now - self._window:
            self._bad -= not self._outcomes.popleft()[1]
        if not good and len(self._outcomes) >= self._minimum and self._bad >= self._ratio * len(self._outcomes):
            self._open()

    def _open(self) -> None:
        self._until = self._clock.monotonic() + self._rest
        self._change(State.OPEN)

    def _change(self, state: State) -> None:
        self._state = state
        self._period += 1
        self._probing = self._proved = 0
        self._outcomes.clear()
        self._bad = 0
        if self._on_change is not None:
            self._on_change(self._name, state)
