"""Sharded caches as real processes: what redis-py's cluster client sees.

CHANDLERY_HEAVY=1 moves slots in both ways, by the engine and key by key, in every test.
"""

import asyncio
import contextlib
import os
import socket

import pytest
import redis.asyncio as redis
from local_harness import Harness, kill, until
from redis.asyncio.cluster import RedisCluster

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local import pids
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.drivers.slots import SlotMover
from chandlery_kinds.cache.model import Cache

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("cluster_nodes")]
heavy = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", CacheDriver(), Cache)
    yield made
    await made.close()


def client(binding, **options):
    if "ca.crt" in binding.entries:
        options["ssl_ca_data"] = binding.entries["ca.crt"]
    return RedisCluster.from_url(binding.entries["uri"], decode_responses=True, **options)


async def settled(local, obj, seconds=60):
    """As the spec asks, with nothing on its way any more."""

    async def look():
        seen = await local.converge(obj)
        return seen if all(c.status.value == "True" for c in seen.conditions) else None

    return await until(look, seconds)


class Writer:
    """Writes all the time and remembers what was acknowledged by a primary and its copies."""

    def __init__(self, binding, copies=0):
        self.binding = binding
        self.copies = copies
        self.written = []
        self.errors = []
        self.stopped = False

    async def __aenter__(self):
        self.task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_):
        """By a flag, not by a cancellation: redis-py swallows that while it learns of new nodes."""
        self.stopped = True
        async with asyncio.timeout(60):
            await self.task

    async def run(self):
        number = 0
        while not self.stopped:
            try:
                async with client(self.binding, socket_timeout=2, socket_connect_timeout=2) as cache:
                    while not self.stopped:
                        key = f"k{number}"
                        await cache.set(key, number)
                        if self.copies:
                            node = cache.get_node_from_key(key)
                            if await cache.execute_command("WAIT", self.copies, 500, target_nodes=node) < self.copies:
                                continue
                        self.written.append(number)
                        number += 1
                        await asyncio.sleep(0.002)
            except AttributeError:
                await asyncio.sleep(0.05)  # redis-py 8 trips over its own metrics while it learns of a new node
            except (redis.RedisError, OSError, TimeoutError) as error:
                self.errors.append(error)
                await asyncio.sleep(0.05)

    async def more(self, count=50):
        after = len(self.written)
        await until(lambda: len(self.written) >= after + count, 60)

    async def check(self):
        """Every acknowledged key is there with its value."""
        async with client(self.binding) as cache:
            missing = [n for n in self.written if await cache.get(f"k{n}") != str(n)]
        assert missing == []


async def test_a_cluster_client_reads_and_writes_everywhere(local):
    obj = local.object(
        mode="sharded",
        shards=3,
        replicas=1,
        memory="32Mi",
        users=[{"name": "reader", "commands": {"allow": ["@read", "@connection", "cluster|slots"]}}],
    )
    seen = await settled(local, obj)
    assert (seen.facts["shards"], seen.facts["instances"], seen.facts["readyInstances"]) == (3, 6, 6)
    assert sorted(member["role"] for member in seen.facts["members"]) == ["shard primary"] * 3 + ["shard replica"] * 3
    async with client(seen.binding) as cache:
        for number in range(200):
            await cache.set(f"k{number}", number)
        sizes = [await cache.dbsize(target_nodes=node) for node in cache.get_primaries()]
        assert sum(sizes) == 200
        assert all(sizes)
        instance = local.instance(obj)
        # live settings and users, on all nodes
        local.plans.clear()
        obj = local.changed(
            obj, memory="48Mi", users=[{"name": "writer"}, *obj.model_dump(by_alias=True, mode="json")["spec"]["users"]]
        )
        seen = await settled(local, obj)
        for member in seen.facts["members"]:
            port = int(member["address"].partition(":")[2])
            async with redis.Redis(port=port, username="chandlery", password=instance.secret("admin")) as admin:
                assert (await admin.config_get("maxmemory"))["maxmemory"] == str(48 << 20)
                assert {"writer", "reader"} <= set(await admin.acl_users())
        assert await cache.get("k7") == "7"
    async with client(seen.user_bindings["demo-user-writer"]) as writer:
        assert await writer.set("x", "y")
    assert set(seen.binding.entries["nodes"].split(",")) == {m["address"] for m in seen.facts["members"]}
    await local.delete(obj)
    assert not instance.root.exists()


