"""RabbitMQ on Kubernetes: a real server in the pod, what a client sees, users and passwords that change."""

from __future__ import annotations

import os
import ssl

import aio_pika
import pytest
from kubernetes_cluster import eventually
from rabbit_process import server

from chandlery.providers.kubernetes.types import PODS
from chandlery.providers.local.engines.apt import available

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(available()), reason=f"RabbitMQ comes from Debian packages: {available()}"),
]


async def test_life_of_a_queue(kube, tmp_path):
    binary, environment = await server(tmp_path)
    kube.workloads.binaries["rabbitmq-server"] = binary
    kube.workloads.environment |= environment
    spec = {
        "engine": "rabbitmq",
        "storage": {"size": "64Mi"},
        "tls": {},
        "maxDeliveries": 2,
        "deadLetter": {},
        "users": [{"name": "till", "rights": ["publish"]}],
    }
    await kube.apply("Queue", "tills", spec)
    await kube.ready("Queue", "tills", 120)
    binding = await kube.secret("tills")
    assert binding["uri"].startswith("amqps://")
    trust = ssl.create_default_context(cadata=binding["ca.crt"])
    trust.check_hostname = False

    async def connected(words):
        [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, "tills-queue"))
        return await aio_pika.connect(
            host=host,
            port=port,
            login=words["username"],
            password=words["password"],
            virtualhost=words["virtual-host"],
            ssl=True,
            ssl_context=trust,
        )

    async with await connected(await kube.secret("tills-user-till")) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(binding["exchange"], ensure=False)
        await exchange.publish(aio_pika.Message(b"one"), binding["routing-key"])
    async with await connected(binding) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(binding["queue"], ensure=False)
        message = await queue.get(timeout=10)
        assert message.body == b"one"
        await message.ack()

    before = [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items]
    annotations = {"chandlery.dev/rotate-requested-at": "now"}
    await kube.apply(
        "Queue", "tills", {**spec, "retention": {"maxMessages": 100}, "users": []}, annotations=annotations
    )

    async def rotated():
        return (await kube.secret("tills"))["password"] != binding["password"]

    await eventually(rotated, 60)
    await kube.ready("Queue", "tills", 60)
    for words in (binding, await kube.secret("tills")):  # both work for a while
        async with await connected(words):
            pass
    assert [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items] == before
