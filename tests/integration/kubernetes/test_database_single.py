"""A single PostgreSQL in a StatefulSet: the real server in its pod, what clients see, what the API server holds."""

from __future__ import annotations

import contextlib

import asyncpg
import pytest
from kubernetes_cluster import eventually

from chandlery.providers.kubernetes.types import CLAIMS, CONFIG_MAPS, PODS, SECRETS, SERVICES, STATEFUL_SETS

pytestmark = pytest.mark.engine


@contextlib.asynccontextmanager
async def client(kube, secret, service):
    """What an application in the cluster gets with the binding, through the Service."""
    binding = await kube.secret(secret)
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, service))
    connection = await asyncpg.connect(
        host=host,
        port=port,
        user=binding["username"],
        password=binding["password"],
        database=binding["database"],
        ssl=False,
    )
    try:
        yield connection
    finally:
        await connection.close()


SPEC = {
    "storage": {"size": "1Gi"},
    "databases": [{"name": "app", "schemas": ["audit"]}],
    "roles": [{"name": "reader", "grants": [{"database": "app", "privileges": ["SELECT"]}]}],
}


async def test_life_of_a_single_database(kube):
    await kube.apply("Database", "one", SPEC)
    status = await kube.ready("Database", "one", 60)
    assert status["endpoint"] == {"host": f"one-database.{kube.namespace}.svc", "port": 5432}
    assert status["members"][0]["name"] == "one-database-0"
    pod = await kube.get(PODS, "one-database-0")
    [container] = pod["spec"]["containers"]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert kube.workloads.execute("one-database-0", container[probe]["exec"]["command"], "database") == 0
    async with client(kube, "one", "one-database") as app:
        await app.execute("CREATE TABLE ships (name text); INSERT INTO ships VALUES ('Argo')")
        assert await app.fetchval("SHOW data_checksums") == "on"
        identity = await app.fetchval("SELECT pg_backend_pid()")
        # settings that need no start are set while clients work
        await kube.apply(
            "Database", "one", {**SPEC, "configuration": {"work_mem": "7MB", "search_path": "audit, public"}}
        )
        await kube.ready("Database", "one")
        assert await app.fetchval("SELECT pg_backend_pid()") == identity
        assert await eventually(lambda: _shows(app, "work_mem", "7MB"))
    async with client(kube, "one-role-reader", "one-database") as reader:
        assert await reader.fetchval("SHOW search_path") == "audit, public"
        assert await reader.fetchval("SELECT name FROM public.ships") == "Argo"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("INSERT INTO public.ships VALUES ('Ghost')")
    # one that does replaces the pod, whose data stay
    await kube.apply("Database", "one", {**SPEC, "configuration": {"max_connections": "50"}})
    await kube.ready("Database", "one", 60)
    again = await kube.get(PODS, "one-database-0")
    assert again["metadata"]["uid"] != pod["metadata"]["uid"]
    async with client(kube, "one", "one-database") as app:
        assert await app.fetchval("SHOW max_connections") == "50"
        assert await app.fetchval("SHOW work_mem") == "4MB"
        assert await app.fetchval("SELECT name FROM ships") == "Argo"
    await kube.delete("Database", "one")
    left = [
        o["metadata"]["name"]
        for kind in (STATEFUL_SETS, SERVICES, PODS, CLAIMS, CONFIG_MAPS, SECRETS)
        for o in (await kube.api.list(kind, kube.namespace)).items
        if o["metadata"]["name"] != "kube-root-ca.crt"
    ]
    assert left == []


async def _shows(connection, name, value):
    return await connection.fetchval(f"SHOW {name}") == value
