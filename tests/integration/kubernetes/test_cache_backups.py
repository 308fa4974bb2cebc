"""Backups of caches by pods, and caches that begin with one: the real engine, the real program, real files."""

from __future__ import annotations

import contextlib
import json
import os

import pytest
import redis.asyncio as redis
from kubernetes_cluster import eventually

from chandlery.driver.objects import ResourceType
from chandlery.providers.kubernetes.types import CLAIMS, CRON_JOBS, JOBS, PODS, STATEFUL_SETS

pytestmark = pytest.mark.engine
HEAVY = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
VOLUME = {"volume": {"claimName": "safe", "path": "ships/caches"}}
EVENTS = ResourceType("", "v1", "events", "Event")
ASKED = "chandlery.dev/backup-requested-at"


@contextlib.asynccontextmanager
async def client(kube, name):
    """What an application in the cluster gets with the binding, through the Service."""
    binding = await kube.secret(name)
    places = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-cache"))
    host, port = places[0]
    words = {"username": binding["username"], "password": binding["password"], "decode_responses": True}
    async with redis.Redis(host=host, port=port, **words) as made:
        yield made


async def backed_up(kube, name, count=1):
    """The newest entry of the status, once there are so many good ones."""

    async def made():
        listed = (await kube.get("Cache", name))["status"].get("backup", {}).get("list", ())
        good = [entry for entry in listed if entry["phase"] == "Completed"]
        return good[0] if len(good) == count else None

    try:
        return await eventually(made, 120)
    except AssertionError as error:
        raise AssertionError(json.dumps((await kube.get("Cache", name))["status"], indent=1)) from error


async def condition(kube, name, kind):
    found = {c["type"]: c for c in (await kube.get("Cache", name))["status"]["conditions"]}
    return found.get(kind)


async def test_a_cache_begins_with_a_backup_of_another_and_leaves_a_last_one(kube):
    await kube.claim("safe")
    backup = {"destination": VOLUME, "schedule": "0 3 * * *", "retention": {"count": 2, "days": 7}}
    await kube.apply("Cache", "old", {"memory": "32Mi", "backup": backup})
    status = await kube.ready("Cache", "old")
    assert status["backup"]["nextScheduledTime"].endswith("T03:00:00Z")
    assert (await condition(kube, "old", "BackedUp"))["status"] == "Unknown"
    cron = await kube.get(CRON_JOBS, "old-cache-backup")
    assert cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"][0] == "python"
    async with client(kube, "old") as cache:
        await cache.set("ship", "Argo")
    await kube.apply("Cache", "old", {"memory": "32Mi", "backup": backup}, annotations={ASKED: "now"})
    entry = await backed_up(kube, "old")
    assert (await condition(kube, "old", "BackedUp"))["status"] == "True"
    assert len((await kube.api.list(JOBS, kube.namespace)).items) == 1  # the same text asks once
    async with client(kube, "old") as cache:
        await cache.set("ship", "Ghost")

    # its copies take what the first pod has; the log on the disk begins with it, and stays when all pods go
    spec = {"memory": "32Mi", "mode": "replicated", "replicas": 1, "backup": {"destination": VOLUME}}
    spec |= {"persistence": {"mode": "append-only", "storage": {"size": "1Gi"}}, "deletionPolicy": "Snapshot"}
    restore = {"objectName": "old", "backup": entry["name"]}
    await kube.apply("Cache", "new", {**spec, "restoreFrom": restore})
    await kube.ready("Cache", "new")
    await kube.delete("Cache", "old")
    async with client(kube, "new") as cache:
        assert await cache.get("ship") == "Argo"
        await cache.set("ship", "Pegasus")
    copy = kube.workloads.folder / "claims" / kube.namespace / "data-new-cache-0" / "appendonlydir"
    assert (copy / "appendonly.aof.manifest").exists()

    # a last backup before anything goes
    await kube.delete("Cache", "new", 120)
    kinds = (STATEFUL_SETS, JOBS, CRON_JOBS, CLAIMS, PODS)
    assert [o["metadata"]["name"] for k in kinds for o in (await kube.api.list(k, kube.namespace)).items] == ["safe"]
    place = kube.workloads.folder / "claims" / kube.namespace / "safe" / "ships" / "caches"
    [left] = [folder.name for folder in place.glob("cache.*.new.*")]

    if not os.environ.get("CHANDLERY_HEAVY"):
        return

    # by the folder, into a cache that keeps nothing: loaded once, not again when its server starts anew
    source = {"volume": {"claimName": "safe", "path": f"ships/caches/{left}"}}
    await kube.apply("Cache", "third", {"memory": "32Mi", "restoreFrom": {"destination": source}})
    await kube.ready("Cache", "third")
    async with client(kube, "third") as cache:
        assert await cache.get("ship") == "Pegasus"
    await eventually(lambda: _noted(kube, "third-cache"), 60)
    await kube.ready("Cache", "third")
    config = kube.workloads.volume("third-cache-0", "config") / "restored"
    await eventually(lambda: _exists(config), 180)
    kube.workloads.kill("third-cache-0")

    async def forgot():
        async with client(kube, "third") as cache:
            return await cache.get("ship") is None

    await eventually(forgot, 60)


