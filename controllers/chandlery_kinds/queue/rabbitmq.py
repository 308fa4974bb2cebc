"""RabbitMQ from a spec: what must be inside as its definitions, the way from what is there, the configuration. Pure.

A queue is a quorum queue of its own name behind a topic exchange of the same name; limits are in a policy, because a
queue's arguments can't change. Sources: the RabbitMQ documentation, "Quorum Queues", "Time-To-Live", "Dead Letter
Exchanges", "Authorisation", "Configuration", and the management plugin's HTTP API reference.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from chandlery.driver.protocol import Difference
from chandlery_kinds.queue.jetstream import DEFAULT_DEAD_AGE
from chandlery_kinds.queue.model import Discard, Ordering, QueueRight, QueueSpec

ADMIN = "chandlery"
NOTHING = "^$"
HASHING = "rabbit_password_hashing_sha256"
SHOVEL = "dead-letters"

Definitions = Mapping[str, Sequence[Mapping[str, Any]]]
"""As `/api/definitions` gives and takes them: vhosts, users, permissions, queues, exchanges, bindings, policies, ..."""


@dataclass(frozen=True, slots=True)
class RabbitUser:
    """A user of one virtual host."""

    name: str
    password: str = field(repr=False)
    rights: tuple[QueueRight, ...] = (QueueRight.PUBLISH, QueueRight.CONSUME)
    subjects: tuple[str, ...] = ()
    """Routing keys that it may publish with; empty: all."""


@dataclass(frozen=True, slots=True)
class Shovel:
    """Where dead letters are carried on to: a topic exchange, here or on another broker."""

    uri: str = field(repr=False)
    exchange: str
    key: str


def dead_name(name: str) -> str:
    return f"{name}-dead"


def subjects(name: str, spec: QueueSpec) -> list[str]:
    """Routing keys that end up in the queue, with `#` for the rest."""
    return [subject.replace(">", "#") for subject in spec.subjects] or [name, f"{name}.#"]


def publish_key(name: str, spec: QueueSpec) -> str:
    """A routing key that a publisher can use as it is."""
    found = subjects(name, spec)
    plain = next((s for s in found if "*" not in s and "#" not in s), None)
    return plain or found[0].replace("*", "any").replace("#", "any")


def key_pattern(subject: str) -> str:
    """A routing pattern as a regular expression of routing keys: `*` is one word, `#` any number of them."""
    words = subject.replace(">", "#").split(".")
    if words == ["#"]:
        return ".*"
    found = ""
    for number, word in enumerate(words):
        if word == "#":
            found += "(.*[.])?" if number == 0 else "([.].*)?"
        else:
            between = "" if number == 0 or words[:number] == ["#"] else "[.]"
            found += between + ("[^.]*" if word == "*" else re.escape(word))
    return found


# -- what should be inside


def wanted(
    name: str, spec: QueueSpec, vhost: str, users: Sequence[RabbitUser], shovel: Shovel | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Everything of one queue; users hold their password in the clear under `password`."""
    dead = spec.dead_letter is not None
    arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-quorum-initial-group-size": spec.replicas}
    own = arguments | ({"x-single-active-consumer": True} if spec.ordering is Ordering.FIFO else {})
    durable = {"vhost": vhost, "durable": True, "auto_delete": False}
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            {"name": user.name, "password": user.password, "hashing_algorithm": HASHING, "tags": [], "limits": {}}
            for user in users
        ],
        "permissions": [
            {"user": ADMIN, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"},
            *(_permission(user, name, vhost, dead=dead) for user in users),
        ],
        "topic_permissions": [
            {"user": user.name, "vhost": vhost, "exchange": name, "write": _keys(user), "read": ".*"}
            for user in users
            if user.subjects
        ],
        "exchanges": [{"name": name, **durable, "type": "topic", "internal": False, "arguments": {}}],
        "queues": [
            {"name": name, **durable, "arguments": own},
            *([{"name": dead_name(name), **durable, "arguments": arguments}] if dead else ()),
        ],
        "bindings": [
            {
                "source": name,
                "vhost": vhost,
                "destination": name,
                "destination_type": "queue",
                "routing_key": key,
                "arguments": {},
            }
            for key in subjects(name, spec)
        ],
        "policies": [
            _policy(name, vhost, limits(name, spec)),
            *([_policy(dead_name(name), vhost, dead_limits(spec))] if dead else ()),
        ],
        "parameters": [_shovel(name, vhost, shovel)] if shovel is not None else [],
    }


def limits(name: str, spec: QueueSpec) -> dict[str, Any]:
    """The policy of the queue."""
    retention = spec.retention
    found: dict[str, Any] = {"overflow": "drop-head" if retention.discard is Discard.OLD else "reject-publish"}
    if retention.max_age is not None:
        found["message-ttl"] = round(retention.max_age.seconds * 1000)
    if retention.max_messages is not None:
        found["max-length"] = retention.max_messages
    # A tenth of the storage is left to the dead letters and the broker's own files.
    room = spec.storage.size.bytes * 9 // 10 if spec.storage else None
    most = retention.max_bytes.bytes if retention.max_bytes else room
    if most is not None:
        found["max-length-bytes"] = most
    if spec.max_deliveries is not None:
        found["delivery-limit"] = spec.max_deliveries - 1  # how often a message may come back
    if spec.dead_letter is not None:
        found |= {"dead-letter-exchange": "", "dead-letter-routing-key": dead_name(name)}
        if retention.discard is Discard.NEW:
            found["dead-letter-strategy"] = "at-least-once"  # RabbitMQ has it for queues that refuse when full
    return found


