"""Backups of caches, caches that begin with one, and passwords that are replaced: with real engines."""

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
import redis.asyncio as redis
from local_harness import Harness, kill, until
from redis.asyncio.cluster import RedisCluster

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local.backup_store import Store
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("cluster_nodes")]
heavy = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", CacheDriver(), Cache)
    yield made
    await made.close()


@pytest.fixture
def folder():
    """Where any user can get at it."""
    made = Path(tempfile.mkdtemp(prefix="chandlery-backups-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def client(binding):
    made = RedisCluster if "cluster" in binding.entries else redis.Redis
    return made.from_url(binding.entries["uri"], decode_responses=True)


def annotated(obj, name, text):
    return obj.model_copy(update={"metadata": obj.metadata.model_copy(update={"annotations": {name: text}})})


def to(folder):
    return {"destination": {"directory": {"path": str(folder)}}}


async def backed_up(local, obj, text="now"):
    """Once more than before."""
    asked = annotated(obj, "chandlery.dev/backup-requested-at", text)
    count = (await local.converge(obj)).facts["backup"]["count"]

    async def done():
        return (await local.converge(asked)).facts["backup"]["count"] > count

    await until(done, 60)


def twin(local, obj, folder, **spec):
    source = {"destination": {"directory": {"path": str(folder)}}}
    return local.object(restoreFrom=source, **spec)


@pytest.mark.parametrize("mode", ["none", "append-only", pytest.param("snapshot", marks=heavy)])
async def test_a_cache_begins_with_a_backup(local, folder, mode):
    kept = {} if mode == "none" else {"storage": {"size": "1Gi"}}
    persistence = {"mode": mode, **kept}
    obj = local.object(persistence=persistence, backup=to(folder))
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        for number in range(2000):
            await cache.set(f"k{number}", "x" * 100)
        await backed_up(local, obj)
        await cache.set("later", "1")
    instance = local.instance(obj)
    assert mode == "snapshot" or not list(instance.data_dir.glob("*/dump.rdb"))  # a crash must not bring it back
    (made,) = folder.glob("cache.default.demo.*/2*")
    assert {path.stat().st_mode & 0o077 for path in made.iterdir()} == {0}
    other = twin(local, obj, folder, mode="replicated", replicas=1, persistence=persistence)
    seen = await local.converge(other)
    async with client(seen.binding) as cache:
        assert (await cache.dbsize(), await cache.get("k1999"), await cache.get("later")) == (2000, "x" * 100, None)
        await cache.set("new", "1")
        await cache.wait(1, 5000)
    assert ("Normal", "Restored", f"The data of the backup {made.name} is there.") in local.events
    if mode == "append-only":
        for name in ("node-0", "node-1"):
            await kill(local.instance(other).process(name).state().pid)
        seen = await local.converge(other)
        async with client(seen.binding) as cache:
            assert await cache.dbsize() == 2001


@pytest.mark.parametrize("shards", [3, pytest.param(4, marks=heavy)])
async def test_a_sharded_cache_begins_with_a_backup_also_of_more_shards(local, folder, shards):
    obj = local.object(mode="sharded", shards=shards, backup=to(folder))
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        for number in range(300):
            await cache.set(f"k{number}", number)
    await backed_up(local, obj)
    await local.delete(obj)
    other = twin(local, obj, folder, mode="sharded", shards=3)

    async def even():
        seen = await local.converge(other)
        return seen if all(c.status.value == "True" for c in seen.conditions) and seen.facts["shards"] == 3 else None

    seen = await until(even, 60)
    async with client(seen.binding) as cache:
        assert [await cache.get(f"k{number}") for number in range(300)] == [str(number) for number in range(300)]
    assert len(local.instance(other).process_names()) == 3


async def test_a_last_backup_is_made_before_it_goes(local, folder):
    obj = local.object(deletionPolicy="Snapshot", backup=to(folder))
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        await cache.set("kept", "yes")
    await local.delete(obj)
    assert not local.instance(obj).root.exists()
    seen = await local.converge(twin(local, obj, folder))
    async with client(seen.binding) as cache:
        assert await cache.get("kept") == "yes"


async def test_a_backup_that_only_tidies_up_is_listed_once(local, folder, monkeypatch):
    whole, tidied = Store.thin_out, threading.Event()

    def waits(self, *args):
        assert tidied.wait(60)
        return whole(self, *args)

    monkeypatch.setattr(Store, "thin_out", waits)
    obj = local.object(backup=to(folder))
    await local.converge(obj)
    asked = annotated(obj, "chandlery.dev/backup-requested-at", "now")

    async def listed():
        phases = [one["phase"] for one in (await local.converge(asked)).facts["backup"]["list"]]
        return phases if "Completed" in phases else None

    try:
        assert await until(listed, 60) == ["Completed"]
    finally:
        tidied.set()


async def test_a_backup_that_cant_be_used_is_refused_by_name(local, folder):
    obj = local.object(backup=to(folder))
    await local.converge(obj)
    await backed_up(local, obj)
    with pytest.raises(ChandleryError, match="is of a cache that was not sharded"):
        await local.converge(twin(local, obj, folder, mode="sharded", shards=3), seconds=5)
    (dump,) = folder.glob("*/2*/node-0.rdb")
    dump.write_bytes(dump.read_bytes()[:-5] + b"xxxxx")
    with pytest.raises((ChandleryError, AssertionError), match="is damaged"):
        await local.converge(twin(local, obj, folder), seconds=5)


async def test_an_old_password_works_until_the_grace_period_is_over(local):
    obj = local.object(
        mode="replicated",
        replicas=1,
        users=[{"name": "app"}],
        rotation={"schedule": "0 0 1 1 *", "gracePeriod": "1h"},
    )
    before = await local.converge(obj)
    async with client(before.binding) as held:
        await held.set("kept", "yes")
        asked = annotated(obj, "chandlery.dev/rotate-requested-at", "now")
        after = await local.converge(asked)
        assert after.binding.entries["password"] != before.binding.entries["password"]
        assert await held.get("kept") == "yes"
    app = "demo-user-app"
    for binding in (before.binding, after.binding, before.user_bindings[app], after.user_bindings[app]):
        async with client(binding) as cache:
            assert await cache.get("kept") == "yes"
    assert {user["name"] for user in after.facts["users"] if "lastRotatedTime" in user} == {"default", "app"}
    instance = local.instance(obj)
    for entry in instance.record["rotation"]["users"].values():
        for old in entry["old"]:
            old["until"] = "2020-01-01T00:00:00+00:00"
    instance.save()
    after = await local.converge(asked)
    assert ("spec.rotation.gracePeriod", "none") in local.plans
    async with client(before.binding) as cache:
        with pytest.raises(redis.AuthenticationError):
            await cache.ping()
    async with client(after.binding) as cache:
        assert await cache.get("kept") == "yes"
