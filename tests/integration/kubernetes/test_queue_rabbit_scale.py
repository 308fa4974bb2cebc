"""RabbitMQ servers that become more and fewer, with real servers in containers: messages stay, members come and go.

As processes of one machine they can't be had: Erlang's port mapper takes the loopback address for itself.
"""

from __future__ import annotations

import os

import aio_pika
import pytest
from kubernetes_cluster import CONTAINERS, eventually

from chandlery.providers.kubernetes.types import JOBS, PODS, STATEFUL_SETS
from chandlery.providers.local.engines.apt import available
from chandlery_kinds.queue import rabbitmq as rabbit
from chandlery_kinds.queue.drivers.kubernetes_rabbit import VHOST
from chandlery_kinds.queue.drivers.rabbit_client import Management
from chandlery_kinds.queue.kubernetes.rabbit import MANAGEMENT_PORT

HEAVY = CONTAINERS and os.environ.get("CHANDLERY_HEAVY")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not HEAVY, reason="takes a while: CHANDLERY_CONTAINERS=1 CHANDLERY_HEAVY=1"),
    pytest.mark.skipif(bool(available()), reason=f"RabbitMQ comes from Debian packages: {available()}"),
    pytest.mark.timeout(900),
]
SECONDS = 300


async def connected(kube, binding):
    [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, "many-queue"))
    return await aio_pika.connect(
        host=host,
        port=port,
        login=binding["username"],
        password=binding["password"],
        virtualhost=binding["virtual-host"],
    )


async def inside(kube):
    """Members of the cluster, and of the queue, by the first server."""
    admin = (await kube.secret("many-queue-auth"))["admin"]
    pod = await kube.get(PODS, "many-queue-0")
    async with Management(MANAGEMENT_PORT, rabbit.ADMIN, admin, pod["status"]["podIP"]) as api:
        nodes = [node["name"] for node in await api.get("nodes")]
        return len(nodes), len((await api.get(f"queues/{VHOST}/many"))["members"])


async def test_one_server_becomes_three_and_one_again_and_nothing_is_lost(kube):
    spec = {"engine": "rabbitmq", "storage": {"size": "64Mi"}}
    await kube.apply("Queue", "many", spec)
    await kube.ready("Queue", "many", SECONDS)
    binding = await kube.secret("many")
    first = (await kube.get(PODS, "many-queue-0"))["metadata"]["uid"]
    async with await connected(kube, binding) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(binding["exchange"], ensure=False)
        for number in range(20):
            await exchange.publish(aio_pika.Message(str(number).encode(), delivery_mode=2), binding["routing-key"])

    await kube.apply("Queue", "many", {**spec, "replicas": 3})
    status = await kube.ready("Queue", "many", SECONDS)
    assert len(status["members"]) == 3
    assert await inside(kube) == (3, 3)
    assert (await kube.get(PODS, "many-queue-0"))["metadata"]["uid"] == first  # nothing was restarted for it

    await kube.apply("Queue", "many", {**spec, "replicas": 1})
    status = await kube.ready("Queue", "many", SECONDS)
    assert [member["name"] for member in status["members"]] == ["many-queue-0"]
    assert await inside(kube) == (1, 1)

    stateful = await kube.get(STATEFUL_SETS, "many-queue")
    assert stateful["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Delete"

    async def done():
        return not (await kube.api.list(JOBS, kube.namespace)).items

    await eventually(done)
    async with await connected(kube, binding) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(binding["queue"], ensure=False)
        bodies = [int((await queue.get(no_ack=True, timeout=10)).body) for _ in range(20)]
    assert sorted(bodies) == list(range(20))
