"""Plays the workload controllers, for tests: StatefulSets, Deployments and Jobs make pods of their templates."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from datetime import UTC, datetime
from typing import Any

from chandlery.driver.objects import ResourceType
from chandlery.foundation.errors import AlreadyExists, NotFound
from chandlery.providers.kubernetes.types import CLAIMS, DEPLOYMENTS, JOBS, PODS, STATEFUL_SETS, Obj

JOB_NAME = "batch.kubernetes.io/job-name"


class Controllers:
    """What a controller manager and a scheduler do for workloads; a pass at a time.

    Args:
        api: as whom they speak.
    """

    def __init__(self, api: Any) -> None:
        self.api = api
        self.binds = True
        """Whether claims of StatefulSets have a volume as soon as they are made."""
        self.frozen: set[str] = set()
        """Names of pods that are not brought back."""

    async def control(self, pods: list[Obj]) -> None:
        """One look at all workloads.

        Args:
            pods: all there are.
        """
        for kind in (STATEFUL_SETS, DEPLOYMENTS):
            for workload in (await self.api.list(kind)).items:
                uid = workload["metadata"]["uid"]
                mine = [p for p in pods if any(o["uid"] == uid for o in p["metadata"].get("ownerReferences", ()))]
                with contextlib.suppress(AlreadyExists, NotFound):
                    await self._workload(kind, workload, mine)
        for job in (await self.api.list(JOBS)).items:
            mine = [p for p in pods if p["metadata"].get("labels", {}).get(JOB_NAME) == job["metadata"]["name"]]
            with contextlib.suppress(AlreadyExists, NotFound):
                await self._job(job, mine)

    async def _workload(self, kind: ResourceType, workload: Obj, mine: list[Obj]) -> None:
        spec, meta = workload["spec"], workload["metadata"]
        digest = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:10]
        current = f"{meta['name']}-{digest}" if kind is STATEFUL_SETS else digest
        if not meta.get("deletionTimestamp"):
            if kind is STATEFUL_SETS:
                await self._stateful(workload, mine, current)
            else:
                await self._deployment(workload, mine, current)
        ready = sum(1 for p in mine if is_ready(p) and not p["metadata"].get("deletionTimestamp"))
        status = {
            "observedGeneration": meta["generation"],
            "replicas": len(mine),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updatedReplicas": sum(1 for p in mine if _revision(p) == current),
        }
        if kind is STATEFUL_SETS:
            status |= {"updateRevision": current, "currentRevision": current}
        if any(workload.get("status", {}).get(k) != v for k, v in status.items()):
            await self._status(kind, workload, status)

    async def _stateful(self, workload: Obj, mine: list[Obj], revision: str) -> None:
        spec, meta = workload["spec"], workload["metadata"]
        names = [f"{meta['name']}-{i}" for i in range(spec["replicas"])]
        there = {p["metadata"]["name"]: p for p in mine}
        ordered = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        for index, name in enumerate(names):
            if name not in there and name not in self.frozen:
                await self._make(STATEFUL_SETS, workload, name, index, revision)
            if ordered and not (name in there and is_ready(there[name])):
                return
        for name, pod in there.items():
            if name not in names and not pod["metadata"].get("deletionTimestamp"):
                if (spec.get("persistentVolumeClaimRetentionPolicy") or {}).get("whenScaled") == "Delete":
                    await self._condemn(workload, pod)
                await self.api.delete(PODS, meta["namespace"], name)
        await self._roll(workload, mine, revision)

    async def _condemn(self, workload: Obj, pod: Obj) -> None:
        """The claims of a pod that is one too many go with it: the garbage collector takes them after it."""
        meta = pod["metadata"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        for template in workload["spec"].get("volumeClaimTemplates") or ():
            name = f"{template['metadata']['name']}-{meta['name']}"
            await self.api.merge_patch(
                CLAIMS,
                meta["namespace"],
                name,
                {"metadata": {"ownerReferences": [{**owner, "blockOwnerDeletion": True}]}},
            )

    async def _roll(self, workload: Obj, mine: list[Obj], revision: str) -> None:
        """From the last one on, one at a time, each only when those after it serve."""
        strategy = workload["spec"].get("updateStrategy") or {}
        if strategy.get("type") != "RollingUpdate" or len(mine) < workload["spec"]["replicas"]:
            return
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        old = [p for p in mine if _revision(p) != revision and _ordinal(p) >= partition]
        if (
            old
            and all(is_ready(p) for p in mine if p not in old)
            and not any(p["metadata"].get("deletionTimestamp") for p in mine)
        ):
            last = max(old, key=_ordinal)
            await self.api.delete(PODS, last["metadata"]["namespace"], last["metadata"]["name"])

    async def _deployment(self, workload: Obj, mine: list[Obj], revision: str) -> None:
        """New pods beside old ones, as far as the strategy lets it."""
        spec, meta = workload["spec"], workload["metadata"]
        rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
        replicas = spec["replicas"]
        most = replicas + _share(rolling.get("maxSurge", "25%"), replicas, up=True)
        least = replicas - _share(rolling.get("maxUnavailable", "25%"), replicas, up=False)
        staying = [p for p in mine if not p["metadata"].get("deletionTimestamp")]
        new = [p for p in staying if _revision(p) == revision]
        old = [p for p in staying if p not in new]
        for _ in range(min(replicas - len(new), most - len(staying))):
            name = f"{meta['name']}-{revision}-{os.urandom(3).hex()[:5]}"
            await self._make(DEPLOYMENTS, workload, name, 0, revision)
        spare = sum(1 for p in staying if is_ready(p)) - least
        going = sorted(old, key=is_ready) + (
            sorted(new, key=is_ready)[: len(new) - replicas] if len(new) > replicas else []
        )
        for pod in going:
            if not is_ready(pod) or spare > 0:
                spare -= is_ready(pod)
                await self.api.delete(PODS, meta["namespace"], pod["metadata"]["name"])

    async def _job(self, job: Obj, mine: list[Obj]) -> None:
        """A pod, and another one where it failed and may be tried again; the end of the last is the Job's."""
        meta, spec = job["metadata"], job["spec"]
        if meta.get("deletionTimestamp") or (job.get("status") or {}).get("conditions"):
            return
        phases = {(p.get("status") or {}).get("phase") for p in mine}
        failed = sum(1 for p in mine if (p.get("status") or {}).get("phase") == "Failed")
        if "Succeeded" in phases or failed > spec.get("backoffLimit", 6):
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            good = "Succeeded" in phases
            kinds = ("SuccessCriteriaMet", "Complete") if good else ("FailureTarget", "Failed")
            conditions = [{"type": kind, "status": "True", "message": "the pod has ended"} for kind in kinds]
            ended = {"succeeded": 1, "completionTime": now} if good else {"failed": failed}
            await self._status(JOBS, job, {"startTime": now, "conditions": conditions, **ended})
        elif failed == len(mine):
            template = spec["template"]
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
            body = {
                "metadata": {
                    "name": f"{meta['name']}-{os.urandom(3).hex()[:5]}",
                    "namespace": meta["namespace"],
                    "labels": {**template["metadata"].get("labels", {}), JOB_NAME: meta["name"]},
                    "ownerReferences": [{**owner, "controller": True}],
                },
                "spec": {**template["spec"], "nodeName": "node-1"},
            }
            await self.api.create(PODS, body)

    async def _make(self, kind: ResourceType, workload: Obj, name: str, index: int, revision: str) -> None:
        meta, template = workload["metadata"], workload["spec"]["template"]
        spec = {**template["spec"], "nodeName": "node-1"}
        for claim in workload["spec"].get("volumeClaimTemplates") or ():
            volume = claim["metadata"]["name"]
            claim_name = f"{volume}-{name}"
            spec["volumes"] = [
                *spec.get("volumes", ()),
                {"name": volume, "persistentVolumeClaim": {"claimName": claim_name}},
            ]
            known = await self.api.get(CLAIMS, meta["namespace"], claim_name)
            if known is not None and any(o["kind"] == "Pod" for o in known["metadata"].get("ownerReferences") or ()):
                return  # it goes with the pod that had it; then there is a new one
            if known is None:
                labels = {**claim["metadata"].get("labels", {}), **workload["spec"]["selector"]["matchLabels"]}
                policy = workload["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
                owner = {"apiVersion": kind.api_version, "kind": kind.kind, "name": meta["name"], "uid": meta["uid"]}
                owners = {"ownerReferences": [owner]} if policy.get("whenDeleted") == "Delete" else {}
                made = await self.api.create(
                    CLAIMS,
                    {
                        "metadata": {"name": claim_name, "namespace": meta["namespace"], "labels": labels, **owners},
                        "spec": {**claim["spec"], **({"volumeName": f"volume-of-{claim_name}"} if self.binds else {})},
                    },
                )
                if self.binds:
                    await self._status(CLAIMS, made, {"phase": "Bound"})
        label = "controller-revision-hash" if kind is STATEFUL_SETS else "pod-template-hash"
        labels = {**template["metadata"].get("labels", {}), label: revision}
        if kind is STATEFUL_SETS:
            labels |= {"statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(index)}
            spec |= {"hostname": name, "subdomain": workload["spec"]["serviceName"]}
        owner = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
        }
        await self.api.create(
            PODS,
            {
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "labels": labels,
                    "annotations": template["metadata"].get("annotations", {}),
                    "ownerReferences": [{**owner, "blockOwnerDeletion": True}],
                },
                "spec": spec,
            },
        )

    async def _status(self, kind: ResourceType, obj: Obj, status: Obj) -> None:
        meta = obj["metadata"]
        await self.api._ask(
            "patch",
            "PATCH",
            kind,
            kind.path(meta["namespace"], meta["name"], "status"),
            {"status": status},
            params={"fieldManager": "kubelet"},
            content="application/merge-patch+json",
        )


def _revision(pod: Obj) -> str:
    labels = pod["metadata"].get("labels", {})
    return str(labels.get("controller-revision-hash") or labels.get("pod-template-hash", ""))


def _ordinal(pod: Obj) -> int:
    return int(str(pod["metadata"]["name"]).rpartition("-")[2])


def is_ready(pod: Obj) -> bool:
    """As its conditions say."""
    conditions = (pod.get("status") or {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _share(value: int | str, of: int, *, up: bool) -> int:
    """A number of pods, or a percentage of them."""
    if isinstance(value, int):
        return value
    whole = of * int(value.rstrip("%"))
    return -(-whole // 100) if up else whole // 100
