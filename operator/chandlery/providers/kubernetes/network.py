"""The NetworkPolicy of an object's pods, where the spec or the class asks for one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chandlery.model.parts import Exposure, ExposureType
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.types import NETWORK_POLICIES, OWNER_UID, Obj

PARAMETER = "networkPolicy"
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
    owner: Owner, doors: Doors, *, cidrs: Sequence[Any] = (), parameters: Mapping[str, Any] | None = None
) -> list[Obj]:
    """One policy, or none when nobody asks for one.

    Asked for by `exposure.allowedCidrs`, or by the class's parameter `networkPolicy`: true, or an object with `from`
    (peers as in a NetworkPolicy: who may connect) and `metricsFrom` (who may ask for metrics; all without it). Without
    any of them clients are the pods of the same namespace. Members and the operator can always connect.
    """
    asked = (parameters or {}).get(PARAMETER)
    if not cidrs and not asked:
        return []
    more = asked if isinstance(asked, Mapping) else {}
    clients = [*({"ipBlock": {"cidr": str(cidr)}} for cidr in cidrs), *(more.get("from") or ())]
    own = {"podSelector": {"matchLabels": {OWNER_UID: owner.uid}}}  # also those that make backups
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": OPERATOR}}
    rules = [
        {"from": clients or [{"podSelector": {}}], "ports": _ports(doors.clients)},
        {"from": [own], "ports": _ports([*doors.clients, *doors.members])},
        {"from": [operator], "ports": _ports([*doors.clients, *doors.operator])},
    ]
    if doors.metrics:
        peers = list(more.get("metricsFrom") or ())
        rules.append({**({"from": peers} if peers else {}), "ports": _ports(doors.metrics)})
    spec = {"podSelector": {"matchLabels": owner.selector}, "policyTypes": ["Ingress"], "ingress": rules}
    return [owner.child(NETWORK_POLICIES, spec=spec)]


def _ports(numbers: Sequence[int]) -> list[dict[str, Any]]:
    return [{"port": number, "protocol": "TCP"} for number in dict.fromkeys(numbers)]
