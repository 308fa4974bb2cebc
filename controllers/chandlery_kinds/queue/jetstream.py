"""NATS JetStream from a spec: streams, consumers, rights and the server's configuration. Pure; for every driver of it.

A queue is a stream with work-queue retention and one durable pull consumer, `workers`, that all workers share. Source:
the NATS documentation, "JetStream" and "Authorization".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chandlery_kinds.queue.model import Discard, Ordering, QueueRight, QueueSpec, QueueUser

ADMIN = "chandlery"
CONSUMER = "workers"
DEAD_CONSUMER = "readers"
DEFAULT_DEAD_AGE = 7 * 24 * 3600.0
_NANO = 1_000_000_000


def stream_name(name: str) -> str:
    """JetStream allows no dots, blanks or wildcards in a stream's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def dead_name(name: str) -> str:
    return f"{stream_name(name)}-dead"


def given_up_name(name: str) -> str:
    """The stream that remembers which messages were given up, until they are moved."""
    return f"{stream_name(name)}-given-up"


def own_dead_letters(spec: QueueSpec) -> bool:
    """Dead letters stay beside the queue; otherwise they go to another Queue, or messages are given up for good."""
    return spec.dead_letter is not None and spec.dead_letter.queue is None


def subjects(name: str, spec: QueueSpec) -> list[str]:
    return list(spec.subjects) or [name, f"{name}.>"]


def publish_subject(name: str, spec: QueueSpec) -> str:
    """A subject that a publisher can use as it is: the first one without a wildcard, or one made of the first."""
    found = subjects(name, spec)
    plain = next((s for s in found if "*" not in s and ">" not in s), None)
    return plain or found[0].replace("*", "any").replace(">", "any")


def stream(name: str, spec: QueueSpec, *, nodes: int) -> dict[str, Any]:
    """The queue itself, as the JetStream API takes it."""
    retention = spec.retention
    # A tenth of the storage is left to the dead letters and the server's own files.
    room = spec.storage.size.bytes * 9 // 10 if spec.storage else -1
    age = retention.max_age.seconds if retention.max_age else 0.0
    window = spec.deduplication_window.seconds if spec.deduplication_window else 0.1
    return {
        "name": stream_name(name),
        "subjects": subjects(name, spec),
        "retention": "workqueue",
        "storage": "file",
        "num_replicas": min(spec.replicas, nodes),
        "max_age": round(age * _NANO),
        "max_bytes": retention.max_bytes.bytes if retention.max_bytes else room,
        "max_msgs": retention.max_messages or -1,
        "max_msg_size": spec.max_message_size.bytes,
        "discard": "old" if retention.discard is Discard.OLD else "new",
        "duplicate_window": round(min(window, age or window) * _NANO),
        "allow_direct": True,
    }


def consumer(spec: QueueSpec) -> dict[str, Any]:
    """What all workers share."""
    return {
        "durable_name": CONSUMER,
        "ack_policy": "explicit",
        "ack_wait": round(spec.acknowledgement_timeout.seconds * _NANO),
        "deliver_policy": "all",
        "max_deliver": spec.max_deliveries or -1,
        # In order means that the next message goes out only after the last one was acknowledged.
        "max_ack_pending": 1 if spec.ordering is Ordering.FIFO else 1000,
        "replay_policy": "instant",
    }


def dead_stream(name: str, spec: QueueSpec, *, nodes: int) -> dict[str, Any]:
    """Where messages go that were given up."""
    age = spec.dead_letter.max_age.seconds if spec.dead_letter and spec.dead_letter.max_age else DEFAULT_DEAD_AGE
    return {
        "name": dead_name(name),
        "subjects": [dead_name(name)],
        "retention": "limits",
        "storage": "file",
        "num_replicas": min(spec.replicas, nodes),
        "max_age": round(age * _NANO),
        "discard": "old",
    }


def given_up_stream(name: str, spec: QueueSpec, *, nodes: int) -> dict[str, Any]:
    """JetStream's own word on messages that reached maxDeliveries or were terminated by a worker."""
    at = f"{stream_name(name)}.{CONSUMER}"
    return {
        "name": given_up_name(name),
        "subjects": [
            f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{at}",
            f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{at}",
        ],
        "retention": "workqueue",
        "storage": "file",
        "num_replicas": min(spec.replicas, nodes),
    }


def given_up_consumer() -> dict[str, Any]:
    return {"durable_name": "mover", "ack_policy": "explicit", "ack_wait": 30 * _NANO, "deliver_policy": "all"}


