"""Queues as real NATS servers: what a client of nats-py sees."""

import asyncio

import nats.errors
import nats.js.errors
import pytest
from local_harness import Harness, kill, until
from queue_clients import Client

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local import pids
from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue

pytestmark = pytest.mark.engine


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", QueueDriver(), Queue)
    yield made
    await made.close()


async def test_published_pulled_and_acknowledged(local):
    seen = await local.converge(local.object(storage={"size": "64Mi"}))
    async with Client(seen.binding) as client:
        for number in range(3):
            await client.publish(f"job {number}")
        jobs = await client.pull(3)
        assert [job.data for job in jobs] == [b"job 0", b"job 1", b"job 2"]
        for job in jobs:
            await job.ack_sync()
        with pytest.raises(nats.errors.TimeoutError):
            await client.pull(timeout=0.2)
        # what is a client's, and what is the operator's
        await client.connection.publish(f"$JS.API.STREAM.DELETE.{client.entries['stream']}")
        await until(lambda: any("permissions violation" in error.lower() for error in client.errors))
        await client.publish("still there")


async def test_nobody_gets_in_without_the_password(local):
    seen = await local.converge(local.object(storage={"size": "64Mi"}))
    reader, writer = await asyncio.open_connection("127.0.0.1", seen.endpoint.port)
    assert (await reader.readline()).startswith(b"INFO ")
    writer.write(b"CONNECT {}\r\nPING\r\n")
    assert b"Authorization Violation" in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_users_are_added_and_limits_changed_with_a_client_connected(local):
    obj = local.object(storage={"size": "64Mi"})
    seen = await local.converge(obj)
    async with Client(seen.binding) as client:
        identity = client.connection.client_id
        obj = local.changed(
            obj,
            users=[{"name": "writer", "rights": ["publish"]}],
            retention={"maxMessages": 1000},
            acknowledgementTimeout="5s",
            maxDeliveries=4,
        )
        seen = await local.converge(obj)
        assert {cost for _, cost in local.plans} <= {"none", "reload"}
        await client.publish("still here")
        assert client.connection.client_id == identity
    async with Client(seen.user_bindings["demo-user-writer"]) as writer:
        await writer.publish("by a writer")
        with pytest.raises((nats.errors.Error, nats.js.errors.Error)):
            await writer.pull(timeout=0.5)


async def test_fifo_hands_out_one_after_the_other(local):
    seen = await local.converge(local.object(storage={"size": "64Mi"}, ordering="fifo"))
    async with Client(seen.binding) as client:
        await client.publish("first")
        await client.publish("second")
        (first,) = await client.pull()
        with pytest.raises(nats.errors.TimeoutError):
            await client.pull(timeout=0.2)
        await first.ack_sync()
        (second,) = await client.pull()
        assert (first.data, second.data) == (b"first", b"second")


async def test_the_same_id_within_the_window_is_stored_once(local):
    seen = await local.converge(local.object(storage={"size": "64Mi"}, deduplicationWindow="1m"))
    async with Client(seen.binding) as client:
        for _ in range(2):
            await client.publish("once", headers={"Nats-Msg-Id": "17"})
        assert len(await client.pull(2, timeout=0.5)) == 1


async def test_what_is_given_up_ends_in_the_dead_letters(local):
    obj = local.object(storage={"size": "64Mi"}, maxDeliveries=2, acknowledgementTimeout="1s", deadLetter={})
    seen = await local.converge(obj)
    async with Client(seen.binding) as client:
        await client.publish("poison")
        await client.fails(2)
        await until(client.gets_nothing)

        async def moved():
            now = await local.converge(obj)
            return now.facts["messages"] == 0

        await until(moved)
        (dead,) = await client.pull(stream="dead-letter-stream", consumer="dead-letter-consumer")
        assert dead.data == b"poison"
        assert dead.headers["Chandlery-Subject"] == client.entries["subject"]


async def test_acknowledged_publications_survive_a_kill(local):
    obj = local.object(storage={"size": "64Mi"})
    seen = await local.converge(obj)
    async with Client(seen.binding) as client:
        for number in range(50):
            await client.publish(str(number))
    await kill(local.instance(obj).process("node-0").state().pid)
    await local.restart_operator()
    seen = await local.converge(obj)
    async with Client(seen.binding) as client:
        assert sorted(int(job.data) for job in await client.pull(50)) == list(range(50))


async def test_a_cluster_of_three_goes_on_when_one_is_killed(local):
    obj = local.object(storage={"size": "64Mi"}, replicas=3)
    seen = await local.converge(obj)
    assert seen.facts["readyReplicas"] == 3
    async with Client(seen.binding, reconnects=True) as client:
        await client.publish("before")
        await kill(local.instance(obj).process("node-2").state().pid)

        async def accepted():
            try:
                await client.publish("after", timeout=2)
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
                return False
            return True

        await until(accepted, 30)
        await local.converge(obj)
        assert {job.data for job in await client.pull(2)} == {b"before", b"after"}
    with pytest.raises(ChandleryError, match=r"can't be made more or fewer"):
        await local.converge(local.changed(obj, replicas=1))


async def test_nothing_is_left_after_deletion(local):
    obj = local.object(storage={"size": "64Mi"})
    await local.converge(obj)
    pid = local.instance(obj).process("node-0").state().pid
    await local.delete(obj)
    await local.delete(obj)
    assert pids.start_time(pid) is None
    assert not local.instance(obj).root.exists()


async def test_a_refused_configuration_harms_nothing(local):
    obj = local.object(storage={"size": "64Mi"})
    seen = await local.converge(obj)
    with pytest.raises((ChandleryError, ValueError)):
        await local.converge(local.changed(obj, configuration={"write_deadline": "soon"}))
    async with Client(seen.binding) as client:
        await client.publish("fine")
        await asyncio.sleep(0)
