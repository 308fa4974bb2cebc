"""What only a kubelet does to pods: volumes that change hands, low ports, pods that end in their own time."""

from __future__ import annotations

import os

import aiohttp
import nats
import pytest
import redis.asyncio as redis
from kubernetes_cluster import CONTAINERS, eventually

from chandlery.providers.kubernetes.types import PODS, SERVICES

pytestmark = [
    pytest.mark.skipif(not CONTAINERS, reason="runs containers: CHANDLERY_CONTAINERS=1"),
    pytest.mark.engine,
    pytest.mark.timeout(400),
]


async def uid(kube, name):
    found = await kube.get(PODS, name)
    return found["metadata"]["uid"] if found else ""


async def replaced(kube, name):
    """Delete a pod as a drain does, and wait for the next of its name."""
    before = await uid(kube, name)
    await kube.api.delete(PODS, kube.namespace, name)

    async def another() -> bool:
        return (await uid(kube, name)) not in ("", before)

    await eventually(another)


async def test_a_database_starts_on_a_volume_that_has_changed_hands(kube):
    """A volume whose root has lost its group is given to the pod's whole: the group may write everywhere then."""
    await kube.apply("Database", "moved", {"storage": {"size": "1Gi"}})
    await kube.ready("Database", "moved")
    volume = kube.workloads.folder / "claims" / kube.namespace / "data-moved-database-0"
    os.chown(volume, 0, 0)
    await replaced(kube, "moved-database-0")
    await kube.ready("Database", "moved")


async def test_a_load_balancer_listens_where_only_root_could(kube):
    spec = {"listeners": [{"name": "web", "protocol": "HTTP", "port": 80, "pool": "app"}], "pools": [{"name": "app"}]}
    await kube.apply("LoadBalancer", "low", spec)
    await kube.ready("LoadBalancer", "low")
    [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, "low-loadbalancer"))
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/") as response:
        assert response.status == 503


async def test_a_primary_that_is_drained_hands_over_all_it_has(kube):
    spec = {"memory": "32Mi", "mode": "replicated", "replicas": 1, "metrics": {"enabled": True}}
    await kube.apply("Cache", "kept", spec)
    await kube.ready("Cache", "kept")
    words = await kube.secret("kept")

    async def client() -> redis.Redis:
        [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, "kept-cache"))
        return redis.Redis(host=host, port=port, username=words["username"], password=words["password"])

    async with await client() as cache:
        await cache.set("greeting", "ahoy")
    primary = (await kube.ready("Cache", "kept"))["primary"]
    await replaced(kube, primary)

    async def handed_over():
        status = await kube.ready("Cache", "kept")
        return status["primary"] != primary

    await eventually(handed_over)
    async with await client() as cache:
        assert await cache.get("greeting") == b"ahoy"

    [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, "kept-cache-metrics"))
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/metrics") as response:
        assert "redis_up 1" in await response.text()


async def test_an_exporter_that_never_starts_takes_no_server_from_its_clients(kube):
    """Nobody has the image of the exporter of NATS here: the pod is never ready, and serves all the same."""
    await kube.apply("Queue", "seen", {"storage": {"size": "64Mi"}, "metrics": {}})
    status = await kube.ready("Queue", "seen")
    told = {condition["type"]: condition for condition in status["conditions"]}
    assert told["MetricsAvailable"]["status"] == "False"
    assert "prometheus-nats-exporter" in told["MetricsAvailable"]["message"]
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, "seen-queue"))
    binding = await kube.secret("seen")
    connection = await nats.connect(f"nats://{host}:{port}", user=binding["username"], password=binding["password"])
    try:
        await connection.jetstream().publish(binding["subject"], b"through the Service")
    finally:
        await connection.close()

    # without it the Service is as strict as ever
    await kube.apply("Queue", "seen", {"storage": {"size": "64Mi"}})
    await kube.ready("Queue", "seen")

    async def strict() -> bool:
        found = await kube.get(SERVICES, "seen-queue")
        return not found["spec"].get("publishNotReadyAddresses")

    await eventually(strict)
