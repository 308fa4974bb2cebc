"""Queues as StatefulSets of real NATS: messages go in and out with the binding, and survive a new pod."""

import contextlib

import nats
import pytest
from kubernetes_cluster import eventually

from chandlery.providers.kubernetes.types import CLAIMS, PODS, STATEFUL_SETS

pytestmark = pytest.mark.engine


@contextlib.asynccontextmanager
async def client(kube, name):
    binding = await kube.secret(name)
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-queue"))
    connection = await nats.connect(f"nats://{host}:{port}", user=binding["username"], password=binding["password"])
    try:
        yield connection.jetstream(), binding
    finally:
        await connection.close()


async def test_messages_survive_a_new_configuration(kube):
    spec = {"storage": {"size": "64Mi"}, "maxDeliveries": 3}
    await kube.apply("Queue", "jobs", spec)
    status = await kube.ready("Queue", "jobs")
    assert status["engine"] == "nats"
    async with client(kube, "jobs") as (stream, binding):
        await stream.publish(binding["subject"], b"first")
    before = [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items]

    # what JetStream can change live is changed live
    await kube.apply("Queue", "jobs", {**spec, "maxDeliveries": 5})
    await kube.ready("Queue", "jobs")
    assert [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items] == before

    # a user needs a new configuration, and the volume grows first
    more = {**spec, "maxDeliveries": 5, "storage": {"size": "128Mi"}, "users": [{"name": "worker"}]}
    await kube.apply("Queue", "jobs", more)
    await kube.ready("Queue", "jobs")
    assert [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items] != before
    [claim] = (await kube.api.list(CLAIMS, kube.namespace)).items
    assert claim["spec"]["resources"]["requests"]["storage"] == "128Mi"
    async with client(kube, "jobs") as (stream, binding):
        subscription = await stream.pull_subscribe_bind(consumer=binding["consumer"], stream=binding["stream"])
        [message] = await subscription.fetch(1, timeout=5)
        assert message.data == b"first"
        await message.ack()
    await kube.delete("Queue", "jobs")
    assert (await kube.api.list(STATEFUL_SETS, kube.namespace)).items == []
