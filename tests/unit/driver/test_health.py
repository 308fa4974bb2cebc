"""A provider that is away is left alone and tried again; a slow one keeps its own places busy only."""

from __future__ import annotations

import asyncio

import pytest

from chandlery.driver.health import Health, NoRoom
from chandlery.driver.instrumented import Instrumented
from chandlery.driver.protocol import DriverContext, Observation
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import EngineFailed, ProviderUnavailable, Timeout, Unavailable
from chandlery.reconcile.metrics import Metrics


class Remote:
    """A driver whose provider can be switched off."""

    name = "remote"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls: list[str] = []

    def unsupported(self, obj, parameters):
        return ()

    async def observe(self, ctx, obj):
        self.calls.append("observe")
        if self.error:
            raise self.error
        return Observation(exists=True)

    async def create(self, ctx, obj):
        await self.observe(ctx, obj)

    async def update(self, ctx, obj, observed):
        await self.observe(ctx, obj)

    async def delete(self, ctx, obj):
        self.calls.append("delete")
        if self.error:
            raise self.error
        return True


@pytest.fixture
def remote():
    return Remote()


@pytest.fixture
def told():
    return []


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def health(clock, told):
    return Health("acme", "eu", clock, places=2, wake=told.append)


@pytest.fixture
def driver(remote):
    return Instrumented(remote, "Cache", Metrics(enabled=False))


@pytest.fixture
def ctx(clock, health):
    return DriverContext(Context(clock=clock), None, None, health=health)  # type: ignore[arg-type]


async def away(driver, ctx, times: int = 3) -> None:
    for _ in range(times):
        with pytest.raises(ProviderUnavailable):
            await driver.observe(ctx, None)


async def test_who_is_away_is_left_alone_then_tried_by_one(clock, remote, driver, ctx, health, told):
    remote.error = ProviderUnavailable("no route to acme.example")
    await away(driver, ctx)
    assert len(remote.calls) == 3
    said = []
    for _ in range(5):
        with pytest.raises(ProviderUnavailable) as refused:
            await driver.create(ctx, None)
        said.append(refused.value.condition_message())
        assert refused.value.code == "ProviderUnavailable"
        assert 0 < refused.value.retry_after <= 1
    assert len(remote.calls) == 3, "nobody asks it now"
    text = (
        "The provider acme of the ProviderConfig eu failed again and again (no route to acme.example) and is left "
        "alone for a while. Check that it runs and can be reached; it is tried again at least every 60 s."
    )
    assert {words.lower() for words in said} == {text.lower()}
    await clock.advance(1)
    remote.error = None
    assert (await driver.observe(ctx, None)).exists
    assert health.well
    assert told == [False, True], "one is sent to try, then all are called back"
    assert (await driver.observe(ctx, None)).exists


async def test_the_rest_grows_and_has_an_end(clock, remote, driver, ctx):
    remote.error = ProviderUnavailable("away")
    await away(driver, ctx)
    gaps, last = [], clock.monotonic()
    while len(gaps) < 9:
        before = len(remote.calls)
        with pytest.raises(ProviderUnavailable):
            await driver.observe(ctx, None)
        if len(remote.calls) > before:
            gaps.append(round(clock.monotonic() - last))
            last = clock.monotonic()
        else:
            await clock.advance(0.5)
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize("error", [Unavailable("one engine"), EngineFailed("one engine"), Timeout("one engine")])
async def test_a_broken_engine_says_nothing_of_the_provider(remote, driver, ctx, health, error):
    remote.error = error
    for _ in range(20):
        with pytest.raises(type(error)):
            await driver.observe(ctx, None)
    assert health.well
    assert len(remote.calls) == 20


async def test_one_success_among_them_shows_that_it_lives(remote, driver, ctx, health):
    for _ in range(30):
        remote.error = None
        await driver.observe(ctx, None)
        await driver.observe(ctx, None)
        remote.error = ProviderUnavailable("a hiccup")
        with pytest.raises(ProviderUnavailable):
            await driver.observe(ctx, None)
    assert health.well


async def test_a_deletion_always_goes_through(remote, driver, ctx, health):
    remote.error = ProviderUnavailable("away")
    await away(driver, ctx)
    assert not health.well
    with pytest.raises(ProviderUnavailable, match="away"):
        await driver.delete(ctx, None)
    remote.error = None
    assert await driver.delete(ctx, None)
    assert remote.calls[-2:] == ["delete", "delete"]


async def test_there_is_room_for_so_many_and_one_more_is_sent_away(health):
    leave = asyncio.Event()

    async def stay() -> None:
        with health.room():
            await leave.wait()

    inside = [asyncio.create_task(stay()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(NoRoom), health.room():
        pass
    leave.set()
    await asyncio.gather(*inside)
    with health.room():
        pass


async def test_who_was_sent_away_is_called_once_in_turn_when_there_is_room(health):
    called, leave = [], [asyncio.Event(), asyncio.Event()]

    async def stay(number) -> None:
        with health.room(number):
            await leave[number].wait()

    inside = [asyncio.create_task(stay(number)) for number in range(2)]
    await asyncio.sleep(0)
    for who in ("a", "b", "a", "c"):
        with pytest.raises(NoRoom), health.room(who, lambda who=who: called.append(who)):
            pass
    assert called == []
    leave[0].set()
    await inside[0]
    assert called == ["a"]
    with health.room("a"):
        pass
    assert called == ["a", "b"]  # each that leaves calls the next
    leave[1].set()
    await inside[1]
    assert called == ["a", "b", "c"]
    with health.room("a"):
        pass
    assert called == ["a", "b", "c"]


async def test_who_asks_first_is_called_as_who_was_sent_away(health):
    called = []
    assert not health.sends_away("early", lambda: called.append("early"))
    with health.room(1):
        with health.room(2):
            assert health.full
            assert health.sends_away("late", lambda: called.append("late"))
        assert called == ["late"]
    assert called == ["late"], "each is called once"
