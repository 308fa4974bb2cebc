"""Queues that RabbitMQ's own operators run: refused where they aren't, their objects, their words, their end.

The operators are played: one gives a RabbitmqCluster its Secret and says how it is; where RabbitMQ comes from Debian
(CHANDLERY_HEAVY=1) there is a real broker behind it, and the topology objects become real there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from base64 import b64decode, b64encode

import aio_pika
import pytest
from foreign_crds import RABBITMQ
from kubernetes_cluster import CONTAINERS, CRDS, TYPES, eventually
from rabbit_process import server

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.kubernetes.types import PODS, RABBITMQ_CLUSTERS, RABBITMQ_USERS, SECRETS, STATEFUL_SETS
from chandlery.providers.local.engines.apt import available
from chandlery.reconcile.api import RESOURCE_CLASSES
from chandlery_kinds.queue import rabbitmq as rabbit
from chandlery_kinds.queue.drivers.rabbit_client import Management
from chandlery_kinds.queue.kubernetes.rabbit_delegate import TOPOLOGY

pytestmark = pytest.mark.engine
HEAVY = bool(os.environ.get("CHANDLERY_HEAVY")) and not CONTAINERS
SPEC = {"engine": "rabbitmq", "storage": {"size": "64Mi"}, "maxDeliveries": 3, "deadLetter": {}}
USER, PASSWORD = "default_user_abc", "made-by-the-operator"
CONFIG = """listeners.tcp.1 = 0.0.0.0:5672
management.tcp.ip = 0.0.0.0
management.tcp.port = 15672
loopback_users = none
log.console = true
"""
SECURE = """listeners.tcp = none
listeners.ssl.1 = 0.0.0.0:5671
ssl_options.certfile = /etc/rabbitmq-tls/tls.crt
ssl_options.keyfile = /etc/rabbitmq-tls/tls.key
management.ssl.ip = 0.0.0.0
management.ssl.port = 15671
management.ssl.certfile = /etc/rabbitmq-tls/tls.crt
management.ssl.keyfile = /etc/rabbitmq-tls/tls.key
loopback_users = none
log.console = true
"""


@pytest.fixture
async def handed_over(kube):
    """A class that hands over to both operators, whose kinds are installed."""
    for crd in RABBITMQ:
        await kube.api.apply(CRDS, crd)
    for kind in (RABBITMQ_CLUSTERS, *TOPOLOGY):
        await eventually(lambda kind=kind: kube.api.list(kind, kube.namespace))
    spec = {"kind": "Queue", "driver": "kubernetes", "parameters": {"rabbitmqOperator": "topology"}}
    await kube.api.apply(RESOURCE_CLASSES, {"metadata": {"name": "rabbits"}, "spec": spec})
    yield "rabbits"
    # the driver asks for its kinds again when they are gone
    for obj in (await kube.api.list(TYPES["Queue"], kube.namespace)).items:
        await kube.delete("Queue", obj["metadata"]["name"])


async def tell(kube, kind, obj, status):
    path = kind.path(kube.namespace, obj["metadata"]["name"], "status")
    content = "application/merge-patch+json"
    generation = {"observedGeneration": obj["metadata"]["generation"]}
    await kube.api._ask("patch", "PATCH", kind, path, {"status": {**generation, **status}}, params={}, content=content)


def good(*kinds):
    return {"conditions": [{"type": kind, "status": "True", "reason": "Fine", "message": ""} for kind in kinds]}


async def the_user(kube, name):
    data = {"username": USER, "password": PASSWORD}
    body = {
        "metadata": {"name": f"{name}-default-user", "namespace": kube.namespace},
        "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
    }
    with contextlib.suppress(ChandleryError):
        await kube.api.create(SECRETS, body)
    keys = {"username": "username", "password": "password"}
    reference = {"name": f"{name}-default-user", "namespace": kube.namespace, "keys": keys}
    return {"defaultUser": {"secretReference": reference}}


async def test_what_the_operators_are_given_and_what_they_say(kube, handed_over):
    spec = {"className": handed_over, "engine": "rabbitmq", "replicas": 3, "storage": {"size": "2Gi"}}
    await kube.apply(
        "Queue", "theirs", {**spec, "users": [{"name": "till", "rights": ["publish"], "subjects": ["theirs"]}]}
    )
    cluster = await eventually(lambda: kube.get(RABBITMQ_CLUSTERS, "theirs-queue"))
    assert cluster["spec"]["replicas"] == 3
    assert cluster["spec"]["persistence"]["storage"] == "2Gi"

    async def inside():
        return {kind.kind for kind in TOPOLOGY if (await kube.api.list(kind, kube.namespace)).items} == everything

    everything = {kind.kind for kind in TOPOLOGY}
    await eventually(inside)
    assert await kube.get(STATEFUL_SETS, "theirs-queue") is None
    words = "Cluster Scale down not supported"
    failed = {"type": "ReconcileSuccess", "status": "False", "reason": "UnsupportedOperation", "message": words}
    await tell(kube, RABBITMQ_CLUSTERS, cluster, {"conditions": [failed], **await the_user(kube, "theirs-queue")})

    async def told():
        found = await kube.get("Queue", "theirs")
        ready = next(c for c in found["status"]["conditions"] if c["type"] == "Ready")
        return words in ready["message"] and ready["status"] == "False" and ready["reason"] == "UnsupportedOperation"

    await eventually(told)

    # fewer servers are refused in words, and the rest goes away with the object
    await kube.api.merge_patch(TYPES["Queue"], kube.namespace, "theirs", {"spec": {"replicas": 1}})

    async def refused():
        found = await kube.get("Queue", "theirs")
        said = [c["message"] for c in found["status"]["conditions"]]
        return any("makes servers no fewer" in message for message in said)

    await eventually(refused)
    assert (await kube.get(RABBITMQ_CLUSTERS, "theirs-queue"))["spec"]["replicas"] == 3
    await kube.delete("Queue", "theirs")
    left = [one for kind in TOPOLOGY for one in (await kube.api.list(kind, kube.namespace)).items]
    assert left == []
    assert (await kube.api.list(RABBITMQ_CLUSTERS, kube.namespace)).items == []


@pytest.mark.skipif(not HEAVY, reason="takes a while: CHANDLERY_HEAVY=1, pods as processes")
@pytest.mark.skipif(bool(available()), reason=f"RabbitMQ comes from Debian packages: {available()}")
@pytest.mark.timeout(300)
async def test_a_client_gets_what_the_operators_made(kube, handed_over, tmp_path):
    binary, environment = await server(tmp_path)
    kube.workloads.binaries["rabbitmq-server"] = binary
    kube.workloads.environment |= environment
    await kube.apply("Queue", "real", {**SPEC, "className": handed_over})
    cluster = await eventually(lambda: kube.get(RABBITMQ_CLUSTERS, "real-queue"))
    pod = await broker(kube, cluster)
    played = asyncio.create_task(operators(kube, pod))
    try:
        status = await kube.ready("Queue", "real", 180)
        assert status["members"][0]["name"] == "real-queue-server-0"
        binding = await kube.secret("real")
        await one_message(pod, binding)
    finally:
        played.cancel()
        await asyncio.gather(played, return_exceptions=True)
        await ended(kube, pod)


@pytest.mark.skipif(not HEAVY, reason="takes a while: CHANDLERY_HEAVY=1, pods as processes")
@pytest.mark.skipif(bool(available()), reason=f"RabbitMQ comes from Debian packages: {available()}")
@pytest.mark.timeout(300)
async def test_the_cluster_operators_servers_speak_tls_only(kube, handed_over, tmp_path):
    """As it configures them for `disableNonTLSListeners`: what is inside is made, and asked for, by TLS too."""
    spec = {"kind": "Queue", "driver": "kubernetes", "parameters": {"rabbitmqOperator": "cluster"}}
    await kube.api.apply(RESOURCE_CLASSES, {"metadata": {"name": "secure-rabbits"}, "spec": spec})
    binary, environment = await server(tmp_path)
    kube.workloads.binaries["rabbitmq-server"] = binary
    kube.workloads.environment |= environment
    await kube.apply("Queue", "real", {**SPEC, "className": "secure-rabbits", "tls": {}, "metrics": {}})
    cluster = await eventually(lambda: kube.get(RABBITMQ_CLUSTERS, "real-queue"))
    assert cluster["spec"]["tls"] == {"secretName": "real-queue-tls", "disableNonTLSListeners": True}
    pod = await broker(kube, cluster)
    played = asyncio.create_task(operators(kube, pod))
    try:
        await kube.ready("Queue", "real", 180)
        binding = await kube.secret("real")
        assert (binding["port"], binding["uri"].partition(":")[0]) == ("5671", "amqps")
        trust = ssl.create_default_context(cadata=binding["ca.crt"])
        trust.check_hostname = False  # it is reached by its address here
        await one_message(pod, binding, port=5671, ssl=True, ssl_context=trust)
    finally:
        played.cancel()
        await asyncio.gather(played, return_exceptions=True)
        await ended(kube, pod)


async def ended(kube, pod):
    """The broker goes before the test does: nobody ends the pod of an operator that is played."""
    await kube.api.delete(PODS, kube.namespace, pod["metadata"]["name"])

    async def gone():
        return await kube.get(PODS, pod["metadata"]["name"]) is None

    await eventually(gone)


async def one_message(pod, binding, **how):
    """As an application does: in by the exchange, out of the queue."""
    connection = await aio_pika.connect(
        host=pod["status"]["podIP"],
        login=binding["username"],
        password=binding["password"],
        virtualhost=binding["virtual-host"],
        **how,
    )
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(binding["exchange"], ensure=False)
        await exchange.publish(aio_pika.Message(b"one"), binding["routing-key"])
        queue = await channel.get_queue(binding["queue"], ensure=False)
        assert (await queue.get(timeout=10, no_ack=True)).body == b"one"


async def broker(kube, cluster):
    """The operator's pod, with the labels that it hands on."""
    meta, tls = cluster["metadata"], cluster["spec"].get("tls")
    text = (SECURE if tls else CONFIG) + cluster["spec"]["rabbitmq"]["additionalConfig"]
    text += f"default_user = {USER}\ndefault_pass = {PASSWORD}\n"
    files = {"rabbitmq.conf": text, "enabled_plugins": "[rabbitmq_management].\n"}
    data = {key: b64encode(value.encode()).decode() for key, value in files.items()}
    await kube.api.create(SECRETS, {"metadata": {"name": "broker", "namespace": kube.namespace}, "data": data})
    env = {
        "HOME": "/run/broker",
        "RABBITMQ_CONFIG_FILE": "/etc/broker/rabbitmq.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": "/etc/broker/enabled_plugins",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_USE_LONGNAME": "true",
        "RABBITMQ_NODENAME": "rabbit@$(POD_IP)",
        "RABBITMQ_DIST_PORT": "25672",
        "RABBITMQ_MNESIA_BASE": "/run/broker/data",
        "RABBITMQ_LOG_BASE": "/run/broker/log",
    }
    container = {
        "name": "rabbitmq",
        "image": "example.com/rabbitmq:1",
        "command": ["rabbitmq-server"],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            *({"name": key, "value": value} for key, value in env.items()),
        ],
        "ports": [{"containerPort": 5671 if tls else 5672}],
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/broker"},
            {"name": "run", "mountPath": "/run/broker"},
            *([{"name": "tls", "mountPath": "/etc/rabbitmq-tls"}] if tls else []),
        ],
    }
    spec = {
        "subdomain": "real-queue-nodes",
        "containers": [container],
        "volumes": [
            {"name": "config", "secret": {"secretName": "broker"}},
            {"name": "run", "emptyDir": {}},
            *([{"name": "tls", "secret": {"secretName": tls["secretName"]}}] if tls else []),
        ],
    }
    labels = {**meta["labels"], "app.kubernetes.io/component": "rabbitmq"}
    name = {"name": "real-queue-server-0", "namespace": kube.namespace, "labels": labels}
    await kube.api.create(PODS, {"metadata": name, "spec": spec})

    async def up():
        found = await kube.get(PODS, "real-queue-server-0")
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"].get("conditions", ()))
        return found if ready else None

    return await eventually(up, 120)


