"""What a controller manager, a provisioner and a resizer do that the stand-in without containers leaves out.

Volumes are made when a pod first needs them (WaitForFirstConsumer), and grow while they are mounted. CronJobs make
their Jobs at the minute that their schedule says. Budgets say how many pods may be evicted now.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from controllers import is_ready

from chandlery.driver.schedule import due, stamp
from chandlery.foundation.errors import AlreadyExists, NotFound
from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes.types import BUDGETS, CLAIMS, CRON_JOBS, JOBS, Obj

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class Managers:
    """One look at a time.

    Args:
        api: as whom they speak.
        status: writes the status of an object.
    """

    def __init__(self, api: Any, status: Any) -> None:
        self.api = api
        self._status = status

    async def look(self, pods: list[Obj]) -> None:
        await self._claims(pods)
        await self._cron_jobs()
        await self._budgets(pods)

    async def _claims(self, pods: list[Obj]) -> None:
        used = {
            (pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"])
            for pod in pods
            for volume in pod["spec"].get("volumes") or ()
            if "persistentVolumeClaim" in volume
        }
        for claim in (await self.api.list(CLAIMS)).items:
            meta, spec, status = claim["metadata"], claim["spec"], claim.get("status") or {}
            place = meta["namespace"], meta["name"]
            asked = spec["resources"]["requests"]["storage"]
            with contextlib.suppress(NotFound):
                if status.get("phase") != "Bound":
                    if place not in used or not spec.get("storageClassName") or meta.get("deletionTimestamp"):
                        continue
                    if not spec.get("volumeName"):
                        volume = {"spec": {"volumeName": f"pvc-{meta['uid']}"}}
                        await self.api.merge_patch(CLAIMS, *place, volume)
                    bound = {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": {"storage": asked}}
                    await self._status(CLAIMS, claim, bound)
                elif place in used and Quantity((status.get("capacity") or {}).get("storage", "0")) < Quantity(asked):
                    await self._status(CLAIMS, claim, {"capacity": {"storage": asked}})

    async def _budgets(self, pods: list[Obj]) -> None:
        for budget in (await self.api.list(BUDGETS)).items:
            meta, spec = budget["metadata"], budget["spec"]
            chosen = [
                pod
                for pod in pods
                if pod["metadata"]["namespace"] == meta["namespace"]
                and spec["selector"]["matchLabels"].items() <= (pod["metadata"].get("labels") or {}).items()
            ]
            healthy = sum(1 for pod in chosen if is_ready(pod) and not pod["metadata"].get("deletionTimestamp"))
            expected = max(len(chosen), 1)
            wanted = max(expected - int(spec["maxUnavailable"]), 0)
            told = {
                "observedGeneration": meta["generation"],
                "currentHealthy": healthy,
                "desiredHealthy": wanted,
                "expectedPods": len(chosen),
                "disruptionsAllowed": max(healthy - wanted, 0),
            }
            if any((budget.get("status") or {}).get(key) != value for key, value in told.items()):
                with contextlib.suppress(NotFound):
                    await self._status(BUDGETS, budget, told)

    async def _cron_jobs(self) -> None:
        jobs: list[Obj] | None = None
        for cron in (await self.api.list(CRON_JOBS)).items:
            meta, spec, status = cron["metadata"], cron["spec"], cron.get("status") or {}
            if jobs is None:
                jobs = (await self.api.list(JOBS)).items
            mine = [
                job for job in jobs if any(o["uid"] == meta["uid"] for o in job["metadata"].get("ownerReferences", ()))
            ]
            active = [job for job in mine if not (job.get("status") or {}).get("conditions")]
            told: Obj = {}
            done = [str(j["status"]["completionTime"]) for j in mine if (j.get("status") or {}).get("completionTime")]
            if done and max(done) > str(status.get("lastSuccessfulTime") or ""):
                told["lastSuccessfulTime"] = max(done)
            since = datetime.fromisoformat(status.get("lastScheduleTime") or meta["creationTimestamp"])
            found = due(
                spec["schedule"], since=since, now=datetime.now(UTC), zone=spec.get("timeZone") or "UTC",
                suspended=bool(spec.get("suspend")),
            ).at  # fmt: skip
            forbidden = bool(active) and spec.get("concurrencyPolicy") == "Forbid"
            if found is not None and not forbidden and not meta.get("deletionTimestamp"):
                await self._begin(cron, found)
                told["lastScheduleTime"] = stamp(found)
            if told:
                with contextlib.suppress(NotFound):
                    await self._status(CRON_JOBS, cron, told)

    async def _begin(self, cron: Obj, moment: datetime) -> None:
        meta, template = cron["metadata"], cron["spec"]["jobTemplate"]
        owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": meta["name"], "uid": meta["uid"]}
        made = template.get("metadata") or {}
        body = {
            "metadata": {
                "name": f"{meta['name']}-{int(moment.timestamp()) // 60}",
                "namespace": meta["namespace"],
                "labels": made.get("labels") or {},
                "annotations": {**(made.get("annotations") or {}), SCHEDULED: stamp(moment)},
                "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
            },
            "spec": template["spec"],
        }
        with contextlib.suppress(AlreadyExists):
            await self.api.create(JOBS, body)
