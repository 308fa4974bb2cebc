"""What the API server itself owns comes back when it is deleted: its Service and the system's namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from chandlery.controlplane.controllers.base import Controller
from chandlery.controlplane.controllers.seed import NAMESPACES, seed_namespaces, seed_service
from chandlery.controlplane.types import Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi


class OwnObjectsController(Controller[str]):
    """Keys are `namespaces` and `services`: what was deleted of which kind."""

    name: ClassVar[str] = "kubernetes-service-controller"
    groups = frozenset({""})

    def __init__(self, api: LocalApi, *, address: str, port: int) -> None:
        """`address` is the Service's own; "": there is no such Service."""
        super().__init__(api)
        self._address, self._port = address, port

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if event != "DELETED" or resource.group:
            return
        meta = obj["metadata"]
        if resource.plural == "namespaces" and meta["name"] in NAMESPACES:
            self.add("namespaces")
        elif resource.plural == "services" and (meta["namespace"], meta["name"]) == ("default", "kubernetes"):
            self.add("services")

    def resync(self) -> None:
        """Nothing: they were made before anything else."""

    async def sync(self, key: str) -> None:
        if key == "namespaces":
            await seed_namespaces(self.api)
        elif self._address:
            await seed_service(self.api, self._address, self._port)
