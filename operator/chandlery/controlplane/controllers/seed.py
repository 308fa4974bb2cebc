"""What a new control plane holds before anybody writes to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chandlery.controlplane.admission.common import API_SERVER
from chandlery.controlplane.auth.bootstrap import bootstrap_objects
from chandlery.controlplane.builtins import flow
from chandlery.controlplane.metadata import now_text
from chandlery.controlplane.types import ApiError, Obj

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_PRIORITIES = {
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
}
_PLURALS = {
    "Namespace": "namespaces",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "PriorityClass": "priorityclasses",
    "Service": "services",
    "ServiceCIDR": "servicecidrs",
    "FlowSchema": "flowschemas",
    "PriorityLevelConfiguration": "prioritylevelconfigurations",
}


_RANGES = "kubernetes-service-cidr-controller"
_PRODUCER = "api-priority-and-fairness-config-producer-v1"


def _service_range(cidr: str) -> Obj:
    """Where the addresses of Services come from."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [cidr]},
    }


def _api_service(address: str, port: int) -> Obj:
    """`kubernetes.default`: every cluster has it, and it keeps the first service address for itself."""
    labels = {"component": "apiserver", "provider": "kubernetes"}
    ports = [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": address, "ports": ports},
    }


def seed_objects(service_address: str = "", port: int = 443, service_range: str = "") -> list[Obj]:
    """Namespaces first: others live in them."""
    namespaces: list[Obj] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES
    ]
    priorities: list[Obj] = [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        for name, (value, description) in _PRIORITIES.items()
    ]
    services = [_service_range(service_range)] if service_range else []
    services += [_api_service(service_address, port)] if service_address else []
    return [*namespaces, *bootstrap_objects(), *priorities, *flow.objects(), *services]


async def seed(api: LocalApi, *, service_address: str = "", port: int = 443, service_range: str = "") -> None:
    """Create what is missing; what is there stays as somebody left it.

    `service_address` is the first of the service addresses: that of the control plane's own Service.
    """
    objects = seed_objects(service_address, port, service_range)
    # Together: the store commits what arrives at once in one go.
    for phase in (
        [obj for obj in objects if obj["kind"] == "Namespace"],
        [obj for obj in objects if obj["kind"] != "Namespace"],
    ):
        await asyncio.gather(*(create_missing(api, obj) for obj in phase))
    await _range_is_ready(api, service_range)


async def _range_is_ready(api: LocalApi, cidr: str) -> None:
    """Say of the server's own range that it is ready, if it is the one that is kept."""
    known = api.get("networking.k8s.io", "servicecidrs", "", "kubernetes") if cidr else None
    if known is None or (known.get("status") or {}).get("conditions") or known["spec"].get("cidrs") != [cidr]:
        return
    ready = {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": now_text(),
        "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
    }
    body = {**known, "status": {"conditions": [ready]}}
    await api.update("networking.k8s.io", "servicecidrs", body, user=API_SERVER, manager=_RANGES, subresource="status")


async def seed_namespaces(api: LocalApi) -> None:
    """Create the system's namespaces that are missing."""
    for name in NAMESPACES:
        await create_missing(api, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


async def seed_service(api: LocalApi, address: str, port: int) -> None:
    """Create the control plane's own Service if it is missing."""
    await create_missing(api, _api_service(address, port))


async def create_missing(api: LocalApi, obj: Obj) -> None:
    """Create an object of these kinds unless it is there."""
    group = obj["apiVersion"].partition("/")[0] if "/" in obj["apiVersion"] else ""
    plural = _PLURALS[obj["kind"]]
    meta = obj["metadata"]
    if api.resource(group, plural) is None:
        return
    if api.get(group, plural, meta.get("namespace", ""), meta["name"]) is not None:
        return
    try:
        manager = _PRODUCER if group == flow.API_VERSION.partition("/")[0] else "kube-apiserver"
        await api.create(group, plural, obj, user=API_SERVER, manager=manager)
    except ApiError as error:
        if error.code != 409:
            raise