async def operators(kube, pod):
    """Say that all is well, and make what the topology objects ask for."""
    while True:
        with contextlib.suppress(ChandleryError):
            [cluster] = (await kube.api.list(RABBITMQ_CLUSTERS, kube.namespace)).items
            well = good("ReconcileSuccess", "AllReplicasReady", "ClusterAvailable")
            await tell(kube, RABBITMQ_CLUSTERS, cluster, {**well, **await the_user(kube, "real-queue")})
            if cluster["spec"].get("tls"):
                await asyncio.sleep(0.3)
                continue  # what is inside is made over the API
            async with Management(15672, USER, PASSWORD, pod["status"]["podIP"]) as api:
                for kind in TOPOLOGY:
                    for one in (await kube.api.list(kind, kube.namespace)).items:
                        await put(kube, api, kind, one)
                        await tell(kube, kind, one, good("Ready"))
        await asyncio.sleep(0.3)


async def put(kube, api, kind, one):
    spec = one["spec"]
    if kind is RABBITMQ_USERS:
        found = await kube.api.get(SECRETS, kube.namespace, spec["importCredentialsSecret"]["name"])
        login = {key: b64decode(value).decode() for key, value in found["data"].items()}
        hashed = rabbit.hashed(login["password"], b"salt")
        await api.put(f"users/{login['username']}", {"password_hash": hashed, "tags": ""})
        return
    match one["kind"]:
        case "Vhost":
            await api.put(f"vhosts/{spec['name']}", {})
            rights = {"configure": ".*", "write": ".*", "read": ".*"}
            await api.put(f"permissions/{spec['name']}/{USER}", rights)
        case "Exchange":
            await api.put(f"exchanges/{spec['vhost']}/{spec['name']}", {"type": spec["type"], "durable": True})
        case "Queue":
            arguments = {**spec.get("arguments", {}), "x-queue-type": spec["type"]}
            await api.put(f"queues/{spec['vhost']}/{spec['name']}", {"durable": True, "arguments": arguments})
        case "Binding":
            path = f"bindings/{spec['vhost']}/e/{spec['source']}/q/{spec['destination']}"
            await api.post(path, {"routing_key": spec["routingKey"]})
        case "Permission":
            await api.put(f"permissions/{spec['vhost']}/{spec['user']}", spec["permissions"])
        case "Policy":
            body = {key: spec[key] for key in ("pattern", "definition", "priority")} | {"apply-to": spec["applyTo"]}
            await api.put(f"policies/{spec['vhost']}/{spec['name']}", body)
