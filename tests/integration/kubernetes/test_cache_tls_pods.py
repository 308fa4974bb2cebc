"""TLS of caches on Kubernetes: copies, clients, probes, and a certificate that changes under open connections.

By Redis, as Valkey's wheel is built without TLS.
"""

from __future__ import annotations

import contextlib

import pytest
import redis.asyncio as redis
from kubernetes_cluster import eventually
from local_harness import shared_cache

from chandlery.providers.kubernetes.types import PODS, SECRETS, STATEFUL_SETS
from chandlery.providers.local.engines import Engines
from chandlery.providers.local.engines.apt import available

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(bool(available()), reason=f"Redis with TLS comes from Debian packages: {available()}"),
]


@contextlib.asynccontextmanager
async def client(kube, tmp_path):
    """What an application gets with the binding, through the Service; names are not resolved here."""
    binding = await kube.secret("safe")
    trust = tmp_path / "ca.crt"
    trust.write_text(binding["ca.crt"])
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, "safe-cache"))
    async with redis.Redis(
        host=host,
        port=port,
        password=binding["password"],
        ssl=True,
        ssl_ca_certs=str(trust),
        ssl_check_hostname=False,
        decode_responses=True,
        single_connection_client=True,
    ) as made:
        yield made


async def test_copies_and_clients_by_tls_and_a_certificate_that_is_read_again(kube, tmp_path):
    engine = await Engines(shared_cache()).ensure("redis")
    kube.workloads.binaries |= {"redis-server": str(engine.binary), "redis-cli": str(engine.root / "usr/bin/redis-cli")}
    kube.workloads.environment |= engine.env
    spec = {"engine": "redis", "memory": "32Mi", "mode": "replicated", "replicas": 1, "tls": {}}
    await kube.apply("Cache", "safe", spec)
    status = await kube.ready("Cache", "safe")
    binding = await kube.secret("safe")
    assert binding["uri"].startswith("rediss://")
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, "safe-cache"))
    with pytest.raises(redis.ConnectionError):
        async with redis.Redis(host=host, port=port, password=binding["password"]) as plain:
            await plain.ping()

    # the probes' own commands, as the kubelet runs them
    live = await kube.get(STATEFUL_SETS, "safe-cache")
    [container] = live["spec"]["template"]["spec"]["containers"]
    for probe in ("livenessProbe", "readinessProbe"):
        for member in status["members"]:
            assert kube.workloads.execute(member["name"], container[probe]["exec"]["command"]) == 0

    before = [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items]
    async with client(kube, tmp_path) as cache:
        identity = await cache.client_id()
        await cache.set("kept", "yes")
        assert await cache.wait(1, 10000) == 1
        old = await kube.secret("safe-cache-tls")
        await kube.api.delete(SECRETS, kube.namespace, "safe-cache-tls")

        async def renewed():
            return (await kube.secret("safe-cache-tls"))["tls.crt"] != old["tls.crt"]

        await eventually(renewed)
        await kube.ready("Cache", "safe")
        assert await cache.client_id() == identity
    async with client(kube, tmp_path) as cache:
        assert await cache.get("kept") == "yes"
    assert [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items] == before
