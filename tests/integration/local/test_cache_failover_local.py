"""Failovers of caches that go wrong on the way: a copy that has less doesn't win over data that are on the disk."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest
import redis.asyncio as redis
from checking_writers import CopiedCacheWriter
from local_harness import Harness, kill, until

from chandlery.driver.protocol import Plan
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache

pytestmark = pytest.mark.engine
heavy = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
KEPT = {"persistence": {"mode": "append-only", "storage": {"size": "1Gi"}}}


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", CacheDriver(), Cache)
    yield made
    await made.close()


def client(binding, **options):
    return redis.from_url(binding.entries["uri"], decode_responses=True, **options)


def pid_of(local, obj, name):
    return local.instance(obj).process(name).state().pid


async def writing(binding):
    async def entries():
        return binding.entries

    writer = CopiedCacheWriter("checking", entries)
    writer.start()
    await writer.more(5)
    return writer


async def one_pass(local, obj):
    observed = await local.driver.observe(local.ctx, obj)
    await local.driver.update(local.ctx, obj, replace(observed, plan=Plan(observed.differences)))


async def test_a_copy_that_was_away_does_not_take_over_from_data_on_the_disk(local):
    obj = local.object(mode="replicated", replicas=1, **KEPT)
    seen = await local.converge(obj)
    os.kill(pid_of(local, obj, "node-1"), signal.SIGSTOP)
    await local.driver.observe(local.ctx, obj)  # sees that it doesn't follow
    async with client(seen.binding) as cache:
        await cache.set("later", "yes")
    await kill(pid_of(local, obj, "node-0"))
    os.kill(pid_of(local, obj, "node-1"), signal.SIGCONT)
    again = await local.converge(obj)
    async with client(again.binding) as cache:
        assert await cache.get("later") == "yes"
    assert again.facts["primary"] == "node-0"


async def test_a_frozen_primary_is_given_up_and_follows_afterwards(local):
    """Also right after its start; what was acknowledged by a copy is there."""
    obj = local.object(mode="replicated", replicas=2, **KEPT)
    seen = await local.converge(obj)
    writer = await writing(seen.binding)
    try:
        os.kill(pid_of(local, obj, "node-0"), signal.SIGSTOP)
        again = await local.converge(obj)
        await writer.more()
    finally:
        await writer.stop()
    assert again.facts["primary"] != "node-0"
    assert sorted(member["role"] for member in again.facts["members"]) == ["primary", "replica", "replica"]
    assert not await writer.lost()


@heavy
@pytest.mark.timeout(300)
async def test_killed_again_while_it_is_to_follow(local):
    """The new primary dies while the old one copies from it."""
    obj = local.object(mode="replicated", replicas=1, **KEPT)
    seen = await local.converge(obj)
    writer = await writing(seen.binding)
    try:
        for _ in range(4):
            seen = await local.converge(obj)
            primary = seen.facts["primary"]
            (copy,) = {"node-0", "node-1"} - {primary}
            await writer.more()
            await kill(pid_of(local, obj, primary))
            await until_takes_writes(local, obj, copy)
            await kill(pid_of(local, obj, copy))
        await local.converge(obj)
        await writer.more()
    finally:
        await writer.stop()
    assert not await writer.lost()


async def until_takes_writes(local, obj, name):
    """Passes until this one is the primary; the other may just have been started again."""

    async def is_so():
        await one_pass(local, obj)
        observed = await local.driver.observe(local.ctx, obj)
        member = next(m for m in observed.facts["members"] if m["name"] == name)
        return observed.facts["primary"] == name and member["role"] == "primary" and member["ready"]

    await until(is_so, 120)


@heavy
async def test_primary_and_a_copy_lost_at_once(local):
    obj = local.object(mode="replicated", replicas=2, **KEPT)
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        for number in range(100):
            await cache.set(f"k{number}", number)
            assert await cache.wait(2, 10000) == 2
    await asyncio.gather(*(kill(pid_of(local, obj, name)) for name in ("node-0", "node-1")))
    again = await local.converge(obj)
    assert again.facts["primary"] == "node-2"
    async with client(again.binding) as cache:
        assert len(await cache.keys("k*")) == 100
