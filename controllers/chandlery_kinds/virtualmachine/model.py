"""VirtualMachine: a whole computer, by QEMU, KubeVirt or a provider."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from chandlery.model.base import CelRule, CommonSpec, CommonStatus, LooseModel, Names, PrinterColumn, Resource
from chandlery.model.parts import Exposure, MaintenanceWindow, Placement
from chandlery.model.rules import each, extra, fixed, fixed_optional, lasts, map_list, not_more
from chandlery.model.scalars import Duration, Size
from chandlery_kinds.virtualmachine.spec_parts import (
    CloudInit,
    Disk,
    Firmware,
    GuestAgent,
    Image,
    MachineRestore,
    Network,
    RootDisk,
    RunStrategy,
    Snapshots,
)


class Architecture(StrEnum):
    X86_64 = "x86_64"
    AARCH64 = "aarch64"


class VirtualMachineSpec(CommonSpec):
    """What is wanted."""

    cel_rules = (
        CelRule(
            rule="!has(self.image.kernel) || self.firmware == 'bios'",
            message="a kernel without a boot loader needs firmware bios",
            field_path=".firmware",
        ),
        CelRule(
            rule="!self.guestAgent.required || self.guestAgent.enabled",
            message="guestAgent.required needs guestAgent.enabled",
            field_path=".guestAgent.required",
        ),
        CelRule(
            rule=each("disks", "d", "d.name != 'root' && d.name != 'seed'"),
            message="disk names root and seed are the driver's own: choose another",
            field_path=".disks",
        ),
        fixed_optional("restoreFrom", "restoreFrom is read at creation only and can't change"),
    )

    architecture: Annotated[
        Architecture,
        Field(
            description="Processor architecture of the guest.",
            json_schema_extra=extra(fixed("architecture can't change after creation: make a new machine")),
        ),
    ] = Architecture.X86_64
    cpus: Annotated[int, Field(ge=1, le=256, description="Virtual processors.")] = 1
    memory: Annotated[
        Size,
        Field(
            description="Memory of the guest, at least 32Mi.",
            json_schema_extra=extra(
                CelRule(
                    rule=not_more("'32Mi'", "self"),
                    message="memory must be at least 32Mi",
                )
            ),
        ),
    ] = Size("1Gi")
    image: Annotated[
        Image,
        Field(
            description="What the machine starts from.",
            json_schema_extra=extra(fixed("image can't change after creation: make a new machine")),
        ),
    ]
    firmware: Annotated[
        Firmware,
        Field(
            description="bios, uefi or uefi-secure.",
            json_schema_extra=extra(fixed("firmware can't change after creation: make a new machine")),
        ),
    ] = Firmware.BIOS
    root_disk: Annotated[
        RootDisk | None, Field(description="The disk that the image is copied to. Default: as large as the image.")
    ] = None
    disks: Annotated[
        tuple[Disk, ...], Field(max_length=16, description="Further disks.", json_schema_extra=map_list("name"))
    ] = ()
    network: Annotated[Network, Field(description="The network interface.")] = Network()
    cloud_init: Annotated[CloudInit, Field(description="What the guest is told at its first boot.")] = CloudInit()
    run_strategy: Annotated[
        RunStrategy,
        Field(
            description="Always: started whenever it is off. Halted: off. Manual: as the power annotation says. "
            "RerunOnFailure: "
            "started again when it failed, not when the guest shut down. Once: started once."
        ),
    ] = RunStrategy.ALWAYS
    shutdown_timeout: Annotated[
        Duration,
        Field(
            description="Time that the guest has to shut down before it is switched off, at most 1h.",
            json_schema_extra=extra(lasts("", "1h", "shutdownTimeout must be 1h or less")),
        ),
    ] = Duration("60s")
    guest_agent: Annotated[GuestAgent, Field(description="The agent in the guest.")] = GuestAgent()
    snapshots: Annotated[Snapshots, Field(description="Snapshots of all disks.")] = Snapshots()
    restore_from: Annotated[MachineRestore | None, Field(description="Begin with the disks of a snapshot.")] = None
    exposure: Annotated[Exposure, Field(description="From where the forwards can be reached.")] = Exposure()
    placement: Annotated[Placement, Field(description="On which nodes the machine runs.")] = Placement()
    maintenance_window: Annotated[
        MaintenanceWindow | None, Field(description="When disturbing changes may be made. Default: at once.")
    ] = None


class ForwardStatus(LooseModel):
    """One port forward."""

    name: Annotated[str, Field(description="Name of the forward.")]
    host: Annotated[str | None, Field(description="Address of the host.")] = None
    host_port: Annotated[int | None, Field(description="Port of the host.")] = None
    guest_port: Annotated[int | None, Field(description="Port in the guest.")] = None
    accepting: Annotated[bool | None, Field(description="Whether the guest itself accepts connections there.")] = None


class DiskStatus(LooseModel):
    """One disk."""

    name: Annotated[str, Field(description="Name of the disk.")]
    size: Annotated[str | None, Field(description="Size that the guest sees, as a quantity.")] = None
    used: Annotated[str | None, Field(description="Space that it takes at the substrate, as a quantity.")] = None
    attached: Annotated[bool, Field(description="Whether the guest has it.")] = False


class SnapshotStatus(LooseModel):
    """One snapshot."""

    name: Annotated[str, Field(description="Name of the snapshot.")]
    ready: Annotated[bool, Field(description="Whether it can be restored.")] = False
    created_at: Annotated[str | None, Field(description="RFC 3339.")] = None
    size: Annotated[str | None, Field(description="Space that it takes, as a quantity.")] = None
    message: Annotated[str | None, Field(description="Why it failed.")] = None


class GuestStatus(LooseModel):
    """What the guest says of itself, by its agent."""

    agent_connected: Annotated[bool, Field(description="Whether the agent answers.")] = False
    hostname: Annotated[str | None, Field(description="Host name.")] = None
    os_name: Annotated[str | None, Field(description="Operating system.")] = None
    addresses: Annotated[tuple[str, ...], Field(description="Its addresses.")] = ()


class VirtualMachineStatus(CommonStatus):
    """What is there."""

    power_state: Annotated[str | None, Field(description="Running, Paused, Off, Starting, Stopping.")] = None
    accelerator: Annotated[str | None, Field(description="kvm, hvf or tcg (emulation).")] = None
    version: Annotated[str | None, Field(description="Version of the hypervisor.")] = None
    node: Annotated[str | None, Field(description="Where it runs.")] = None
    address: Annotated[str | None, Field(description="Address of the guest.")] = None
    mac: Annotated[str | None, Field(description="MAC address of the guest.")] = None
    started_at: Annotated[str | None, Field(description="RFC 3339.")] = None
    restarts: Annotated[int | None, Field(description="How often it was started again after a failure.")] = None
    exit_reason: Annotated[str | None, Field(description="Why it is off: Shutdown, Crashed, Killed, Halted.")] = None
    image_checksum: Annotated[str | None, Field(description="Checksum of the image in use.")] = None
    guest: Annotated[GuestStatus | None, Field(description="What the guest says of itself.")] = None
    forwards: Annotated[
        tuple[ForwardStatus, ...], Field(description="Each port forward.", json_schema_extra=map_list("name"))
    ] = ()
    disks: Annotated[tuple[DiskStatus, ...], Field(description="Each disk.", json_schema_extra=map_list("name"))] = ()
    snapshots: Annotated[
        tuple[SnapshotStatus, ...], Field(description="Each snapshot.", json_schema_extra=map_list("name"))
    ] = ()


class VirtualMachine(Resource[VirtualMachineSpec, VirtualMachineStatus]):
    """A whole computer with disks and a network, by QEMU, KubeVirt or a provider."""

    names = Names(
        group="compute.chandlery.dev",
        kind="VirtualMachine",
        plural="virtualmachines",
        singular="virtualmachine",
        short_names=("cvm",),
        columns=(
            PrinterColumn("Power", "string", ".status.powerState"),
            PrinterColumn("CPUs", "integer", ".spec.cpus"),
            PrinterColumn("Memory", "string", ".spec.memory"),
            PrinterColumn("Address", "string", ".status.address"),
            PrinterColumn("Node", "string", ".status.node", priority=1),
        ),
        selectable=(".spec.className", ".spec.runStrategy"),
    )
