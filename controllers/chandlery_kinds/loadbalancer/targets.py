"""Targets of pools, found: addresses as they are, objects and groups as what they stand for now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chandlery.driver.protocol import Reader
from chandlery_kinds.loadbalancer.model import LoadBalancerSpec
from chandlery_kinds.loadbalancer.pools import Pool, Target

GROUPS: Mapping[str, str] = {
    "Cache": "data.chandlery.dev",
    "Database": "data.chandlery.dev",
    "Queue": "messaging.chandlery.dev",
    "LoadBalancer": "network.chandlery.dev",
    "VirtualMachine": "compute.chandlery.dev",
}
"""Where the kinds are that a target may name; kinds don't import one another."""


@dataclass(frozen=True, slots=True)
class Server:
    """One target of a pool at its present address."""

    name: str
    """As in status: the target's name, with /member for a member of a group."""
    host: str
    port: int
    weight: int = 100
    backup: bool = False

    @property
    def id(self) -> str:
        """The name as HAProxy takes it."""
        return self.name.replace("/", ".")

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def resolve(reader: Reader, namespace: str, spec: LoadBalancerSpec) -> dict[str, list[Server]]:
    """The servers of each pool by its name. What has no address yet is left out: it comes when it has one."""
    return {pool.name: await _pool(reader, namespace, pool) for pool in spec.pools}


async def _pool(reader: Reader, namespace: str, pool: Pool) -> list[Server]:
    found: list[Server] = []
    for target in pool.targets:
        found += await _target(reader, namespace, target)
    return found


async def _target(reader: Reader, namespace: str, target: Target) -> Sequence[Server]:
    if target.address is not None:
        return [Server(target.name, target.address, target.port or 0, target.weight, target.backup)]
    if target.object is not None:
        kind = str(target.object.kind)
        obj = await reader.get(GROUPS[kind], kind, namespace, target.object.name)
        endpoint = endpoint_of(obj, target.port)
        if endpoint is None:
            return []
        return [Server(target.name, endpoint[0], endpoint[1], target.weight, target.backup)]
    if target.machines is not None:
        machines = await reader.list(
            GROUPS["VirtualMachine"], "VirtualMachine", namespace, target.machines.match_labels
        )
        members = []
        for obj in sorted(machines, key=lambda o: str(o["metadata"]["name"])):
            endpoint = endpoint_of(obj, target.port)
            if endpoint is not None:
                name = f"{target.name}/{obj['metadata']['name']}"
                members.append(Server(name, endpoint[0], endpoint[1], target.weight, target.backup))
        return members
    assert target.service is not None
    obj = await reader.get("", "Service", namespace, target.service.name)
    address = ((obj or {}).get("spec") or {}).get("clusterIP")
    if not address or address == "None":
        return []
    return [Server(target.name, address, target.port or 0, target.weight, target.backup)]


def endpoint_of(obj: Mapping[str, Any] | None, port: int | None) -> tuple[str, int] | None:
    """Where an object of ours can be reached: by the port asked for, through a forward if it has one for that port."""
    status = (obj or {}).get("status") or {}
    for forward in status.get("forwards") or ():
        if port is not None and forward.get("guestPort") == port and forward.get("hostPort"):
            return str(forward.get("host") or "127.0.0.1"), int(forward["hostPort"])
    endpoint = status.get("endpoint") or {}
    if not endpoint.get("host"):
        return None
    return str(endpoint["host"]), int(port or endpoint["port"])
