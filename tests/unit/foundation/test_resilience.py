import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import (
    CircuitOpen,
    EngineFailed,
    InvalidSpec,
    Overloaded,
    RateLimited,
    Timeout,
    Unavailable,
)
from chandlery.foundation.resilience import (
    Backoff,
    Bulkhead,
    CircuitBreaker,
    RetryBudget,
    State,
    TokenBucket,
    retry,
)


class Service:
    """Fails as told: each entry is an error to raise, None for success; the last one is repeated."""

    def __init__(self, clock: FakeClock, outcomes: Iterable[BaseException | None], seconds: float = 0.0) -> None:
        self.clock, self.outcomes, self.seconds = clock, list(outcomes), seconds
        self.calls: list[float] = []

    async def __call__(self, ctx: Context) -> str:
        self.calls.append(self.clock.monotonic())
        await self.clock.sleep(self.seconds)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is not None:
            raise outcome
        return "done"


async def outcome(clock: FakeClock, work: Awaitable[object], *, limit: float = 10_000) -> object:
    """The result or the error of something that waits on the fake clock."""
    task = asyncio.ensure_future(work)
    await clock.advance_until(task.done, limit=limit)
    error = task.exception()
    return task.result() if error is None else error


@given(st.integers(0, 100), st.floats(0.01, 10), st.floats(1, 10), st.floats(0, 1), st.floats(0, 1))
def test_backoff_stays_between_floor_and_ceiling(
    retries: int, initial: float, factor: float, floor: float, jitter: float
) -> None:
    backoff = Backoff(initial=initial, maximum=60, factor=factor, floor=floor)
    ceiling = backoff.ceiling(retries)
    assert ceiling <= 60
    assert ceiling >= min(60, initial)
    assert floor * ceiling - 1e-9 <= backoff.delay(retries, lambda: jitter) <= ceiling + 1e-9
    assert backoff.ceiling(retries + 1) >= ceiling


async def test_tries_again_until_it_works_with_growing_waits() -> None:
    clock = FakeClock()
    service = Service(clock, [Unavailable("a"), Timeout("b"), RateLimited("c"), None])
    backoff = Backoff(initial=1, factor=2, floor=1)  # without jitter, to see the waits
    assert await outcome(clock, retry(Context(clock=clock), service, backoff=backoff)) == "done"
    assert [b - a for a, b in zip(service.calls, service.calls[1:], strict=False)] == [1, 2, 4]


@pytest.mark.parametrize(
    "error", [InvalidSpec("x"), CircuitOpen("x"), Overloaded("x"), EngineFailed("x"), KeyError("bug")]
)
async def test_does_not_repeat_what_repeating_does_not_help(error: Exception) -> None:
    clock = FakeClock()
    service = Service(clock, [error, None])
    assert await outcome(clock, retry(Context(clock=clock), service)) is error
    assert len(service.calls) == 1


async def test_the_languages_own_errors_are_judged_and_raised_as_they_came() -> None:
    clock = FakeClock()
    refused = ConnectionRefusedError("no")
    service = Service(clock, [refused])
    assert await outcome(clock, retry(Context(clock=clock), service, attempts=3)) is refused
    assert len(service.calls) == 3


async def test_waits_as_long_as_the_other_side_asks() -> None:
    clock = FakeClock()
    service = Service(clock, [RateLimited("slow down", retry_after=42), None])
    await outcome(clock, retry(Context(clock=clock), service, backoff=Backoff(initial=0.1)))
    assert 42 <= service.calls[1] - service.calls[0] <= 42.1


async def test_does_not_begin_a_wait_that_reaches_past_the_deadline() -> None:
    clock = FakeClock()
    service = Service(clock, [Unavailable("away")])
    ctx = Context(clock=clock).child(timeout=5)
    result = await outcome(clock, retry(ctx, service, attempts=100, backoff=Backoff(initial=1, factor=2, floor=1)))
    assert isinstance(result, Unavailable), "the reason says more than that time ran out"
    assert ctx.remaining() == pytest.approx(5 - 1 - 2)


