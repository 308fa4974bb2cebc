"""Queues on another version of NATS, forth and back, with real servers of both."""

import os

import pytest
from local_harness import Harness, kill, shared_cache, until
from queue_clients import Client

from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue

pytestmark = pytest.mark.engine
heavy = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
OLD, NEW = "2.14", "2.15"


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", QueueDriver(), Queue, shared_cache())
    await made.provider.engines.ensure("nats", OLD)
    yield made
    await made.close()


async def taken(binding, count):
    async with Client(binding) as client:
        jobs = await client.pull(count)
        for job in jobs:
            await job.ack_sync()
        return [job.data for job in jobs]


async def test_a_new_version_and_back_lose_nothing(local):
    obj = local.object(version=OLD, storage={"size": "64Mi"})
    seen = await local.converge(obj)
    assert seen.facts["version"].startswith(f"{OLD}.")
    async with Client(seen.binding) as client:
        for number in range(3):
            await client.publish(f"job {number}")
    for number, version in enumerate((NEW, OLD)):
        seen = await local.converge(local.changed(obj, version=version))
        assert seen.facts["version"].startswith(f"{version}.")
        assert local.plans == [("spec.version", "restart")]
        assert await taken(seen.binding, 1) == [f"job {number}".encode()]
    assert await taken(seen.binding, 1) == [b"job 2"]


async def test_what_runs_stays_until_the_spec_names_another_version(local):
    """Also when it is started anew, by an operator whose newest version is another."""
    obj = local.object(version=OLD, storage={"size": "64Mi"})
    await local.converge(obj)
    obj = local.changed(obj, version="2")
    await kill(local.instance(obj).process("node-0").state().pid)
    await local.restart_operator()
    seen = await local.converge(obj)
    assert (seen.facts["version"][:5], seen.facts["availableVersion"]) == (f"{OLD}.", NEW)
    assert "spec.version" not in {field for field, _ in local.plans}


async def test_a_queue_of_before_versions_were_on_record_keeps_its_own(local):
    obj = local.object(version=OLD, storage={"size": "64Mi"})
    await local.converge(obj)
    record = local.instance(obj).record
    del record["version_line"]
    local.instance(obj).save()
    obj = local.changed(obj, version="2")
    seen = await local.converge(obj)
    assert seen.facts["version"].startswith(f"{OLD}.")
    assert local.plans == []


@heavy
async def test_one_server_of_a_cluster_after_the_other(local):
    obj = local.object(version=OLD, replicas=3, storage={"size": "64Mi"})
    seen = await local.converge(obj)
    async with Client(seen.binding) as client:
        for number in range(200):
            await client.publish(f"job {number}")
    obj = local.changed(obj, version=NEW)
    seen = await local.converge(obj)
    assert {member["version"][:5] for member in seen.facts["members"]} == {f"{NEW}."}
    found: set[bytes] = set()

    async def all_there():
        found.update(await taken(seen.binding, 50))
        return len(found) == 200

    await until(all_there)