def dead_limits(spec: QueueSpec) -> dict[str, Any]:
    """The policy of the dead letters."""
    age = spec.dead_letter.max_age.seconds if spec.dead_letter and spec.dead_letter.max_age else DEFAULT_DEAD_AGE
    return {"message-ttl": round(age * 1000), "overflow": "drop-head"}


def _policy(queue: str, vhost: str, definition: dict[str, Any]) -> dict[str, Any]:
    pattern = f"^{re.escape(queue)}$"
    return {
        "vhost": vhost,
        "name": queue,
        "pattern": pattern,
        "apply-to": "queues",
        "definition": definition,
        "priority": 0,
    }


def _shovel(name: str, vhost: str, shovel: Shovel) -> dict[str, Any]:
    value = {
        "src-protocol": "amqp091",
        "src-uri": f"amqp:///{quote(vhost, safe='')}",
        "src-queue": dead_name(name),
        "dest-protocol": "amqp091",
        "dest-uri": shovel.uri,
        "dest-exchange": shovel.exchange,
        "dest-exchange-key": shovel.key,
        "ack-mode": "on-confirm",
        "src-delete-after": "never",
    }
    return {"vhost": vhost, "component": "shovel", "name": SHOVEL, "value": value}


def _permission(user: RabbitUser, name: str, vhost: str, *, dead: bool) -> dict[str, Any]:
    plain = re.escape(name)
    readable = f"^({plain}|{re.escape(dead_name(name))})$" if dead else f"^{plain}$"
    return {
        "user": user.name,
        "vhost": vhost,
        "configure": NOTHING,
        "write": f"^{plain}$" if QueueRight.PUBLISH in user.rights else NOTHING,
        "read": readable if QueueRight.CONSUME in user.rights else NOTHING,
    }


def _keys(user: RabbitUser) -> str:
    return f"^({'|'.join(key_pattern(subject) for subject in user.subjects)})$"


# -- the way there

_KEYS: Mapping[str, tuple[str, ...]] = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("vhost", "user"),
    "topic_permissions": ("vhost", "user", "exchange"),
    "exchanges": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination", "routing_key"),
    "policies": ("vhost", "name"),
    "parameters": ("vhost", "component", "name"),
}
"""By what an entry is known; the parts of its path in the HTTP API, but for bindings."""
_COMPARED: Mapping[str, tuple[str, ...]] = {
    "users": ("tags",),
    "permissions": ("configure", "write", "read"),
    "topic_permissions": ("write", "read"),
    "policies": ("pattern", "definition"),
    "parameters": ("value",),
}


def differences(want: Definitions, live: Definitions, mine: re.Pattern[str]) -> list[Difference]:
    """What is missing or different, payload ("define",), and what is too much, payload ("drop", path).

    Args:
        want: as `wanted` gives it.
        live: all definitions of the broker.
        mine: names of users that this queue looks after.
    """
    found = []
    vhost = want["vhosts"][0]["name"]
    for section, keys in _KEYS.items():
        there = {tuple(entry[key] for key in keys): entry for entry in live.get(section, ())}
        asked = {tuple(entry[key] for key in keys): entry for entry in want.get(section, ())}
        for identity, entry in asked.items():
            present = there.get(identity)
            if present is None:
                found.append(_missing(section, identity))
            elif not _same(section, entry, present):
                what = f"{section.replace('_', ' ')} {identity[-1]}"
                sensitive = section in ("users", "parameters")
                found.append(Difference(what, "as in spec", "different", sensitive=sensitive, payload=("define",)))
        for identity in there.keys() - asked.keys():
            if _surplus(section, there[identity], vhost, mine):
                what = f"{section.replace('_', ' ')} {identity[-1]}"
                found.append(Difference(what, "absent", "present", payload=("drop", _path(section, identity))))
    return found


def _missing(section: str, identity: tuple[Any, ...]) -> Difference:
    return Difference(f"{section.replace('_', ' ')} {identity[-1]}", "present", "absent", payload=("define",))


def _same(section: str, want: Mapping[str, Any], have: Mapping[str, Any]) -> bool:
    if section == "users" and not matches(want["password"], have.get("password_hash", "")):
        return False
    return all(want[key] == have.get(key) for key in _COMPARED.get(section, ()))


def _surplus(section: str, entry: Mapping[str, Any], vhost: str, mine: re.Pattern[str]) -> bool:
    """Whether an entry that nobody asked for was made for this queue once."""
    if section == "users":
        return bool(mine.fullmatch(entry["name"])) and entry["name"] != ADMIN
    if entry.get("vhost") != vhost:
        return False
    if section == "topic_permissions":
        return bool(mine.fullmatch(entry["user"]))
    if section == "parameters":
        return (entry["component"], entry["name"]) == ("shovel", SHOVEL)
    return section == "bindings" and bool(entry["source"])


