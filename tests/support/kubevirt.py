"""Plays KubeVirt and its importer for tests: volumes get claims, machines get instances, statuses say so."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Self

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.kubernetes.types import CLAIMS, DATA_VOLUMES, KUBEVIRT_INSTANCES, KUBEVIRT_MACHINES, Obj


class KubeVirt:
    """Runs until closed.

    Args:
        api: as whom it speaks.
        namespace: the only one that it cares for.
    """

    def __init__(self, api: Any, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(ChandleryError):
                for volume in (await self.api.list(DATA_VOLUMES, self.namespace)).items:
                    await self._volume(volume)
                for machine in (await self.api.list(KUBEVIRT_MACHINES, self.namespace)).items:
                    await self._machine(machine)
            await asyncio.sleep(0.05)

    async def _volume(self, volume: Obj) -> None:
        name = volume["metadata"]["name"]
        if (volume.get("status") or {}).get("phase") == "Succeeded":
            return
        storage = volume["spec"]["storage"]
        body = {
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": volume["metadata"]["labels"],
                "ownerReferences": [_owner(volume)],
            },
            "spec": {**storage, "accessModes": ["ReadWriteOnce"], "volumeName": f"volume-of-{name}"},
        }
        if await self.api.get(CLAIMS, self.namespace, name) is None:
            made = await self.api.create(CLAIMS, body)
            await self._tell(CLAIMS, made, {"phase": "Bound", "capacity": storage["resources"]["requests"]})
        await self._tell(DATA_VOLUMES, volume, {"phase": "Succeeded", "claimName": name, "progress": "100.0%"})

    async def _machine(self, machine: Obj) -> None:
        meta, spec = machine["metadata"], machine["spec"]
        instance = await self.api.get(KUBEVIRT_INSTANCES, self.namespace, meta["name"])
        on = spec["runStrategy"] == "Always" and not meta.get("deletionTimestamp")
        if on and instance is None:
            labels = spec["template"]["metadata"]["labels"]
            body = {
                "metadata": {
                    "name": meta["name"],
                    "namespace": self.namespace,
                    "labels": labels,
                    "annotations": {"generation": str(meta["generation"])},
                    "ownerReferences": [_owner(machine)],
                },
                "spec": spec["template"]["spec"],
            }
            instance = await self.api.create(KUBEVIRT_INSTANCES, body)
            mac = spec["template"]["spec"]["domain"]["devices"]["interfaces"][0]["macAddress"]
            status = {
                "phase": "Running",
                "nodeName": "node-1",
                "interfaces": [{"name": "nic0", "ipAddress": "10.0.0.7", "ipAddresses": ["10.0.0.7"], "mac": mac}],
                "conditions": [{"type": "AgentConnected", "status": "True"}],
                "guestOSInfo": {"prettyName": "Debian GNU/Linux 13"},
            }
            await self._tell(KUBEVIRT_INSTANCES, instance, status)
        if not on and instance is not None:
            await self.api.delete(KUBEVIRT_INSTANCES, self.namespace, meta["name"])
        conditions = [{"type": "Ready", "status": "True" if on else "False"}]
        if on and instance is not None and instance["spec"] != spec["template"]["spec"]:
            conditions.append({"type": "RestartRequired", "status": "True", "message": "the template has changed"})
        printable = "Running" if on else "Stopped"
        status = {"printableStatus": printable, "ready": on, "created": on, "conditions": conditions}
        if machine.get("status") != status:
            await self._tell(KUBEVIRT_MACHINES, machine, status)

    async def _tell(self, kind: Any, obj: Obj, status: Obj) -> None:
        path = kind.path(self.namespace, obj["metadata"]["name"], "status")
        content = "application/merge-patch+json"
        await self.api._ask("patch", "PATCH", kind, path, {"status": status}, params={}, content=content)


def _owner(obj: Obj) -> Obj:
    meta = obj["metadata"]
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }
