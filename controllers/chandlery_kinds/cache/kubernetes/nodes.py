"""Who is primary among the pods of a cache, who should be, and who follows whom. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chandlery.driver.protocol import Difference
from chandlery.providers.kubernetes.pods import ready, running
from chandlery.providers.kubernetes.types import ROLE, Obj
from chandlery_kinds.cache.kubernetes.config import FENCED
from chandlery_kinds.cache.kubernetes.statefulset import ONLY_TLS


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


def role_differences(nodes: Sequence[Node], name: str, lost: Callable[[Node], bool]) -> list[Difference]:
    """Who is primary, who follows whom, and which pod has which label.

    Args:
        nodes: all pods, in order.
        name: the primary on record; empty before the first.
        lost: whether a primary that doesn't answer is given up.
    """
    found = heir(nodes, name, lost)
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


def heir(nodes: Sequence[Node], name: str, lost: Callable[[Node], bool]) -> Node | None:
    """Who must become primary now; None while there is one, or nobody can be. Arguments as `role_differences`."""
    answering = [node for node in nodes if node.answers and not node.going]
    if not name:
        already = next((node for node in answering if node.primary), None)
        return already or next((node for node in answering if node is nodes[0]), None)
    present = next((node for node in nodes if node.name == name), None)
    if present is not None and present.answers and not present.going:
        if present.primary:
            return None
        if not present.fenced:
            return present  # a promotion that was cut short
    elif present is not None and not present.going and not lost(present):
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
