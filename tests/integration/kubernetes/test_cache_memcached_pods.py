"""Memcached on Kubernetes: what a client sees with the binding, and what changes while it runs."""

from __future__ import annotations

import pytest
from kubernetes_cluster import eventually
from local_harness import shared_cache

from chandlery.foundation.errors import Unauthenticated
from chandlery.providers.kubernetes.types import PODS
from chandlery.providers.local.engines import Engines
from chandlery.providers.local.engines.apt import available
from chandlery_kinds.cache.memcached import MemcachedClient

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(bool(available()), reason=f"Memcached comes from Debian packages: {available()}"),
]


async def client(kube, name, index=0):
    binding = await kube.secret(name)

    async def enough():
        places = sorted(await kube.workloads.behind(kube.namespace, f"{name}-cache"))
        return places[index:]

    [(host, port), *_] = await eventually(enough)
    return await MemcachedClient.connect(host, port, user=binding["username"], password=binding["password"])


async def test_one_and_then_two_with_certificates_and_new_passwords(kube):
    engine = await Engines(shared_cache()).ensure("memcached")
    kube.workloads.binaries["memcached"] = str(engine.binary)
    kube.workloads.environment |= engine.env
    spec = {"engine": "memcached", "memory": "32Mi"}
    await kube.apply("Cache", "small", spec)
    await kube.ready("Cache", "small")
    async with await client(kube, "small") as cache:
        assert await cache.store("greeting", "ahoy") == "STORED"
        assert (await cache.statistics("settings"))["maxbytes"] == str(32 * 2**20)
    old = await kube.secret("small")
    before = [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items]

    # memcached reads its users when it starts: a new password comes with a new pod
    await kube.apply("Cache", "small", spec, annotations={"chandlery.dev/rotate-requested-at": "now"})

    async def rotated():
        return (await kube.secret("small"))["password"] != old["password"]

    await eventually(rotated)

    async def works():
        async with await client(kube, "small"):
            return True

    await eventually(works, 60)
    await kube.ready("Cache", "small")
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, "small-cache"))
    with pytest.raises(Unauthenticated):
        await MemcachedClient.connect(host, port, user=old["username"], password=old["password"])
    assert [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items] != before
    await kube.delete("Cache", "small")

    await kube.apply("Cache", "wide", {**spec, "mode": "sharded", "shards": 2})
    status = await kube.ready("Cache", "wide")
    assert status["shards"] == 2
    nodes = (await kube.secret("wide"))["nodes"].split(",")
    domain = f"wide-cache-nodes.{kube.namespace}.svc:11211"
    assert nodes == [f"wide-cache-0.{domain}", f"wide-cache-1.{domain}"]
    for index in range(2):
        async with await client(kube, "wide", index) as cache:
            assert await cache.works()
