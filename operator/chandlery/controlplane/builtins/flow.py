"""The FlowSchemas and PriorityLevelConfigurations that every cluster has.

They say how a kube-apiserver shares its seats between clients. This control plane has one loop and no seats to share:
it keeps the objects, and what others add, for those who manage them. Source: Kubernetes documentation, "API Priority
and Fairness", "Defaults".
"""

from __future__ import annotations

from typing import Final

from chandlery.controlplane.types import Obj

API_VERSION: Final = "flowcontrol.apiserver.k8s.io/v1"
_KEPT: Final = {"apf.kubernetes.io/autoupdate-spec": "true"}
_NODES, _EVERYBODY = "system:nodes", ("system:unauthenticated", "system:authenticated")


def _groups(*names: str) -> list[Obj]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Obj]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _accounts(namespace: str) -> list[Obj]:
    return [{"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": "*"}}]


def _resources(verbs: list[str], groups: list[str], resources: list[str], *, cluster: bool) -> Obj:
    rule: Obj = {"verbs": verbs, "apiGroups": groups, "resources": resources}
    return rule | ({"clusterScope": True} if cluster else {}) | {"namespaces": ["*"]}


_ALL: Final = _resources(["*"], ["*"], ["*"], cluster=True)
_ANY_PATH: Final = {"verbs": ["*"], "nonResourceURLs": ["*"]}


def _schema(level: str, order: int, by: str, subjects: list[Obj], rules: list[Obj], paths: list[Obj]) -> Obj:
    rule: Obj = {"subjects": subjects}
    rule |= {"resourceRules": rules} if rules else {}
    rule |= {"nonResourceRules": paths} if paths else {}
    spec: Obj = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": order}
    return spec | ({"distinguisherMethod": {"type": by}} if by else {}) | {"rules": [rule]}


def _whole(level: str, order: int, by: str, subjects: list[Obj]) -> Obj:
    """Everything that these subjects ask for."""
    return _schema(level, order, by, subjects, [_ALL], [_ANY_PATH])


_LEASES: Final = ["leases"]
_LEADERS = [*_users("system:kube-controller-manager", "system:kube-scheduler"), *_accounts("kube-system")]
SCHEMAS: Final[dict[str, Obj]] = {
    "exempt": _whole("exempt", 1, "", _groups("system:masters")),
    "catch-all": _whole("catch-all", 10000, "ByUser", _groups(*_EVERYBODY)),
    "probes": _schema(
        "exempt", 2, "", _groups(*_EVERYBODY), [],
        [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    ),
    "system-leader-election": _schema(
        "leader-election", 100, "ByUser", _LEADERS,
        [_resources(["get", "create", "update"], ["coordination.k8s.io"], _LEASES, cluster=False)], [],
    ),
    "system-node-high": _schema(
        "node-high", 400, "ByUser", _groups(_NODES),
        [
            _resources(["*"], [""], ["nodes", "nodes/status"], cluster=True),
            _resources(["*"], ["coordination.k8s.io"], _LEASES, cluster=False),
        ],
        [],
    ),
    "system-nodes": _whole("system", 500, "ByUser", _groups(_NODES)),
    "kube-controller-manager": _whole("workload-high", 800, "ByNamespace", _users("system:kube-controller-manager")),
    "kube-scheduler": _whole("workload-high", 800, "ByNamespace", _users("system:kube-scheduler")),
    "kube-system-service-accounts": _whole("workload-high", 900, "ByNamespace", _accounts("kube-system")),
    "service-accounts": _whole("workload-low", 9000, "ByUser", _groups("system:serviceaccounts")),
    "global-default": _whole("global-default", 9900, "ByUser", _groups(*_EVERYBODY)),
}  # fmt: skip
"""The specs by name."""


def _limited(shares: int, percent: int, queues: tuple[int, int] | None) -> Obj:
    """`queues`: their number, and how many of them one flow may use."""
    response: Obj = {"type": "Reject"}
    if queues is not None:
        queuing = {"queues": queues[0], "handSize": queues[1], "queueLengthLimit": 50}
        response = {"type": "Queue", "queuing": queuing}
    limited = {"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": percent}
    return {"type": "Limited", "limited": limited}


LEVELS: Final[dict[str, Obj]] = {
    "exempt": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}},
    "catch-all": _limited(5, 0, None),
    "system": _limited(30, 33, (64, 6)),
    "node-high": _limited(40, 25, (64, 6)),
    "leader-election": _limited(10, 0, (16, 4)),
    "workload-high": _limited(40, 50, (128, 6)),
    "workload-low": _limited(100, 90, (128, 6)),
    "global-default": _limited(20, 50, (128, 6)),
}
MANDATORY_SCHEMAS: Final = {name: SCHEMAS[name] for name in ("exempt", "catch-all")}
"""These may not be changed."""
FIXED_LEVELS: Final = {"catch-all": LEVELS["catch-all"]}


def objects() -> list[Obj]:
    """All of them, levels first."""
    kinds = (("PriorityLevelConfiguration", LEVELS), ("FlowSchema", SCHEMAS))
    return [
        {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "annotations": dict(_KEPT)},
            "spec": spec,
        }
        for kind, specs in kinds
        for name, spec in specs.items()
    ]
