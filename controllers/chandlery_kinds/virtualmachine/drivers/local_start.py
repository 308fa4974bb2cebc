"""Starting a machine: what it needs, fetched if need be, and the command that runs it."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chandlery.foundation.errors import Unavailable
from chandlery.providers.local import ProcessSpec, StopRequest, StopStep
from chandlery.providers.local.cgroups import Allowance
from chandlery.providers.local.engines import Engine, InstallingEngine
from chandlery.providers.local.files import write_atomic
from chandlery.providers.local.ports import is_free
from chandlery_kinds.virtualmachine import command
from chandlery_kinds.virtualmachine.command import MachineArgs
from chandlery_kinds.virtualmachine.drivers import local_accel, local_tell
from chandlery_kinds.virtualmachine.drivers.local_disks import WantedDisk, digest, iso_apart, slots_at_start
from chandlery_kinds.virtualmachine.drivers.local_images import Image, Wanted, wanted
from chandlery_kinds.virtualmachine.power import RESTART_ANNOTATION, Ended
from chandlery_kinds.virtualmachine.spec_parts import Firmware

if TYPE_CHECKING:
    from chandlery_kinds.virtualmachine.drivers.local_machine import Machine

ENGINE = "qemu"
FIRMWARE = "ovmf"
RESEND = 1.5
"""Seconds after which the power button is pressed again: a guest that boots doesn't hear the first."""
OWN_THREADS = 1
"""Cores that QEMU may use beside those of the guest, for disks and network."""
# SIGTERM ends QEMU in order; its disks are as after a power cut, so the guest was asked to shut down before.
STOP = (StopStep(signal.SIGTERM, 5.0), StopStep(signal.SIGKILL, 5.0))
# For whoever stops all processes: the guest's power button, and QEMU ends with the guest.
PRESS = (
    '{"execute": "qmp_capabilities"}',
    '{"execute": "set-action", "arguments": {"shutdown": "poweroff"}}',
    '{"execute": "cont"}',
    '{"execute": "system_powerdown"}',
)


