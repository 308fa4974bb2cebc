"""Where Services with selectors lead: EndpointSlices, and Endpoints for those who still read them.

Nothing here gives pods addresses; whoever runs pods elsewhere (a virtual kubelet, a test) writes them to their status.
Until the first pod of a Service has one, its slice and its Endpoints are empty. Source: Kubernetes documentation,
"Service", "EndpointSlices".
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, ClassVar

from chandlery.controlplane.controllers.base import MANAGER, Controller
from chandlery.controlplane.types import Obj, Resource

Key = tuple[str, str]
"""Namespace and name of a Service."""
Ports = tuple[tuple[str, str, int, str], ...]
"""Name, protocol, number and application protocol of each port, as one pod has them."""

_OURS = "endpointslice-controller.k8s.io"
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_SERVICE = "kubernetes.io/service-name"
_HEADLESS = "service.kubernetes.io/headless"
_MOST = 100
"""Endpoints of one slice."""


class EndpointsController(Controller[Key]):
    """Brings a Service's slices and its Endpoints in line with its pods."""

    name: ClassVar[str] = "endpointslice-controller"
    groups = frozenset({""})

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if resource.group:
            return
        meta = obj["metadata"]
        namespace = meta.get("namespace", "")
        if resource.plural == "services":
            self.add((namespace, meta["name"]))
        elif resource.plural == "pods" and (_placed(obj) or (old is not None and _placed(old))):
            for service in self.api.list("", "services", namespace):
                if any(_selects(service, pod) for pod in (obj, old) if pod is not None):
                    self.add((namespace, service["metadata"]["name"]))

    def resync(self) -> None:
        for service in self.api.list("", "services"):
            self.add((service["metadata"]["namespace"], service["metadata"]["name"]))

    async def sync(self, key: Key) -> None:
        namespace, name = key
        service = self.api.get("", "services", namespace, name)
        if service is None or service["metadata"].get("deletionTimestamp"):
            return  # slices and Endpoints go with their owner
        if not _selector(service):
            return  # whoever made it writes its endpoints
        pods = sorted(
            (pod for pod in self.api.list("", "pods", namespace) if _selects(service, pod) and _placed(pod)),
            key=lambda pod: str(pod["metadata"]["name"]),
        )
        groups: dict[Ports, list[Obj]] = defaultdict(list)
        for pod in pods:
            groups[_ports(service, pod)].append(pod)
        await self._slices(service, groups)
        await self._endpoints(service, groups)

    async def _slices(self, service: Obj, groups: dict[Ports, list[Obj]]) -> None:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        wanted = [
            ([_endpoint(service, pod) for pod in pods[first : first + _MOST]], [_slice_port(port) for port in ports])
            for ports, pods in groups.items()
            for first in range(0, len(pods), _MOST)
        ]
        labels = _labels(service) | {_MANAGED_BY: _OURS, _SERVICE: name}
        existing = [
            found
            for found in self.api.list("discovery.k8s.io", "endpointslices", namespace)
            if (found["metadata"].get("labels") or {}).get(_SERVICE) == name
            and (found["metadata"].get("labels") or {}).get(_MANAGED_BY) == _OURS
        ]
        if not wanted:
            wanted = [([], [])]
        for number, (endpoints, ports) in enumerate(wanted):
            if number < len(existing):
                old = existing[number]
                new = {**old, "endpoints": endpoints or None, "ports": ports or None}
                new["metadata"] = {**old["metadata"], "labels": labels}
                parts = ("endpoints", "ports", "metadata")
                if any((new.get(part) or None) != (old.get(part) or None) for part in parts):
                    await self.api.update("discovery.k8s.io", "endpointslices", new, user=self.user, manager=MANAGER)
                continue
            meta = {
                "generateName": f"{name}-",
                "namespace": namespace,
                "labels": labels,
                "ownerReferences": [_owner(service)],
            }
            body = {"metadata": meta, "addressType": "IPv4", "endpoints": endpoints or None, "ports": ports or None}
            await self.api.create("discovery.k8s.io", "endpointslices", body, user=self.user, manager=MANAGER)
        for spare in existing[len(wanted) :]:
            meta = spare["metadata"]
            await self.api.delete("discovery.k8s.io", "endpointslices", namespace, meta["name"], user=self.user)

    async def _endpoints(self, service: Obj, groups: dict[Ports, list[Obj]]) -> None:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        subsets = []
        anyway = (service["spec"]).get("publishNotReadyAddresses")
        for ports, pods in groups.items():
            standing = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
            subset: Obj = {}
            for field, wanted in (("addresses", True), ("notReadyAddresses", False)):
                found = [_address(pod) for pod in standing if bool(anyway or _ready(pod)) is wanted]
                if found:
                    subset[field] = found
            if subset:
                if ports:
                    subset["ports"] = [_endpoint_port(port) for port in ports]
                subsets.append(subset)
        old = self.api.get("", "endpoints", namespace, name)
        labels = _labels(service) | {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
        if old is None:
            meta = {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [_owner(service)]}
            body = {"metadata": meta, **({"subsets": subsets} if subsets else {})}
            await self.api.create("", "endpoints", body, user=self.user, manager=MANAGER)
            return
        if old.get("subsets", []) == subsets and (old["metadata"].get("labels") or {}) == labels:
            return
        new = {**old, "subsets": subsets, "metadata": {**old["metadata"], "labels": labels}}
        await self.api.update("", "endpoints", new, user=self.user, manager=MANAGER)


def _selector(service: Obj) -> Obj:
    spec = service.get("spec") or {}
    return {} if spec.get("type") == "ExternalName" else spec.get("selector") or {}


def _selects(service: Obj, pod: Obj) -> bool:
    wanted, labels = _selector(service), pod["metadata"].get("labels") or {}
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def _placed(pod: Obj) -> bool:
    """Whether a pod has an address, and is not over."""
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") not in ("Succeeded", "Failed")


def _ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _ports(service: Obj, pod: Obj) -> Ports:
    """The Service's ports by their numbers in this pod; a named port that it doesn't have is left out."""
    out = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        target: Any = port.get("targetPort", port["port"])
        if isinstance(target, str):
            target = next(
                (
                    known["containerPort"]
                    for container in pod["spec"].get("containers") or ()
                    for known in container.get("ports") or ()
                    if known.get("name") == target and known.get("protocol", "TCP") == protocol
                ),
                None,
            )
        if target is not None:
            out.append((port.get("name", ""), protocol, int(target), port.get("appProtocol", "")))
    return tuple(out)


def _slice_port(port: tuple[str, str, int, str]) -> Obj:
    out: Obj = {"name": port[0], "protocol": port[1], "port": port[2]}
    return out | ({"appProtocol": port[3]} if port[3] else {})


def _endpoint_port(port: tuple[str, str, int, str]) -> Obj:
    out: Obj = {"name": port[0]} if port[0] else {}
    out |= {"port": port[2], "protocol": port[1]}
    return out | ({"appProtocol": port[3]} if port[3] else {})


def _reference(pod: Obj) -> Obj:
    meta = pod["metadata"]
    return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}


def _endpoint(service: Obj, pod: Obj) -> Obj:
    going, ready = bool(pod["metadata"].get("deletionTimestamp")), _ready(pod)
    shown = bool(service["spec"].get("publishNotReadyAddresses")) or (ready and not going)
    out: Obj = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": shown, "serving": ready, "terminating": going},
        "targetRef": _reference(pod),
    }
    spec = pod["spec"]
    if spec.get("nodeName"):
        out["nodeName"] = spec["nodeName"]
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        out["hostname"] = spec["hostname"]
    return out


def _address(pod: Obj) -> Obj:
    out: Obj = {"ip": pod["status"]["podIP"], "targetRef": _reference(pod)}
    if pod["spec"].get("nodeName"):
        out["nodeName"] = pod["spec"]["nodeName"]
    return out


def _labels(service: Obj) -> Obj:
    labels = dict(service["metadata"].get("labels") or {})
    if service["spec"].get("clusterIP") == "None":
        labels[_HEADLESS] = ""
    return labels


def _owner(service: Obj) -> Obj:
    meta = service["metadata"]
    return {
        "apiVersion": "v1", "kind": "Service", "name": meta["name"], "uid": meta["uid"], "controller": True,
        "blockOwnerDeletion": True,
    }  # fmt: skip
