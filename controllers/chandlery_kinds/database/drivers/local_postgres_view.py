"""What a database of PostgreSQL servers on this machine tells of itself: reasons, facts, bindings. Pure."""

from __future__ import annotations

from typing import Any

from chandlery.driver.protocol import Difference
from chandlery.providers.local.driver import crash_loop
from chandlery_kinds.database.drivers.local_postgres_node import HOST, Node


def reader_of(nodes: list[Node], primary: Node) -> Node | None:
    """The copy that clients may read from."""
    return next((node for node in nodes if node is not primary and node.live.get("streaming")), None)


def explain(
    nodes: list[Node], primary: Node, behind: list[Node], inside: list[Difference], needed: int
) -> tuple[str, str]:
    """Why it isn't ready: reason and sentence. So many copies must be `needed` before one of them can take over."""
    for node in nodes:
        looping = crash_loop(node.name, node.process, node.state)
        if looping is not None:
            return looping
    if not primary.answers:
        why = f" ({primary.error})" if primary.error else ""
        copies = sum(1 for node in nodes if node is not primary and node.answers)
        if copies and needed > 1:
            why += f"; {copies} of the {needed} copies that must be asked before one can take over answer"
        return "Starting", f"waiting for {primary.name} to answer{why}"
    if inside:
        return "Configuring", f"{len(inside)} roles, databases or rights are not as in spec yet"
    if behind:
        return "Replicating", f"{', '.join(node.name for node in behind)} not in step with the primary yet"
    return "Starting", "the binding's role can't log in yet"


def facts_of(nodes: list[Node], primary: Node) -> dict[str, Any]:
    """The status of the servers."""
    members = [
        {
            "name": node.name,
            "role": "unknown" if not node.answers else "replica" if node.standby else "primary",
            "ready": node.answers and (node is primary or bool(node.live.get("streaming"))),
            "address": f"{HOST}:{node.port}",
            **({"version": node.live["version"]} if node.answers else {}),
            **({"message": node.error} if node.error else {}),
        }
        for node in nodes
    ]
    facts: dict[str, Any] = {
        "engine": "postgres",
        "instances": len(nodes),
        "readyInstances": sum(1 for member in members if member["ready"]),
        "primary": primary.name,
        "members": members,
    }
    if primary.answers:
        facts |= {"version": primary.live["version"], "timeline": primary.live["timeline"]}
    return facts


def entries_of(role: str, password: str, database: str, port: int) -> dict[str, str]:
    """A binding without TLS."""
    return {
        "host": HOST,
        "port": str(port),
        "database": database,
        "username": role,
        "password": password,
        "uri": f"postgresql://{role}:{password}@{HOST}:{port}/{database}",
        "jdbc-uri": f"jdbc:postgresql://{HOST}:{port}/{database}",
        "pgpass": f"{HOST}:{port}:{database}:{role}:{password}",
    }
