"""Caches as StatefulSets: the real engine in each pod, what clients of redis-py see, what the API server holds."""

from __future__ import annotations

import contextlib

import pytest
import redis.asyncio as redis
from kubernetes_cluster import eventually

from chandlery.providers.kubernetes.types import BUDGETS, CLAIMS, PODS, SECRETS, SERVICES, STATEFUL_SETS

pytestmark = pytest.mark.engine


@contextlib.asynccontextmanager
async def client(kube, name, service, **options):
    """What an application in the cluster gets with the binding, through the Service."""
    binding = await kube.secret(name)
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, service))
    async with redis.Redis(
        host=host,
        port=port,
        username=binding["username"],
        password=binding["password"],
        decode_responses=True,
        **options,
    ) as made:
        yield made


async def test_life_of_a_single_cache(kube):
    await kube.apply("Cache", "one", {"memory": "32Mi", "users": [{"name": "app"}]})
    status = await kube.ready("Cache", "one")
    binding = await kube.secret("one")
    assert binding["host"] == f"one-cache.{kube.namespace}.svc"
    assert status["endpoint"] == {"host": binding["host"], "port": 6379}
    async with client(kube, "one", "one-cache", single_connection_client=True) as cache:
        identity = await cache.client_id()
        await cache.set("greeting", "ahoy")
        await kube.apply(
            "Cache", "one", {"memory": "32Mi", "evictionPolicy": "allkeys-lru", "configuration": {"maxclients": "500"}}
        )
        await kube.ready("Cache", "one")
        assert await cache.client_id() == identity
        assert await cache.get("greeting") == "ahoy"
    async with client(kube, "one", "one-cache") as cache:
        with pytest.raises(redis.ResponseError, match="no permissions"):
            await cache.config_get("*")

    # a new password works beside the old one, with clients connected
    note = {"chandlery.dev/rotate-requested-at": "now"}
    await kube.apply("Cache", "one", {"memory": "32Mi", "users": [{"name": "app"}]}, annotations=note)

    async def rotated():
        return (await kube.secret("one"))["password"] != binding["password"]

    await eventually(rotated)
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, "one-cache"))
    for words in (binding, await kube.secret("one")):
        async with redis.Redis(host=host, port=port, password=words["password"]) as cache:
            assert await cache.ping()

    kinds = (STATEFUL_SETS, SERVICES, PODS, CLAIMS)
    await kube.delete("Cache", "one")
    assert [o["metadata"]["name"] for k in kinds for o in (await kube.api.list(k, kube.namespace)).items] == []


async def test_copies_follow_and_one_takes_over(kube):
    await kube.apply("Cache", "two", {"memory": "32Mi", "mode": "replicated", "replicas": 1})
    status = await kube.ready("Cache", "two")
    assert status["primary"] == "two-cache-0"
    async with client(kube, "two", "two-cache") as cache:
        await cache.set("kept", "yes")
        assert await cache.wait(1, 5000) == 1
    async with client(kube, "two", "two-cache-read") as reader:
        assert await reader.get("kept") == "yes"
        with pytest.raises(redis.ReadOnlyError):
            await reader.set("kept", "no")

    kube.workloads.kill("two-cache-0")  # it comes back at once, with nothing in memory

    async def taken_over():
        found = await kube.get("Cache", "two")
        return found["status"].get("primary") == "two-cache-1"

    await eventually(taken_over)
    await kube.ready("Cache", "two")
    async with client(kube, "two", "two-cache") as cache:
        assert await cache.get("kept") == "yes"
    async with client(kube, "two", "two-cache-read") as reader:
        assert await reader.get("kept") == "yes"


async def test_a_primary_hands_over_before_its_pod_is_scaled_away(kube):
    spec = {"memory": "32Mi", "mode": "replicated", "replicas": 2}
    await kube.apply("Cache", "less", spec)
    await kube.ready("Cache", "less")
    kube.workloads.kill("less-cache-0")
    kube.workloads.kill("less-cache-1")

    async def last_leads():
        status = await kube.ready("Cache", "less")
        return status["primary"] == "less-cache-2"

    await eventually(last_leads, 60)
    async with client(kube, "less", "less-cache") as cache:
        await cache.set("kept", "yes")
    await kube.apply("Cache", "less", {**spec, "replicas": 1})

    async def smaller():
        status = await kube.ready("Cache", "less")
        return len(status["members"]) == 2 and status["primary"] != "less-cache-2"

    await eventually(smaller, 60)
    async with client(kube, "less", "less-cache") as cache:
        assert await cache.get("kept") == "yes"


async def test_a_changed_template_rolls_copies_first_and_loses_nothing(kube):
    spec = {"memory": "32Mi", "mode": "replicated", "replicas": 1}
    await kube.apply("Cache", "roll", spec)
    await kube.ready("Cache", "roll")
    async with client(kube, "roll", "roll-cache") as cache:
        await cache.set("kept", "yes")
        assert await cache.wait(1, 5000) == 1
    before = {p["metadata"]["name"]: p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items}
    await kube.apply("Cache", "roll", {**spec, "resources": {"requests": {"cpu": "50m"}}})

    async def rolled():
        pods = (await kube.api.list(PODS, kube.namespace)).items
        return len(pods) == 2 and all(before[p["metadata"]["name"]] != p["metadata"]["uid"] for p in pods)

    await eventually(rolled, 40)
    status = await kube.ready("Cache", "roll")
    assert status["primary"] == "roll-cache-1"  # it was new already when the first one had to go
    async with client(kube, "roll", "roll-cache") as cache:
        assert await cache.get("kept") == "yes"


async def test_retained_data_is_found_and_everything_else_is_gone(kube):
    storage = {"mode": "append-only", "storage": {"size": "64Mi"}}
    await kube.apply("Cache", "kept", {"memory": "32Mi", "persistence": storage, "deletionPolicy": "Retain"})
    await kube.ready("Cache", "kept")
    await kube.delete("Cache", "kept")
    left = [
        o["metadata"]["name"]
        for k in (STATEFUL_SETS, SERVICES, PODS, CLAIMS, SECRETS, BUDGETS)
        for o in (await kube.api.list(k, kube.namespace, labels="chandlery.dev/owner-uid")).items
    ]
    assert left == ["data-kept-cache-0", "kept-cache-auth"]


async def test_a_settled_cache_costs_no_write_and_no_request(kube):
    await kube.apply("Cache", "calm", {"memory": "32Mi", "mode": "replicated", "replicas": 1})
    await kube.ready("Cache", "calm")
    asked = []
    kube.operator.api._on_request = lambda verb, resource, _code: asked.append((verb, resource))
    passes = kube.operator.core.engine.passes
    await eventually(lambda: kube.operator.core.engine.passes >= passes + 2)
    assert asked == []
