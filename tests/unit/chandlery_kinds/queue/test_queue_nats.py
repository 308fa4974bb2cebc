"""NATS from a spec: accounts, rights, dead letters. Without a server."""

import json

import pytest

from chandlery_kinds.queue import content
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.model import QueueSpec

SERVER = js.Server("node-0", "127.0.0.1", 4222, "/store")


def spec(**fields):
    return QueueSpec.model_validate({"storage": {"size": "1Gi"}, **fields})


def test_every_tenant_has_an_account_and_the_largest_message_counts():
    tenants = [js.Tenant("default/refunds", (js.NatsUser("refunds~app", "pw", ("refunds",), ("_INBOX.>",)),), 4 << 20)]
    config = json.loads(js.render(spec(), SERVER, [js.NatsUser("chandlery", "secret")], tenants=tenants))
    assert set(config["accounts"]) == {"QUEUE", "SYS", "default/refunds"}
    (user,) = config["accounts"]["default/refunds"]["users"]
    assert user["permissions"]["publish"] == {"allow": ["refunds"]}
    assert config["max_payload"] == 4 << 20
    assert json.loads(js.render(spec(), SERVER, []))["max_payload"] == 1 << 20


def test_dead_letters_that_go_elsewhere_have_no_stream_here():
    here = spec(maxDeliveries=3, deadLetter={})
    there = spec(maxDeliveries=3, deadLetter={"queue": {"name": "graves"}})
    kinds = {what for what, _, _ in content.wanted("orders", here, 1)}
    assert kinds - {what for what, _, _ in content.wanted("orders", there, 1)} == {"dead", "dead-consumer"}
    assert "dead-letter-stream" in content.entries("orders", here)
    assert "dead-letter-stream" not in content.entries("orders", there)
    assert content.facts("orders", here, {})["deadLetterQueue"] == "orders-dead"
    rights = js.application_user("app", "pw", "orders", there).publish
    assert not any("orders-dead" in subject for subject in rights)


@pytest.mark.parametrize(
    ("mover", "count"),
    [(None, 0), ({"num_pending": 2}, 2), ({"num_pending": 1, "num_ack_pending": 3}, 4)],
)
def test_what_a_mover_took_and_never_finished_is_still_to_move(mover, count):
    assert content.to_move({"mover": mover}) == count


def test_headers_of_a_dead_letter_are_kept_but_those_that_nats_means():
    raw = b"NATS/1.0\r\nKept: a: b\r\nNats-Msg-Id: 7\r\n\r\n"
    assert content.headers_of(raw) == {"Kept": "a: b"}
    assert content.headers_of(b"") == {}


def test_a_twin_has_the_rights_of_its_user_under_a_name_of_its_own():
    user = spec(users=[{"name": "till", "rights": ["publish"]}]).users[0]
    plain, twin = (js.queue_user(user, "pw", "orders", spec(), login=login) for login in ("", "till~2"))
    assert (plain.name, twin.name) == ("till", "till~2")
    assert plain.publish == twin.publish