async def test_each_attempt_has_its_own_timeout() -> None:
    clock = FakeClock()
    service = Service(clock, [None], seconds=100)
    result = await outcome(clock, retry(Context(clock=clock), service, doing="the call", attempts=3, attempt_timeout=2))
    assert isinstance(result, Timeout)
    assert "the call" in str(result)
    assert len(service.calls) == 3


async def test_a_budget_bounds_retries_of_all_callers_together() -> None:
    clock = FakeClock()
    budget = RetryBudget(ratio=0.1, per_second=0, capacity=10, clock=clock)
    service = Service(clock, [Unavailable("away")])
    ctx = Context(clock=clock)
    for _ in range(200):
        await outcome(clock, retry(ctx, service, attempts=10, budget=budget))
    retries = len(service.calls) - 200
    assert 10 + 0.1 * 200 - 2 <= retries <= 10 + 0.1 * 200
    quiet = RetryBudget(ratio=0, per_second=2, capacity=10, clock=clock)
    while quiet.spend():
        pass
    await clock.advance(1)
    assert quiet.spend()
    assert quiet.spend()
    assert not quiet.spend()


events = st.lists(st.tuples(st.floats(0, 3).map(lambda x: round(x, 2)), st.integers(1, 5)), max_size=60)


@given(events, st.floats(0.5, 20), st.floats(5, 20))
def test_a_bucket_never_gives_more_than_burst_and_rate_allow_nor_much_less(
    asks: list[tuple[float, int]], rate: float, burst: float
) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        bucket = TokenBucket(rate, burst, clock=clock)
        given_at: list[tuple[float, int]] = []
        for wait, amount in asks:
            await clock.advance(wait)
            if bucket.try_take(amount):
                given_at.append((clock.monotonic(), amount))
            else:
                assert bucket.tokens < amount
        for first in range(len(given_at)):
            taken = 0
            for moment, amount in given_at[first:]:
                taken += amount
                assert taken <= burst + rate * (moment - given_at[first][0]) + 1e-6

    asyncio.run(scenario())


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=20), st.integers(1, 10))
def test_waiters_get_tokens_in_order_at_the_rate_and_give_them_back_when_they_go(
    asks: list[tuple[int, bool]], rate: int
) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        bucket, ctx = TokenBucket(rate, 5, clock=clock), Context(clock=clock)
        got: list[int] = []

        async def ask(number: int, amount: int) -> None:
            await bucket.take(ctx, amount)
            got.append(number)

        tasks = [asyncio.create_task(ask(number, amount)) for number, (amount, _) in enumerate(asks)]
        await clock.settle()
        waiting = sum(not task.done() for task in tasks)
        stayed = [amount for (amount, leaves), task in zip(asks, tasks, strict=True) if task.done() or not leaves]
        for (_, leaves), task in zip(asks, tasks, strict=True):
            if leaves:
                task.cancel()
        await clock.settle()
        assert bucket.tokens == pytest.approx(5 - sum(stayed))
        began = clock.monotonic()
        await clock.advance(1000)
        assert got == sorted(got)
        assert len(got) == len(stayed)
        assert bucket.tokens == 5
        assert waiting == 0 or clock.monotonic() > began

    asyncio.run(scenario())


async def test_a_bucket_says_at_once_when_the_deadline_is_too_near() -> None:
    clock = FakeClock()
    bucket = TokenBucket(1, 2, clock=clock)
    ctx = Context(clock=clock)
    assert await bucket.take(ctx, 2) == 0
    with pytest.raises(RateLimited) as caught:
        await bucket.take(ctx.child(timeout=0.5), 1)
    assert caught.value.retry_after == 1
    assert bucket.tokens == 0, "nothing was taken"
    with pytest.raises(RateLimited, match="3 at once"):
        await bucket.take(ctx, 3)


