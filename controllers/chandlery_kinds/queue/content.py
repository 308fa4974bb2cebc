"""Streams and consumers of a queue inside JetStream: what is there, what should be, and the way between.

Over a real connection; the same wherever the servers run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import ChandleryError
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers.jetstream_client import JetStream
from chandlery_kinds.queue.model import QueueSpec

MOVE_SECONDS = 0.2
"""How long to wait for messages that were given up; there are some, unless another mover has them."""


def wanted(name: str, spec: QueueSpec, nodes: int) -> list[tuple[str, str, dict[str, Any]]]:
    """What should be inside: (what, stream it belongs to, configuration)."""
    stream = js.stream_name(name)
    found = [("stream", stream, js.stream(name, spec, nodes=nodes)), ("consumer", stream, js.consumer(spec))]
    if js.own_dead_letters(spec):
        dead = js.dead_name(name)
        found += [
            ("dead", dead, js.dead_stream(name, spec, nodes=nodes)),
            ("dead-consumer", dead, {"durable_name": js.DEAD_CONSUMER, "ack_policy": "explicit"}),
        ]
    if spec.dead_letter is not None:
        given_up = js.given_up_name(name)
        found += [
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
    waiting = to_move(live) if spec.dead_letter is not None else 0
    if waiting:
        found.append(Difference("dead letters", "moved", f"{waiting} to move", payload=("move",)))
    return found


def to_move(live: Mapping[str, Any]) -> int:
    """Messages that were given up and are not where dead letters go. Those under way when a mover died count too."""
    mover = live.get("mover") or {}
    return int(mover.get("num_pending", 0)) + int(mover.get("num_ack_pending", 0))


def serves(live: Mapping[str, Any]) -> bool:
    """What clients use is there."""
    return bool(live.get("stream") and live.get("consumer"))


def in_step(live: Mapping[str, Any]) -> bool:
    """Every copy of every message is where it should be, so that one server can be away. There is something, too."""
    parts = [part for part in live.values() if isinstance(part, Mapping)]
    copies = [copy for part in parts for copy in (part.get("cluster") or {}).get("replicas") or ()]
    return bool(parts) and all(copy.get("current") and not copy.get("offline") for copy in copies)


async def put(api: JetStream, name: str, spec: QueueSpec, puts: Mapping[str, bool]) -> None:
    """Make or change what `puts` names; its values tell whether it exists."""
    for what, stream, config in wanted(name, spec, spec.replicas):
        if what not in puts:
            continue
        if "durable_name" in config:
            await api.put_consumer(stream, config)
        else:
            await api.put_stream(config, exists=puts[what])


def facts(name: str, spec: QueueSpec, live: Mapping[str, Any]) -> dict[str, Any]:
    """What status says of what is inside."""
    found: dict[str, Any] = {}
    if live:
        found["version"] = live["version"]
    if live.get("stream"):
        state, cluster = live["stream"]["state"], live["stream"].get("cluster") or {}
        found |= {"messages": state["messages"], "bytes": str(state["bytes"])}
        if cluster.get("leader"):
            found["leader"] = cluster["leader"]
    if live.get("consumer"):
        found["unacknowledged"] = live["consumer"].get("num_ack_pending", 0)
        found["consumers"] = live["consumer"].get("num_waiting", 0)
    if js.own_dead_letters(spec):
        found["deadLetterQueue"] = js.dead_name(name)
    return found


def entries(name: str, spec: QueueSpec) -> dict[str, str]:
    """What a binding says of what is inside."""
    found = {"stream": js.stream_name(name), "consumer": js.CONSUMER, "subject": js.publish_subject(name, spec)}
    if js.own_dead_letters(spec):
        found |= {"dead-letter-stream": js.dead_name(name), "dead-letter-consumer": js.DEAD_CONSUMER}
    return found


@dataclass(frozen=True, slots=True)
class Target:
    """Where dead letters go."""

    api: JetStream
    stream: str
    subject: str


async def move_dead_letters(api: JetStream, name: str, target: Target | None = None) -> None:
    """Each message that was given up goes to the dead letters, and only then out of the queue.

    Safe to repeat: the stream of the dead letters stores a message of the same id once (another Queue's does within
    its deduplicationWindow).

    Args:
        api: at the queue.
        name: the queue's name.
        target: another Queue's stream; None for the queue's own dead letters.

    Raises:
        EngineFailed: the target refuses a message; it stays in the queue's own keeping.
    """
    import nats.errors

    stream, given_up = js.stream_name(name), js.given_up_name(name)
    target = target or Target(api, js.dead_name(name), js.dead_name(name))
    subscription = await api.connection.jetstream().pull_subscribe_bind(consumer="mover", stream=given_up)
    try:
        words = await subscription.fetch(100, timeout=MOVE_SECONDS)
    except nats.errors.TimeoutError:
        return
    finally:
        await subscription.unsubscribe()
    for number, word in enumerate(words):
        sequence = int(json.loads(word.data)["stream_seq"])
        message = await api.message(stream, sequence)
        if message is not None:
            subject, raw, data = message
            headers = {**headers_of(raw), "Nats-Msg-Id": f"{stream}-{sequence}", "Chandlery-Subject": subject}
            try:
                await target.api.publish(target.subject, data, headers, target.stream)
            except ChandleryError:
                for rest in words[number:]:
                    await rest.nak()
                raise
            await api.ask(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        await word.ack()


def headers_of(raw: bytes) -> dict[str, str]:
    """A stored message's own headers; those that NATS gives a meaning are left behind."""
    pairs = [line.split(":", 1) for line in raw.decode(errors="replace").split("\r\n")[1:] if ":" in line]
    return {key.strip(): value.strip() for key, value in pairs if not key.strip().startswith("Nats-")}
