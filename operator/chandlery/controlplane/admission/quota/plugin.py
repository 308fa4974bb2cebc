"""Taking a share of a quota before an object is stored."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from weakref import WeakValueDictionary

from chandlery.controlplane.admission.common import API_SERVER, forbid
from chandlery.controlplane.admission.quota.pending import Charge, charges_of
from chandlery.controlplane.admission.quota.usage import compute_used, covers, usage_of
from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.builtins.podusage import Usage
from chandlery.controlplane.types import ApiError, LocalApi, Obj, RequestContext

_GROWING = frozenset({"pods", "services", "persistentvolumeclaims"})
"""Core resources whose use may grow by an update."""
_ATTEMPTS = 5
_COMPUTE = ("cpu", "memory", "ephemeral-storage")


class QuotaPlugin:
    """Refuses what would exceed a quota, and records in the quota's status what it let through."""

    def __init__(self, api: LocalApi) -> None:
        self._api = api
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def check(self, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> None:
        """Raises ApiError 403 when the request would exceed a quota of its namespace."""
        resource = ctx.resource
        if obj is None or not ctx.namespace or ctx.subresource or not resource.namespaced:
            return
        if old is not None and (resource.group or resource.plural not in _GROWING):
            return
        quotas = self._api.list("", "resourcequotas", ctx.namespace)
        if not quotas:
            return
        group, plural = resource.storage_key
        lock = self._locks.get(ctx.namespace)
        if lock is None:
            lock = self._locks[ctx.namespace] = asyncio.Lock()
        async with lock:
            for attempt in range(_ATTEMPTS):
                try:
                    await self._charge(ctx, group, plural, obj, old)
                    return
                except ApiError as error:
                    if error.code != 409 or attempt == _ATTEMPTS - 1:
                        raise

    async def _charge(self, ctx: RequestContext, group: str, plural: str, obj: Obj, old: Obj | None) -> None:
        wanted = usage_of(group, plural, obj)
        had = usage_of(group, plural, old) if old is not None else {}
        charges: list[tuple[Obj, dict[str, str], dict[str, str]]] = []
        for quota in sorted(
            self._api.list("", "resourcequotas", ctx.namespace), key=lambda quota: str(quota["metadata"]["name"])
        ):
            charge = self._charge_one(ctx, quota, wanted, had, group, plural, obj)
            if charge is not None:
                charges.append((quota, *charge))
        if ctx.dry_run:
            return
        if not charges:
            return
        growth = {
            name: (more, style)
            for name, (amount, style) in wanted.items()
            if (more := amount - had.get(name, (Fraction(0), ""))[0]) > 0
        }
        pending = charges_of(self._api)
        pending.begin(ctx, Charge(ctx.namespace, group, plural, obj, growth))
        try:
            for quota, hard, used in charges:
                status = {"hard": hard, "used": used}
                if status == quota.get("status"):
                    continue
                updated = {**quota, "status": status}
                await self._api.update(
                    "", "resourcequotas", updated, user=API_SERVER, manager="kube-apiserver", subresource="status"
                )
        except BaseException:
            pending.settle(ctx)
            raise

    def _charge_one(
        self, ctx: RequestContext, quota: Obj, wanted: Usage, had: Usage, group: str, plural: str, obj: Obj
    ) -> tuple[dict[str, str], dict[str, str]] | None:
        """The quota's hard and used after this request; None when it doesn't concern it."""
        spec_hard = (quota.get("spec") or {}).get("hard") or {}
        if quota["metadata"].get("deletionTimestamp") or not covers(quota, group, plural, obj):
            return None
        if (group, plural) == ("", "pods"):
            self._require_limits(ctx, quota, obj)
        growth = {
            name: (amount - had.get(name, (Fraction(0), ""))[0], style)
            for name, (amount, style) in wanted.items()
            if name in spec_hard
        }
        growth = {name: (amount, style) for name, (amount, style) in growth.items() if amount > 0}
        if not growth:
            return None
        status = quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        if hard != spec_hard or any(name not in used for name in growth):
            # The controller has not seen this quota yet, or not its last change: count now.
            hard, used = spec_hard, compute_used(self._api, quota)
        exceeded = self._exceeded(growth, hard, used)
        if exceeded:
            # What was deleted a moment ago may still be in the books.
            hard, used = spec_hard, compute_used(self._api, quota)
            exceeded = self._exceeded(growth, hard, used)
        if exceeded:
            asked = ",".join(f"{name}={quantity.write(*growth[name])}" for name in exceeded)
            taken = ",".join(f"{name}={quantity.canonical(str(used[name]))}" for name in exceeded)
            limit = ",".join(f"{name}={quantity.canonical(str(hard[name]))}" for name in exceeded)
            name = quota["metadata"]["name"]
            raise forbid(ctx, obj, f"exceeded quota: {name}, requested: {asked}, used: {taken}, limited: {limit}")
        after = dict(used)
        for name, (amount, _) in growth.items():
            known, style = quantity.parse(str(used[name]))
            after[name] = quantity.write(known + amount, style if known else growth[name][1])
        return dict(hard), after

    @staticmethod
    def _exceeded(growth: Usage, hard: Obj, used: Obj) -> list[str]:
        return sorted(
            name
            for name, (amount, _) in growth.items()
            if quantity.parse(str(used[name]))[0] + amount > quantity.parse(str(hard[name]))[0]
        )

    @staticmethod
    def _require_limits(ctx: RequestContext, quota: Obj, pod: Obj) -> None:
        """A quota on cpu or memory asks every container to say what it needs."""
        hard = quota["spec"].get("hard") or {}
        missing: dict[str, list[str]] = {}
        spec = pod.get("spec") or {}
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            resources = container.get("resources") or {}
            for name in hard:
                kind, _, plain = name.rpartition(".") if "." in name else ("requests", "", name)
                if plain not in _COMPUTE or kind not in ("requests", "limits"):
                    continue
                if plain not in (resources.get(kind) or {}):
                    missing.setdefault(container.get("name", ""), []).append(name)
        if missing:
            by_names: dict[str, list[str]] = {}
            for container_name, names in missing.items():
                for name in names:
                    by_names.setdefault(name, []).append(container_name)
            text = "; ".join(f"{name} for: {','.join(sorted(by_names[name]))}" for name in sorted(by_names))
            raise forbid(ctx, pod, f"failed quota: {quota['metadata']['name']}: must specify {text}")
