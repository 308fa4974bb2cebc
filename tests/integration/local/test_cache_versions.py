"""Caches on another version of their engine, forth and back, and Redis itself: with real engines, two side by side."""

import asyncio
import contextlib
import os
import subprocess

import pytest
import redis.asyncio as redis
from local_harness import Harness, kill, shared_cache, until

from chandlery.foundation.errors import ChandleryError
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("cluster_nodes")]
heavy = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", CacheDriver(), Cache, shared_cache())
    yield made
    await made.close()


def client(binding, **options):
    return redis.from_url(binding.entries["uri"], decode_responses=True, **options)


async def test_a_new_version_and_back_lose_nothing_even_of_what_is_in_memory_only(local):
    await local.provider.engines.ensure("valkey", "9.0")
    obj = local.object(version="9.0")
    seen = await local.converge(obj)
    assert seen.facts["version"].startswith("9.0.")
    async with client(seen.binding) as cache:
        await cache.set("kept", "yes")
    seen = await local.converge(local.changed(obj, version="9"))
    assert (seen.facts["version"][:3], seen.facts["availableVersion"]) == ("9.0", "9.1")  # it serves what is asked for
    for version in ("9.1", "9.0"):
        seen = await local.converge(local.changed(obj, version=version))
        assert seen.facts["version"].startswith(version)
        assert ("spec.version", "restart") in local.plans
        async with client(seen.binding) as cache:
            assert await cache.get("kept") == "yes"
        assert not list(local.instance(obj).data_dir.glob("*/dump.rdb"))


async def test_copies_go_first_and_the_primary_hands_over(local):
    await local.provider.engines.ensure("valkey", "9.0")
    obj = local.object(version="9.0", mode="replicated", replicas=1)
    seen = await local.converge(obj)
    written = []

    async def write():
        number = 0
        while True:
            try:
                async with client(seen.binding, socket_timeout=2) as cache:
                    while True:
                        await cache.set(f"k{number}", number)
                        written.append(number)
                        number += 1
                        await asyncio.sleep(0.002)
            except (redis.RedisError, OSError):
                await asyncio.sleep(0.02)

    writer = asyncio.create_task(write())
    try:
        for version in ("9.1", "9.0"):
            await until(lambda: len(written) > 50, 30)
            seen = await local.converge(local.changed(obj, version=version))
            assert {member["version"][:3] for member in seen.facts["members"]} == {version}
            written_then = len(written)
            await until(lambda then=written_then: len(written) > then + 50, 30)
    finally:
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
    async with client(seen.binding) as cache:
        present = {int(key[1:]) for key in await cache.keys("k*")}
    assert [number for number in written if number not in present] == []


async def test_redis_with_copies_behind_tls_and_its_own_client(local, tmp_path):
    engine = await local.provider.engines.ensure("redis")
    obj = local.object(engine="redis", mode="replicated", replicas=1, tls={}, users=[{"name": "app"}])
    seen = await local.converge(obj)
    assert seen.facts["version"].startswith("7.")
    authority = tmp_path / "ca.crt"
    authority.write_text(seen.binding.entries["ca.crt"])
    tool = engine.binary.parent / "redis-cli"
    for binding in (seen.binding, seen.user_bindings["demo-user-app"]):
        argv = [str(tool), "-u", binding.entries["uri"], "--cacert", str(authority), "--no-auth-warning"]
        argv += ["set", "greeting", "ahoy"]
        said = await asyncio.to_thread(
            subprocess.run, argv, env={**engine.env}, capture_output=True, text=True, timeout=60, check=False
        )
        assert said.stdout.strip() == "OK", said.stderr
    async with client(seen.binding, ssl_ca_data=seen.binding.entries["ca.crt"]) as cache:
        await cache.set("later", "1")
        assert await cache.wait(1, 30000) == 1  # what a copy hasn't yet goes with the primary
    await kill(local.instance(obj).process("node-0").state().pid)
    seen = await local.converge(obj)
    assert seen.facts["primary"] == "node-1"
    async with client(seen.binding, ssl_ca_data=seen.binding.entries["ca.crt"]) as cache:
        assert await cache.get("greeting") == "ahoy"


@heavy
async def test_a_sharded_redis_moves_slots_key_by_key(local):
    from redis.asyncio.cluster import RedisCluster

    await local.provider.engines.ensure("redis")
    obj = local.object(engine="redis", mode="sharded", shards=3)
    seen = await local.converge(obj)
    async with RedisCluster.from_url(seen.binding.entries["uri"], decode_responses=True) as cache:
        for number in range(300):
            await cache.set(f"k{number}", number)
        obj = local.changed(obj, shards=4)

        async def even():
            seen = await local.converge(obj)
            return seen.facts["shards"] == 4 and all(c.status.value == "True" for c in seen.conditions)

        await until(even, 60)
    async with RedisCluster.from_url(seen.binding.entries["uri"], decode_responses=True) as cache:
        assert [await cache.get(f"k{number}") for number in range(300)] == [str(number) for number in range(300)]


@heavy
async def test_a_sharded_cache_changes_its_version_shard_by_shard(local):
    from redis.asyncio.cluster import RedisCluster

    await local.provider.engines.ensure("valkey", "9.0")
    obj = local.object(version="9.0", mode="sharded", shards=3, replicas=1)
    seen = await local.converge(obj)
    async with RedisCluster.from_url(seen.binding.entries["uri"], decode_responses=True) as cache:
        for number in range(100):
            await cache.set(f"k{number}", number)
    seen = await local.converge(local.changed(obj, version="9.1"))
    assert {member["version"][:3] for member in seen.facts["members"]} == {"9.1"}
    async with RedisCluster.from_url(seen.binding.entries["uri"], decode_responses=True) as cache:
        assert [await cache.get(f"k{number}") for number in range(100)] == [str(number) for number in range(100)]


async def test_what_an_older_engine_cant_read_is_refused_and_nothing_stops(local, monkeypatch):
    from chandlery_kinds.cache import valkey

    await local.provider.engines.ensure("valkey", "9.0")
    monkeypatch.setattr(valkey, "SAME_DATA", frozenset())
    obj = local.object(version="9.1")
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        await cache.set("kept", "yes")
        with pytest.raises(ChandleryError, match=r"valkey 9\.0 can't read what 9\.1"):
            await local.converge(local.changed(obj, version="9.0"))
        assert await cache.get("kept") == "yes"
