"""What of a machine is not as its spec asks: differences, each with what it costs and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chandlery.driver.protocol import Difference, Disruption
from chandlery_kinds.virtualmachine import command
from chandlery_kinds.virtualmachine.command import MachineArgs
from chandlery_kinds.virtualmachine.drivers.local_disks import WantedDisk, digest
from chandlery_kinds.virtualmachine.drivers.local_images import Image
from chandlery_kinds.virtualmachine.drivers.local_look import ENDED, Look
from chandlery_kinds.virtualmachine.drivers.local_start import RESEND
from chandlery_kinds.virtualmachine.power import RESTART_ANNOTATION, Power

if TYPE_CHECKING:
    from chandlery_kinds.virtualmachine.drivers.local_machine import Machine


class Changes:
    """The differences of one machine in one pass."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    async def all(self, seen: Look, image: Image | None, disks: list[WantedDisk]) -> list[Difference]:
        power, record = self.machine.power(), self.machine.record
        if seen.status in ENDED:
            return [Difference("power", "Off", f"ended ({self.machine.ended})", payload=("collect",))]
        if not seen.up:
            found = self.machine.disks.differences(seen, disks) + self.machine.snapshots.differences(seen)
            waits = max(seen.state.wait, float(record.get("not_before", 0.0)) - self.machine.now())
            if power is not Power.OFF and waits <= 0:
                found.append(Difference("power", "Running", "Off", payload=("start",)))
            return found
        if not seen.status:
            return []
        if record.get("halt"):
            return self._halting()
        if power is Power.OFF:
            return [Difference("power", "Off", "Running", payload=("halt",))]
        found = []
        if power is Power.PAUSED and seen.status == "running":
            found.append(Difference("power", "Paused", "Running", payload=("pause",)))
        if power is Power.RUNNING and seen.status in {"paused", "prelaunch", "io-error"}:
            found.append(Difference("power", "Running", seen.status, payload=("resume",)))
        found += self._restart_differences()
        found += self._forward_differences(seen)
        found += self.machine.disks.differences(seen, disks)
        found += self.machine.snapshots.differences(seen)
        if record.get("seed") != digest(repr(sorted((await self.machine.seed()).items())).encode()):
            found.append(Difference("spec.cloudInit", "as in spec", "another", sensitive=True, payload=("seed",)))
        return found

    def _halting(self) -> list[Difference]:
        halt = self.machine.record["halt"]
        if self.machine.now() >= halt["until"]:
            return [Difference("power", "Off", "ignores its power button", payload=("off",))]
        if self.machine.now() - halt["sent"] >= RESEND:
            return [Difference("power", "Off", "Stopping", payload=("press",))]
        return []

    def _restart_differences(self) -> list[Difference]:
        probe = MachineArgs(
            uuid="",
            cpus=self.machine.spec.cpus,
            memory=self.machine.spec.memory.bytes,
            mac=self.machine.mac,
            accelerator="",
            sandbox=False,
            network=str(self.machine.spec.network.address or ""),
            gateway=str(self.machine.spec.network.gateway or ""),
            agent=self.machine.spec.guest_agent.enabled and not self.machine.record.get("tells_ready"),
        )
        began = self.machine.record.get("started_with", {})
        found = [
            Difference(field, value, began[field], Disruption.RESTART, payload=("restart", field))
            for field, value in command.restart_needed(probe).items()
            if began.get(field, value) != value
        ]
        asked = (self.machine.obj.metadata.annotations or {}).get(RESTART_ANNOTATION, "")
        if asked and asked != self.machine.record.get("restarted_for", ""):
            field = f"metadata.annotations[{RESTART_ANNOTATION}]"
            found.append(Difference(field, asked, "not done", Disruption.RESTART, payload=("restart", asked)))
        return found

    def _forward_differences(self, seen: Look) -> list[Difference]:
        here = {(line.protocol, line.port, line.guest_port) for line in seen.forwards}
        should = {(f.protocol, f.host_port, f.guest_port) for f in self.machine.forwards()}
        found = []
        for forward in self.machine.spec.network.forwards:
            port = self.machine.instance.ports.get(self.machine.forward_key(str(forward.name)))
            right = port is not None and forward.host_port in (None, port)
            if not right or (forward.protocol.value, port, forward.guest_port) not in here:
                field = f"spec.network.forwards[{forward.name}]"
                found.append(Difference(field, "open", "closed", payload=("forward", str(forward.name))))
        for protocol, port, guest_port in sorted(here - should):
            field = f"forward {protocol} {port} to {guest_port}"
            found.append(Difference(field, "closed", "open", payload=("unforward", protocol, port)))
        # A port is free for its new forward once the old one is closed.
        return sorted(found, key=lambda difference: difference.payload[0] != "unforward")
