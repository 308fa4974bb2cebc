"""Providers that are away or slow, seen from the loop."""

from __future__ import annotations

import asyncio

from chandlery.foundation.errors import ProviderUnavailable, Unavailable
from chandlery.providers.memory import World
from chandlery.reconcile.settings import LoopSettings
from chandlery_kinds import KINDS

NAMES = [f"c{number}" for number in range(20)]


async def many(stage) -> None:
    await stage.start()
    for name in NAMES:
        await stage.apply("Cache", name)
    for name in NAMES:
        await stage.ready("Cache", name)


async def test_many_objects_of_a_provider_that_is_away_cost_little_and_are_back_at_once(stage):
    await many(stage)
    stage.world.down = ProviderUnavailable("no route to the simulated provider")
    await stage.clock.advance(100)
    for name in NAMES:
        ready = await stage.condition("Cache", name, "Ready")
        assert (ready["status"], ready["reason"]) == ("Unknown", "ProviderUnavailable")
        assert "no route to the simulated provider" in ready["message"]
    calls, writes = len(stage.world.calls), len(stage.writes())
    await stage.clock.advance(1200)
    assert len(stage.world.calls) - calls <= 1200 / 60 + 2, "one object tries, for all of them"
    assert len(stage.writes()) - writes <= len(NAMES), "and status isn't written again and again"
    stage.world.heal()
    await stage.until(
        lambda _: all(
            any(c["type"] == "Ready" and c["status"] == "True" for c in obj["status"]["conditions"])
            for (kind, _, _), obj in stage.api._objects.items()
            if kind == "Cache"
        ),
        "Cache",
        NAMES[0],
        limit=62,
    )


async def test_a_deletion_does_not_wait_for_the_others(stage):
    await many(stage)
    stage.world.down = ProviderUnavailable("away", retry_after=1.0)
    await stage.clock.advance(100)
    await stage.delete("Cache", NAMES[0])
    await stage.clock.advance(10)
    stage.world.heal()
    await stage.until(lambda obj: obj is None, "Cache", NAMES[0], limit=5)


async def test_a_provider_that_can_not_be_opened_is_tried_now_and_then(stage):
    tries = 0

    class Shut:
        async def open(self, setup):
            nonlocal tries
            tries += 1
            raise Unavailable("connection refused")

        async def close(self, session):
            """Nothing was opened."""

    stage.provider = Shut()
    await stage.start()
    for name in NAMES:
        await stage.apply("Cache", name)
    await stage.clock.advance(600)
    ready = await stage.condition("Cache", NAMES[0], "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ProviderUnavailable")
    assert "connection refused" in ready["message"]
    assert tries <= 25


async def test_a_slow_provider_leaves_workers_for_the_others(stages):
    stage = stages(list(KINDS), LoopSettings(workers=3, provider_workers=2, drift_interval=60.0))
    await stage.prepare()
    await stage.add_config("slow")
    await stage.add_class("slow", "Cache", providerConfigRef={"name": "slow"})
    slow = stage.provider.worlds["slow"] = World(stage.clock, start_time=0.5)
    held = asyncio.Event()

    async def hang(_call, _moment) -> None:
        await held.wait()

    slow.hook = hang
    await stage.start()
    try:
        for name in NAMES:
            await stage.apply("Cache", name, spec={"memory": "64Mi", "className": "slow"})
        await stage.clock.advance(2)
        await stage.apply("Cache", "quick")
        await stage.ready("Cache", "quick", limit=10)
        held.set()
        slow.heal()
        for name in NAMES:
            await stage.ready("Cache", name, limit=120)
    finally:
        await stage.kill()
