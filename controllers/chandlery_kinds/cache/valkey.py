"""Configuration of Valkey and Redis from a spec. Pure; shared by every driver that runs the engine itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from chandlery.driver.protocol import Difference, Disruption
from chandlery_kinds.cache.model import CacheSpec, PersistenceMode

_UNITS = {"k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30, "": 1, "b": 1}
_MEMORY = re.compile(r"^(\d+)(kb|mb|gb|k|m|g|b)?$")

RESTART_SETTINGS = frozenset(
    """
    aclfile always-show-logo appenddirname appendfilename cluster-config-file cluster-enabled cluster-port
    crash-log-enabled daemonize databases disable-thp enable-debug-command enable-module-command
    enable-protected-configs io-threads-do-reads locale-collate logfile pidfile rdma-bind rdma-port
    replica-announce-ip set-proc-title socket-mark-id supervised syslog-enabled syslog-facility syslog-ident
    tcp-backlog unixsocket unixsocketgroup unixsocketperm
    """.split()
)
"""Settings that the engine refuses in CONFIG SET: they need a restart."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What differs from node to node."""

    port: int
    data_dir: str
    acl_file: str
    bind: str = "127.0.0.1"
    primary: tuple[str, int] | None = None
    """(host, port) of the primary to follow; None for a primary."""
    replication_password: str = field(default="", repr=False)
    cluster_port: int | None = None
    """Set for a node of a sharded cache."""
    announce: tuple[str, int | None] | None = None
    """The address that clients of a sharded cache are sent to, and the port when it isn't the node's own."""


def desired_settings(spec: CacheSpec) -> dict[str, str]:
    """The settings that the spec asks for, by the engine's own names, as CONFIG SET takes them."""
    persistence = spec.persistence
    append_only = persistence.mode is PersistenceMode.APPEND_ONLY
    settings = {
        "maxmemory": str(spec.memory.bytes),
        "maxmemory-policy": spec.eviction_policy.value,
        "appendonly": "yes" if append_only else "no",
        "appendfsync": persistence.fsync.setting if persistence.fsync else "everysec",
        "save": _save_rules(spec),
        "min-replicas-to-write": str(spec.min_replicas_to_write or 0),
        # A new copy begins at once; waiting for others to join the same transfer costs five seconds.
        "repl-diskless-sync-delay": "0",
    }
    return settings | dict(spec.configuration)


def _save_rules(spec: CacheSpec) -> str:
    if spec.persistence.mode is not PersistenceMode.SNAPSHOT:
        return ""
    rules = spec.persistence.snapshots
    if not rules:
        return "3600 1 300 100 60 10000"
    return " ".join(f"{rule.seconds} {rule.changes}" for rule in rules)


def render(settings: Mapping[str, str], node: NodeConfig, acl_user: str) -> str:
    """The configuration file of one node. Holds the replication password: keep it 0600."""
    lines = {
        "bind": node.bind,
        "port": str(node.port),
        "protected-mode": "yes",
        "daemonize": "no",
        "dir": _quote(node.data_dir),
        "aclfile": _quote(node.acl_file),
        "logfile": '""',
        "set-proc-title": "no",
        "enable-debug-command": "no",
        "enable-module-command": "no",
    }
    lines |= {name: _quote(value) for name, value in settings.items()}
    if node.replication_password:
        lines["masteruser"] = acl_user
        lines["masterauth"] = _quote(node.replication_password)
    if node.primary is not None:
        lines["replicaof"] = f"{node.primary[0]} {node.primary[1]}"
    if node.cluster_port is not None:
        lines |= {
            "cluster-enabled": "yes",
            "cluster-port": str(node.cluster_port),
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": settings.get("cluster-node-timeout", "2000"),
        }
    if node.announce is not None:
        lines["cluster-announce-ip"] = node.announce[0]
        if node.announce[1] is not None:
            lines["cluster-announce-client-tls-port"] = str(node.announce[1])
            lines["cluster-announce-client-port"] = str(node.announce[1])
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def _quote(value: str) -> str:
    if value and re.fullmatch(r"[A-Za-z0-9_./:@%+,-]+", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def normalise(value: str) -> str:
    """One text for all spellings of a value: `64mb` and `67108864` are the same."""
    text = " ".join(value.split())
    match = _MEMORY.match(text.lower())
    if match:
        return str(int(match[1]) * _UNITS[match[2] or ""])
    return text


def setting_differences(wanted: Mapping[str, str], actual: Mapping[str, str], node: str = "") -> list[Difference]:
    """What CONFIG GET shows against what is wanted; settings that the engine doesn't know are left to it."""
    found = []
    for name, value in sorted(wanted.items()):
        have = actual.get(name)
        if have is None or normalise(have) == normalise(value):
            continue
        disruption = Disruption.RESTART if name in RESTART_SETTINGS else Disruption.NONE
        found.append(Difference(field_of(name), value, have, disruption, payload=("set", node, name)))
    return found


_FIELDS = {
    "maxmemory": "spec.memory",
    "maxmemory-policy": "spec.evictionPolicy",
    "appendonly": "spec.persistence.mode",
    "appendfsync": "spec.persistence.fsync",
    "save": "spec.persistence.snapshots",
    "min-replicas-to-write": "spec.minReplicasToWrite",
}


def field_of(setting: str) -> str:
    """The field of the spec that a setting comes from."""
    return _FIELDS.get(setting, f"spec.configuration[{setting}]")


SAME_DATA = frozenset({frozenset({("valkey", "9.0"), ("valkey", "9.1")})})
"""Version lines that write the same RDB version, so that one can go back to the other."""


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def reads(engine: str, line: str, written_by: str) -> bool:
    """Whether a version line of an engine can load what a version of the same engine wrote."""
    wrote = ".".join(written_by.split(".")[:2])
    if version_key(wrote) <= version_key(line):
        return True
    return frozenset({(engine, line), (engine, wrote)}) in SAME_DATA
