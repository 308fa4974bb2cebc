"""RabbitMQ from a spec: definitions, and the way from what is there. Without a broker."""

import re

import pytest

from chandlery_kinds.queue import rabbitmq
from chandlery_kinds.queue.drivers.local_rabbit_broker import OWN_USERS
from chandlery_kinds.queue.model import QueueRight, QueueSpec

NODE = rabbitmq.RabbitNode("node-0", 5672, 15672)
USERS = [rabbitmq.RabbitUser("app", "pw")]


def spec(**fields):
    return QueueSpec.model_validate({"engine": "rabbitmq", "storage": {"size": "1Gi"}, **fields})


def as_live(want):
    """What a broker that has taken the definitions answers."""
    live = {key: [dict(entry) for entry in entries] for key, entries in rabbitmq.importable(want).items()}
    live["users"].append({"name": "chandlery", "password_hash": "", "tags": ["administrator"]})
    return live


def found(want, live, mine=OWN_USERS):
    return {(change.field, change.actual) for change in rabbitmq.differences(want, live, mine)}


@pytest.mark.parametrize(
    ("pattern", "keys", "others"),
    [
        ("orders", ["orders"], ["orders.new", "ordersx", "x"]),
        ("orders.*", ["orders.new", "orders."], ["orders", "orders.new.late"]),
        ("orders.>", ["orders", "orders.new", "orders.new.late"], ["ordersx", "x.orders"]),
        ("#", ["", "a", "a.b"], []),
        ("#.late", ["late", "orders.late", "a.b.late"], ["xlate", "late.a"]),
        ("a.#.b", ["a.b", "a.x.b", "a.x.y.b"], ["a", "b", "ab", "a.xb"]),
        ("*.b", ["a.b", ".b"], ["b", "a.c.b"]),
    ],
)
def test_routing_patterns_mean_the_same_as_expressions(pattern, keys, others):
    expression = re.compile(f"^({rabbitmq.key_pattern(pattern)})$")
    assert [key for key in keys if not expression.match(key)] == []
    assert [key for key in others if expression.match(key)] == []


def test_nothing_is_to_do_where_everything_is_there():
    want = rabbitmq.wanted("orders", spec(maxDeliveries=3, deadLetter={}), "/", USERS)
    assert found(want, as_live(want)) == set()


def test_limits_are_a_policy_that_can_change():
    limits = rabbitmq.limits("orders", spec(maxDeliveries=1, deadLetter={}, retention={"maxAge": "1h"}))
    assert limits["delivery-limit"] == 0  # delivered once, and it must not come back
    assert limits["message-ttl"] == 3_600_000
    assert limits["dead-letter-strategy"] == "at-least-once"
    old = rabbitmq.limits("orders", spec(maxDeliveries=2, deadLetter={}, retention={"discard": "old"}))
    assert old["overflow"] == "drop-head"
    assert "dead-letter-strategy" not in old
    before, after = (rabbitmq.wanted("orders", spec(retention={"maxMessages": n}), "/", USERS) for n in (1000, 2000))
    assert found(after, as_live(before)) == {("policies orders", "different")}


def test_a_password_is_compared_by_its_hash_and_never_sent():
    want = rabbitmq.wanted("orders", spec(), "/", USERS)
    live = as_live(want)
    assert "password" not in rabbitmq.importable(want)["users"][0]
    other = rabbitmq.wanted("orders", spec(), "/", [rabbitmq.RabbitUser("app", "new")])
    (change,) = rabbitmq.differences(other, live, OWN_USERS)
    assert (change.field, change.sensitive) == ("users app", True)
    assert rabbitmq.matches("pw", rabbitmq.hashed("pw"))
    assert not rabbitmq.matches("pw", "not base64!")


def test_what_is_no_longer_asked_for_goes_and_what_is_a_guests_stays():
    users = [*USERS, rabbitmq.RabbitUser("till", "pw", (QueueRight.PUBLISH,), ("orders.new",))]
    live = as_live(rabbitmq.wanted("orders", spec(subjects=["orders.#", "bills"]), "/", users))
    live["users"] += [{"name": name, "password_hash": "", "tags": []} for name in ("app~2", "refunds~app")]
    live["vhosts"].append({"name": "default.refunds"})
    live["bindings"].append({**live["bindings"][0], "vhost": "default.refunds"})
    changes = rabbitmq.differences(rabbitmq.wanted("orders", spec(subjects=["orders.#"]), "/", USERS), live, OWN_USERS)
    assert {change.payload for change in changes} == {
        ("drop", "users/till"),
        ("drop", "users/app~2"),
        ("drop", "topic-permissions/%2F/till"),
        ("drop", "bindings/%2F/e/orders/q/orders/bills"),
    }


def test_rights_are_of_this_queue_only():
    users = [*USERS, rabbitmq.RabbitUser("reader", "pw", (QueueRight.CONSUME,))]
    permissions = rabbitmq.wanted("a.b", spec(maxDeliveries=2, deadLetter={}), "/", users)["permissions"]
    app, reader = permissions[1:]
    assert re.match(app["write"], "a.b")
    assert not re.match(app["write"], "axb")
    assert re.match(app["read"], "a.b-dead")
    assert (reader["write"], reader["configure"]) == (rabbitmq.NOTHING, rabbitmq.NOTHING)


def test_a_queue_in_order_has_one_consumer_at_a_time_and_one_message_under_way():
    fifo = spec(ordering="fifo")
    (queue,) = rabbitmq.wanted("orders", fifo, "/", USERS)["queues"]
    assert queue["arguments"]["x-single-active-consumer"] is True
    assert "{false, 1}" in rabbitmq.advanced(fifo)
    assert "{false, 0}" in rabbitmq.advanced(spec())


def test_dead_letters_are_carried_on_by_a_shovel():
    shovel = rabbitmq.Shovel("amqp:///default.graves", "graves", "graves")
    want = rabbitmq.wanted(
        "orders", spec(maxDeliveries=2, deadLetter={"queue": {"name": "graves"}}), "/", USERS, shovel
    )
    (parameter,) = want["parameters"]
    assert parameter["value"]["ack-mode"] == "on-confirm"
    live = as_live(want)
    without = rabbitmq.wanted("orders", spec(maxDeliveries=2, deadLetter={}), "/", USERS)
    assert ("parameters dead-letters", "present") in found(without, live)


def test_the_configuration_listens_on_loopback_only_and_takes_the_specs_own_settings():
    text = rabbitmq.render(spec(configuration={"heartbeat": "30"}), NODE, "secret", "127.0.0.1")
    lines = dict(line.split(" = ", 1) for line in text.splitlines())
    assert lines["listeners.tcp.1"] == "127.0.0.1:5672"
    assert lines["management.tcp.ip"] == "127.0.0.1"
    assert lines["consumer_timeout"] == "30000"
    assert lines["heartbeat"] == "30"


def test_with_tls_the_plain_listener_is_there_only_when_it_may():
    tls = rabbitmq.RabbitTls(5671, "crt", "key", "trust", demanded=True, minimum_version="1.3", plain_too=False)
    secure = rabbitmq.render(spec(), rabbitmq.RabbitNode("node-0", 5672, 15672, tls=tls), "pw", "127.0.0.1")
    assert "listeners.tcp = none" in secure
    assert "ssl_options.fail_if_no_peer_cert = true" in secure
    assert "tlsv1.2" not in secure
