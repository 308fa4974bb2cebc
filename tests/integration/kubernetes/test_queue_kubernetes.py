"""Queues as StatefulSets of real NATS: messages go in and out with the binding, and survive a new pod."""

import contextlib
import os
import ssl

import nats
import pytest
from kubernetes_cluster import eventually

from chandlery.providers.kubernetes.types import CLAIMS, PODS, SECRETS, STATEFUL_SETS

pytestmark = pytest.mark.engine


@contextlib.asynccontextmanager
async def client(kube, name, secret="", **options):
    """What an application in the cluster gets with the binding, through the Service."""
    binding = await kube.secret(secret or name)
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-queue"))
    connection = await nats.connect(
        f"nats://{host}:{port}", user=binding["username"], password=binding["password"], **options
    )
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

    # a user needs a new file, which the server reads while it runs; the volume grows
    more = {**spec, "maxDeliveries": 5, "users": [{"name": "worker"}]}
    await kube.apply("Queue", "jobs", more)
    await kube.ready("Queue", "jobs")
    async with client(kube, "jobs", "jobs-user-worker") as (stream, binding):
        await stream.publish(binding["subject"], b"second")
    assert [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items] == before

    # more storage needs a restart, and the volume grows first
    await kube.apply("Queue", "jobs", {**more, "storage": {"size": "128Mi"}})
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


async def test_certificates_and_passwords_change_while_it_runs(kube):
    """TLS by a CA of the queue's own; a new certificate is read without a restart, a rotated password keeps a while."""
    spec = {"storage": {"size": "64Mi"}, "tls": {}, "rotation": {"schedule": "0 3 1 1 *", "gracePeriod": "1h"}}
    await kube.apply("Queue", "safe", spec)
    await kube.ready("Queue", "safe")
    old = await kube.secret("safe")
    assert old["uri"].startswith("tls://")
    trust = ssl.create_default_context(cadata=old["ca.crt"])
    trust.check_hostname = False
    with pytest.raises(Exception, match=r"(?i)certificate|tls|ssl"):
        async with client(kube, "safe", tls=ssl.create_default_context(), allow_reconnect=False):
            pass
    async with client(kube, "safe", tls=trust) as (stream, binding):
        await stream.publish(binding["subject"], b"kept")
    before = [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items]

    # another certificate, of the same CA: the file is made anew when it is gone
    certificate = (await kube.secret("safe-queue-tls"))["tls.crt"]
    await kube.api.delete(SECRETS, kube.namespace, "safe-queue-tls")

    async def renewed():
        found = await kube.secret("safe-queue-tls")
        return found["tls.crt"] != certificate

    await eventually(renewed)
    await kube.ready("Queue", "safe")

    await kube.apply("Queue", "safe", spec, annotations={"chandlery.dev/rotate-requested-at": "now"})

    async def rotated():
        return (await kube.secret("safe"))["password"] != old["password"]

    await eventually(rotated)
    await kube.ready("Queue", "safe")
    for words in (old, await kube.secret("safe")):
        [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, "safe-queue"))
        one = await nats.connect(f"nats://{host}:{port}", user=words["username"], password=words["password"], tls=trust)
        await one.close()
    assert [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items] == before


@pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
async def test_five_servers_become_three_and_nothing_is_lost(kube):
    await kube.apply("Queue", "many", {"storage": {"size": "64Mi"}, "replicas": 5})
    await kube.ready("Queue", "many", 90)
    binding = await kube.secret("many")

    async def connected():
        places = await eventually(lambda: kube.workloads.behind(kube.namespace, "many-queue"))
        return await nats.connect(
            [f"nats://{host}:{port}" for host, port in places], user=binding["username"], password=binding["password"]
        )

    connection = await connected()
    for number in range(20):
        await connection.jetstream().publish(binding["subject"], str(number).encode())
    await connection.close()
    await kube.apply("Queue", "many", {"storage": {"size": "64Mi"}, "replicas": 3})
    status = await kube.ready("Queue", "many", 90)
    assert status["messages"] == 20
    assert [member["name"] for member in status["members"]] == [f"many-queue-{index}" for index in range(3)]
    connection = await connected()
    subscription = await connection.jetstream().pull_subscribe_bind(
        consumer=binding["consumer"], stream=binding["stream"]
    )
    messages = await subscription.fetch(20, timeout=10)

    async def claims() -> bool:
        return len((await kube.api.list(CLAIMS, kube.namespace)).items) == 3

    await eventually(claims)  # the volumes of those that went are gone with them
    assert sorted(int(message.data) for message in messages) == list(range(20))
    await connection.close()
