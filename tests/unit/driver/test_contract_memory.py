"""Every kind's memory driver keeps the contract, also when it is killed between any two calls of the world."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import os
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chandlery.driver.contract import CHECKS, ContractBroken, converge, remove
from chandlery.driver.kind import Kind
from chandlery.driver.protocol import Driver, DriverContext
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.model.examples import readme_examples
from chandlery.providers.memory import Crash, World
from chandlery.providers.memory.provider import MemorySession
from chandlery_kinds import KINDS

SPECS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Cache": ({}, {"memory": "1Gi", "version": "9"}),
    "Database": ({}, {"configuration": {"work_mem": "8MB"}, "instances": 2}),
    "Queue": ({}, {"maxDeliveries": 3, "replicas": 3}),
    "LoadBalancer": (
        {
            "listeners": [{"name": "web", "protocol": "TCP", "port": 8080, "pool": "app"}],
            "pools": [{"name": "app", "targets": [{"name": "a", "address": "192.0.2.1", "port": 80}]}],
        },
        {"replicas": 2, "configuration": {"maxconn": "100"}},
    ),
    "VirtualMachine": (
        {"image": {"name": "alpine"}, "rootDisk": {"size": "1Gi"}},
        {"cpus": 2, "runStrategy": "Manual"},
    ),
}


def specs(kind: Kind) -> tuple[dict[str, Any], dict[str, Any]]:
    """A spec and a change of it; for a kind that isn't in the table, what its README shows."""
    if kind.name in SPECS:
        return SPECS[kind.name]
    shown = {example.title: example.manifest["spec"] for example in readme_examples(kind.package)}
    return shown["Minimal"], shown["Typical"]


class MemoryHarness:
    crash = Crash

    def __init__(self, kind: Kind, clock: FakeClock, driver: type[Driver[Any]] | None = None, **world: float) -> None:
        self.kind = kind
        self.clock = clock
        self.world = World(clock, **world)
        self._type = driver or kind.load_driver("memory")
        self._uids = itertools.count(1)

    def driver(self) -> Driver[Any]:
        return self._type()

    def context(self, obj: Any) -> DriverContext:
        return DriverContext(Context(clock=self.clock).child(timeout=3600), _Nobody(), MemorySession(self.world))

    def make(self, **spec: Any) -> Any:
        base = copy.deepcopy(specs(self.kind)[0])
        return self.kind.model.model_validate(
            {
                "apiVersion": self.kind.names.api_version,
                "kind": self.kind.name,
                "metadata": {"name": "one", "namespace": "shop", "uid": f"uid-{next(self._uids)}", "generation": 1},
                "spec": {**base, **spec},
                "status": {},
            }
        )

    def change(self) -> Mapping[str, Any]:
        return specs(self.kind)[1]

    def crash_at(self, call: int, when: Any) -> None:
        self.world.crash_at(call, when)

    def heal(self) -> None:
        self.world.heal()

    def calls(self) -> int:
        return len(self.world.calls)

    def inventory(self) -> Mapping[str, str]:
        return {f"{part} {name}": repr(self.world.part(part, name).data) for part, name in self.world.everything()}

    async def wait(self, seconds: float) -> None:
        await self.clock.advance(seconds)


class _Nobody:
    async def get(self, *_: Any) -> None:
        return None

    async def list(self, *_: Any) -> list[Any]:
        return []

    async def secret(self, *_: Any) -> None:
        return None


KIND_NAMES = [kind.name for kind in KINDS]