async def _noted(kube, name):
    return "chandlery.dev/restored" in (await kube.get(STATEFUL_SETS, name))["metadata"]["annotations"]


async def _exists(path):
    return path.exists()


@HEAVY
@pytest.mark.usefixtures("cluster_nodes")
async def test_shards_are_backed_up_and_more_shards_begin_with_it(kube):
    await kube.claim("safe")
    spec = {"memory": "32Mi", "mode": "sharded", "shards": 3, "replicas": 1}
    await kube.apply("Cache", "old", {**spec, "backup": {"destination": VOLUME}, "deletionPolicy": "Snapshot"})
    await kube.ready("Cache", "old", 180)
    async with shards(kube, "old") as cache:
        for number in range(200):
            await cache.set(f"key-{number}", number)
    await kube.delete("Cache", "old", 180)

    more = {**spec, "shards": 4, "persistence": {"mode": "append-only", "storage": {"size": "1Gi"}}}
    await kube.apply("Cache", "new", {**more, "restoreFrom": {"destination": VOLUME}})
    await kube.ready("Cache", "new", 180)

    async def even():
        found = await condition(kube, "new", "SlotsBalanced")
        return found["status"] == "True"

    await eventually(even, 120)
    async with shards(kube, "new") as cache:
        assert [int(await cache.get(f"key-{number}") or -1) for number in range(200)] == list(range(200))


@contextlib.asynccontextmanager
async def shards(kube, name):
    """As `client`, speaking the cluster's protocol."""
    binding = await kube.secret(name)
    places = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-cache"))
    host, port = places[0]
    async with redis.RedisCluster(host=host, port=port, password=binding["password"], decode_responses=True) as made:
        yield made


@HEAVY
async def test_a_backup_that_fails_is_told_and_harms_nothing(kube):
    # a file stands where the folder should be
    await kube.claim("safe")
    place = kube.workloads.folder / "claims" / kube.namespace / "safe"
    place.mkdir(parents=True)
    (place / "ships").write_text("not a folder")
    await kube.apply("Cache", "one", {"memory": "32Mi", "backup": {"destination": VOLUME}}, annotations={ASKED: "now"})
    await kube.ready("Cache", "one")

    async def told():
        found = await condition(kube, "one", "BackedUp")
        return found["message"] if found is not None and found["reason"] == "Failed" else None

    assert "ships" in await eventually(told, 120)
    status = await kube.ready("Cache", "one")
    assert [entry["phase"] for entry in status["backup"]["list"]] == ["Failed"]
    events = (await kube.api.list(EVENTS, kube.namespace)).items
    assert [e for e in events if e.get("reason") == "BackupFailed"]
    async with client(kube, "one") as cache:
        assert await cache.ping()
    (place / "ships").unlink()
    await kube.apply(
        "Cache", "one", {"memory": "32Mi", "backup": {"destination": VOLUME}}, annotations={ASKED: "mended"}
    )
    await backed_up(kube, "one")
    assert (await condition(kube, "one", "BackedUp"))["status"] == "True"
