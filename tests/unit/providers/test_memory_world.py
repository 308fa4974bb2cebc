"""The simulated world: latency, failures and crashes where a test wants them."""

from __future__ import annotations

import asyncio

import pytest

from chandlery.driver.provider import ProviderSetup
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.errors import NotFound, Unavailable
from chandlery.providers.memory import Crash, MemoryProvider, World


@pytest.fixture
def clock():
    return FakeClock()


async def test_every_call_takes_its_time(clock):
    world = World(clock, latency=0.2)
    call = asyncio.create_task(world.look("a"))
    await clock.advance(0.1)
    assert not call.done()
    await clock.advance(0.1)
    assert await call == {}


async def test_failures_come_before_or_after_the_effect(clock):
    world = World(clock)
    world.fail(Unavailable("no"), when="before")
    with pytest.raises(Unavailable):
        await world.make("volume", "a", {})
    assert world.everything() == []
    world.fail(Unavailable("no"), when="after", verb="make")
    assert await world.look("a") == {}
    with pytest.raises(Unavailable):
        await world.make("volume", "a", {})
    assert world.everything() == [("volume", "a")]
    await world.make("volume", "a", {})
    assert world.everything() == [("volume", "a")]


async def test_a_crash_is_no_error_that_somebody_could_handle(clock):
    world = World(clock)
    world.crash_at(2)
    await world.look("a")
    with pytest.raises(Crash):
        await world.make("volume", "a", {})
    assert not issubclass(Crash, Exception)
    world.heal()
    await world.make("volume", "a", {})
    assert [call.verb for call in world.calls] == ["look", "make", "make"]


async def test_instances_take_time_to_start_and_to_stop(clock):
    world = World(clock, start_time=2.0, stop_time=3.0)
    heard = []
    world.listeners.add(heard.append)
    await world.start("a", {})
    assert world.part("instance", "a").data["state"] == "starting"
    await clock.advance(2)
    assert (world.part("instance", "a").data["state"], heard) == ("running", ["a"])
    world.break_instance("a")
    await world.start("a", {})
    await clock.advance(1)
    await world.configure("a", {"x": 1}, restart=True)
    await clock.advance(1.5)
    assert world.part("instance", "a").data["state"] == "starting", "it began anew"
    await clock.advance(1)
    assert world.part("instance", "a").data["state"] == "running"
    await world.remove("instance", "a")
    await clock.advance(2)
    assert world.exists("a") == ["instance"]
    await clock.advance(1)
    assert world.everything() == []


async def test_what_is_looked_at_is_a_copy(clock):
    world = World(clock)
    await world.make("user", "a", {"password": "x"})
    (await world.look("a"))["user"].data["password"] = "changed"
    assert world.part("user", "a").data["password"] == "x"
    with pytest.raises(NotFound):
        await world.configure("a", {}, restart=False)


async def test_news_wakes_the_object_that_it_is_about(clock):
    provider, woken = MemoryProvider(World(clock)), []
    session = await provider.open(ProviderSetup(notify=woken.append, clock=clock))
    session.owners["cache-1"] = "uid-1"
    await provider.world.start("cache-1", {})
    provider.world.break_instance("cache-1")
    provider.world.break_instance("unknown")
    assert woken == ["uid-1"]
    far = await provider.open(ProviderSetup(name="far", clock=clock))
    assert far.world is not provider.world
    await provider.close(session)
    provider.world.break_instance("cache-1")
    assert woken == ["uid-1"]


async def test_a_start_that_is_asked_for_again_does_not_begin_anew(clock):
    world = World(clock, start_time=1.0)
    await world.start("one", {})
    await clock.advance(0.6)
    await world.start("one", {})
    await clock.advance(0.6)
    assert (await world.look("one"))["instance"].data["state"] == "running"
