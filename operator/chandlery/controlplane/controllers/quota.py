"""The status of quotas: what the objects of a namespace use."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from chandlery.controlplane.admission.quota import compute_used
from chandlery.controlplane.admission.quota.usage import sources_of
from chandlery.controlplane.controllers.base import MANAGER, Controller
from chandlery.controlplane.types import Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

_RECOUNT_AFTER = 2.0
"""Seconds after a creation before its quota is counted again: admission charges before the object is stored."""

_FIRST_AFTER = 0.0007
"""Seconds after which a new quota is counted: what is written together with it is counted with it."""

Key = tuple[str, str]


class QuotaController(Controller[Key]):
    """Counts when a quota is new or changed and when an object goes; admission itself counts what comes."""

    name: ClassVar[str] = "resourcequota-controller"

    def __init__(self, api: LocalApi) -> None:
        super().__init__(api)
        self._sources: dict[str, dict[str, set[tuple[str, str]]]] = {}
        """Namespace -> quota -> the (group, plural) of what it counts."""

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        meta = obj["metadata"]
        namespace = meta.get("namespace", "")
        if not namespace:
            return
        if resource.plural == "resourcequotas" and not resource.group:
            self._quota(event, obj, old)
        quotas = self._sources.get(namespace)
        if not quotas:
            return
        source = resource.storage_key
        for name, sources in quotas.items():
            if source not in sources:
                continue
            if event == "DELETED" or (event == "MODIFIED" and not resource.group and resource.plural == "pods"):
                self.add((namespace, name))
            else:
                self.add_later((namespace, name), _RECOUNT_AFTER)

    def _quota(self, event: str, obj: Obj, old: Obj | None) -> None:
        meta = obj["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        if event == "DELETED":
            quotas = self._sources.get(namespace, {})
            quotas.pop(name, None)
            if not quotas:
                self._sources.pop(namespace, None)
            return
        hard = (obj.get("spec") or {}).get("hard") or {}
        self._sources.setdefault(namespace, {})[name] = sources_of(hard)
        if old is None:
            self.add_later((namespace, name), _FIRST_AFTER)
        elif old.get("spec") != obj.get("spec"):
            self.add((namespace, name))
        elif old.get("status") != obj.get("status"):
            # Admission charged it for an object that may fail to be stored after all.
            self.add_later((namespace, name), _RECOUNT_AFTER)

    def resync(self) -> None:
        for quota in self.api.list("", "resourcequotas"):
            self._quota("ADDED", quota, None)

    async def sync(self, key: Key) -> None:
        async with self.api.turn(f"quotas/{key[0]}"):
            await self._count(key)

    async def _count(self, key: Key) -> None:
        quota = self.api.get("", "resourcequotas", *key)
        if quota is None:
            return
        hard = (quota.get("spec") or {}).get("hard") or {}
        status: Obj = {"hard": dict(sorted(hard.items()))}
        used = compute_used(self.api, quota)
        if used:  # names that nothing counts are left out
            status["used"] = used
        if status == quota.get("status"):
            return
        await self.api.update(
            "", "resourcequotas", {**quota, "status": status}, user=self.user, manager=MANAGER, subresource="status"
        )
