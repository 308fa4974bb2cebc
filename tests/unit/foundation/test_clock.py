import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.foundation.clock import SYSTEM, Clock, FakeClock, SystemClock, ambient, rfc3339, ticking
from chandlery.foundation.context import Context
from chandlery.foundation.errors import Timeout

delays = st.floats(min_value=0.001, max_value=1000, allow_nan=False).map(lambda x: round(x, 3))


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
def test_is_a_clock(clock: Clock) -> None:
    assert isinstance(clock, Clock)
    assert clock.now().tzinfo is UTC


@given(st.lists(delays, max_size=20), st.lists(delays, min_size=1, max_size=20))
def test_sleepers_wake_in_order_at_their_own_time_however_time_is_moved(waits: list[float], steps: list[float]) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        began = clock.monotonic()
        woken: list[tuple[float, int]] = []

        async def sleeper(number: int, seconds: float) -> None:
            await clock.sleep(seconds)
            assert clock.monotonic() - began == pytest.approx(seconds, abs=1e-6)
            woken.append((seconds, number))

        async with asyncio.TaskGroup() as group:
            for number, seconds in enumerate(waits):
                group.create_task(sleeper(number, seconds))
            await clock.settle()
            for step in steps:
                await clock.advance(step)
                elapsed = clock.monotonic() - began
                assert all(seconds <= elapsed + 1e-6 for seconds, _ in woken)
                assert len(woken) == sum(seconds <= elapsed + 1e-6 for seconds in waits)
            await clock.advance(1000)
        assert woken == sorted(woken)
        assert clock.pending == 0

    asyncio.run(scenario())


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_time_adds_up_exactly(milliseconds: list[int]) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        start, mono = clock.now(), clock.monotonic()
        for each in milliseconds:
            await clock.advance(each / 1000)
        assert clock.now() - start == timedelta(milliseconds=sum(milliseconds))
        assert clock.monotonic() - mono == pytest.approx(sum(milliseconds) / 1000, abs=1e-9)

    asyncio.run(scenario())


async def test_a_loop_that_sleeps_again_runs_at_each_of_its_times_within_one_advance() -> None:
    clock = FakeClock()
    seen: list[datetime] = []

    async def ticker() -> None:
        while True:
            await clock.sleep(10)
            seen.append(clock.now())

    task = asyncio.create_task(ticker())
    await clock.advance(35)
    assert [(moment - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds() for moment in seen] == [10, 20, 30]
    assert clock.next_due() == 5
    task.cancel()
    await clock.settle()
    assert clock.pending == 0, "a cancelled sleeper must leave nothing behind"


async def test_advance_until_stops_at_the_moment_the_condition_holds() -> None:
    clock = FakeClock()
    done: list[int] = []

    async def worker() -> None:
        for number in range(5):
            await clock.sleep(2.5)
            done.append(number)

    task = asyncio.create_task(worker())
    assert await clock.advance_until(lambda: len(done) == 3) == 7.5
    with pytest.raises(TimeoutError, match="no timer is left"):
        await clock.advance_until(lambda: len(done) == 9)
    await task

    async def ticker() -> None:
        while True:
            await clock.sleep(1)

    task = asyncio.create_task(ticker())
    with pytest.raises(TimeoutError, match="limit"):
        await clock.advance_until(lambda: False, limit=5)
    task.cancel()


async def test_timers_can_be_cancelled() -> None:
    clock = FakeClock()
    fired: list[str] = []
    clock.call_later(1, fired.append, "a")
    late = clock.call_later(2, fired.append, "b")
    await clock.advance(1)
    late.cancel()
    assert late.cancelled()
    await clock.advance(5)
    assert fired == ["a"]


@pytest.mark.parametrize("fake", [True, False])
async def test_timeouts(fake: bool) -> None:
    clock: Clock = FakeClock() if fake else SystemClock()

    async def slow() -> None:
        async with clock.timeout(0.01):
            await asyncio.Event().wait()

    task = asyncio.create_task(slow())
    if isinstance(clock, FakeClock):
        await clock.advance(0.009)
        assert not task.done()
        await clock.advance(0.001)
    with pytest.raises(TimeoutError):
        await task

    async with clock.timeout(None):
        await clock.sleep(0)
    async with clock.timeout(5):
        pass
    with pytest.raises(KeyError):
        async with clock.timeout(5):
            raise KeyError("an error of the block stays what it is")
    with pytest.raises(TimeoutError):
        async with clock.timeout(0):
            await asyncio.Event().wait()


async def test_a_timeout_leaves_cancellation_from_outside_alone() -> None:
    clock = FakeClock()
    inside = asyncio.Event()

    async def slow() -> None:
        async with clock.timeout(10):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(slow())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.pending == 0


async def test_nested_timeouts_each_end_their_own_block() -> None:
    clock = FakeClock()
    ended: list[str] = []

    async def nested() -> None:
        async with clock.timeout(10):
            try:
                async with clock.timeout(1):
                    await clock.sleep(100)
            except TimeoutError:
                ended.append("inner")
            await clock.sleep(100)

    task = asyncio.create_task(nested())
    await clock.advance(1)
    assert ended == ["inner"]
    await clock.advance(9)
    with pytest.raises(TimeoutError):
        await task


async def test_the_wall_may_jump_while_monotonic_time_stays() -> None:
    clock = FakeClock()
    mono = clock.monotonic()
    clock.step_wall(-3600)
    assert clock.now() == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert clock.monotonic() == mono
    with pytest.raises(ValueError, match="step_wall"):
        await clock.advance(-1)


async def test_a_task_that_spins_does_not_hang_the_clock() -> None:
    clock = FakeClock()

    async def spin() -> None:
        while True:
            await clock.sleep(0)

    task = asyncio.create_task(spin())
    await clock.advance(1)
    task.cancel()


def test_naive_start_is_refused_and_times_print_as_kubernetes_prints_them() -> None:
    with pytest.raises(ValueError, match="aware"):
        FakeClock(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    assert rfc3339(datetime(2026, 1, 1, 1, tzinfo=UTC)) == "2026-01-01T01:00:00Z"


def test_the_fake_clock_and_deadlines_work_under_uvloop_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> list[str]:
        clock, seen = FakeClock(), list[str]()

        async def chain(name: str, seconds: float) -> None:
            for _ in range(3):
                await clock.sleep(seconds)
                seen.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(chain("a", 2))
            group.create_task(chain("b", 3))
            await clock.advance(20)
        for _ in range(20):  # its timers may fire a little early; the error must be ours all the same
            with pytest.raises(Timeout):
                async with Context().limit("a wink", timeout=0.001):
                    await asyncio.Event().wait()
        return seen

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # At 6 s both are due; "b" began to wait for it first.
        assert runner.run(scenario()) == ["a", "b", "a", "b", "a", "b"]


async def test_the_clock_of_the_work_under_way_is_found_from_anywhere():
    clock = FakeClock()
    told = []

    async def deep() -> None:
        async with ambient().timeout(60):
            await ambient().sleep(30)
        told.append(ambient().monotonic())

    began = clock.monotonic()
    with ticking(clock):
        task = asyncio.ensure_future(deep())
    assert ambient() is SYSTEM
    await clock.advance(30)
    await task
    assert told == [began + 30]
