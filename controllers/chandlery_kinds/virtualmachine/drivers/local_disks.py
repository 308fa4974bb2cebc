"""Disks of a machine: made, grown, plugged in and out, while it runs or not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import (
    DependencyNotReady,
    EngineFailed,
    InvalidSpec,
    NotSupported,
    QuotaExceeded,
    Unavailable,
)
from chandlery.providers.local import downloads
from chandlery.providers.local.engines import Engine
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.virtualmachine.command import (
    DiskArgs,
    block_node,
    device_name,
    disk_device,
    node_name,
    ports_for,
)
from chandlery_kinds.virtualmachine.drivers.local_images import Image, disk_format
from chandlery_kinds.virtualmachine.drivers.local_look import Look
from chandlery_kinds.virtualmachine.guest import seed
from chandlery_kinds.virtualmachine.qmp import Qmp, Refused

if TYPE_CHECKING:
    from chandlery_kinds.virtualmachine.drivers.local_machine import Machine

ROOT = "root"
LIVE_BUSES = frozenset({"virtio", "scsi"})
UNPLUG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class WantedDisk:
    """One disk as the spec has it."""

    name: str
    size: int
    bus: str
    read_only: bool
    source: str = ""
    """Checksum of the image that fills it."""

    @property
    def field(self) -> str:
        return "spec.rootDisk" if self.name == ROOT else f"spec.disks[{self.name}]"


class Disks:
    """The disks of one machine in one pass."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.instance = machine.instance
        self.folder = machine.instance.data_dir

    def wanted(self, *, has_root: bool) -> list[WantedDisk]:
        spec = self.machine.spec
        found = []
        if has_root:
            size = spec.root_disk.size.bytes if spec.root_disk is not None else 0
            found.append(WantedDisk(ROOT, size, "virtio", read_only=False))
        for disk in spec.disks:
            source = str(disk.source.checksum) if disk.source is not None else ""
            found.append(WantedDisk(str(disk.name), disk.size.bytes, disk.bus.value, disk.read_only, source))
        return found

    def path(self, name: str) -> Path:
        return self.folder / (f"{ROOT}.qcow2" if name == ROOT else f"disk-{name}.qcow2")

    def names_here(self) -> list[str]:
        """Every disk that has a file."""
        found = [ROOT] if self.path(ROOT).exists() else []
        return found + sorted(p.name[len("disk-") : -len(".qcow2")] for p in self.folder.glob("disk-*.qcow2"))

    def _size(self, disk: WantedDisk) -> int:
        """What the guest sees of a disk that is here.

        Raises:
            EngineFailed: it isn't as it was made.
        """
        path, why = self.path(disk.name), ""
        try:
            found = disk_format(path)
            if found.name != "qcow2":
                why = f"{path} is no qcow2 image any more"
        except NotSupported as error:
            why = error.message
        if why:
            raise EngineFailed(
                f"the disk can't be read, and is left as it is: {why}",
                field=disk.field,
                hint="Put back what was there, or move it away to begin with a new disk; it goes on by itself then.",
            )
        return found.size

    def arguments(self, disk: WantedDisk) -> DiskArgs:
        return DiskArgs(disk.name, str(self.path(disk.name)), disk.bus, disk.read_only)

    # -- what is different

    def differences(self, look: Look, wanted: list[WantedDisk]) -> list[Difference]:
        found = []
        live = look.status in {"running", "paused"}
        for disk in wanted:
            path = self.path(disk.name)
            if not path.exists():
                if live:
                    found.append(Difference(disk.field, "there", "absent", payload=("disk-make", disk.name)))
                continue
            size = self._size(disk)
            if disk.size > size:
                found.append(
                    Difference(f"{disk.field}.size", str(disk.size), str(size), payload=("disk-grow", disk.name))
                )
            if live and node_name(disk.name) not in look.nodes:
                how = Disruption.NONE if self._pluggable(disk, look, wanted) else Disruption.RESTART
                what = "disk-plug" if how is Disruption.NONE else "restart"
                found.append(Difference(disk.field, "attached", "not attached", how, payload=(what, disk.name)))
        names = {disk.name for disk in wanted}
        for name in self.names_here():
            if name not in names:
                field = f"spec.disks[{name}]"
                found.append(
                    Difference(
                        field, "absent", "there with its data", Disruption.DATA_LOSS, payload=("disk-drop", name)
                    )
                )
        return found

    def _pluggable(self, disk: WantedDisk, look: Look, wanted: list[WantedDisk]) -> bool:
        if disk.bus == "virtio":
            return self._free_port(look, wanted) is not None
        # A controller for SCSI disks is there when the machine began with such a disk.
        return disk.bus == "scsi" and bool(self.machine.record.get("scsi"))

    def _free_port(self, look: Look, wanted: list[WantedDisk]) -> str | None:
        taken = set(self.machine.record.get("slots", {}).values())
        began = int(self.machine.record.get("virtio_disks", 0))
        return next((port for port in ports_for(began) if port not in taken), None)

    def facts(self, look: Look, wanted: list[WantedDisk]) -> list[dict[str, Any]]:
        found = []
        for disk in wanted:
            path = self.path(disk.name)
            if not path.exists():
                continue
            found.append(
                {
                    "name": disk.name,
                    "size": str(self._size(disk)),
                    "used": str(path.stat().st_blocks * 512),
                    "attached": node_name(disk.name) in look.nodes,
                }
            )
        return found

    # -- changes

    async def prepare(self, engine: Engine, image: Image, wanted: list[WantedDisk]) -> None:
        """Every disk's file, before the machine starts."""
        for disk in wanted:
            if not self.path(disk.name).exists():
                await self.make(engine, disk, image if disk.name == ROOT else None)
            elif disk.size > self._size(disk):
                await self._img(engine, "resize", "-q", str(self.path(disk.name)), str(disk.size))

    async def make(self, engine: Engine, disk: WantedDisk, image: Image | None) -> None:
        """Make a disk aside and rename it, so that one that is there is whole."""
        final = self.path(disk.name)
        aside = final.with_name(f".{final.name}.new")
        aside.unlink(missing_ok=True)
        snapshot = await self._snapshot(disk)
        if snapshot is not None:
            await self._from_snapshot(engine, disk, snapshot, aside)
            aside.rename(final)
            return
        base = image.disk if image is not None else self._source(disk)
        arguments = ["create", "-q", "-f", "qcow2"]
        size = disk.size
        if base is not None:
            kind = disk_format(base)
            if kind.leans_on:
                raise InvalidSpec(
                    f"the image leans on another file ({kind.leans_on}), which a guest could use to read this machine",
                    field="spec.image" if disk.name == ROOT else f"{disk.field}.source",
                    hint="Give an image that is whole (`qemu-img convert` makes one).",
                )
            if size and size < kind.size:
                raise InvalidSpec(
                    f"the image needs {kind.size} bytes", field=f"{disk.field}.size", value=str(size),
                    hint=f"Give {-(-kind.size // (1 << 20))}Mi or more.",
                )  # fmt: skip
            size = size or kind.size
            arguments += ["-b", str(base), "-F", kind.name]
        await self._img(engine, *arguments, str(aside), str(size))
        aside.rename(final)

    async def _snapshot(self, disk: WantedDisk) -> Path | None:
        """The other machine's disk of the same name that this one begins with; None when it begins anew.

        Raises:
            DependencyNotReady: there is no such machine or snapshot here.
        """
        restore = self.machine.spec.restore_from
        if restore is None:
            return None
        obj, name = self.machine.obj, str(restore.machine.name)
        found = await self.machine.ctx.reader.get(obj.names.group, obj.names.kind, obj.metadata.namespace, name)
        if found is None:
            raise DependencyNotReady("there is no such machine", field="spec.restoreFrom.machine.name", value=name)
        own = (found.get("status") or {}).get("externalName") or f"{obj.kind.lower()}-{found['metadata']['uid']}"
        other = self.instance.provider.instance(own)
        other.reload()
        if restore.snapshot not in other.record.get("vm", {}).get("snapshots", {}):
            raise DependencyNotReady(
                f"the machine {name} has no such snapshot on this machine",
                field="spec.restoreFrom.snapshot",
                value=str(restore.snapshot),
                hint="`kubectl get cvm -o yaml` lists its snapshots.",
            )
        path = other.data_dir / self.path(disk.name).name
        return path if path.exists() else None

    async def _from_snapshot(self, engine: Engine, disk: WantedDisk, source: Path, aside: Path) -> None:
        """A whole copy. The other machine may run meanwhile: what a snapshot holds doesn't change."""
        restore = self.machine.spec.restore_from
        assert restore is not None
        size = disk_format(source).size
        if disk.size and disk.size < size:
            raise InvalidSpec(
                f"the snapshot's disk has {size} bytes", field=f"{disk.field}.size", value=str(disk.size),
                hint=f"Give {-(-size // (1 << 20))}Mi or more.",
            )  # fmt: skip
        which = f"snapshot.name={restore.snapshot}"
        await self._img(engine, "convert", "-q", "-U", "-l", which, "-O", "qcow2", str(source), str(aside))
        if disk.size > size:
            await self._img(engine, "resize", "-q", str(aside), str(disk.size))

    def _source(self, disk: WantedDisk) -> Path | None:
        if not disk.source:
            return None
        path = downloads.path_of(self.instance.provider.images_dir, disk.source)
        if not path.exists():
            raise Unavailable(f"the source of {disk.field} is not here yet", retry_after=1.0)
        return path

    async def grow(self, look: Look, engine: Engine, disk: WantedDisk) -> None:
        """While the machine runs the guest is told; else the file alone grows."""
        if node_name(disk.name) in look.nodes:
            async with await self.machine.qmp() as qmp:
                await qmp.execute("block_resize", node_name=node_name(disk.name), size=disk.size)
        elif not look.up:
            await self._img(engine, "resize", "-q", str(self.path(disk.name)), str(disk.size))

    async def plug(self, look: Look, wanted: list[WantedDisk], disk: WantedDisk) -> None:
        arguments = self.arguments(disk)
        port = self._free_port(look, wanted) if disk.bus == "virtio" else ""
        if port is None:
            return  # the next look finds that it takes a restart
        self.machine.instance.provider.privileges.hand_over(self.path(disk.name), self.instance.root)
        async with await self.machine.qmp() as qmp:
            if node_name(disk.name) not in look.nodes:
                await qmp.execute("blockdev-add", **block_node(arguments))
            await qmp.execute("device_add", **disk_device(arguments, port))
        if port:
            self.machine.record.setdefault("slots", {})[disk.name] = port
            self.machine.save()

    async def drop(self, look: Look, name: str) -> None:
        """Unplug a disk and remove its file. The guest must let go of it: that takes a moment."""
        if node_name(name) in look.nodes:
            async with await self.machine.qmp() as qmp:
                await self._unplug(qmp, name)
        self.machine.record.get("slots", {}).pop(name, None)
        self.machine.save()
        self.path(name).unlink(missing_ok=True)

    async def _unplug(self, qmp: Qmp, name: str) -> None:
        clock = self.machine.ctx.base.clock
        deadline = clock.monotonic() + UNPLUG_SECONDS
        try:
            await qmp.execute("device_del", id=device_name(name))
        except Refused as error:
            if "not found" not in error.message:
                raise
        while True:
            try:
                await qmp.execute("blockdev-del", node_name=node_name(name))
                return
            except Refused as error:
                if clock.monotonic() > deadline:
                    raise Unavailable(
                        f"the guest holds on to the disk {name}: {error.message}",
                        field=f"spec.disks[{name}]",
                        hint="Unmount it in the guest; it goes on by itself then.",
                    ) from error
            await clock.sleep(0.05)

    async def _img(self, engine: Engine, *arguments: str) -> str:
        tool = engine.tool("qemu-img")
        done = await run_tool(self.instance, [str(tool), *arguments], env=engine.env, seconds=100.0, check=False)
        if "No space left" in done.output:
            raise QuotaExceeded(
                f"no room left on the disk below {self.folder}",
                hint="Free space on that file system; it goes on by itself then.",
                retry_after=5.0,
            )
        if done.code != 0:
            raise Unavailable(f"qemu-img {arguments[0]} failed: {done.tail()}")
        return done.output


def slots_at_start(wanted: list[WantedDisk]) -> Mapping[str, str]:
    """Which slot each virtio disk has in a machine that just started."""
    virtio = [disk.name for disk in wanted if disk.bus == "virtio"]
    return dict(zip(virtio, ports_for(len(virtio)), strict=False))


def digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


async def iso_apart(files: Mapping[str, str]) -> bytes:
    """The seed's CD, as `seed.iso` makes it, in a process that ends with it: this one would carry the package for good.

    The files hold secrets of users, so they go through pipes.

    Raises:
        EngineFailed: the process could not be started, or ended without a CD.
    """
    command = [sys.executable, "-P", seed.__file__]
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    except OSError as error:
        raise EngineFailed(f"the seed's CD was not made: {sys.executable} could not be started: {error}") from error
    try:
        made, told = await process.communicate(json.dumps(dict(files)).encode())
    finally:
        if process.returncode is None:  # cancelled
            process.kill()
            await process.wait()
    if process.returncode or not made:
        last = told.decode(errors="replace").strip().rpartition("\n")[2]
        raise EngineFailed(f"the seed's CD was not made: {last or f'exit status {process.returncode}'}")
    return made
