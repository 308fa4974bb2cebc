"""Backups that go from a laptop to a cluster and back: both keep them in the same form, in a folder or a claim."""

from __future__ import annotations

import os

import asyncpg
import pytest
import redis.asyncio as redis
from kubernetes_cluster import CONTAINERS, eventually
from local_harness import Harness, until

from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(CONTAINERS, reason="the folder of a claim is seen from here only where pods are processes"),
]
HEAVY = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
ASKED = "chandlery.dev/backup-requested-at"


@pytest.fixture
async def laptop(request, tmp_path):
    driver, model = request.param
    made = Harness(tmp_path / "data", driver(), model)
    yield made
    await made.close()


def folder_of(kube, name):
    """What is in a claim, as a folder of this machine."""
    found = kube.workloads.folder / "claims" / kube.namespace / name
    for folder in (kube.workloads.folder, found.parent.parent, found.parent):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    return found


def volume(name):
    return {"destination": {"volume": {"claimName": name}}}


def directory(path):
    return {"destination": {"directory": {"path": str(path)}}}


async def backed_up_there(laptop, obj, work):
    """A backup by the laptop, when `work` has been done in what it backs up."""
    seen = await laptop.converge(obj)
    await work(seen.binding.entries)
    metadata = obj.metadata.model_copy(update={"annotations": {ASKED: "now"}})
    asked = obj.model_copy(update={"metadata": metadata})

    async def done():
        return (await laptop.converge(asked)).facts["backup"]["count"] == 1

    await until(done, 120)


async def backed_up_here(kube, kind, name, spec):
    await kube.apply(kind, name, spec, annotations={ASKED: "now"})

    async def done():
        return ((await kube.get(kind, name))["status"].get("backup") or {}).get("lastSuccessfulTime")

    await eventually(done, 180)


@pytest.mark.parametrize("laptop", [(CacheDriver, Cache)], indirect=True, ids=["cache"])
async def test_a_cache_goes_to_the_cluster_and_back(kube, laptop):
    await kube.claim("there")
    await kube.claim("back")
    there, back = folder_of(kube, "there"), folder_of(kube, "back")

    async def fill(entries):
        async with redis.Redis.from_url(entries["uri"]) as cache:
            await cache.set("ship", "Argo")

    await backed_up_there(laptop, laptop.object(memory="32Mi", backup=directory(there)), fill)
    spec = {"memory": "32Mi", "backup": volume("back")}
    await kube.apply("Cache", "moved", {**spec, "restoreFrom": volume("there")})
    await kube.ready("Cache", "moved")
    binding = await kube.secret("moved")
    [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, "moved-cache"))
    words = {"username": binding["username"], "password": binding["password"], "decode_responses": True}
    async with redis.Redis(host=host, port=port, **words) as cache:
        assert await cache.get("ship") == "Argo"
        await cache.set("ship", "Pegasus")
    await backed_up_here(kube, "Cache", "moved", {**spec, "restoreFrom": volume("there")})
    seen = await laptop.converge(laptop.object(memory="32Mi", restoreFrom=directory(back)))
    async with redis.Redis.from_url(seen.binding.entries["uri"], decode_responses=True) as cache:
        assert await cache.get("ship") == "Pegasus"


@HEAVY
@pytest.mark.parametrize("laptop", [(DatabaseDriver, Database)], indirect=True, ids=["database"])
async def test_a_database_goes_to_the_cluster_and_back(kube, laptop):
    await kube.claim("there")
    await kube.claim("back")
    there, back = folder_of(kube, "there"), folder_of(kube, "back")
    storage = {"size": "1Gi"}

    async def fill(entries):
        app = await asyncpg.connect(entries["uri"], timeout=30)
        await app.execute("CREATE TABLE ships (name text); INSERT INTO ships VALUES ('Argo')")
        await app.close()

    await backed_up_there(laptop, laptop.object(storage=storage, backup=directory(there)), fill)
    spec = {"storage": storage, "backup": volume("back"), "restoreFrom": volume("there")}
    await kube.apply("Database", "moved", spec)
    await kube.ready("Database", "moved", 180)
    binding = await kube.secret("moved")
    [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, "moved-database"))
    words = {"user": binding["username"], "password": binding["password"], "database": binding["database"]}
    app = await asyncpg.connect(host=host, port=port, **words)
    assert await app.fetchval("SELECT name FROM ships") == "Argo"
    await app.execute("INSERT INTO ships VALUES ('Pegasus')")
    await app.close()
    await backed_up_here(kube, "Database", "moved", spec)
    seen = await laptop.converge(laptop.object(storage=storage, restoreFrom=directory(back)))
    app = await asyncpg.connect(seen.binding.entries["uri"], timeout=30)
    assert [row["name"] for row in await app.fetch("SELECT name FROM ships ORDER BY 1")] == ["Argo", "Pegasus"]
    await app.close()
