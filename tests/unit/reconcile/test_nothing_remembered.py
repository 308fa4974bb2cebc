"""What is gone is forgotten, however it went; and what breaks again and again is not tried in a tight loop."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from chandlery.foundation.clock import FakeClock
from chandlery.reconcile.credentials import Credentials
from chandlery.reconcile.operator import Operator, OperatorSettings
from chandlery_kinds import KINDS

CACHE = next(kind for kind in KINDS if kind.name == "Cache")


async def test_of_objects_that_are_gone_nothing_is_remembered(stages):
    stage = stages([CACHE])
    await stage.prepare()
    core = await stage.start()
    await stage.apply("Cache", "ready")
    await stage.apply("Cache", "unclaimed", {"className": "nowhere"})
    await stage.apply("Cache", "stripped")
    for name in ("ready", "stripped"):
        await stage.ready("Cache", name)
    await stage.api.merge_patch(stage.types["Cache"], "shop", "stripped", {"metadata": {"finalizers": None}})
    for name in ("unclaimed", "stripped", "ready"):
        await stage.delete("Cache", name)
        await stage.until(lambda obj: obj is None, "Cache", name)
    await stage.clock.advance(5)
    engine = core.engine
    assert (len(engine.store), len(engine.queue), engine.references._from, engine.references._to) == (0, 0, {}, {})
    assert engine._writer._last == {}
    assert (core.binder._known, core.binder._owned) == ({}, {})
    await stage.kill()


class Broken:
    """A core whose task ends as soon as it runs."""

    started: ClassVar[list[float]] = []

    def __init__(self, *_, clock, **__):
        self._clock = clock
        self.crashed = asyncio.Event()
        self.informers = []

    async def start(self, **_):
        self.started.append(self._clock.monotonic())
        self.crashed.set()

    async def stop(self):
        pass


async def test_a_loop_that_breaks_at_once_is_started_anew_ever_more_rarely(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("chandlery.reconcile.operator.Core", Broken)
    monkeypatch.setattr(Broken, "started", [])
    clock = FakeClock()
    settings = OperatorSettings(leader_election=False)
    operator = Operator(Credentials("http://127.0.0.1:1"), [CACHE], {}, settings=settings, clock=clock)
    task = asyncio.create_task(operator._terms())
    await clock.advance(120)
    assert 5 < len(Broken.started) < 25
    assert not task.done()
    task.cancel()
    await operator.api.close()
