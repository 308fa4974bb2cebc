"""Events about owners that are named from where they can't be owners: another namespace, or none.

The garbage collector takes such an owner for absent. Source: Kubernetes documentation, "Owners and Dependents".
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from chandlery.controlplane.controllers.base import MANAGER, Controller, controller_user
from chandlery.controlplane.metadata import now_text
from chandlery.controlplane.types import Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

_COMPONENT = "garbage-collector-controller"
_CRDS = ("apiextensions.k8s.io", "customresourcedefinitions")


class Misplaced(NamedTuple):
    """A dependent, and the owner that it names in vain."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    owner: tuple[str, str, str, str]
    """apiVersion, kind, name and uid as the reference has them."""


class OwnerNamespaceController(Controller[Misplaced]):
    """Tells of each such reference once, when it is written."""

    name: ClassVar[str] = "garbage-collector-events"

    def __init__(self, api: LocalApi) -> None:
        super().__init__(api)
        self.user = controller_user("generic-garbage-collector")
        self._kinds: dict[tuple[str, str], Resource] = {}

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if (resource.group, resource.plural) == _CRDS:
            self._kinds = {}
        meta = obj["metadata"]
        references = meta.get("ownerReferences")
        if not references or event == "DELETED":
            return
        known = {ref["uid"] for ref in (old or {}).get("metadata", {}).get("ownerReferences") or ()}
        namespace = meta.get("namespace", "")
        for ref in references:
            if ref["uid"] not in known and self._elsewhere(ref, namespace):
                owner = (ref["apiVersion"], ref["kind"], ref["name"], ref["uid"])
                self.add(Misplaced(resource.api_version, resource.kind, namespace, meta["name"], meta["uid"], owner))

    def resync(self) -> None:
        """Nothing: what was written before was told of then."""

    def _elsewhere(self, ref: Obj, namespace: str) -> bool:
        """Whether the owner is there, but in another namespace."""
        group = ref["apiVersion"].rpartition("/")[0]
        if not self._kinds:
            self._kinds = {(one.group, one.kind): one for one in self.api.resources()}
        resource = self._kinds.get((group, ref["kind"]))
        if resource is None or not resource.namespaced:
            return False
        if namespace:
            found = self.api.get(resource.group, resource.plural, namespace, ref["name"])
            if found is not None and found["metadata"]["uid"] == ref["uid"]:
                return False
        return any(
            found["metadata"]["uid"] == ref["uid"] and found["metadata"]["namespace"] != namespace
            for found in self.api.list(resource.group, resource.plural)
        )

    async def sync(self, key: Misplaced) -> None:
        api_version, kind, name, uid = key.owner
        where = f"namespace: {key.namespace}, name: {name}, uid: {uid}"
        text = f'ownerRef [{api_version}/{kind}, {where}] does not exist in namespace "{key.namespace}"'
        home, now = key.namespace or "default", now_text()
        involved = {"kind": key.kind, "name": key.name, "uid": key.uid, "apiVersion": key.api_version}
        if key.namespace:
            involved["namespace"] = key.namespace
        body = {
            "metadata": {"name": f"{key.name}.{time.time_ns():x}", "namespace": home},
            "involvedObject": involved,
            "reason": "OwnerRefInvalidNamespace",
            "message": text,
            "source": {"component": _COMPONENT},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": "Warning",
            "reportingComponent": _COMPONENT,
        }
        await self.api.create("", "events", body, user=self.user, manager=MANAGER)
