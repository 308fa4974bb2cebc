"""What an application connects with. Pure; the keys are servicebinding.io's well-known ones and a few of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Address:
    """Where clients connect."""

    host: str
    port: int
    tls: Mapping[str, str] = field(default_factory=dict)
    """Entries about TLS (`tls`, `ca.crt`); empty without TLS."""
    plain_port: int | None = None
    """Where clients without TLS may come besides."""
    nodes: Sequence[str] = ()
    """`host:port` of every node of a sharded cache."""
    outside_port: int | None = None
    """The port that is open to other machines."""


def uri(scheme: str, host: str, port: int, user: str, password: str, database: str = "/0") -> str:
    """As redis-py, go-redis, jedis and `valkey-cli -u` read it.

    The default user is named, too: without a name redis-cli 7.0 logs in as a user whose name is empty.
    """
    return f"{scheme}://{user}:{password}@{host}:{port}{database}"


def entries(address: Address, user: str, password: str) -> dict[str, str]:
    """The binding of one user of a Valkey or Redis."""
    database = "" if address.nodes else "/0"  # a cluster has one database
    scheme = "rediss" if address.tls else "redis"
    found = {
        "host": address.host,
        "port": str(address.port),
        "username": user,
        "password": password,
        "uri": uri(scheme, address.host, address.port, user, password, database),
        **address.tls,
    }
    if address.tls and address.plain_port is not None:
        found["plain-port"] = str(address.plain_port)
        found["plain-uri"] = uri("redis", address.host, address.plain_port, user, password, database)
    if address.outside_port is not None:
        found["node-port"] = str(address.outside_port)
    if address.nodes:
        found["cluster"] = "true"
        found["nodes"] = ",".join(address.nodes)
    return found


def memcached_entries(address: Address, user: str, password: str) -> dict[str, str]:
    """The binding of a Memcached. A client says user and password in its first `set`, as memcached's text protocol
    has it; over several nodes it spreads its keys itself.
    """
    found = {
        "host": address.host,
        "port": str(address.port),
        "username": user,
        "password": password,
        "nodes": ",".join(address.nodes),
        "uri": f"memcached://{user}:{password}@{address.host}:{address.port}",
        **address.tls,
    }
    if address.tls and address.plain_port is not None:
        found["plain-port"] = str(address.plain_port)
    if address.outside_port is not None:
        found["node-port"] = str(address.outside_port)
    return found
