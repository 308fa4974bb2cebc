"""postgresql.conf and pg_hba.conf from a spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.spec_parts import Durability, ReplicationMode

ADMIN = "chandlery"
"""The driver's own superuser."""
REPLICATOR = "chandlery_replication"

_MIB = 1024 * 1024
DEFAULT_MEMORY = 256 * _MIB


def memory_settings(limit: int | None) -> dict[str, str]:
    """Buffers for a memory limit in bytes: a quarter for shared_buffers, as the manual advises."""
    total = limit or DEFAULT_MEMORY
    shared = max(16 * _MIB, total // 4)
    return {
        "shared_buffers": f"{shared // _MIB}MB",
        "effective_cache_size": f"{max(shared, total * 3 // 4) // _MIB}MB",
        "maintenance_work_mem": f"{max(16, total // _MIB // 16)}MB",
    }


def settings(spec: DatabaseSpec, *, memory: int | None = None) -> dict[str, str]:
    """What the spec asks for, by PostgreSQL's own names; without what belongs to one instance (port, paths)."""
    return {
        "max_connections": "100",
        "password_encryption": "scram-sha-256",
        "wal_level": "replica",
        "max_wal_senders": "10",
        "max_replication_slots": "10",
        "max_slot_wal_keep_size": f"{max(256 * _MIB, spec.storage.size.bytes // 4) // _MIB}MB",
        "hot_standby": "on",
        "wal_retrieve_retry_interval": "500ms",  # a copy finds the new primary sooner than after the default of 5 s
        "wal_log_hints": "on",  # pg_rewind brings a former primary back without copying everything
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_timezone": "UTC",
        "TimeZone": "UTC",
        **memory_settings(memory),
        **spec.configuration,
    }


def synchronous_standby_names(spec: DatabaseSpec, standbys: Sequence[str], in_step: Sequence[str]) -> str:
    """The value for the primary. Empty means that a commit waits for nobody.

    With durability `required` the number never falls below what the spec asks for: commits wait then, and none that
    was confirmed is lost. With `preferred` it follows the copies that are in step.
    """
    replication = spec.replication
    if replication.mode is not ReplicationMode.SYNCHRONOUS or not standbys:
        return ""
    wanted = replication.synchronous_instances or 1
    if replication.durability is Durability.PREFERRED:
        wanted = min(wanted, len(in_step))
        if wanted == 0:
            return ""
    names = ", ".join(f'"{name}"' for name in standbys)
    return f"ANY {wanted} ({names})"


def render(values: Mapping[str, str]) -> str:
    """A configuration file; every value quoted, which PostgreSQL takes for numbers and booleans as well."""
    lines = []
    for name, value in sorted(values.items()):
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'\n")
    return "".join(lines)


def host_rules(networks: Sequence[str] = ("127.0.0.1/32", "::1/128")) -> str:
    """pg_hba.conf: passwords for everybody, everywhere; nothing is trusted because of where it comes from."""
    lines = ["# TYPE  DATABASE     USER  ADDRESS  METHOD\n"]
    for network in networks:
        lines.append(f"host    all          all   {network}  scram-sha-256\n")
        lines.append(f"host    replication  {REPLICATOR}  {network}  scram-sha-256\n")
    return "".join(lines)
