"""Virtual machines in the simulated world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from chandlery.driver.protocol import Binding, Disruption, DriverContext, Observation
from chandlery.model.base import Endpoint
from chandlery.providers.memory.driver import MemoryDriver
from chandlery.providers.memory.world import Part
from chandlery_kinds.virtualmachine.model import VirtualMachine


class VirtualMachineDriver(MemoryDriver):
    """A machine that boots nothing."""

    costs: ClassVar[Mapping[str, Disruption]] = {
        "cpus": Disruption.RESTART,
        "memory": Disruption.RESTART,
        "network": Disruption.RESTART,
        "cloudInit": Disruption.NONE,
        "image": Disruption.DATA_LOSS,
        "firmware": Disruption.REPLACE,
        "architecture": Disruption.REPLACE,
    }

    async def observe(self, ctx: DriverContext, obj: VirtualMachine) -> Observation:
        found = await super().observe(ctx, obj)
        if found.exists and obj.spec.run_strategy.value == "Halted" and found.ready:
            return replace(found, message="The machine is off, as spec.runStrategy says.")
        return found

    def binding(self, obj: VirtualMachine, user: Part, endpoint: Endpoint) -> Binding:
        base = super().binding(obj, user, endpoint)
        return Binding("ssh", "chandlery", {**base.entries, "uri": f"ssh://{endpoint.host}:{endpoint.port}"})

    def facts(self, obj: VirtualMachine, instance: Part, *, ready: bool) -> Mapping[str, Any]:
        halted = instance.data.get("settings", {}).get("runStrategy") == "Halted"
        power = "Off" if halted or not ready else "Running"
        return {"powerState": power, "accelerator": "none", "version": "simulated", "address": "127.0.0.1"}
