import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.foundation.clock import FakeClock
from chandlery.foundation.concurrency import FairSemaphore, Fence, KeyedLock, MemoryLocks, held
from chandlery.foundation.context import Context
from chandlery.foundation.errors import Fenced, Timeout, Unavailable

jobs = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=30)


@given(jobs)
def test_keyed_locks_keep_each_key_single_and_in_order_and_forget_unused_keys(
    work: list[tuple[str, int, bool]],
) -> None:
    async def scenario() -> None:
        clock, locks = FakeClock(), KeyedLock[str]()
        inside: Counter[str] = Counter()
        served: dict[str, list[int]] = {key: [] for key in "abc"}
        peak = 0

        async def job(number: int, key: str, seconds: int) -> None:
            nonlocal peak
            async with locks.hold(key):
                inside[key] += 1
                peak = max(peak, sum(inside.values()))
                assert inside[key] == 1
                served[key].append(number)
                try:
                    await clock.sleep(seconds)
                finally:
                    inside[key] -= 1

        tasks = [asyncio.create_task(job(number, key, seconds)) for number, (key, seconds, _) in enumerate(work)]
        await clock.settle()
        for task, (_, _, cancel) in zip(tasks, work, strict=True):
            if cancel:
                task.cancel()
        await clock.advance(1000)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        assert len(locks) == 0
        for numbers in served.values():
            assert numbers == sorted(numbers)
        assert peak <= 3

    asyncio.run(scenario())


async def test_different_keys_do_not_wait_for_each_other() -> None:
    clock, locks = FakeClock(), KeyedLock[str]()

    async def job(key: str) -> None:
        async with locks.hold(key):
            await clock.sleep(1)

    tasks = [asyncio.create_task(job(key)) for key in "abc"]
    await clock.advance(1)
    assert all(task.done() for task in tasks)


async def test_a_busy_key_does_not_starve_the_others_of_a_semaphore() -> None:
    clock, places, order = FakeClock(), FairSemaphore(1), []

    async def job(key: str) -> None:
        async with places.hold(key):
            order.append(key)
            await clock.sleep(1)

    tasks = [asyncio.create_task(job(key)) for key in "nnnnnqr"]
    await clock.advance(100)
    await asyncio.gather(*tasks)
    assert "".join(order) == "nnqrnnn"


@given(jobs, st.integers(1, 3))
def test_a_semaphore_never_holds_more_than_its_limit_and_loses_no_place(
    work: list[tuple[str, int, bool]], limit: int
) -> None:
    async def scenario() -> None:
        clock, places = FakeClock(), FairSemaphore(limit)
        finished = 0

        async def job(key: str, seconds: int) -> None:
            nonlocal finished
            async with places.hold(key):
                assert places.held <= limit
                await clock.sleep(seconds)
            finished += 1

        tasks = [asyncio.create_task(job(key, seconds)) for key, seconds, _ in work]
        await clock.advance(1)
        for task, (_, _, cancel) in zip(tasks, work, strict=True):
            if cancel:
                task.cancel()
        await clock.advance(1000)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        assert finished >= sum(not cancel for _, _, cancel in work)
        assert (places.held, places.waiting) == (0, 0)

    asyncio.run(scenario())


async def test_a_place_granted_to_one_who_is_cancelled_at_that_moment_is_handed_on() -> None:
    places = FairSemaphore(1)
    await places.acquire()
    first, second = asyncio.create_task(places.acquire("a")), asyncio.create_task(places.acquire("b"))
    await asyncio.sleep(0)
    places.release()  # grants to `first` ...
    first.cancel()  # ... which goes away before it runs
    await asyncio.wait({first, second})
    assert second.exception() is None
    assert places.held == 1


async def test_a_semaphore_can_be_resized() -> None:
    places = FairSemaphore(1)
    await places.acquire()
    waiting = asyncio.create_task(places.acquire())
    await asyncio.sleep(0)
    places.resize(2)
    await waiting
    assert places.held == 2
    places.release()
    places.release()
    with pytest.raises(RuntimeError):
        places.release()
    with pytest.raises(ValueError, match="at least 1"):
        FairSemaphore(0)


async def test_a_lock_has_one_holder_and_its_tokens_grow() -> None:
    clock = FakeClock()
    locks, ctx = MemoryLocks(clock), Context(clock=clock)
    first = await locks.acquire(ctx, "leader", "a", 10)
    assert await locks.try_acquire(ctx, "leader", "b", 10) is None
    assert (await locks.acquire(ctx, "leader", "a", 10)).token == first.token, "asking again renews"
    await clock.advance(9)
    await locks.renew(ctx, first)
    await clock.advance(9)
    assert locks.holder("leader") == "a"
    await clock.advance(1)
    assert locks.holder("leader") is None
    second = await locks.try_acquire(ctx, "leader", "b", 10)
    assert second is not None
    assert second.token > first.token
    with pytest.raises(Fenced, match="no longer held by a"):
        await locks.renew(ctx, first)
    await locks.release(ctx, first)
    assert locks.holder("leader") == "b", "the old hold can't give the new one back"
    assert (await locks.acquire(ctx, "other", "a", 10)).token == 1, "names are apart"


