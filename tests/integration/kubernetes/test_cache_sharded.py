"""Sharded caches on Kubernetes: real Valkey in cluster mode, pods whose addresses change, shards more and fewer."""

from __future__ import annotations

import contextlib
import os

import pytest
import redis.asyncio as redis
from kubernetes_cluster import eventually

from chandlery.providers.kubernetes.types import PODS, STATEFUL_SETS

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("cluster_nodes")]
SPEC = {"memory": "32Mi", "mode": "sharded", "shards": 3, "replicas": 1}


@contextlib.asynccontextmanager
async def client(kube, name):
    """A client that speaks the cluster protocol, with the binding, through the Service."""
    binding = await kube.secret(name)
    places = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-cache"))
    host, port = places[0]
    async with redis.RedisCluster(host=host, port=port, password=binding["password"], decode_responses=True) as made:
        yield made


async def count(cache, numbers):
    return sum([1 for number in numbers if await cache.get(f"key-{number}") == str(number)])


async def test_keys_survive_more_shards_a_killed_primary_and_fewer_shards(kube):
    await kube.apply("Cache", "wide", SPEC)
    await kube.ready("Cache", "wide", 60)
    numbers = range(300)
    async with client(kube, "wide") as cache:
        for number in numbers:
            await cache.set(f"key-{number}", number)

    await kube.apply("Cache", "wide", {**SPEC, "shards": 4})

    async def shards(wanted):
        status = await kube.ready("Cache", "wide", 60)
        conditions = {c["type"]: c["status"] for c in status["conditions"]}
        return status["shards"] == wanted and conditions["SlotsBalanced"] == "True" and status

    status = await eventually(lambda: shards(4), 60)
    async with client(kube, "wide") as cache:
        assert await count(cache, numbers) == len(numbers)

    # it comes back at once, with the cluster's file and without its keys: its copy has them
    primary = next(member["name"] for member in status["members"] if member["role"] == "shard primary")
    kube.workloads.kill(primary)

    async def other():
        found = await kube.get("Cache", "wide")
        roles = {member["name"]: member["role"] for member in found["status"]["members"]}
        return roles[primary] == "shard replica"

    await eventually(other, 60)
    await kube.ready("Cache", "wide", 60)
    async with client(kube, "wide") as cache:
        assert await count(cache, numbers) == len(numbers)

    if not os.environ.get("CHANDLERY_HEAVY"):
        return

    # a pod that is made anew has another address and is another member
    copy = next(member["name"] for member in status["members"] if member["role"] == "shard replica")
    await kube.api.delete(PODS, kube.namespace, copy)
    await kube.apply("Cache", "wide", SPEC)
    await eventually(lambda: shards(3), 60)
    async with client(kube, "wide") as cache:
        assert await count(cache, numbers) == len(numbers)

        async def members():  # the fourth shard's pods end in their own time, and are forgotten then
            return len(await cache.execute_command("CLUSTER NODES", target_nodes=cache.get_random_node())) == 6

        await eventually(members)
    left = [o["metadata"]["name"] for o in (await kube.api.list(STATEFUL_SETS, kube.namespace)).items]
    assert left == ["wide-cache-s0", "wide-cache-s1", "wide-cache-s2"]