class Start:
    """The start of one machine in one pass."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def engine(self) -> Engine:
        return self.machine.instance.engine(ENGINE)

    def _firmware(self) -> tuple[Path, Path] | None:
        """UEFI's code and this machine's own variables; None for the BIOS."""
        if self.machine.spec.firmware is Firmware.BIOS:
            return None
        code = self.machine.instance.engine(FIRMWARE).binary
        kind = ".ms" if self.machine.spec.firmware is Firmware.UEFI_SECURE else ""
        variables = self.machine.instance.data_dir / "efivars.fd"
        if not variables.exists():
            # With the keys by which Microsoft signs, as most systems' boot loaders are.
            write_atomic(variables, code.with_name(f"OVMF_VARS_4M{kind}.fd").read_bytes())
        return code.with_name(f"OVMF_CODE_4M{kind}.fd"), variables

    def image(self, want: Wanted) -> Image:
        """The image; where it isn't here, fetching it is begun.

        Raises:
            InstallingEngine: it is on its way.
            ChandleryError: why it can't be had.
        """
        found = self.machine.images.look(want)
        if found is not None:
            return found
        job = self.machine.images.begin(want, self.machine.instance.wake)
        if job.error is not None and not job.running:
            raise job.error
        raise InstallingEngine(job.message)

    async def begin(self) -> None:
        """Start the machine, or begin to fetch what it needs."""
        if self.machine.process.state().running:
            return  # what its record says is of its start, and stays true
        want = wanted(self.machine.spec, self.machine.ctx.parameters)
        missing = None
        engine = image = None
        firmware = None
        try:
            engine = self.engine()
            firmware = self._firmware()
        except InstallingEngine as error:
            missing = error
        try:
            image = self.image(want)
        except InstallingEngine as error:
            missing = error
        await local_tell.fetch_sources(self.machine)
        if missing is not None or engine is None or image is None:
            return  # the next look tells how far it is
        _enough_memory(self.machine.spec.memory.bytes)
        disks = self.machine.disks.wanted(has_root=want.disk is not None)
        self.machine.claim_ports()
        self._ports_free()
        libraries = _libraries(engine)
        options = [part for folder in libraries for part in ("-L", folder)]
        # None of these waits for another, and the machine waits for all.
        _, _, able = await asyncio.gather(
            self.machine.disks.prepare(engine, image, disks),
            self.write_seed(),
            local_accel.abilities(self.machine.instance, engine, options),
        )
        arguments = self.machine.arguments(image, disks, able)
        if firmware is not None:
            code, variables = firmware
            arguments = replace(
                arguments,
                firmware=str(code),
                variables=str(variables),
                secure=self.machine.spec.firmware is Firmware.UEFI_SECURE,
            )
        await self._launch(engine, replace(arguments, libraries=libraries), image, disks)

    async def _launch(self, engine: Engine, machine: MachineArgs, image: Image, disks: list[WantedDisk]) -> None:
        log = self.machine.instance.log_dir / "console.log"
        restarts = int(self.machine.record.get("restarts", 0))
        if self.machine.ended in {Ended.CRASHED, Ended.KILLED}:
            restarts += 1
        # On record before it runs: what is true of it must be known whenever it is found running.
        self.machine.record.update(
            {
                "started": True,
                "running": True,
                "started_with": dict(command.restart_needed(machine)),
                "slots": dict(slots_at_start(disks)),
                "virtio_disks": sum(disk.bus == "virtio" for disk in disks),
                "scsi": any(disk.bus == "scsi" for disk in disks),
                "tells_ready": image.tells_ready,
                "console_from": log.stat().st_size if log.exists() else 0,
                "accelerator": machine.accelerator,
                "started_at": self.machine.now(),
                "restarts": restarts,
                "restarted_for": (self.machine.obj.metadata.annotations or {}).get(RESTART_ANNOTATION, ""),
            }
        )
        for key in ("halt", "ended", "ended_at", "not_before"):
            self.machine.record.pop(key, None)
        self.machine.save()
        argv = [str(engine.binary), *command.render(machine)]
        ask = StopRequest("qmp.sock", PRESS, self.machine.spec.shutdown_timeout.seconds, RESEND)
        folder = self.machine.instance.run_dir
        allowance = Allowance(command.most_memory(machine), machine.cpus + OWN_THREADS)
        self.machine.instance.allowance = lambda _process: allowance
        await self.machine.process.start(ProcessSpec(argv, env=engine.env, cwd=folder, stop=STOP, ask=ask))

    def _ports_free(self) -> None:
        for forward in self.machine.forwards():
            if forward.protocol == "TCP" and not is_free(forward.host_port):
                raise Unavailable(
                    f"port {forward.host_port} is taken by another program",
                    field=f"spec.network.forwards[{forward.name}]",
                    hint=f"End that program (`ss -ltnp 'sport = :{forward.host_port}'` names it); it goes on by "
                    "itself then.",
                    retry_after=2.0,
                )

    async def write_seed(self) -> None:
        files = await self.machine.seed()
        self.machine.instance.write_config("seed.iso", await iso_apart(files))
        self.machine.record["seed"] = digest(repr(sorted(files.items())).encode())
        self.machine.save()


def _libraries(engine: Engine) -> list[str]:
    """Where an unpacked tree has QEMU's firmware; a QEMU of the system's own knows."""
    if engine.root is None:
        return []
    return [str(engine.root / folder) for folder in ("usr/share/qemu", "usr/share/seabios")]


def _enough_memory(wanted_bytes: int, source: Path = Path("/proc/meminfo")) -> None:
    """Refuse to start a guest that this machine has no memory for: it would be killed, or something else would."""
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return
    free = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
    if free is not None and free < wanted_bytes:
        raise Unavailable(
            f"the guest needs {wanted_bytes >> 20}Mi of memory, and less than {(free >> 30) + 1}Gi are available here",
            field="spec.memory",
            hint="Give it less, or stop something else; it goes on by itself then.",
            retry_after=10.0,
        )
