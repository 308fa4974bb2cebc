"""Who is primary among the pods of a cache, who should be, and who follows whom. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chandlery.driver.protocol import Difference
from chandlery.providers.kubernetes.pods import ready, running
from chandlery.providers.kubernetes.types import ROLE, Obj
from chandlery_kinds.cache.kubernetes.config import FENCED
from chandlery_kinds.cache.kubernetes.statefulset import ONLY_TLS

LAG_SECONDS = 4
"""A primary that has heard of no copy for longer takes no writes, unless it is on record that it is alone."""
HUNG_SECONDS = LAG_SECONDS + 3
"""A primary is given up after so long: it has stopped taking writes by then, wherever it may still run."""


@dataclass(slots=True)
class Node:
    """One pod, and what its server said of itself."""

    name: str
    pod: Obj | None
    info: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    acl: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    locked_out: bool = False
    more: Sequence[Any] = ()
    """Answers to further questions."""
    shown: str = ""
    """SHA-256 of the certificate that it shows; empty without TLS."""

    @property
    def answers(self) -> bool:
        return bool(self.info)

    @property
    def primary(self) -> bool:
        return self.info.get("role") == "master"

    @property
    def fenced(self) -> bool:
        """Has started, and waits to be told whom to follow."""
        return (self.info.get("master_host"), self.info.get("master_port")) == (FENCED[0], str(FENCED[1]))

    @property
    def going(self) -> bool:
        """Its pod is about to end, though it may answer for as long as its grace lasts."""
        return bool(self.pod is not None and self.pod["metadata"].get("deletionTimestamp"))

    @property
    def reached(self) -> bool:
        """Whether Services lead to it."""
        return ready(self.pod)

    @property
    def in_step(self) -> bool:
        """Holds what the primary holds, and stays."""
        return self.answers and not self.going and (self.primary or self.info.get("master_link_status") == "up")

    @property
    def company(self) -> int:
        """How many copies a primary has heard of lately, so that it would take writes."""
        return sum(_lately(value) for key, value in self.info.items() if _COPY.fullmatch(key))

    @property
    def hears_primary(self) -> bool:
        """Whether a copy has heard of its primary lately: it is alive, whoever else can't reach it."""
        if not self.answers or self.primary or self.info.get("master_link_status") != "up":
            return False
        return int(self.info.get("master_last_io_seconds_ago", "-1")) in range(HUNG_SECONDS)

    @property
    def offset(self) -> int:
        return int(self.info.get("master_repl_offset" if self.primary else "slave_repl_offset", "0"))

    @property
    def label(self) -> str:
        return str(((self.pod or {}).get("metadata", {}).get("labels") or {}).get(ROLE, ""))

    @property
    def ip(self) -> str:
        return str(((self.pod or {}).get("status") or {}).get("podIP", ""))

    @property
    def only_tls(self) -> bool:
        """Whether its usual port speaks TLS; while pods are replaced, some may and some not."""
        return ONLY_TLS in ((self.pod or {}).get("metadata", {}).get("annotations") or {})

    @property
    def version(self) -> str:
        return self.info.get("valkey_version") or self.info.get("redis_version", "")


_COPY = re.compile(r"slave\d+")


def _lately(told: str) -> bool:
    """From `ip=...,port=...,state=online,offset=...,lag=1`."""
    words = dict(word.partition("=")[::2] for word in told.split(","))
    return words.get("state") == "online" and int(words.get("lag") or "0") <= LAG_SECONDS


def given_up(node: Node, others: Sequence[Node], silent: float, *, alone: bool) -> bool:
    """Whether a primary that doesn't answer has lost its place.

    Args:
        node: the primary on record.
        others: all other pods.
        silent: for how many seconds it hasn't answered.
        alone: it may take writes without any copy: then only the end of its process is sure.
    """
    if node.pod is None or not running(node.pod):
        return True
    if alone:
        return False
    return node.going or (silent >= HUNG_SECONDS and not any(other.hears_primary for other in others))


def role_differences(
    nodes: Sequence[Node], name: str, lost: Callable[[Node], bool], *, newest: bool = False
) -> list[Difference]:
    """Who is primary, who follows whom, and which pod has which label.

    Args:
        nodes: all pods, in order.
        name: the primary on record; empty before the first.
        lost: whether a primary that doesn't answer is given up.
        newest: whether what the primary has on disk is more than its copies have.
    """
    found = heir(nodes, name, lost, newest=newest)
    if found is not None:
        return [Difference("primary", found.name, name or "none", payload=("promote", found.name))]
    primary = next((node for node in nodes if node.name == name), None)
    if primary is None or not primary.primary:
        return []
    todo = []
    for node in nodes:
        if node is not primary and node.answers and node.info.get("master_host") != primary.ip:
            follows = "nobody" if node.fenced or node.primary else node.info.get("master_host", "")
            todo.append(Difference(f"primary of {node.name}", primary.name, follows, payload=("follow", node.name)))
        role = "primary" if node is primary else "replica"
        if node.pod is not None and node.label != role:
            what = f"role label of {node.name}"
            todo.append(Difference(what, role, node.label or "none", payload=("label", node.name, role)))
    # the old primary's label goes before the new one's comes: never two behind the clients' Service
    return sorted(todo, key=lambda d: (d.payload[0] == "label", d.payload[-1] == "primary"))


def heir(nodes: Sequence[Node], name: str, lost: Callable[[Node], bool], *, newest: bool = False) -> Node | None:
    """Who must become primary now; None while there is one, or nobody can be. Arguments as `role_differences`."""
    answering = [node for node in nodes if node.answers and not node.going]
    if not name:
        already = next((node for node in answering if node.primary), None)
        return already or next((node for node in answering if node is nodes[0]), None)
    present = next((node for node in nodes if node.name == name), None)
    if present is not None and present.answers and not present.going:
        if present.primary:
            return None
        if newest or not present.fenced:
            return present  # a promotion that was cut short, or it is back with what nobody else has
    elif present is not None and not present.answers and not lost(present):
        return None
    # copies that hold data come first; they were following when the primary went
    heirs = [node for node in answering if node is not present and not node.fenced and not node.primary]
    if heirs:
        return max(heirs, key=lambda node: node.offset)
    if any(running(node.pod) and not node.answers for node in nodes if node is not present):
        return None  # one of them may hold what nobody else has
    if present is not None and present.answers:
        return None if present.going else present
    return max(answering, key=lambda node: node.offset, default=None)