@pytest.mark.parametrize("by_itself", [True, pytest.param(False, marks=heavy)], ids=["by the engine", "key by key"])
async def test_slots_move_live_and_no_key_is_lost(local, monkeypatch, by_itself):
    if not by_itself:

        async def no(self, client):
            return False

        monkeypatch.setattr(SlotMover, "by_itself", no)
    obj = local.object(mode="sharded", shards=3)
    seen = await settled(local, obj)
    async with Writer(seen.binding) as writer:
        await writer.more(200)
        obj = local.changed(obj, shards=4)
        seen = await settled(local, obj)
        assert seen.facts["shards"] == 4
        await writer.more()
        obj = local.changed(obj, shards=3)
        seen = await settled(local, obj)
        assert (seen.facts["shards"], seen.facts["instances"]) == (3, 3)
        await writer.more()
    await writer.check()
    names = local.instance(obj).process_names()
    assert sorted(names) == ["shard-0-node-0", "shard-1-node-0", "shard-2-node-0"]


@pytest.mark.parametrize("by_itself", [pytest.param(True, marks=heavy), False], ids=["by the engine", "key by key"])
async def test_an_operator_killed_while_slots_move_goes_on(local, monkeypatch, by_itself):
    """What it did until then stays done: after each of its commands it may be gone."""
    if not by_itself:

        async def no(self, client):
            return False

        monkeypatch.setattr(SlotMover, "by_itself", no)
    obj = local.object(mode="sharded", shards=3)
    seen = await settled(local, obj)
    async with Writer(seen.binding) as writer:
        await writer.more(100)
        obj = local.changed(obj, shards=4)
        for seconds in (0.3, 0.7, 1.1):
            with contextlib.suppress(TimeoutError, ChandleryError):
                async with asyncio.timeout(seconds):
                    await local.converge(obj)
            await local.restart_operator()
        seen = await settled(local, obj)
        assert seen.facts["shards"] == 4
        await writer.more()
    await writer.check()


async def test_a_copy_takes_over_its_shard_and_everybody_can_be_killed_at_once(local):
    kept = {"mode": "append-only", "fsync": "always", "storage": {"size": "1Gi"}}
    obj = local.object(mode="sharded", shards=3, replicas=1, persistence=kept)
    seen = await settled(local, obj)
    instance = local.instance(obj)
    async with Writer(seen.binding, copies=1) as writer:
        await writer.more(100)
        await kill(instance.process("shard-1-node-0").state().pid)
        seen = await settled(local, obj)
        await writer.more()
    await writer.check()
    roles = [member["role"] for member in seen.facts["members"] if member["name"].startswith("shard-1")]
    assert sorted(roles) == ["shard primary", "shard replica"]
    for name in instance.process_names():
        await kill(instance.process(name).state().pid)
    await local.restart_operator()
    again = await settled(local, obj)
    assert again.binding == seen.binding
    await writer.check()
    pid = local.instance(obj).process("shard-0-node-0").state().pid
    await local.delete(obj)
    assert pids.start_time(pid) is None


async def test_a_sharded_cache_speaks_tls(local):
    obj = local.object(mode="sharded", shards=3, tls={})
    seen = await settled(local, obj)
    async with client(seen.binding) as cache:
        for number in range(50):
            await cache.set(f"k{number}", number)
        assert [await cache.get(f"k{number}") for number in range(50)] == [str(number) for number in range(50)]
    for address in seen.binding.entries["nodes"].split(","):
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), 10) as plain:
            plain.sendall(b"PING\r\n")
            plain.settimeout(30)
            assert not plain.recv(100).startswith(b"-NOAUTH")
