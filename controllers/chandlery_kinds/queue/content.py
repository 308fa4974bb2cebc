"""Streams and consumers of a queue inside JetStream: what is there, what should be, and the way between.

Over a real connection; the same wherever the servers run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chandlery.driver.protocol import Difference, Disruption
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers.jetstream_client import JetStream
from chandlery_kinds.queue.model import QueueSpec


def wanted(name: str, spec: QueueSpec, nodes: int) -> list[tuple[str, str, dict[str, Any]]]:
    """What should be inside: (what, stream it belongs to, configuration)."""
    stream = js.stream_name(name)
    found = [("stream", stream, js.stream(name, spec, nodes=nodes)), ("consumer", stream, js.consumer(spec))]
    if spec.dead_letter is not None:
        dead, given_up = js.dead_name(name), js.given_up_name(name)
        found += [
            ("dead", dead, js.dead_stream(name, spec, nodes=nodes)),
            ("dead-consumer", dead, {"durable_name": js.DEAD_CONSUMER, "ack_policy": "explicit"}),
            ("given-up", given_up, js.given_up_stream(name, spec, nodes=nodes)),
            ("mover", given_up, js.given_up_consumer()),
        ]
    return found


async def read(api: JetStream, name: str, spec: QueueSpec) -> dict[str, Any]:
    """What is inside, by the same words; None where something is missing."""
    found: dict[str, Any] = {"version": api.server_version}
    for what, stream, config in wanted(name, spec, spec.replicas):
        is_consumer = "durable_name" in config
        found[what] = await (api.consumer(stream, config["durable_name"]) if is_consumer else api.stream(stream))
    return found


def differences(name: str, spec: QueueSpec, live: Mapping[str, Any]) -> list[Difference]:
    """Payloads: ("put", what, exists) and ("move",)."""
    found = []
    for what, stream, config in wanted(name, spec, spec.replicas):
        present = live.get(what)
        if present is None:
            found.append(Difference(f"{what} {stream}", "present", "absent", payload=("put", what, False)))
            continue
        for key, (want, actual) in js.differences(config, present["config"]).items():
            field = js.FIELDS.get(key, f"{what} {key}")
            disruption = Disruption.REPLACE if key in js.FIXED else Disruption.NONE
            found.append(Difference(field, str(want), str(actual), disruption, payload=("put", what, True)))
    waiting = ((live.get("mover") or {}).get("num_pending", 0)) if spec.dead_letter is not None else 0
    if waiting:
        found.append(Difference("dead letters", "moved", f"{waiting} to move", payload=("move",)))
    return found


async def put(api: JetStream, name: str, spec: QueueSpec, puts: Mapping[str, bool]) -> None:
    """Make or change what `puts` names; its values tell whether it exists."""
    for what, stream, config in wanted(name, spec, spec.replicas):
        if what not in puts:
            continue
        if "durable_name" in config:
            await api.put_consumer(stream, config)
        else:
            await api.put_stream(config, exists=puts[what])


async def move_dead_letters(api: JetStream, name: str) -> None:
    """Each message that was given up goes to the dead letters, and only then out of the queue.

    Safe to repeat: the dead-letter stream stores a message of the same id once.
    """
    import nats.errors

    stream, given_up, dead = js.stream_name(name), js.given_up_name(name), js.dead_name(name)
    subscription = await api.connection.jetstream().pull_subscribe_bind(consumer="mover", stream=given_up)
    try:
        words = await subscription.fetch(100, timeout=1)
    except nats.errors.TimeoutError:
        return
    finally:
        await subscription.unsubscribe()
    for word in words:
        sequence = int(json.loads(word.data)["stream_seq"])
        message = await api.message(stream, sequence)
        if message is not None:
            subject, _, data = message
            headers = {"Nats-Msg-Id": f"{stream}-{sequence}", "Chandlery-Subject": subject}
            await api.connection.jetstream().publish(dead, data, headers=headers, stream=dead)
            await api.ask(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        await word.ack()
