"""What every namespace gets: the ServiceAccount `default`, and the ConfigMap with the root certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from chandlery.controlplane.controllers.base import MANAGER, Controller
from chandlery.controlplane.types import ApiError, Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = {
    "kubernetes.io/description": (
        "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the"
        " internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of"
        " Kubernetes clusters."
    )
}


def _active(namespace: Obj | None) -> bool:
    return namespace is not None and not namespace["metadata"].get("deletionTimestamp")


class NamespaceContentController(Controller[str]):
    """Makes both when a namespace appears, and again when somebody removes or changes them."""

    name: ClassVar[str] = "service-account-controller"
    groups = frozenset({""})

    def __init__(self, api: LocalApi, root_ca: str) -> None:
        super().__init__(api)
        self._data = {"ca.crt": root_ca}

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if resource.group:
            return
        meta = obj["metadata"]
        if resource.plural == "namespaces":
            if event == "ADDED":
                self.add(meta["name"])
        elif resource.plural == "serviceaccounts":
            if event == "DELETED" and meta["name"] == "default":
                self.add(meta["namespace"])
        elif resource.plural == "configmaps" and meta["name"] == ROOT_CA and event != "ADDED":
            self.add(meta["namespace"])

    def resync(self) -> None:
        for namespace in self.api.list("", "namespaces"):
            self.add(namespace["metadata"]["name"])

    async def sync(self, key: str) -> None:
        if not _active(self.api.get("", "namespaces", "", key)):
            return
        if self.api.get("", "serviceaccounts", key, "default") is None:
            account = {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": key},
            }
            await self._create("serviceaccounts", account)
        found = self.api.get("", "configmaps", key, ROOT_CA)
        if found is None:
            meta: Obj = {"name": ROOT_CA, "namespace": key, "annotations": dict(_DESCRIPTION)}
            body: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(self._data)}
            await self._create("configmaps", body)
        elif (
            found.get("data") != self._data
            or not _DESCRIPTION.items() <= (found["metadata"].get("annotations") or {}).items()
        ):
            annotations = {**(found["metadata"].get("annotations") or {}), **_DESCRIPTION}
            body = {**found, "metadata": {**found["metadata"], "annotations": annotations}, "data": dict(self._data)}
            await self.api.update("", "configmaps", body, user=self.user, manager=MANAGER)

    async def _create(self, plural: str, body: Obj) -> None:
        try:
            await self.api.create("", plural, body, user=self.user, manager=MANAGER)
        except ApiError as error:
            # The namespace may end while we furnish it.
            if error.code not in (403, 404, 409):
                raise