async def test_waiters_get_the_lock_in_turn_by_release_and_by_the_end_of_a_dead_holders_time() -> None:
    clock = FakeClock()
    locks, ctx = MemoryLocks(clock), Context(clock=clock)
    dead = await locks.acquire(ctx, "x", "dead", 10)
    got: list[tuple[str, float]] = []
    start = clock.monotonic()

    async def want(name: str, dies: bool) -> None:
        hold = await locks.acquire(ctx, "x", name, 10)
        got.append((name, clock.monotonic() - start))
        await clock.sleep(3)
        if not dies:
            await locks.release(ctx, hold)

    tasks = [asyncio.create_task(want(name, dies)) for name, dies in (("a", False), ("b", True), ("c", False))]
    await clock.advance(5)
    await locks.renew(ctx, dead)  # the end moves from 10 to 15 while they wait
    await clock.advance(100)
    await asyncio.gather(*tasks)
    assert got == [("a", 15), ("b", 18), ("c", 28)]


async def test_waiting_ends_at_the_deadline_and_leaves_the_line() -> None:
    clock = FakeClock()
    locks, ctx = MemoryLocks(clock), Context(clock=clock)
    hold = await locks.acquire(ctx, "x", "a", 100)
    late = asyncio.create_task(locks.acquire(ctx.child(timeout=5), "x", "b", 10))
    patient = asyncio.create_task(locks.acquire(ctx, "x", "c", 10))
    await clock.advance(5)
    with pytest.raises(Timeout, match="the lock x"):
        await late
    await locks.release(ctx, hold)
    await clock.settle()
    assert (await patient).holder == "c"


async def test_held_renews_and_gives_back_and_carries_the_token() -> None:
    clock = FakeClock()
    locks, ctx = MemoryLocks(clock), Context(clock=clock)

    async def work() -> int | None:
        async with held(ctx, locks, "x", "a", ttl=9) as inner:
            await clock.sleep(100)
            assert locks.holder("x") == "a"
            return inner.fencing_token

    task = asyncio.create_task(work())
    await clock.advance(100)
    assert await task == 1
    assert locks.holder("x") is None
    assert clock.pending == 0


class Flaky(MemoryLocks):
    """A store that can't be reached for a while."""

    down = False

    async def renew(self, ctx: Context, hold: object) -> None:
        if self.down:
            raise Unavailable("the store is away")
        await super().renew(ctx, hold)  # type: ignore[arg-type]


@pytest.mark.parametrize(("away", "survives"), [(5.0, True), (30.0, False)])
async def test_held_stops_the_work_before_anybody_else_can_have_the_lock(away: float, survives: bool) -> None:
    clock = FakeClock()
    locks, ctx = Flaky(clock), Context(clock=clock)
    worked_until = 0.0
    start = clock.monotonic()

    async def work() -> None:
        nonlocal worked_until
        async with held(ctx, locks, "x", "a", ttl=9):
            for _ in range(600):
                await clock.sleep(0.1)
                worked_until = clock.monotonic() - start

    task = asyncio.create_task(work())
    await clock.advance(4)
    locks.down = True
    rival = asyncio.create_task(locks.acquire(ctx, "x", "b", 5))
    await clock.advance(away)
    locks.down = False
    await clock.advance(100)
    if survives:
        await task
        assert worked_until > 59
    else:
        with pytest.raises(Fenced, match="could not be renewed for 9 s"):
            await task
        assert worked_until <= 3 + 9
    assert (await rival).token == 2


async def test_held_stops_at_once_when_the_lock_was_taken_over() -> None:
    clock = FakeClock()
    locks, ctx = MemoryLocks(clock), Context(clock=clock)

    async def work() -> None:
        async with held(ctx, locks, "x", "a", ttl=9):
            await clock.sleep(1000)

    task = asyncio.create_task(work())
    await clock.settle()
    locks._entries["x"].hold = None  # as if an administrator deleted the Lease
    await clock.advance(3)
    with pytest.raises(Fenced):
        await task


async def test_held_leaves_errors_and_cancellations_of_the_block_alone() -> None:
    clock = FakeClock()
    locks, ctx = MemoryLocks(clock), Context(clock=clock)
    with pytest.raises(KeyError):
        async with held(ctx, locks, "x", "a"):
            raise KeyError("mine")
    assert locks.holder("x") is None

    async def work() -> None:
        async with held(ctx, locks, "x", "a"):
            await clock.sleep(1000)

    task = asyncio.create_task(work())
    await clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert locks.holder("x") is None


@given(st.lists(st.integers(1, 20) | st.none(), max_size=30))
def test_a_fence_lets_tokens_only_grow(tokens: list[int | None]) -> None:
    fence, newest = Fence(), 0
    for token in tokens:
        if token is None or token < newest:
            with pytest.raises(Fenced):
                fence.admit("x", token)
        else:
            fence.admit("x", token)
            newest = token
