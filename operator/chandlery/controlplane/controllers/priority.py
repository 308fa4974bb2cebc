"""FlowSchemas are told whether the level that they name exists; the two that no cluster can do without come back."""

from __future__ import annotations

from typing import ClassVar

from chandlery.controlplane.admission.common import API_SERVER
from chandlery.controlplane.builtins import flow
from chandlery.controlplane.controllers.base import Controller
from chandlery.controlplane.controllers.seed import create_missing
from chandlery.controlplane.metadata import now_text
from chandlery.controlplane.types import Obj, Resource

GROUP = flow.API_VERSION.partition("/")[0]
CONSUMER = "api-priority-and-fairness-config-consumer-v1"
_MANDATORY = ("exempt", "catch-all")


class PriorityController(Controller[str]):
    """Keys are names of FlowSchemas; "" stands for the objects that must be there."""

    name: ClassVar[str] = "api-priority-and-fairness"
    groups = frozenset({GROUP})

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if resource.group != GROUP:
            return
        name = obj["metadata"]["name"]
        if event == "DELETED" and name in _MANDATORY:
            self.add("")
        if resource.plural == "flowschemas":
            if event != "DELETED":
                self.add(name)
        elif event != "MODIFIED":
            self.resync()

    def resync(self) -> None:
        for schema in self.api.list(GROUP, "flowschemas"):
            self.add(schema["metadata"]["name"])

    async def sync(self, key: str) -> None:
        if not key:
            for obj in flow.objects():
                if obj["metadata"]["name"] in _MANDATORY:
                    await create_missing(self.api, obj)
            return
        schema = self.api.get(GROUP, "flowschemas", "", key)
        if schema is None:
            return
        level = schema["spec"]["priorityLevelConfiguration"]["name"]
        there = self.api.get(GROUP, "prioritylevelconfigurations", "", level) is not None
        state, reason = ("False", "Found") if there else ("True", "NotFound")
        what = "it exists" if there else "there is no such object"
        text = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" and {what}'
        status = schema.get("status") or {}
        known: Obj = next((one for one in status.get("conditions") or () if one.get("type") == "Dangling"), {})
        if (known.get("status"), known.get("reason"), known.get("message")) == (state, reason, text):
            return
        since = known["lastTransitionTime"] if known.get("status") == state else now_text()
        told = {"type": "Dangling", "status": state, "lastTransitionTime": since, "reason": reason, "message": text}
        others = [one for one in status.get("conditions") or () if one.get("type") != "Dangling"]
        new = {**schema, "status": {**status, "conditions": [*others, told]}}
        await self.api.update(GROUP, "flowschemas", new, user=API_SERVER, manager=CONSUMER, subresource="status")
