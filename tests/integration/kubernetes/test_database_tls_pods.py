"""TLS and metrics of databases in pods: what servers show, whom they let in, certificates that are renewed."""

from __future__ import annotations

import contextlib
import os
import ssl

import aiomysql
import asyncpg
import pymysql
import pytest
from kubernetes_cluster import CONTAINERS, eventually

from chandlery.providers.kubernetes.types import DEPLOYMENTS, PODS, SECRETS
from chandlery.providers.local.engines.apt import available
from chandlery.reconcile.api import RESOURCE_CLASSES

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not CONTAINERS, reason="needs files as the kubelet makes them: CHANDLERY_CONTAINERS=1"),
    pytest.mark.skipif(
        not (os.environ.get("CHANDLERY_DEBIAN_ENGINES") or os.environ.get("CHANDLERY_CONTAINERS")),
        reason="needs Debian's servers: CHANDLERY_DEBIAN_ENGINES=1",
    ),
    pytest.mark.skipif(bool(available()), reason=f"they come from Debian packages: {available()}"),
    pytest.mark.timeout(400),
]
SPEC = {"className": "database-tls", "storage": {"size": "1Gi"}, "tls": {}}


@pytest.fixture
async def secured(kube):
    parameters = {"images": {"postgres": "registry.example/postgres15:15.1"}}
    spec = {"kind": "Database", "driver": "kubernetes", "parameters": parameters}
    await kube.api.apply(RESOURCE_CLASSES, {"metadata": {"name": "database-tls"}, "spec": spec})
    return kube


def trusting(binding):
    """As a client does that knows the server by its Service's name."""
    context = ssl.create_default_context(cadata=binding["ca.crt"])
    context.check_hostname = False  # the test goes to the pod's address
    return context


@contextlib.asynccontextmanager
async def postgres(kube, name, tls, service=""):
    binding = await kube.secret(name)
    [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, service or f"{name}-database"))
    connection = await asyncpg.connect(
        host=host,
        port=port,
        user=binding["username"],
        password=binding["password"],
        database=binding["database"],
        ssl=trusting(binding) if tls else False,
        statement_cache_size=0,
    )
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def mariadb(kube, name, tls):
    binding = await kube.secret(name)
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-database"))
    connection = await aiomysql.connect(
        host=host,
        port=port,
        user=binding["username"],
        password=binding["password"],
        db=binding["database"],
        connect_timeout=10,
        ssl=trusting(binding) if tls else None,
    )
    try:
        yield connection
    finally:
        connection.close()


async def test_postgres_speaks_tls_only_and_renews_its_certificate(secured):
    kube = secured
    await kube.apply("Database", "safe", SPEC)
    await kube.ready("Database", "safe")
    binding = await kube.secret("safe")
    assert binding["sslmode"] == "verify-full"
    async with postgres(kube, "safe", True) as app:
        pid = await app.fetchval("SELECT pg_backend_pid()")
        assert await app.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
        with pytest.raises((asyncpg.PostgresError, ConnectionError)):
            async with postgres(kube, "safe", False):
                pass
        # one that is about to end is replaced while clients work
        pod = (await kube.get(PODS, "safe-database-0"))["metadata"]["uid"]
        old = (await kube.secret("safe-database-tls"))["tls.crt"]
        await kube.api.delete(SECRETS, kube.namespace, "safe-database-ca")

        async def renewed():
            return (await kube.secret("safe-database-tls"))["tls.crt"] != old

        await eventually(renewed)
        await kube.ready("Database", "safe")
        assert await app.fetchval("SELECT pg_backend_pid()") == pid
    async with postgres(kube, "safe", True) as app:  # by the new CA
        assert await app.fetchval("SELECT 1") == 1
    assert (await kube.get(PODS, "safe-database-0"))["metadata"]["uid"] == pod
    # beside clients without
    await kube.apply("Database", "safe", {**SPEC, "tls": {"required": False}})
    await kube.ready("Database", "safe")
    for tls in (True, False):
        async with postgres(kube, "safe", tls) as app:
            assert await app.fetchval("SELECT 1") == 1
    # and without
    await kube.apply("Database", "safe", {**SPEC, "tls": {"enabled": False}})
    await kube.ready("Database", "safe")
    assert "ca.crt" not in await kube.secret("safe")
    async with postgres(kube, "safe", False) as app:
        assert await app.fetchval("SHOW ssl") == "off"


async def test_mariadb_speaks_tls_only_and_renews_its_certificate(secured):
    kube = secured
    await kube.claim("safe")
    spec = {**SPEC, "engine": "mariadb", "backup": {"destination": {"volume": {"claimName": "safe"}}}}
    await kube.apply("Database", "safe", spec)
    await kube.ready("Database", "safe")
    async with mariadb(kube, "safe", True) as app, app.cursor() as cursor:
        await cursor.execute("SHOW STATUS LIKE 'Ssl_version'")
        assert (await cursor.fetchone())[1].startswith("TLS")
        with pytest.raises(pymysql.err.OperationalError):
            async with mariadb(kube, "safe", False):
                pass
        pod = (await kube.get(PODS, "safe-database-0"))["metadata"]["uid"]
        old = (await kube.secret("safe-database-tls"))["tls.crt"]
        await kube.api.delete(SECRETS, kube.namespace, "safe-database-ca")

        async def renewed():
            return (await kube.secret("safe-database-tls"))["tls.crt"] != old

        await eventually(renewed)
        await kube.ready("Database", "safe")
        await cursor.execute("SELECT 1")
    async with mariadb(kube, "safe", True) as app, app.cursor() as cursor:
        await cursor.execute("SELECT 1")
    assert (await kube.get(PODS, "safe-database-0"))["metadata"]["uid"] == pod


async def test_a_pooler_in_front_of_postgres_with_tls(secured):
    kube = secured
    spec = {**SPEC, "pooler": {"instances": 2, "poolSize": 3, "configuration": {"query_wait_timeout": "30"}}}
    await kube.apply("Database", "pool", spec)
    status = await kube.ready("Database", "pool")
    assert status["poolerReady"] is True
    assert status["endpoint"]["host"] == f"pool-database-pooler.{kube.namespace}.svc"
    binding = await kube.secret("pool")
    assert binding["host"] == status["endpoint"]["host"]
    async with postgres(kube, "pool", True, "pool-database-pooler") as app:
        assert await app.fetchval("SELECT current_user") == "app"
    # another mode rolls its pods, not the engine; a new password counts at once
    engine = (await kube.get(PODS, "pool-database-0"))["metadata"]["uid"]
    await kube.apply(
        "Database",
        "pool",
        {**spec, "pooler": {"mode": "session"}},
        annotations={"chandlery.dev/rotate-requested-at": "now"},
    )

    async def rotated():
        return (await kube.secret("pool"))["password"] != binding["password"]

    await eventually(rotated)

    async def rolled():
        live = await kube.get(DEPLOYMENTS, "pool-database-pooler")
        done = live["status"]
        return live["spec"]["replicas"] == 1 == done.get("updatedReplicas") == done.get("readyReplicas")

    await eventually(rolled)
    await kube.ready("Database", "pool")
    async with postgres(kube, "pool", True, "pool-database-pooler") as app:
        assert await app.fetchval("SELECT current_user") == "app"
    assert (await kube.get(PODS, "pool-database-0"))["metadata"]["uid"] == engine
    await kube.apply("Database", "pool", SPEC)
    await kube.ready("Database", "pool")
    assert await kube.get(DEPLOYMENTS, "pool-database-pooler") is None
    assert (await kube.secret("pool"))["host"] == f"pool-database.{kube.namespace}.svc"
