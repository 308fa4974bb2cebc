"""ClusterRoles made of others: the rules of every role that the aggregation rule selects."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from chandlery.controlplane.admission.common import matches_selector
from chandlery.controlplane.auth.authz import MASTERS, RBAC_GROUP
from chandlery.controlplane.controllers.base import Controller
from chandlery.controlplane.types import Obj, Resource, UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

_MANAGER = "clusterrole-aggregation-controller"


class AggregationController(Controller[str]):
    name: ClassVar[str] = "clusterrole-aggregation-controller"
    groups = frozenset({RBAC_GROUP})

    def __init__(self, api: LocalApi) -> None:
        super().__init__(api)
        # It grants what others wrote: it must hold everything itself.
        self.user = UserInfo(self.user.name, groups=(*self.user.groups, MASTERS))

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if resource.group == RBAC_GROUP and resource.plural == "clusterroles":
            self.resync()

    def resync(self) -> None:
        for role in self.api.list(RBAC_GROUP, "clusterroles"):
            if role.get("aggregationRule"):
                self.add(role["metadata"]["name"])

    async def sync(self, key: str) -> None:
        role = self.api.get(RBAC_GROUP, "clusterroles", "", key)
        if role is None or not role.get("aggregationRule"):
            return
        rules: list[Obj] = []
        others = sorted(self.api.list(RBAC_GROUP, "clusterroles"), key=lambda found: str(found["metadata"]["name"]))
        for selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
            for other in others:
                if other["metadata"]["name"] == key:
                    continue
                if matches_selector(selector, other["metadata"].get("labels") or {}):
                    rules += [rule for rule in other.get("rules") or () if rule not in rules]
        if rules == (role.get("rules") or []):
            return
        await self.api.update(RBAC_GROUP, "clusterroles", {**role, "rules": rules}, user=self.user, manager=_MANAGER)
