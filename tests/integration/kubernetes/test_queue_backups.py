"""Backups of queues in JetStream by pods, and queues that begin with one: real servers, real program, real files."""

from __future__ import annotations

import contextlib
import json

import nats
import pytest
from kubernetes_cluster import eventually

from chandlery.providers.kubernetes.types import CRON_JOBS, JOBS, PODS, STATEFUL_SETS

pytestmark = pytest.mark.engine
VOLUME = {"volume": {"claimName": "safe"}}


@contextlib.asynccontextmanager
async def client(kube, name):
    """What an application in the cluster gets with the binding, through the Service."""
    binding = await kube.secret(name)
    places = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-queue"))
    host, port = places[0]
    connection = await nats.connect(
        f"nats://{host}:{port}", user=binding["username"], password=binding["password"], allow_reconnect=False
    )
    try:
        yield connection.jetstream(), binding
    finally:
        await connection.close()


async def received(kube, name, count):
    """That many messages, as a worker gets them."""
    found = []
    async with client(kube, name) as (stream, binding):
        subscription = await stream.pull_subscribe_bind(consumer=binding["consumer"], stream=binding["stream"])
        for message in await subscription.fetch(count, timeout=30):
            found.append(message.data.decode())
    return found


async def test_a_queue_begins_with_a_backup_of_another_and_leaves_a_last_one(kube):
    await kube.claim("safe")
    spec = {"storage": {"size": "64Mi"}, "backup": {"destination": VOLUME}, "deletionPolicy": "Snapshot"}
    await kube.apply("Queue", "old", spec)
    await kube.ready("Queue", "old")
    async with client(kube, "old") as (stream, binding):
        for word in ("one", "two"):
            await stream.publish(binding["subject"], word.encode())
    await kube.delete("Queue", "old", 120)
    kinds = (STATEFUL_SETS, JOBS, CRON_JOBS, PODS)
    assert [o["metadata"]["name"] for k in kinds for o in (await kube.api.list(k, kube.namespace)).items] == []
    [folder] = (kube.workloads.folder / "claims" / kube.namespace / "safe").glob("queue.*.old.*")
    [backup] = folder.glob("2*Z")
    assert json.loads((backup / "manifest.json").read_text())["messages"] == 2

    # a name that isn't there is told, and nothing is made inside in its place
    source = {"destination": VOLUME, "backup": "20200101T000000Z"}
    await kube.apply("Queue", "wrong", {"storage": {"size": "64Mi"}, "restoreFrom": source})

    async def told():
        conditions = {c["type"]: c for c in (await kube.get("Queue", "wrong"))["status"]["conditions"]}
        return conditions["Ready"] if conditions["Ready"]["reason"] == "RestoreFailed" else None

    assert backup.name in (await eventually(told, 120))["message"]
    await kube.delete("Queue", "wrong")

    await kube.apply("Queue", "new", {"storage": {"size": "64Mi"}, "restoreFrom": {"destination": VOLUME}})
    await kube.ready("Queue", "new")
    assert await received(kube, "new", 2) == ["one", "two"]