async def test_a_breaker_opens_rests_probes_and_closes() -> None:
    clock, changes = FakeClock(), list[State]()
    breaker = CircuitBreaker("s3", clock=clock, minimum=3, rest=10, on_change=lambda _, state: changes.append(state))

    async def call(error: Exception | None) -> None:
        async with breaker.watch():
            if error is not None:
                raise error

    async def fails() -> None:
        with pytest.raises(Unavailable):
            await call(Unavailable("away"))

    for _ in range(2):
        await fails()
    assert breaker.state is State.CLOSED, "two calls prove nothing"
    await fails()
    assert breaker.state is State.OPEN
    with pytest.raises(CircuitOpen, match="s3") as caught:
        await call(None)
    assert caught.value.retry_after == 10
    await clock.advance(10)
    assert breaker.state is State.HALF_OPEN
    await fails()
    await clock.advance(19)
    assert breaker.state is State.OPEN, "a failed probe doubles the rest"
    await clock.advance(1)
    await call(None)
    assert breaker.state is State.CLOSED
    assert changes == [State.OPEN, State.HALF_OPEN, State.OPEN, State.HALF_OPEN, State.CLOSED]


async def test_a_breaker_forgets_old_outcomes_and_ignores_refusals() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("x", clock=clock, window=10, minimum=3, ratio=0.5)

    async def call(error: Exception) -> None:
        with pytest.raises(type(error)):
            async with breaker.watch():
                raise error

    for _ in range(20):
        await call(InvalidSpec("bad request"))
    for _ in range(20):
        await call(Unavailable("now and then"))
        await clock.advance(6)
    assert breaker.state is State.CLOSED


async def test_only_as_many_probes_as_wanted_and_a_cancelled_one_makes_room() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("x", clock=clock, minimum=1, rest=10)
    gate = asyncio.Event()

    async def call() -> None:
        async with breaker.watch():
            await gate.wait()

    with pytest.raises(Unavailable):
        async with breaker.watch():
            raise Unavailable("x")
    await clock.advance(10)
    probe = asyncio.create_task(call())
    await clock.settle()
    with pytest.raises(CircuitOpen, match="being tried"):
        await call()
    probe.cancel()
    await clock.settle()
    probe = asyncio.create_task(call())
    await clock.settle()
    gate.set()
    await probe
    assert breaker.state is State.CLOSED


async def test_a_late_answer_from_before_does_not_count() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("x", clock=clock, minimum=2, rest=10)
    gate = asyncio.Event()

    async def slow() -> None:
        async with breaker.watch():
            await gate.wait()
            raise Unavailable("late")

    late = asyncio.create_task(slow())
    await clock.settle()
    for _ in range(2):
        with pytest.raises(Unavailable):
            async with breaker.watch():
                raise Unavailable("x")
    await clock.advance(10)
    async with breaker.watch():
        pass
    gate.set()
    with pytest.raises(Unavailable):
        await late
    assert breaker.state is State.CLOSED


async def test_a_bulkhead_is_bounded_and_fair() -> None:
    clock = FakeClock()
    bulkhead, ctx = Bulkhead("rds", 1, queue=2), Context(clock=clock)
    order: list[str] = []

    async def call(key: str, limited: Context = ctx) -> None:
        async with bulkhead.enter(limited, key):
            order.append(key)
            await clock.sleep(10)

    tasks = [asyncio.create_task(call("a")), asyncio.create_task(call("a"))]
    impatient = asyncio.create_task(call("b", ctx.child(timeout=1)))
    await clock.settle()
    with pytest.raises(Overloaded, match="rds: 1 calls are under way and 2 wait"):
        await call("c")
    await clock.advance(1)
    with pytest.raises(Timeout, match="a place at rds"):
        await impatient
    tasks.append(asyncio.create_task(call("b")))
    await clock.advance(100)
    await asyncio.gather(*tasks)
    assert order == ["a", "a", "b"]
    assert (bulkhead.active, bulkhead.waiting) == (0, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff(initial=0),
        lambda: RetryBudget(ratio=-1),
        lambda: TokenBucket(0, 1),
        lambda: CircuitBreaker("x", ratio=0),
        lambda: Bulkhead("x", 0),
        lambda: Bulkhead("x", 1, queue=-1),
    ],
)
def test_senseless_numbers_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()
