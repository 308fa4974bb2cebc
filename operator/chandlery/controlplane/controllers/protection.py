"""Volumes and claims in use are not deleted; when nobody uses them any more, they may go.

Source: Kubernetes docs, "Storage Object in Use Protection".
"""

from __future__ import annotations

from typing import ClassVar

from chandlery.controlplane.controllers.base import MANAGER, Controller
from chandlery.controlplane.types import Obj, Resource

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
Key = tuple[str, str]
"""(namespace, name) of a claim; a volume has namespace ""."""


def _claims(pod: Obj) -> set[str]:
    return {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in (pod.get("spec") or {}).get("volumes") or ()
        if volume.get("persistentVolumeClaim")
    }


class ProtectionController(Controller[Key]):
    name: ClassVar[str] = "pvc-protection-controller"
    groups = frozenset({""})

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if resource.group:
            return
        meta = obj["metadata"]
        if resource.plural in ("persistentvolumeclaims", "persistentvolumes"):
            if meta.get("deletionTimestamp") and event != "DELETED":
                self.add((meta.get("namespace", ""), meta["name"]))
        elif resource.plural == "pods" and event != "ADDED":
            for claim in _claims(obj):
                self.add((meta["namespace"], claim))

    def resync(self) -> None:
        for plural in ("persistentvolumeclaims", "persistentvolumes"):
            for obj in self.api.list("", plural):
                if obj["metadata"].get("deletionTimestamp"):
                    self.add((obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))

    async def sync(self, key: Key) -> None:
        namespace, name = key
        plural = "persistentvolumeclaims" if namespace else "persistentvolumes"
        obj = self.api.get("", plural, namespace, name)
        if obj is None or not obj["metadata"].get("deletionTimestamp"):
            return
        finalizer = CLAIM_FINALIZER if namespace else VOLUME_FINALIZER
        finalizers = obj["metadata"].get("finalizers") or []
        if finalizer not in finalizers or self._used(key, obj):
            return
        meta = {**obj["metadata"], "finalizers": [found for found in finalizers if found != finalizer]}
        await self.api.update("", plural, {**obj, "metadata": meta}, user=self.user, manager=MANAGER)

    def _used(self, key: Key, obj: Obj) -> bool:
        namespace, name = key
        if not namespace:
            return (obj.get("status") or {}).get("phase") == "Bound"
        return any(
            name in _claims(pod) and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            for pod in self.api.list("", "pods", namespace)
        )
