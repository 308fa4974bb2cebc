"""What deletionPolicy Retain left is taken over by a new object; what belongs to somebody is left alone."""

import asyncpg
import nats
import pytest
import redis.asyncio as redis
from local_harness import Harness

from chandlery.foundation.errors import AlreadyExists, InvalidSpec
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database
from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue

pytestmark = pytest.mark.engine


@pytest.fixture
async def start(tmp_path):
    made = []

    def harness(driver, model):
        made.append(Harness(tmp_path / "data", driver, model))
        return made[-1]

    yield harness
    for one in made:
        await one.close()


async def test_a_cache_finds_its_data_again(start):
    local = start(CacheDriver(), Cache)
    old = local.object(deletionPolicy="Retain", persistence={"mode": "append-only"})
    seen = await local.converge(old)
    async with redis.from_url(seen.binding.entries["uri"]) as client:
        await client.set("kept", "yes")
    await local.delete(old)
    name = local.instance(old).name
    assert ("Normal", "Retained", local.instance(old).kept()) in local.events
    assert name in local.instance(old).kept()

    await local.restart_operator()
    new = local.object(adopt={"externalName": name}, persistence={"mode": "append-only"})
    again = await local.converge(new)
    assert again.external_name == name
    assert local.plans[0] == ("spec.adopt.externalName", "none")
    assert again.binding.entries["password"] == seen.binding.entries["password"]
    async with redis.from_url(again.binding.entries["uri"], decode_responses=True) as client:
        assert await client.get("kept") == "yes"
    await local.delete(new)
    assert not (local.provider.instances_dir / name).exists()


async def test_a_database_finds_its_data_again(start):
    local = start(DatabaseDriver(), Database)
    old = local.object(deletionPolicy="Retain")
    seen = await local.converge(old)
    connection = await asyncpg.connect(seen.binding.entries["uri"], timeout=10)
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    await connection.close()
    await local.delete(old)
    new = local.object(adopt={"externalName": local.instance(old).name})
    again = await local.converge(new)
    connection = await asyncpg.connect(again.binding.entries["uri"], timeout=10)
    assert await connection.fetchval("SELECT n FROM kept") == 42
    await connection.close()
    await local.delete(new)


async def test_what_belongs_to_somebody_is_neither_taken_nor_removed(start):
    local = start(CacheDriver(), Cache)
    owner = local.object()
    await local.converge(owner)
    name = local.instance(owner).name
    local.reader.objects["Cache", "default", "demo"] = {"metadata": {"uid": owner.metadata.uid}}
    thief = local.object(adopt={"externalName": name})
    with pytest.raises(AlreadyExists, match="it belongs to the Cache default/demo"):
        await local.driver.observe(local.ctx, thief)
    await local.delete(thief)
    assert (await local.converge(owner)).ready

    # its object is gone, though nobody deleted it in order
    local.reader.objects.clear()
    assert (await local.converge(thief)).ready
    await local.delete(thief)
    assert not (local.provider.instances_dir / name).exists()


async def test_another_kinds_directory_is_refused(start):
    local = start(CacheDriver(), Cache)
    cache = local.object(deletionPolicy="Retain")
    await local.converge(cache)
    await local.delete(cache)
    local.driver, local.model = DatabaseDriver(), Database
    with pytest.raises(InvalidSpec, match="it was made for a Cache, not for a Database"):
        await local.converge(local.object(adopt={"externalName": local.instance(cache).name}))


async def test_a_queue_finds_its_messages_again_under_its_own_name(start):
    local = start(QueueDriver(), Queue)
    old = local.object(deletionPolicy="Retain", storage={"size": "64Mi"})
    seen = await local.converge(old)
    connection = await nats.connect(seen.binding.entries["servers"])
    await connection.jetstream().publish(seen.binding.entries["subject"], b"kept")
    await connection.close()
    await local.delete(old)
    new = local.object(adopt={"externalName": local.instance(old).name}, storage={"size": "64Mi"})
    other = new.model_copy(update={"metadata": new.metadata.model_copy(update={"name": "other"})})
    with pytest.raises(InvalidSpec, match="bear the name of the Queue that made them, demo"):
        await local.driver.observe(local.ctx, other)
    again = await local.converge(new)
    connection = await nats.connect(again.binding.entries["servers"])
    subscription = await connection.jetstream().pull_subscribe_bind(
        consumer=again.binding.entries["consumer"], stream=again.binding.entries["stream"]
    )
    (message,) = await subscription.fetch(1, timeout=10)
    assert message.data == b"kept"
    await connection.close()
    await local.delete(new)


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", "a/b", "Upper"])
async def test_a_name_leads_nowhere_else(start, tmp_path, name):
    local = start(CacheDriver(), Cache)
    (tmp_path / "precious").mkdir()
    obj = local.object(adopt={"externalName": name})
    with pytest.raises(InvalidSpec, match="the name of a directory of the instances"):
        await local.converge(obj)
    with pytest.raises(InvalidSpec):
        await local.driver.delete(local.ctx, obj)
    assert (tmp_path / "precious").exists()
