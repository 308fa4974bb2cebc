"""Virtual machines on this machine: QEMU as a process, with hardware help where that is really faster."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import ClassVar

from chandlery.driver.protocol import DriverContext, Observation, Unsupported, external_name
from chandlery.model.base import DeletionPolicy
from chandlery.providers.local import Instance, LocalProvider, adoption
from chandlery.providers.local.files import make_dir
from chandlery_kinds.virtualmachine.drivers.local_machine import Machine
from chandlery_kinds.virtualmachine.drivers.local_tell import console_key, events_key
from chandlery_kinds.virtualmachine.guest import tiny
from chandlery_kinds.virtualmachine.model import VirtualMachine
from chandlery_kinds.virtualmachine.parameters import MachineParameters
from chandlery_kinds.virtualmachine.spec_parts import DiskBus, Firmware, NetworkMode

MOST_SATA_DISKS = 6


class VirtualMachineDriver:
    """The `local` driver of VirtualMachine."""

    name: ClassVar[str] = "local"
    parameters: ClassVar[type[MachineParameters]] = MachineParameters

    def unsupported(self, obj: VirtualMachine, parameters: MachineParameters) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []

        def no(field: str, value: object, why: str) -> None:
            found.append(Unsupported(field, str(value), why))

        here = platform.machine()
        if spec.architecture.value != here:
            no("spec.architecture", spec.architecture.value, f"this machine runs guests of its own, {here}, only")
        if spec.network.mode is NetworkMode.BRIDGE:
            no("spec.network.mode", "bridge", "a bridge needs rights over the host's network; use mode user, forwards")
        if spec.network.address is not None and ":" in spec.network.address:
            no("spec.network.address", spec.network.address, "guests here have IPv4 addresses only")
        if spec.exposure.type.value != "Internal":
            no("spec.exposure.type", spec.exposure.type.value, "forwards on this machine listen on loopback only")
        if sum(disk.bus is DiskBus.SATA for disk in spec.disks) > MOST_SATA_DISKS:
            no("spec.disks", "sata", f"a machine here has {MOST_SATA_DISKS} SATA ports; use bus virtio")
        if spec.snapshots.schedule is not None:
            no(
                "spec.snapshots.schedule",
                spec.snapshots.schedule,
                "snapshots are taken by name here, not on a schedule",
            )
        if spec.image.name == tiny.NAME and tiny.NAME not in parameters.images:
            found.extend(_tiny_limits(obj))
        return found

    async def observe(self, ctx: DriverContext, obj: VirtualMachine) -> Observation:
        instance = _instance(ctx, obj)
        if not instance.exists:
            return Observation(exists=False, external_name=instance.name)
        if not adoption.is_owner(instance, obj):
            return await adoption.offer(ctx, obj, instance)
        seen = await Machine(ctx, obj, instance).observe()
        return instance.provider.housekeeping.with_condition(instance.name, seen, obj.spec)

    async def create(self, ctx: DriverContext, obj: VirtualMachine) -> None:
        instance = _instance(ctx, obj)
        meta = obj.metadata
        instance.create(kind=obj.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid)
        await Machine(ctx, obj, instance).create()

    async def update(self, ctx: DriverContext, obj: VirtualMachine, observed: Observation) -> None:
        instance = _instance(ctx, obj)
        if adoption.wanted(observed):
            adoption.take_over(instance, obj)
        elif observed.plan.changes:
            await Machine(ctx, obj, instance).update(observed)

    async def delete(self, ctx: DriverContext, obj: VirtualMachine) -> bool:
        instance = _instance(ctx, obj)
        if not adoption.is_owner(instance, obj):
            return True
        if not instance.exists:
            await instance.remove()
            return True
        if not await Machine(ctx, obj, instance).halted():
            return False
        if obj.spec.deletion_policy is DeletionPolicy.SNAPSHOT:
            _keep_disks(ctx, instance)
        keep = obj.spec.deletion_policy is DeletionPolicy.RETAIN
        await instance.remove(keep_data=keep)
        instance.provider.background.forget(events_key(instance))
        await instance.provider.background.end(console_key(instance))
        if keep:
            ctx.event("Normal", "Retained", instance.kept())
        return True


def _keep_disks(ctx: DriverContext, instance: Instance) -> None:
    """The disks as they are now, apart from the machine. Safe to repeat."""
    disks = sorted(instance.data_dir.glob("*.qcow2"))
    kept = instance.provider.data_dir / "snapshots" / instance.name
    if not disks:
        return
    make_dir(kept)
    for disk in disks:
        disk.rename(kept / disk.name)
    ctx.event("Normal", "SnapshotTaken", f"the disks are kept in {kept}; they need the images that they began with")


def _tiny_limits(obj: VirtualMachine) -> list[Unsupported]:
    spec = obj.spec
    found = []
    if spec.firmware is not Firmware.BIOS:
        why = f"the image {tiny.NAME} is a kernel without a boot loader"
        found.append(Unsupported("spec.firmware", spec.firmware.value, why))
    if spec.memory.bytes < tiny.LEAST_MEMORY:
        why = f"the image {tiny.NAME} doesn't boot with less than {tiny.LEAST_MEMORY >> 20}Mi"
        found.append(Unsupported("spec.memory", str(spec.memory), why))
    text = spec.cloud_init.user_data or ""
    if text and not text.startswith("#!"):
        why = f"the image {tiny.NAME} runs user data that is a script, beginning with #!"
        found.append(Unsupported("spec.cloudInit.userData", text.splitlines()[0], why))
    if spec.cloud_init.ssh_authorized_keys:
        why = f"the image {tiny.NAME} has no SSH server; `chandlery console` gives a shell"
        found.append(Unsupported("spec.cloudInit.sshAuthorizedKeys", "set", why))
    if spec.guest_agent.required:
        found.append(Unsupported("spec.guestAgent.required", "true", f"the image {tiny.NAME} has no agent"))
    return found


def _instance(ctx: DriverContext, obj: VirtualMachine) -> Instance:
    provider: LocalProvider = ctx.provider
    return provider.instance(external_name(obj))
