"""Queues in NATS that are backed up, restored under another name, and backed up once more before they go."""

import pytest
from local_harness import Harness, until
from queue_clients import Client

from chandlery.foundation.errors import NotFound
from chandlery.providers.local.backups import ANNOTATION, backup_job
from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue

pytestmark = pytest.mark.engine
STORAGE = {"size": "64Mi"}


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", QueueDriver(), Queue)
    yield made
    await made.close()


def named(local, name, annotations=None, **spec):
    made = local.object(**spec)
    meta = made.metadata.model_copy(update={"name": name, "annotations": annotations or {}})
    made = made.model_copy(update={"metadata": meta})
    raw = made.model_dump(by_alias=True, exclude_none=True, mode="json")
    local.reader.objects["Queue", "default", name] = raw
    return made


async def backed_up(local, obj, count):
    """Until there are so many backups."""

    async def done():
        seen = await local.converge(obj)
        return seen if seen.facts["backup"]["count"] == count else None

    return await until(done, 60)


async def test_messages_come_back_under_another_name(local, tmp_path):
    backup = {"destination": {"directory": {"path": str(tmp_path / "backups")}}}
    spec = {"storage": STORAGE, "maxDeliveries": 2, "deadLetter": {}, "backup": backup}
    orders = named(local, "orders", **spec)
    seen = await local.converge(orders)
    async with Client(seen.binding) as client:
        for number in range(200):
            await client.publish(f"{number} " + "x" * 5000, headers={"Number": str(number)})
        for job in await client.pull(50):
            await job.ack_sync()
    asked = orders.model_copy(
        update={"metadata": orders.metadata.model_copy(update={"annotations": {ANNOTATION: "now"}})}
    )
    seen = await backed_up(local, asked, 1)
    (entry,) = seen.facts["backup"]["list"]
    assert entry["phase"] == "Completed"

    again = named(local, "orders-again", storage=STORAGE, restoreFrom={"objectName": "orders"})
    seen = await local.converge(again)
    assert any(event[1] == "Restored" for event in local.events)
    assert seen.facts["messages"] == 150
    async with Client(seen.binding) as client:
        jobs = await client.pull(150)
        assert sorted(int(job.headers["Number"]) for job in jobs) == list(range(50, 200))
        for job in jobs:
            await job.ack_sync()
    await local.restart_operator()
    seen = await local.converge(again)
    assert seen.facts["messages"] == 0  # restored once, and never again


async def test_what_is_not_there_to_restore_is_said_and_awaited(local, tmp_path):
    again = named(local, "again", storage=STORAGE, restoreFrom={"objectName": "orders"})

    async def asked():
        observed = await local.driver.observe(local.ctx, again)
        if not observed.exists:
            await local.driver.create(local.ctx, again)
        return next((change for change in observed.differences if change.payload == ("restore",)), None)

    await until(asked, 60)
    with pytest.raises(NotFound, match="there is no Queue of this name"):
        await local.driver.servers(local.ctx, again, local.instance(again)).restore.begin()


async def test_the_last_backup_is_made_before_it_goes(local, tmp_path):
    backup = {"destination": {"directory": {"path": str(tmp_path / "backups")}}}
    orders = named(local, "orders", storage=STORAGE, deletionPolicy="Snapshot", backup=backup)
    seen = await local.converge(orders)
    async with Client(seen.binding) as client:
        await client.publish("kept")
    root, key = local.instance(orders).root, backup_job(local.instance(orders))
    await local.delete(orders)
    assert not root.exists()
    assert local.provider.background.get(key) is None or not local.provider.background.get(key).running
    again = named(
        local, "again", storage=STORAGE, restoreFrom={"destination": {"directory": {"path": str(tmp_path / "backups")}}}
    )
    seen = await local.converge(again)
    async with Client(seen.binding) as client:
        assert [job.data for job in await client.pull()] == [b"kept"]
