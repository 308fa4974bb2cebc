"""Servers more or fewer: what has to happen inside before and after. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chandlery.driver.protocol import Difference, Disruption

STREAMS = ("stream", "dead", "given-up")


def scale_differences(
    wanted: int, now: int, present: Sequence[str], inside: Mapping[str, Any]
) -> tuple[list[Difference], int]:
    """What has to be done first, and how many servers there are to be for now.

    A server that goes must hold no copy of a message any more: each stream is told to keep its copies elsewhere, and
    only when the new copies are in step the server ends. They go one after the other: JetStream would choose another
    one that goes for the copies of the first.

    Args:
        wanted: servers that the spec asks for.
        now: servers that the StatefulSet has.
        present: names of the pods, in order.
        inside: as `content.read` tells it; empty when nobody tells.
    """
    if wanted == now:
        return [], wanted
    if 1 in (wanted, now):
        found = Difference("spec.replicas", str(wanted), str(now), Disruption.REPLACE, payload=("scale",))
        return [found], now
    if wanted > now:
        return [], wanted
    waits = [Difference("spec.replicas", str(wanted), str(now), payload=("wait",))]
    if len(present) != now:
        return waits, now  # one is on its way
    leaving, todo = present[-1], []
    for what in STREAMS:
        stream = inside.get(what)
        if stream is None:
            if what == "stream":
                return waits, now
            continue
        title, cluster = stream["config"]["name"], stream.get("cluster") or {}
        copies = cluster.get("replicas") or ()
        names = [cluster.get("leader"), *(copy["name"] for copy in copies)]
        if stream["config"].get("num_replicas") != len(names) or len(names) > wanted:
            return waits, now  # first it keeps fewer copies
        if not cluster.get("leader") or not all(copy.get("current") for copy in copies):
            return waits, now  # in motion
        if leaving in names:
            todo.append(Difference(f"copies of {title}", "elsewhere", leaving, payload=("evacuate", title, leaving)))
    return todo, now if todo else now - 1


def forgotten(servers: Iterable[Mapping[str, Any]], names: Iterable[str]) -> list[Difference]:
    """Servers that ended for good and that the others still count when they vote.

    Args:
        servers: what each says of itself (VARZ); the one that leads tells of the others.
        names: of those that there are.
    """
    present = set(names)
    found = []
    for server in servers:
        meta = (server.get("jetstream") or {}).get("meta") or {}
        for peer in meta.get("replicas") or ():
            if peer.get("offline") and peer.get("name") not in present:
                name = str(peer["name"])
                found.append(Difference("servers", f"without {name}", "with it", payload=("forget", name)))
    return found