def kind_of(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


@pytest.mark.parametrize("world", [{}, {"start_time": 0.4}, {"stop_time": 1.0}], ids=["instant", "starts", "stops"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", KIND_NAMES)
async def test_contract(kind, check, world):
    await check(MemoryHarness(kind_of(kind), FakeClock(), **world))


# The suite itself must be able to fail: drivers that break the contract, one rule each.

CACHE = kind_of("Cache").load_driver("memory")


class Leaky(CACHE):
    async def create(self, ctx, obj):
        await ctx.provider.world.make("volume", f"random-{len(ctx.provider.world.calls)}", {})
        await super().create(ctx, obj)


class Meddling(CACHE):
    async def observe(self, ctx, obj):
        await ctx.provider.world.make("volume", "observed", {})
        return await super().observe(ctx, obj)


class Forgetful(CACHE):
    async def delete(self, ctx, obj):
        await ctx.provider.world.remove("instance", f"cache-{obj.metadata.uid}")
        return True


class Eager(CACHE):
    async def update(self, ctx, obj, observed):
        from dataclasses import replace

        from chandlery.driver.protocol import Plan

        await super().update(ctx, obj, replace(observed, plan=Plan(observed.differences)))


class Greedy(CACHE):
    async def delete(self, ctx, obj):
        for part, name in ctx.provider.world.everything():
            await ctx.provider.world.remove(part, name)
        return True


class Talkative(CACHE):
    def facts(self, obj, instance, *, ready):
        return {**super().facts(obj, instance, ready=ready), "gossip": "heard"}


class Mistyped(CACHE):
    def facts(self, obj, instance, *, ready):
        return {**super().facts(obj, instance, ready=ready), "replicas": "three"}


class Renewing(CACHE):
    """Its update begins with taking the user away: killed in between, the password is lost."""

    async def update(self, ctx, obj, observed):
        world, name = ctx.provider.world, f"cache-{obj.metadata.uid}"
        user = world.part("user", name)
        if user is not None:
            await world.remove("user", name)
            await world.make("user", name, user.data)
        await super().update(ctx, obj, observed)


class Nameless(CACHE):
    async def observe(self, ctx, obj):
        from dataclasses import replace

        return replace(await super().observe(ctx, obj), external_name=f"cache-{obj.metadata.name}")


BROKEN = [
    (Leaky, "survives_a_crash_at_any_call_of_create", "left behind|leaked"),
    (Meddling, "observe_changes_nothing", "observe made something"),
    (Forgetful, "delete_leaves_nothing", "left behind"),
    (Eager, "update_does_what_the_plan_says", "did more than the plan"),
    (Greedy, "two_objects_do_not_meet", "touched the other"),
    (Talkative, "becomes_ready", "facts that status has no field for: gossip"),
    (Mistyped, "becomes_ready", "status.replicas: Input should be a valid integer"),
    (Renewing, "survives_a_crash_at_any_call_of_update", "password is another one"),
    (Nameless, "becomes_ready", "is not made of the uid"),
]


@pytest.mark.parametrize(("driver", "rule", "said"), BROKEN, ids=[each[0].__name__ for each in BROKEN])
async def test_a_driver_that_breaks_a_rule_is_caught(driver, rule, said):
    check = next(check for check in CHECKS if check.__name__ == rule)
    with pytest.raises(ContractBroken, match=said):
        await check(MemoryHarness(kind_of("Cache"), FakeClock(), driver))


CALLS = st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["before", "after"])), min_size=1, max_size=6)


@settings(max_examples=int(os.environ.get("CHANDLERY_TEST_EXAMPLES", "40")), deadline=None)
@given(CALLS, st.sampled_from(KIND_NAMES))
def test_crashes_while_it_recovers_from_crashes(crashes, name):
    """One kill after another, each while the last one is being mended: still nothing leaked and nothing lost."""

    async def scenario() -> None:
        harness = MemoryHarness(kind_of(name), FakeClock())
        obj = harness.make()
        for call, when in crashes:
            harness.crash_at(call, when)
            with contextlib.suppress(Crash):
                await converge(harness, obj)
        harness.heal()
        seen = await converge(harness, obj)
        assert len(harness.inventory()) == 4
        for call, when in crashes:
            harness.crash_at(call, when)
            with contextlib.suppress(Crash):
                await remove(harness, obj)
        harness.heal()
        await remove(harness, obj)
        assert seen.ready
        assert not harness.inventory()

    asyncio.run(scenario())


async def test_a_resource_that_never_gets_ready_is_reported():
    harness = MemoryHarness(kind_of("Cache"), FakeClock(), start_time=10_000.0)
    with pytest.raises(ContractBroken, match="never ready"):
        await converge(harness, harness.make(), rounds=2)