def differences(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Field -> (wanted, actual), for the fields that are asked for; a default that the server leaves out is equal."""
    found = {}
    for key, value in wanted.items():
        have = live.get(key, _ABSENT.get(key))
        same = sorted(value) == sorted(have or []) if isinstance(value, list) else have == value
        if not same:
            found[key] = (value, have)
    return found


_ABSENT: Mapping[str, Any] = {"max_age": 0, "max_bytes": -1, "max_msgs": -1, "allow_direct": False}
FIXED = frozenset({"retention", "storage"})
"""Fields that JetStream can't change on a stream that exists."""

FIELDS: Mapping[str, str] = {
    "subjects": "spec.subjects",
    "num_replicas": "spec.replicas",
    "max_age": "spec.retention.maxAge",
    "max_bytes": "spec.retention.maxBytes",
    "max_msgs": "spec.retention.maxMessages",
    "max_msg_size": "spec.maxMessageSize",
    "discard": "spec.retention.discard",
    "duplicate_window": "spec.deduplicationWindow",
    "ack_wait": "spec.acknowledgementTimeout",
    "max_deliver": "spec.maxDeliveries",
    "max_ack_pending": "spec.ordering",
}


# -- users


@dataclass(frozen=True, slots=True)
class NatsUser:
    """A user of the account, with what it may publish and subscribe to (None: everything)."""

    name: str
    password: str = field(repr=False)
    publish: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None


def queue_user(user: QueueUser, password: str, name: str, spec: QueueSpec, *, login: str = "") -> NatsUser:
    """A user of spec.users: only this queue, only what its rights say. `login`: its name at the server."""
    return NatsUser(
        login or user.name,
        password,
        tuple(_publish(user.rights, user.subjects, name, spec)),
        ("_INBOX.>",),
    )


def application_user(user: str, password: str, name: str, spec: QueueSpec) -> NatsUser:
    """The binding's user: publishes and consumes, reads the dead letters, can't change the queue."""
    rights = (QueueRight.PUBLISH, QueueRight.CONSUME)
    return NatsUser(user, password, tuple(_publish(rights, (), name, spec)), ("_INBOX.>",))


def _publish(rights: Sequence[QueueRight], only: Sequence[str], name: str, spec: QueueSpec) -> list[str]:
    stream, dead = stream_name(name), dead_name(name)
    at_dead = [
        f"$JS.API.STREAM.INFO.{dead}",
        f"$JS.API.CONSUMER.MSG.NEXT.{dead}.{DEAD_CONSUMER}",
        f"$JS.API.CONSUMER.INFO.{dead}.{DEAD_CONSUMER}",
        f"$JS.ACK.{dead}.{DEAD_CONSUMER}.>",
    ]
    found = ["$JS.API.INFO", f"$JS.API.STREAM.INFO.{stream}", "$JS.API.STREAM.NAMES"]
    if QueueRight.PUBLISH in rights:
        found += list(only) or subjects(name, spec)
    if QueueRight.CONSUME in rights:
        found += [
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{CONSUMER}",
            f"$JS.API.CONSUMER.INFO.{stream}.{CONSUMER}",
            f"$JS.ACK.{stream}.{CONSUMER}.>",
            *(at_dead if own_dead_letters(spec) else ()),
        ]
    return found


# -- server


@dataclass(frozen=True, slots=True)
class Tenant:
    """Another queue on the same servers, in an account of its own: it sees nothing of the others."""

    account: str
    users: tuple[NatsUser, ...]
    max_payload: int = 0
    """Largest message in bytes; the servers take the largest of all."""


@dataclass(frozen=True, slots=True)
class Server:
    """What differs from server to server."""

    name: str
    host: str
    port: int
    store: str
    cluster: str = ""
    cluster_port: int | None = None
    routes: tuple[str, ...] = ()
    tls: Mapping[str, Any] | None = None
    """The block `tls` of the configuration; None: no TLS."""


def render(
    spec: QueueSpec,
    server: Server,
    users: Sequence[NatsUser],
    cluster_password: str = "",
    tenants: Sequence[Tenant] = (),
) -> str:
    """The server's configuration file, as JSON, which NATS reads. Holds passwords: keep it 0600."""
    size = spec.storage.size.bytes if spec.storage else 1 << 30
    config: dict[str, Any] = {
        "server_name": server.name,
        "listen": f"{server.host}:{server.port}",
        "max_payload": max(spec.max_message_size.bytes, *(tenant.max_payload for tenant in tenants), 0),
        "jetstream": {"store_dir": server.store, "max_file_store": size, "max_memory_store": 64 << 20},
        "accounts": {
            "QUEUE": _account(users),
            **{tenant.account: _account(tenant.users) for tenant in tenants},
            "SYS": {"users": []},
        },
        "system_account": "SYS",
    }
    for name, value in spec.configuration.items():
        *path, last = name.split(".")
        place = config
        for part in path:
            place = place.setdefault(part, {})
        place[last] = _typed(value)
    if server.tls is not None:
        config["tls"] = dict(server.tls)
    if server.cluster_port is not None:
        config["cluster"] = {
            "name": server.cluster,
            "listen": f"{server.host}:{server.cluster_port}",
            "authorization": {"user": "route", "password": cluster_password},
            "routes": list(server.routes),
        }
    return json.dumps(config, indent=1) + "\n"


def _account(users: Sequence[NatsUser]) -> dict[str, Any]:
    return {"jetstream": "enabled", "users": [_user(user) for user in users]}


def _user(user: NatsUser) -> dict[str, Any]:
    found: dict[str, Any] = {"user": user.name, "password": user.password}
    if user.publish is not None or user.subscribe is not None:
        found["permissions"] = {
            "publish": {"allow": list(user.publish or ())},
            "subscribe": {"allow": list(user.subscribe or ())},
        }
    return found


def _typed(value: str) -> Any:
    """Numbers and booleans as such; NATS is strict about them."""
    if value in ("true", "false", "yes", "no", "on", "off"):
        return value in ("true", "yes", "on")
    return int(value) if re.fullmatch(r"-?\d+", value) else value
