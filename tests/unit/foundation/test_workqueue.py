"""One worker per key, at most one place in the queue, turns for kinds, back-off of one's own."""

from __future__ import annotations

import asyncio
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.foundation.clock import FakeClock
from chandlery.foundation.concurrency.workqueue import WorkQueue
from chandlery.reconcile.api import Key

A, B, C = (Key("Cache", "n", name) for name in "abc")
D = Key("Database", "n", "d")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def queue(clock):
    return WorkQueue(group=attrgetter("kind"), clock=clock, base=1.0, limit=60.0, random=lambda: 1.0)


async def test_a_key_waits_once(queue):
    for _ in range(3):
        queue.add(A)
    assert await queue.get() == A
    assert queue.get_nowait() is None


async def test_added_while_worked_on_it_runs_once_more_afterwards(queue):
    queue.add(A)
    key = await queue.get()
    queue.add(A)
    queue.add(A)
    assert queue.get_nowait() is None, "one worker for a key at a time"
    queue.done(key)
    assert queue.get_nowait() == A
    queue.done(A)
    assert not queue.busy()


async def test_of_a_forgotten_key_nothing_is_left(queue):
    queue.add_after(A, 10)
    queue.forget(A)
    assert len(queue) == 0, "it was to come back later"
    queue.add(A)
    queue.forget(A)
    assert await queue.get() == A, "whoever waits for it finds out that there is nothing to do"
    queue.add(A)
    queue.failed(A)
    queue.forget(A)
    queue.done(A)
    assert len(queue) == 0
    queue.forget(B)
    assert len(queue) == 0


async def test_kinds_take_turns(queue):
    for key in (A, B, C, D):
        queue.add(key)
    got = [await queue.get() for _ in range(4)]
    assert got.index(D) == 1


async def test_later_means_later_and_the_earlier_date_stays(queue, clock):
    queue.add_after(A, 10)
    queue.add_after(A, 5)
    queue.add_after(A, 20)
    await clock.advance(4.9)
    assert queue.get_nowait() is None
    await clock.advance(0.2)
    assert queue.get_nowait() == A
    queue.done(A)
    await clock.advance(100)
    assert queue.get_nowait() is None, "the later dates are gone"


async def test_adding_now_makes_a_date_needless(queue, clock):
    queue.add_after(A, 10)
    queue.add(A)
    queue.done(await queue.get())
    await clock.advance(20)
    assert queue.get_nowait() is None


async def test_back_off_grows_and_is_forgotten(queue):
    delays = []
    for _ in range(8):
        queue.add(A)
        key = await queue.get()
        delays.append(queue.failed(key))
        queue.done(key)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    queue.succeeded(A)
    queue.add(A)
    assert queue.failed(await queue.get()) == 1


async def test_back_off_is_jittered_but_never_nothing(clock):
    low = WorkQueue(group=attrgetter("kind"), clock=clock, base=1.0, random=lambda: 0.0)
    assert low.failed(A) == pytest.approx(0.1)


async def test_what_the_error_says_is_the_least(queue):
    assert queue.failed(A, at_least=30) == 30


async def test_a_waiting_worker_is_woken_and_a_cancelled_one_passes_it_on(queue):
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    first.cancel()
    assert await asyncio.wait_for(second, 1) == A
    await asyncio.gather(first, return_exceptions=True)


async def test_close_sends_workers_home(queue):
    worker = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_after(A, 10)
    queue.close()
    with pytest.raises(asyncio.CancelledError):
        await worker


async def test_ages(queue, clock):
    queue.add(A)
    await clock.advance(3)
    queue.add(D)
    assert queue.oldest() == 3
    assert queue.depth() == {"Cache": 1, "Database": 1}
    queue.add_after(B, 10)
    assert queue.scheduled() == 1


@given(
    st.lists(st.tuples(st.sampled_from(["add", "later", "get", "done", "fail", "time"]), st.sampled_from([A, B, D])))
)
def test_no_key_is_lost_and_none_is_worked_on_twice_at_once(steps):
    async def run():
        clock = FakeClock()
        queue = WorkQueue(group=attrgetter("kind"), clock=clock, base=0.5, random=lambda: 0.5)
        working: set[Key] = set()
        wanted: set[Key] = set()
        for what, key in steps:
            if what == "add":
                queue.add(key)
                wanted.add(key)
            elif what == "later":
                queue.add_after(key, 1.0)
                wanted.add(key)
            elif what == "get":
                got = queue.get_nowait()
                if got is not None:
                    assert got not in working
                    working.add(got)
                    wanted.discard(got)
            elif what in {"done", "fail"} and key in working:
                if what == "fail":
                    queue.failed(key)
                    wanted.add(key)
                queue.done(key)
                working.discard(key)
            else:
                await clock.advance(0.7)
        for key in list(working):
            queue.done(key)
        await clock.advance(1000)
        left = set()
        while (got := queue.get_nowait()) is not None:
            left.add(got)
        assert wanted <= left

    asyncio.run(run())


async def test_what_is_gone_while_it_is_worked_on_needs_no_further_pass(queue):
    queue.add(A)
    key = await queue.get()
    queue.add(A)
    queue.forget(A)
    queue.done(key)
    assert queue.get_nowait() is None
    assert not queue.busy()
