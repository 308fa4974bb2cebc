"""IPAddresses: one for each address that a Service has, so that anybody can see whose it is.

The addresses themselves are given at the moment a Service is written (`builtins.service`); what is here tells of it.
Source: Kubernetes documentation, "Service ClusterIP allocation".
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, ClassVar

from chandlery.controlplane.admission.common import API_SERVER
from chandlery.controlplane.controllers.base import Controller
from chandlery.controlplane.types import Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

GROUP = "networking.k8s.io"
_LABEL = "ipaddress.kubernetes.io/"
_OURS = "ipallocator.k8s.io"


def _addresses(service: Obj | None) -> list[str]:
    spec = (service or {}).get("spec") or {}
    if spec.get("type") == "ExternalName":
        return []
    return [one for one in spec.get("clusterIPs") or () if one and one != "None"]


def _told(parent: Obj | None) -> Obj:
    """What a reference says: an empty field is as good as none."""
    return {field: value for field, value in (parent or {}).items() if value}


class AddressController(Controller[str]):
    """Keys are addresses."""

    name: ClassVar[str] = "service-ip-addresses"
    groups = frozenset({"", GROUP})

    def __init__(self, api: LocalApi) -> None:
        super().__init__(api)
        self._owners: dict[str, tuple[str, str]] = {}
        """Address -> namespace and name of the Service that has it."""

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if (resource.group, resource.plural) == ("", "services"):
            now, before = (_addresses(side) for side in (None if event == "DELETED" else obj, old or obj))
            if event == "MODIFIED" and now == before:
                return
            for address in {*now, *before}:
                self._owners.pop(address, None)
                if address in now:
                    self._owners[address] = (obj["metadata"]["namespace"], obj["metadata"]["name"])
                self.add(address)
        elif (resource.group, resource.plural, event) == (GROUP, "ipaddresses", "DELETED"):
            self.add(obj["metadata"]["name"])

    def resync(self) -> None:
        for service in self.api.list("", "services"):
            for address in _addresses(service):
                self._owners[address] = (service["metadata"]["namespace"], service["metadata"]["name"])
                self.add(address)
        for known in self.api.list(GROUP, "ipaddresses"):
            self.add(known["metadata"]["name"])

    async def sync(self, key: str) -> None:
        owner = self._owners.get(key)
        known = self.api.get(GROUP, "ipaddresses", "", key)
        if owner is None:
            if known is not None and (known["metadata"].get("labels") or {}).get(f"{_LABEL}managed-by") == _OURS:
                uid = known["metadata"]["uid"]
                await self.api.delete(GROUP, "ipaddresses", "", key, user=API_SERVER, uid=uid)
            return
        parent = {"group": "", "resource": "services", "namespace": owner[0], "name": owner[1]}
        if known is not None:
            if _told(known["spec"].get("parentRef")) == _told(parent):
                return
            uid = known["metadata"]["uid"]
            await self.api.delete(GROUP, "ipaddresses", "", key, user=API_SERVER, uid=uid)
        family = f"IPv{ipaddress.ip_address(key).version}"
        labels = {f"{_LABEL}ip-family": family, f"{_LABEL}managed-by": _OURS}
        body = {"metadata": {"name": key, "labels": labels}, "spec": {"parentRef": parent}}
        await self.api.create(GROUP, "ipaddresses", body, user=API_SERVER, manager="kube-apiserver")