def _path(section: str, identity: tuple[Any, ...]) -> str:
    """Where the HTTP API has it, for DELETE."""
    parts = [quote(str(part), safe="") for part in identity]
    if section == "bindings":
        vhost, source, destination, key = parts
        return f"bindings/{vhost}/e/{source}/q/{destination}/{quote(key, safe='') or '~'}"
    if section == "topic_permissions":
        return f"topic-permissions/{parts[0]}/{parts[1]}"
    if section == "parameters":
        return f"parameters/{parts[1]}/{parts[0]}/{parts[2]}"
    return f"{section}/{'/'.join(parts)}"


def importable(want: Definitions) -> dict[str, Any]:
    """What to post: passwords as RabbitMQ keeps them, so that none crosses a wire or a log."""
    users = [{**user, "password_hash": hashed(user["password"])} for user in want["users"]]
    for user in users:
        del user["password"]
    return {**want, "users": users}


def hashed(password: str, salt: bytes | None = None) -> str:
    """RabbitMQ's own form: base64 of four bytes of salt and SHA-256 of salt and password."""
    salt = secrets.token_bytes(4) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def matches(password: str, password_hash: str) -> bool:
    try:
        salt = base64.b64decode(password_hash, validate=True)[:4]
    except ValueError:
        return False
    return hmac.compare_digest(hashed(password, salt), password_hash)


# -- the broker


@dataclass(frozen=True, slots=True)
class RabbitTls:
    """The TLS listener."""

    port: int
    certificate: str
    key: str
    authority: str
    """File with the certificates of authorities that clients' certificates may come from; "" when none is asked for."""
    demanded: bool
    minimum_version: str
    plain_too: bool


@dataclass(frozen=True, slots=True)
class RabbitNode:
    """What differs from server to server."""

    name: str
    port: int
    management_port: int
    peers: tuple[str, ...] = ()
    """Node names of all servers of a cluster, this one included; empty: it is alone."""
    tls: RabbitTls | None = None


def render(spec: QueueSpec, node: RabbitNode, admin_password: str, host: str) -> str:
    """rabbitmq.conf. Holds the admin's password: keep it 0600."""
    lines: dict[str, Any] = {
        "management.tcp.ip": host,
        "management.tcp.port": node.management_port,
        "default_user": ADMIN,
        "default_pass": admin_password,
        "loopback_users": "none",
        "log.file": "false",
        "log.console": "true",
        "log.console.level": "warning",
        "max_message_size": spec.max_message_size.bytes,
        "consumer_timeout": round(spec.acknowledgement_timeout.seconds * 1000),
        "cluster_partition_handling": "pause_minority" if len(node.peers) > 2 else "ignore",
        "management_agent.disable_metrics_collector": "true",
    }
    if node.tls is None or node.tls.plain_too:
        lines["listeners.tcp.1"] = f"{host}:{node.port}"
    else:
        lines["listeners.tcp"] = "none"
    if node.tls is not None:
        lines |= _tls(node.tls, host)
    if node.peers:
        lines["cluster_formation.peer_discovery_backend"] = "classic_config"
        lines |= {f"cluster_formation.classic_config.nodes.{n}": peer for n, peer in enumerate(node.peers, 1)}
        lines["cluster_formation.target_cluster_size_hint"] = len(node.peers)
    memory = spec.resources.limits.memory if spec.resources.limits is not None else None
    if memory is not None:
        lines["total_memory_available_override_value"] = memory.bytes
    lines |= spec.configuration
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


def _tls(tls: RabbitTls, host: str) -> dict[str, Any]:
    versions = ["tlsv1.3"] if tls.minimum_version == "1.3" else ["tlsv1.3", "tlsv1.2"]
    found: dict[str, Any] = {
        "listeners.ssl.1": f"{host}:{tls.port}",
        "ssl_options.certfile": tls.certificate,
        "ssl_options.keyfile": tls.key,
        "ssl_options.verify": "verify_peer" if tls.authority else "verify_none",
        "ssl_options.fail_if_no_peer_cert": "true" if tls.demanded else "false",
    }
    if tls.authority:
        found["ssl_options.cacertfile"] = tls.authority
    return found | {f"ssl_options.versions.{n}": version for n, version in enumerate(versions, 1)}


def advanced(spec: QueueSpec) -> str:
    """What rabbitmq.conf can't say in every version.

    A queue in order hands out one message after the other, unless a client asks for more. And it is looked often
    enough whether the time of an acknowledgement is over.
    """
    prefetch = 1 if spec.ordering is Ordering.FIFO else 0
    tick = max(1000, min(60000, round(spec.acknowledgement_timeout.seconds * 500)))
    return f"[{{rabbit, [{{default_consumer_prefetch, {{false, {prefetch}}}}}, {{channel_tick_interval, {tick}}}]}}].\n"
