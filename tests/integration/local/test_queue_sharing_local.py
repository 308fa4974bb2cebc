"""Queues on one broker, dead letters in another queue, and passwords that are replaced: on real NATS servers."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import nats
import nats.errors
import pytest
from local_harness import kill, until
from queue_clients import Client, Namespace

from chandlery.driver.protocol import Plan
from chandlery.foundation.errors import DependencyNotReady, FailedPrecondition, InvalidSpec, Unavailable
from chandlery.providers.local import pids
from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue

pytestmark = pytest.mark.engine
STORAGE = {"size": "64Mi"}


@pytest.fixture
async def local(tmp_path):
    made = Namespace(tmp_path / "data", QueueDriver(), Queue)
    yield made
    await made.close()


async def refused(entries):
    """Whether the servers refuse these credentials."""

    async def quiet(_):
        """Said by the exception."""

    try:
        connection = await nats.connect(entries["uri"], allow_reconnect=False, connect_timeout=10, error_cb=quiet)
    except nats.errors.Error:
        return True
    await connection.close()
    return False


async def test_two_queues_on_one_broker_see_nothing_of_each_other(local):
    orders = local.queue("orders", storage=STORAGE)
    refunds = local.queue("refunds", brokerRef={"name": "orders"}, users=[{"name": "till", "rights": ["publish"]}])
    (host,) = await local.together(orders)
    await local.driver.create(local.ctx, refunds)
    waiting = await local.driver.observe(local.ctx, refunds)  # it is not the host's turn yet
    assert (waiting.ready, waiting.reason) == (False, "WaitingForBroker")
    assert "the servers of Queue orders don't know this one yet" in waiting.message
    async with Client(host.binding) as first:
        _, guest = await local.together(orders, refunds)
        assert guest.facts["broker"] == "orders"
        assert guest.binding.entries["port"] == host.binding.entries["port"]
        async with Client(guest.binding) as second, Client(guest.user_bindings["refunds-user-till"]) as till:
            await first.publish("an order")
            await second.publish("a refund")
            await till.publish("another refund")
            assert [job.data for job in await first.pull(1)] == [b"an order"]
            assert [job.data for job in await second.pull(2)] == [b"a refund", b"another refund"]
            answer = await second.connection.request("$JS.API.STREAM.NAMES", timeout=10)
            assert json.loads(answer.data)["streams"] == ["refunds"]
        assert not first.closed


async def test_who_shares_leaves_only_its_own_and_the_broker_waits_for_that(local):
    orders = local.queue("orders", storage=STORAGE)
    refunds = local.queue("refunds", brokerRef={"name": "orders"}, deadLetter={}, maxDeliveries=3)
    host, guest = await asyncio.gather(local.converge(orders), local.converge(refunds))
    async with Client(host.binding) as client:
        await client.publish("stays")
        with pytest.raises(FailedPrecondition, match="used by Queue refunds"):
            await local.driver.delete(local.ctx, orders)
        await local.delete(refunds)
        local.forget(refunds)
        assert not local.instance(refunds).root.exists()
        await local.converge(orders)
        assert [job.data for job in await client.pull(1)] == [b"stays"]
    assert await refused(guest.binding.entries)
    pid = local.instance(orders).process("node-0").state().pid
    await local.delete(orders)
    assert pids.start_time(pid) is None
    assert not local.instance(orders).root.exists()


async def test_a_guest_comes_again_without_what_it_left(local):
    orders = local.queue("orders", storage=STORAGE)
    spec = {"brokerRef": {"name": "orders"}}
    refunds = local.queue("refunds", **spec)
    _, guest = await local.together(orders, refunds)
    async with Client(guest.binding) as client:
        await client.publish("gone")
    await local.delete(refunds)
    again = local.queue("refunds", **spec)
    _, guest = await local.together(orders, again)
    assert guest.facts["messages"] == 0


async def test_a_guest_outlives_a_kill_of_the_broker(local):
    orders = local.queue("orders", storage=STORAGE)
    refunds = local.queue("refunds", brokerRef={"name": "orders"})
    _, guest = await local.together(orders, refunds)
    async with Client(guest.binding) as client:
        for number in range(20):
            await client.publish(str(number))
    await kill(local.instance(orders).process("node-0").state().pid)
    await local.restart_operator()
    _, guest = await local.together(orders, refunds)
    async with Client(guest.binding) as client:
        assert sorted(int(job.data) for job in await client.pull(20)) == list(range(20))


async def test_what_can_not_be_shared_is_said(local):
    refunds = local.queue("refunds", brokerRef={"name": "orders"}, replicas=3)
    with pytest.raises(DependencyNotReady, match="there is no Queue orders"):
        await local.driver.create(local.ctx, refunds)
    orders = local.queue("orders", storage=STORAGE)
    with pytest.raises(DependencyNotReady, match="Queue orders is not made yet"):
        await local.driver.create(local.ctx, refunds)
    await local.converge(orders)
    with pytest.raises(InvalidSpec, match=r"3 copies need 3 servers; Queue orders has 1"):
        await local.driver.create(local.ctx, refunds)
    shares = local.queue("shares", brokerRef={"name": "orders"})
    await local.driver.create(local.ctx, shares)
    chained = local.queue("chained", brokerRef={"name": "shares"})
    with pytest.raises(InvalidSpec, match="shares has no broker of its own: it shares that of orders"):
        await local.driver.create(local.ctx, chained)
    myself = local.queue("myself", brokerRef={"name": "myself"})
    assert [item.field for item in local.driver.unsupported(myself, {})] == ["spec.brokerRef"]


@pytest.mark.parametrize("shared", [True, False], ids=["same broker", "another broker"])
async def test_dead_letters_go_into_another_queue_and_wait_for_it(local, shared):
    orders = local.queue(
        "orders",
        storage=STORAGE,
        maxDeliveries=2,
        acknowledgementTimeout="1s",
        deadLetter={"queue": {"name": "graves"}},
    )
    await _serves(local, orders)
    observed = await local.driver.observe(local.ctx, orders)
    assert observed.ready
    (missing,) = observed.differences
    assert "there is no Queue graves" in missing.actual
    async with Client(observed.binding) as client:
        await client.publish("poison", headers={"Kept": "yes"})
        await client.fails(2)
        await until(client.gets_nothing, 30)
        await until(lambda: _given_up(local, orders), 30)
        where = {"brokerRef": {"name": "orders"}} if shared else {"storage": STORAGE}
        graves = local.queue("graves", **where)

        async def moved():
            _, now = await local.together(graves, orders)
            return now.facts["messages"] == 0

        await until(moved, 30)
        (buried,) = await local.together(graves)
        async with Client(buried.binding) as reader:
            (dead,) = await reader.pull()
    assert dead.data == b"poison"
    assert dead.headers["Kept"] == "yes"
    assert dead.headers["Chandlery-Subject"] == "orders"


async def _serves(local, obj):
    """Until it serves, although something is still missing, as the loop goes about it."""

    async def works():
        observed = await local.driver.observe(local.ctx, obj)
        try:
            if not observed.exists:
                await local.driver.create(local.ctx, obj)
            elif observed.differences:
                await local.driver.update(local.ctx, obj, replace(observed, plan=Plan(observed.differences)))
        except (DependencyNotReady, Unavailable):
            observed = await local.driver.observe(local.ctx, obj)
        return observed.ready

    await until(works, 60)


async def _given_up(local, obj):
    """Whether the servers have told that a message was given up: nothing is lost while nobody takes it."""
    observed = await local.driver.observe(local.ctx, obj)
    return any("1 waiting" in change.actual for change in observed.differences)


async def test_passwords_are_replaced_and_nobody_is_thrown_out_before_the_grace_period_ends(local):
    spec = {"storage": STORAGE, "rotation": {"schedule": "@yearly", "gracePeriod": "1h"}}
    orders = local.queue("orders", **spec, users=[{"name": "reader", "rights": ["consume"]}])
    before = await local.converge(orders)
    async with Client(before.binding) as old, Client(before.user_bindings["orders-user-reader"]) as reader:
        await old.publish("before")
        orders = local.rotated(orders, "now")
        after = await local.converge(orders)
        assert {cost for _, cost in local.plans} <= {"none", "reload"}
        assert after.binding.entries["password"] != before.binding.entries["password"]
        assert [user["name"] for user in after.facts["users"] if "lastRotatedTime" in user] == ["app", "reader"]
        assert (old.closed, reader.closed) == (0, 0)
        await old.publish("during")
        async with Client(after.binding) as new:
            await new.publish("after")
            assert len(await reader.pull(3)) == 3
            assert (old.closed, reader.closed) == (0, 0)
            local.clock.ahead = timedelta(hours=2)

            async def ended():
                await local.converge(orders)
                return old.closed and reader.closed

            await until(ended, 60)
            assert new.closed == 0
            await new.publish("still")
    assert await refused(before.binding.entries)
    assert await refused(before.user_bindings["orders-user-reader"].entries)
    assert not await refused(after.binding.entries)


async def test_the_password_of_a_guest_is_replaced_too(local):
    orders = local.queue("orders", storage=STORAGE)
    refunds = local.queue("refunds", brokerRef={"name": "orders"})
    _, before = await local.together(orders, refunds)
    async with Client(before.binding) as old:
        refunds = local.rotated(refunds, "now")

        async def replaced():
            _, now = await local.together(orders, refunds)
            assert not await refused(now.binding.entries)  # whatever is bound works
            return now.binding.entries["password"] != before.binding.entries["password"]

        await until(replaced, 30)
        await old.publish("still connected")
        assert old.closed == 0
