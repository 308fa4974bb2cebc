"""Who takes writes when a primary hangs, and when it has nobody left: never two, and one again within seconds."""

from __future__ import annotations

import os

import pytest
import redis.asyncio as redis
from kubernetes_cluster import eventually

from chandlery.providers.kubernetes.types import PODS, STATEFUL_SETS
from chandlery_kinds.cache.drivers.kubernetes_valkey import ALONE

pytestmark = pytest.mark.engine
SPEC = {"memory": "32Mi", "mode": "replicated", "replicas": 1}


def connected(place, binding, **options):
    host, port = place
    return redis.Redis(
        host=host,
        port=port,
        username=binding["username"],
        password=binding["password"],
        socket_timeout=2,
        socket_connect_timeout=2,
        decode_responses=True,
        **options,
    )


async def written(kube, name, key):
    """Whether a client of the Service can write; there is never more than one place behind it."""
    places = await kube.workloads.behind(kube.namespace, f"{name}-cache")
    assert len(places) <= 1
    binding = await kube.secret(name)
    async with connected(places[0], binding) as client:
        return await client.set(key, "yes")


@pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
async def test_a_frozen_primary_loses_its_place_and_takes_no_write_when_it_wakes(kube):
    await kube.apply("Cache", "ice", SPEC)
    await kube.ready("Cache", "ice")
    binding = await kube.secret("ice")
    [before] = await eventually(lambda: kube.workloads.behind(kube.namespace, "ice-cache"))
    async with connected(before, binding) as client:
        await client.set("kept", "yes")
        assert await client.wait(1, 5000) == 1
    frozen = kube.workloads.running("ice-cache-0")
    kube.workloads.freeze("ice-cache-0")

    async def taken_over():
        found = await kube.get("Cache", "ice")
        return found["status"].get("primary") == "ice-cache-1"

    await eventually(taken_over)
    await eventually(lambda: written(kube, "ice", "after"))
    roles = {
        pod["metadata"]["name"]: pod["metadata"]["labels"].get("chandlery.dev/role")
        for pod in (await kube.api.list(PODS, kube.namespace)).items
    }
    assert [name for name, role in roles.items() if role == "primary"] == ["ice-cache-1"]

    if kube.workloads.running("ice-cache-0") is frozen:
        kube.workloads.freeze("ice-cache-0", on=False)
    async with connected(before, binding) as client:
        with pytest.raises(redis.RedisError):
            await client.set("second", "primary")
    await kube.ready("Cache", "ice")
    [now] = await kube.workloads.behind(kube.namespace, "ice-cache")
    async with connected(now, binding) as client:
        assert await client.mget("kept", "after", "second") == ["yes", "yes", None]
        assert (await client.info("replication"))["connected_slaves"] == 1


async def test_a_primary_whose_copy_is_gone_goes_on_alone_and_not_for_longer(kube):
    await kube.apply("Cache", "lone", SPEC)
    status = await kube.ready("Cache", "lone")
    assert status["primary"] == "lone-cache-0"

    async def note():
        found = await kube.get(STATEFUL_SETS, "lone-cache")
        return found["metadata"]["annotations"].get(ALONE)

    assert await note() is None
    kube.workloads.frozen.add("lone-cache-1")
    await kube.api.delete(PODS, kube.namespace, "lone-cache-1")

    async def alone():
        return await note() == "lone-cache-0"

    await eventually(alone)
    await eventually(lambda: written(kube, "lone", "alone"))
    kube.workloads.frozen.discard("lone-cache-1")

    async def together():
        await kube.ready("Cache", "lone")
        return await note() is None

    await eventually(together)
    assert await written(kube, "lone", "together")
