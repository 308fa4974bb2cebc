"""The NetworkPolicy of an object's pods, where the spec or the class asks for one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chandlery.model.parts import Exposure, ExposureType
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.parameters import NetworkPolicyParameter
from chandlery.providers.kubernetes.types import NETWORK_POLICIES, OWNER_UID, Obj

OPERATOR = {"app.kubernetes.io/name": "chandlery", "app.kubernetes.io/component": "operator"}
"""Labels of the operator's pods, as the chart gives them."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Ports of the pods, by who may come to them."""

    clients: Sequence[int]
    members: Sequence[int] = ()
    """Further ports for the pods among themselves."""
    metrics: Sequence[int] = ()
    """Ports that Prometheus asks."""
    operator: Sequence[int] = ()
    """Further ports that the operator uses."""


def cidrs_of(exposure: Exposure) -> Sequence[Any]:
    """Networks for the policy: a load balancer restricts by itself, with the clients' own addresses."""
    return () if exposure.type is ExposureType.LOAD_BALANCER else exposure.allowed_cidrs


def network_policy(
    owner: Owner, doors: Doors, *, cidrs: Sequence[Any] = (), asked: NetworkPolicyParameter | None = None
) -> list[Obj]:
    """One policy, or none when nobody asks for one.

    Asked for by `exposure.allowedCidrs`, or by the class's parameter `networkPolicy`. Where neither names anybody,
    clients are the pods of the same namespace. Members and the operator can always connect.
    """
    if not cidrs and asked is None:
        return []
    asked = asked or NetworkPolicyParameter()
    clients = [*({"ipBlock": {"cidr": str(cidr)}} for cidr in cidrs), *(peer.manifest() for peer in asked.from_)]
    own = {"podSelector": {"matchLabels": {OWNER_UID: owner.uid}}}  # also those that make backups
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": OPERATOR}}
    rules = [
        {"from": clients or [{"podSelector": {}}], "ports": _ports(doors.clients)},
        {"from": [own], "ports": _ports([*doors.clients, *doors.members])},
        {"from": [operator], "ports": _ports([*doors.clients, *doors.operator])},
    ]
    if doors.metrics:
        peers = [peer.manifest() for peer in asked.metrics_from]
        rules.append({**({"from": peers} if peers else {}), "ports": _ports(doors.metrics)})
    spec = {"podSelector": {"matchLabels": owner.selector}, "policyTypes": ["Ingress"], "ingress": rules}
    return [owner.child(NETWORK_POLICIES, spec=spec)]


def _ports(numbers: Sequence[int]) -> list[dict[str, Any]]:
    return [{"port": number, "protocol": "TCP"} for number in dict.fromkeys(numbers)]
