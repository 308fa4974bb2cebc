"""Servers of a running HAProxy against those that a pool should have. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.driver.protocol import Difference
from chandlery_kinds.loadbalancer.pools import Pool
from chandlery_kinds.loadbalancer.targets import Server


def server_differences(
    pool: Pool, backend: str, wanted: Mapping[str, Server], present: Mapping[str, Mapping[str, str]]
) -> list[Difference]:
    """What a running backend has against what it should have; payloads are (what, pool, backend, server)."""
    found = []
    for name in sorted(set(present) - set(wanted)):
        field = f"spec.pools[{pool.name}].targets[{name}]"
        found.append(Difference(field, "absent", "present", payload=("remove", pool.name, backend, name)))
    for name, server in wanted.items():
        field = f"spec.pools[{pool.name}].targets[{server.name}]"
        row = present.get(name)
        if row is None:
            found.append(Difference(field, server.address, "absent", payload=("add", pool.name, backend, name)))
            continue
        if row.get("addr") and row["addr"] != server.address and not _is_name(server.host):
            found.append(Difference(field, server.address, row["addr"], payload=("move", pool.name, backend, name)))
        if row.get("weight") and int(row["weight"]) != server.weight and "DRAIN" not in row.get("status", ""):
            change = ("weight", pool.name, backend, name)
            found.append(Difference(f"{field}.weight", str(server.weight), row["weight"], payload=change))
    return found


def _is_name(host: str) -> bool:
    """A DNS name: what it resolves to is HAProxy's business."""
    return not host.replace(".", "").isdigit() and ":" not in host
