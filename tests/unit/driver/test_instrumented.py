"""One wrapper: deadline, measures, translation of errors."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import pytest

from chandlery.driver.instrumented import Deadlines, Instrumented
from chandlery.driver.protocol import DriverContext, Observation
from chandlery.driver.provider import provider_of
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import Internal, NotFound, Timeout, Unavailable


class Telemetry:
    def __init__(self):
        self.verbs = []
        self.spans = []

    def verb(self, *facts):
        self.verbs.append(facts)

    @contextmanager
    def span(self, name, ctx, **attributes):
        self.spans.append((name, attributes))
        yield


class Inner:
    name = "inner"

    def __init__(self, does):
        self.does = does

    def unsupported(self, obj, parameters):
        return self.does()

    async def observe(self, ctx, obj):
        return await self.does(ctx)

    create = observe

    async def update(self, ctx, obj, observed):
        return await self.does(ctx)

    async def delete(self, ctx, obj):
        return await self.does(ctx)


def context(clock=None):
    return DriverContext(Context(clock=clock or FakeClock()), None, None)


async def test_a_good_call_is_measured_and_passed_on():
    telemetry = Telemetry()

    async def does(ctx):
        await ctx.base.clock.sleep(2)
        return Observation(exists=True)

    clock = FakeClock()
    call = asyncio.create_task(Instrumented(Inner(does), "Cache", telemetry).observe(context(clock), None))
    await clock.advance(2)
    assert (await call).exists
    assert telemetry.verbs == [("Cache", "inner", "observe", "ok", 2.0)]
    assert telemetry.spans == [("Cache.observe", {"kind": "Cache", "driver": "inner"})]


async def test_what_hangs_ends_at_its_deadline():
    clock, telemetry = FakeClock(), Telemetry()

    async def does(ctx):
        await clock.sleep(1000)

    driver = Instrumented(Inner(does), "Cache", telemetry, Deadlines(observe=5))
    call = asyncio.create_task(driver.observe(context(clock), None))
    await clock.advance(5)
    with pytest.raises(Timeout):
        await call
    assert telemetry.verbs[0][3] == "Timeout"


async def test_the_driver_knows_its_deadline():
    async def does(ctx):
        return ctx.base.remaining()

    driver = Instrumented(Inner(does), "Cache", Telemetry(), Deadlines(delete=7))
    assert await driver.delete(context(), None) == 7


@pytest.mark.parametrize(
    ("raised", "translated"),
    [
        (NotFound("x"), NotFound),
        (KeyError("x"), Internal),
        (ConnectionRefusedError("x"), Unavailable),
        (TimeoutError(), Timeout),
    ],
)
async def test_nothing_but_our_errors_gets_out(raised, translated):
    telemetry = Telemetry()

    async def does(ctx):
        raise raised

    with pytest.raises(translated):
        await Instrumented(Inner(does), "Cache", telemetry).create(context(), None)
    assert telemetry.verbs[0][3] == translated.code


async def test_a_fault_does_not_tell_its_values():
    async def does(ctx):
        raise ValueError("password=hunter2")

    with pytest.raises(Internal) as caught:
        await Instrumented(Inner(does), "Cache", Telemetry()).create(context(), None)
    assert "hunter2" not in caught.value.condition_message()


async def test_cancellation_is_not_an_error():
    telemetry = Telemetry()

    async def does(ctx):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Instrumented(Inner(does), "Cache", telemetry).create(context(), None)
    assert telemetry.verbs[0][3] == "Cancelled"


def test_a_fault_in_unsupported_is_translated_too():
    def does():
        raise KeyError("x")

    with pytest.raises(Internal, match="unsupported"):
        Instrumented(Inner(does), "Cache", Telemetry()).unsupported(None, {})


def test_a_driver_may_name_another_provider():
    class Third:
        name = "acme"
        provider = "aws"

    assert provider_of(Third) == "aws"
    assert provider_of(Inner(None)) == "inner"
