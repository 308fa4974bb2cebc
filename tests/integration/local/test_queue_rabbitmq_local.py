"""Queues as real RabbitMQ servers: what a client sees. One server serves one long test, as its start takes seconds."""

import asyncio
import os
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest
from aio_pika.exceptions import AMQPError
from local_harness import kill, shared_cache, until
from queue_clients import Namespace

from chandlery.driver.protocol import Plan
from chandlery.foundation.errors import FailedPrecondition, InvalidSpec
from chandlery.providers.local import pids
from chandlery.providers.local.engines.apt import available
from chandlery.providers.local.ports import is_free
from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(available()), reason=f"RabbitMQ comes from Debian packages: {available()}"),
]
SPEC = {
    "engine": "rabbitmq",
    "storage": {"size": "64Mi"},
    "tls": {"required": False},
    "maxDeliveries": 2,
    "deadLetter": {},
    "users": [{"name": "till", "rights": ["publish"], "subjects": ["orders.new"]}],
}


@pytest.fixture
async def local(tmp_path):
    made = Namespace(tmp_path / "data", QueueDriver(), Queue, shared_cache())
    await made.provider.engines.ensure("rabbitmq")
    yield made
    await made.close()


class Client:
    """An application: publishes with confirms and takes messages, by what the binding says."""

    def __init__(self, entries, connection, channel):
        self.entries = entries
        self.connection = connection
        self.channel = channel

    async def publish(self, text, key=None, exchange=None):
        exchange = await self.channel.get_exchange(exchange or self.entries["exchange"], ensure=False)
        message = aio_pika.Message(text.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await exchange.publish(message, routing_key=key or self.entries["routing-key"], timeout=30)

    async def take(self, queue="queue"):
        """One message, waited for."""
        found = await self.channel.get_queue(self.entries[queue], ensure=False)
        return await until(lambda: found.get(fail=False, timeout=30), 30)

    async def take_all(self):
        found = await self.channel.get_queue(self.entries["queue"], ensure=False)
        texts = []
        while (message := await found.get(fail=False, timeout=30)) is not None:
            texts.append(message.body.decode())
            await message.ack()
        return texts


@asynccontextmanager
async def client(binding, uri="uri"):
    entries = binding.entries
    context = ssl.create_default_context(cadata=entries["ca.crt"]) if entries[uri].startswith("amqps") else None
    connection = await aio_pika.connect(entries[uri], ssl_context=context, timeout=30)
    try:
        yield Client(entries, connection, await connection.channel(publisher_confirms=True))
    finally:
        await connection.close()


async def refused(work):
    """Whether RabbitMQ refuses it."""
    try:
        await work
    except (AMQPError, ConnectionError):
        return True
    return False


async def connects(binding, uri="uri"):
    async with client(binding, uri):
        return True


async def test_a_queue_through_its_life(local):
    obj = local.queue("orders", **SPEC)
    seen = await local.converge(obj, 120)
    assert seen.facts["version"].startswith(("3.", "4."))
    await publishes_and_takes(seen)
    await keeps_to_the_rights(seen)
    await gives_up_what_fails(seen)
    obj, seen = await follows_changes_with_a_client_connected(local, obj)
    obj = await has_its_passwords_replaced(local, obj, seen)
    await shares_its_broker(local, obj)
    await loses_nothing_confirmed(local, obj)
    await renews_its_certificate(local, obj)
    await leaves_nothing_behind(local, obj)


async def publishes_and_takes(seen):
    async with client(seen.binding) as secure, client(seen.binding, "plain-uri") as plain:
        await secure.publish("one")
        await plain.publish("two", "orders.old.late")
        first = await plain.take()
        await first.ack()
        second = await secure.take()
        await second.ack()
        assert (first.body, second.body) == (b"one", b"two")


async def keeps_to_the_rights(seen):
    async with client(seen.user_bindings["orders-user-till"]) as till:
        await till.publish("allowed", "orders.new")
        assert await refused(till.publish("not allowed", "orders.old"))
    async with client(seen.user_bindings["orders-user-till"]) as till:
        assert await refused(till.take())
    async with client(seen.binding) as app:
        await (await app.take()).ack()
        assert await refused(app.channel.declare_queue("another"))
    wrong = {**seen.binding.entries, "plain-uri": seen.binding.entries["plain-uri"].replace("app:", "app:x")}
    assert await refused(aio_pika.connect(wrong["plain-uri"], timeout=30))


async def gives_up_what_fails(seen):
    async with client(seen.binding) as app:
        await app.publish("poison")
        for _ in range(2):
            await (await app.take()).nack(requeue=True)
        dead = await app.take("dead-letter-queue")
        assert dead.body == b"poison"
        await dead.ack()


async def follows_changes_with_a_client_connected(local, obj):
    before = await local.converge(obj)
    async with client(before.binding) as held:
        users = [*SPEC["users"], {"name": "reader", "rights": ["consume"]}]
        changed = {"users": users, "retention": {"maxMessages": 2}, "subjects": ["orders.>", "bills"]}
        obj = local.know(local.changed(obj, **changed))
        seen = await local.converge(obj)
        assert {cost for _, cost in local.plans} == {"none"}
        await held.publish("a bill", "bills")
        await held.publish("an order", "orders.new")
        # a full quorum queue tells its publishers after the message that filled it
        await until(lambda: refused(held.publish("too much", "bills")), 30)
    async with client(seen.user_bindings["orders-user-reader"]) as reader:
        assert (await reader.take_all())[:2] == ["a bill", "an order"]
    obj = local.know(local.changed(obj, subjects=["orders", "orders.>"], retention={}))
    return obj, await local.converge(obj)


async def has_its_passwords_replaced(local, obj, before):
    obj = local.know(local.changed(obj, rotation={"schedule": "@yearly", "gracePeriod": "1h"}))
    obj = local.rotated(obj, "now")
    lost = asyncio.Event()
    async with client(before.binding) as held:
        held.connection.close_callbacks.add(lambda *_: lost.set())
        after = await local.converge(obj)
        assert after.binding.entries["password"] != before.binding.entries["password"]
        async with client(after.binding) as new:
            await new.publish("new")
            assert not lost.is_set()
            await (await held.take()).ack()
            local.clock.ahead = timedelta(hours=2)

            async def ended():
                await local.converge(obj)
                return lost.is_set()

            await until(ended, 60)
            local.clock.ahead = timedelta()
            await new.publish("still here")
            await (await new.take()).ack()
    assert await refused(connects(before.binding))
    return obj


async def shares_its_broker(local, obj):
    spec = {"engine": "rabbitmq", "brokerRef": {"name": "orders"}, "maxDeliveries": 1}
    with pytest.raises(InvalidSpec, match="RabbitMQ has one maxMessageSize for a broker"):
        await local.driver.create(local.ctx, local.queue("large", **spec, maxMessageSize="2Mi"))
    guest = local.queue("refunds", **spec, deadLetter={"queue": {"name": "orders"}})
    seen, host = await asyncio.gather(local.converge(guest), local.converge(obj))
    assert seen.facts["broker"] == "orders"
    async with client(seen.binding) as refunds, client(host.binding) as orders:
        await refunds.publish("a refund")
        assert await refused(refunds.publish("not mine", exchange="orders"))
    async with client(seen.binding) as refunds, client(host.binding) as orders:
        await (await refunds.take()).nack(requeue=True)
        moved = await orders.take()
        assert moved.body == b"a refund"
        await moved.ack()
        with pytest.raises(FailedPrecondition, match="used by Queue refunds"):
            await local.driver.delete(local.ctx, obj)
        await local.delete(guest)
        assert not local.instance(guest).root.exists()
        await orders.publish("mine stays")
        assert await orders.take_all() == ["mine stays"]
    assert await refused(connects(seen.binding))


async def loses_nothing_confirmed(local, obj):
    seen = await local.converge(obj)
    async with client(seen.binding) as app:
        await asyncio.gather(*(app.publish(str(number)) for number in range(100)))
        await kill(local.instance(obj).process("node-0").state().pid)
    await local.restart_operator()
    seen = await local.converge(obj, 120)
    async with client(seen.binding) as app:
        assert sorted(await app.take_all(), key=int) == [str(number) for number in range(100)]


async def renews_its_certificate(local, obj):
    seen = await local.converge(obj)
    first = await shown(seen.binding.entries)
    local.instance(obj).record["tls"]["renew_at"] = (datetime.now(UTC) - timedelta(days=1)).timestamp()
    local.instance(obj).save()
    seen = await local.converge(obj)
    assert {cost for _, cost in local.plans} == {"reload"}

    async def other_certificate():
        return await shown(seen.binding.entries) != first

    await until(other_certificate, 60)


async def shown(entries):
    """The certificate that the server shows; verified."""
    context = ssl.create_default_context(cadata=entries["ca.crt"])
    _, writer = await asyncio.open_connection(entries["host"], int(entries["port"]), ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return der


async def leaves_nothing_behind(local, obj):
    instance = local.instance(obj)
    running = [instance.process(name).state().pid for name in instance.process_names()]
    ports = list(instance.ports.values())
    assert len(running) == 2  # the server, and the register of its own
    await local.delete(obj)
    await local.delete(obj)
    assert [pids.start_time(pid) for pid in running] == [None, None]
    assert not instance.root.exists()
    await until(lambda: all(is_free(port) for port in ports), 30)


slow = pytest.mark.skipif(
    not os.environ.get("CHANDLERY_CLUSTERS"), reason="takes a minute; CHANDLERY_CLUSTERS=1 runs it"
)


@slow
async def test_what_needs_a_restart_and_a_disk_that_is_full(local):
    obj = local.queue(
        "orders", engine="rabbitmq", storage={"size": "64Mi"}, configuration={"disk_free_limit.absolute": "900000GB"}
    )

    async def blocked():
        observed = await local.driver.observe(local.ctx, obj)
        if not observed.exists:
            await local.driver.create(local.ctx, obj)
        elif observed.differences:
            await local.driver.update(local.ctx, obj, replace(observed, plan=Plan(observed.differences)))
        return observed.reason == "Blocked" and "alarm" in observed.message

    await until(blocked, 120)
    first, second = local.provider.ports.choose(), local.provider.ports.choose()
    obj = local.know(local.changed(obj, configuration={}, exposure={"port": first}))
    seen = await local.converge(obj, 120)
    assert seen.endpoint.port == first
    async with client(seen.binding) as app:
        await app.publish("kept")
    obj = local.know(local.changed(obj, tls={}))  # what was the plain port becomes the one with TLS
    seen = await local.converge(obj, 120)
    assert seen.endpoint.port == first
    obj = local.know(local.changed(obj, exposure={"port": second}, acknowledgementTimeout="3s"))
    seen = await local.converge(obj, 120)
    assert seen.endpoint.port == second
    async with client(seen.binding) as app:
        taken = await app.take()
        assert taken.body == b"kept"
        async with client(seen.binding) as other:
            again = await other.take()  # nobody acknowledged it in time
            assert again.redelivered
            await again.ack()
    await local.delete(obj)


@slow
async def test_a_first_start_that_is_killed_begins_again(local):
    obj = local.queue("orders", engine="rabbitmq", storage={"size": "64Mi"})
    await local.driver.create(local.ctx, obj)
    instance = local.instance(obj)
    database = instance.data_dir / "node-0" / "node-0@localhost"
    for left in ("schema.DAT", "rabbit_durable_queue.DCD"):
        process = local.instance(obj).process("node-0")
        await until(lambda left=left: (database / left).exists(), 120)
        await kill(process.state().pid)
        observed = await local.driver.observe(local.ctx, obj)

        async def started():
            observed = await local.driver.observe(local.ctx, obj)
            if observed.differences:
                await local.driver.update(local.ctx, obj, replace(observed, plan=Plan(observed.differences)))
            return local.instance(obj).process("node-0").state().running

        assert not observed.ready
        await until(started, 60)
    seen = await local.converge(obj, 120)
    async with client(seen.binding) as app:
        await app.publish("fine")
    await local.delete(obj)


@slow
async def test_a_cluster_of_three_goes_on_when_one_is_killed(local):
    obj = local.queue("orders", engine="rabbitmq", storage={"size": "64Mi"}, replicas=3, ordering="fifo")
    seen = await local.converge(obj, 240)
    assert seen.facts["readyReplicas"] == 3
    async with client(seen.binding) as app:
        await app.publish("before")
        await kill(local.instance(obj).process("node-2").state().pid)
        await app.publish("after")
        seen = await local.converge(obj, 240)
        assert seen.facts["readyReplicas"] == 3
        inbox = asyncio.Queue()
        queue = await app.channel.get_queue("orders", ensure=False)
        await queue.consume(inbox.put)
        first = await asyncio.wait_for(inbox.get(), 60)
        assert first.body == b"before"

        async def one_under_way():  # the broker counts every few seconds
            facts = (await local.driver.observe(local.ctx, obj)).facts
            return (facts["messages"], facts["unacknowledged"]) == (2, 1)

        await until(one_under_way, 60)
        await first.ack()
        second = await asyncio.wait_for(inbox.get(), 60)
        assert second.body == b"after"
        await second.ack()
    await local.delete(obj)
