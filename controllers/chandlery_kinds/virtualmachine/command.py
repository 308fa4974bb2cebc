"""The command line of QEMU for a machine. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Any

HOTPLUG_PORTS = 4
"""Free slots beyond the disks that a machine starts with."""
MOST_PORTS = 24
GUEST_ADDRESS = "10.0.2.15"
GUEST_GATEWAY = "10.0.2.2"
GUEST_NAMESERVER = "10.0.2.3"


@dataclass(frozen=True, slots=True)
class DiskArgs:
    """One disk as QEMU is told of it."""

    name: str
    path: str
    bus: str = "virtio"
    read_only: bool = False

    @property
    def node(self) -> str:
        return node_name(self.name)


@dataclass(frozen=True, slots=True)
class ForwardArgs:
    """One port of the host that leads into the guest."""

    name: str
    protocol: str
    host_port: int
    guest_port: int

    def rule(self, host: str) -> str:
        return f"{self.protocol.lower()}:{host}:{self.host_port}-:{self.guest_port}"


@dataclass(frozen=True, slots=True)
class MachineArgs:
    """Everything that QEMU is told of a machine."""

    uuid: str
    cpus: int
    memory: int
    """Bytes."""
    mac: str
    accelerator: str
    sandbox: bool
    host: str = "127.0.0.1"
    network: str = ""
    """Fixed address with the network's size; "" for the usual one."""
    gateway: str = ""
    kernel: str = ""
    initrd: str = ""
    command_line: str = ""
    firmware: str = ""
    """UEFI's code; "" for the BIOS that QEMU has."""
    variables: str = ""
    """The machine's own copy of UEFI's variables."""
    secure: bool = False
    disks: Sequence[DiskArgs] = ()
    forwards: Sequence[ForwardArgs] = ()
    seed: str = ""
    agent: bool = True
    libraries: Sequence[str] = ()
    """Folders with QEMU's own firmware, for a tree that isn't where it was built for."""


def node_name(disk: str) -> str:
    """The name of a disk's block node: QEMU allows 31 characters, of which a disk's name may have more."""
    return f"d-{hashlib.sha256(disk.encode()).hexdigest()[:12]}"


def device_name(disk: str) -> str:
    return f"dev-{node_name(disk)}"


def block_node(disk: DiskArgs) -> dict[str, Any]:
    """As -blockdev and blockdev-add take it."""
    return {
        "driver": "qcow2",
        "node-name": disk.node,
        "read-only": disk.read_only,
        "discard": "unmap",
        "file": {"driver": "file", "filename": disk.path},
    }


def disk_device(disk: DiskArgs, port: str = "") -> dict[str, Any]:
    """As -device and device_add take it. `port` is the slot of a virtio disk."""
    driver = {"virtio": "virtio-blk-pci", "scsi": "scsi-hd", "sata": "ide-hd"}[disk.bus]
    found: dict[str, Any] = {"driver": driver, "id": device_name(disk.name), "drive": disk.node}
    found["serial"] = disk.name[:20]
    if disk.bus == "virtio":
        found["bus"] = port
    if disk.bus == "scsi":
        found["bus"] = "scsi0.0"
    return found


def ports_for(disks: int) -> list[str]:
    """The slots that a machine with so many disks has, a few of them free."""
    return [f"hp{number}" for number in range(min(MOST_PORTS, disks + HOTPLUG_PORTS))]


def render(machine: MachineArgs) -> list[str]:
    """The arguments. Paths of sockets are relative: QEMU runs in the folder where they are."""
    emulated = machine.accelerator == "tcg"
    argv: list[str] = []
    for folder in machine.libraries:
        argv += ["-L", folder]
    if machine.sandbox:
        argv += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    model = "q35,smm=on" if machine.secure else "q35"
    argv += ["-uuid", machine.uuid, "-machine", model, "-nodefaults", "-no-user-config", "-display", "none"]
    argv += _firmware(machine)
    argv += ["-accel", f"tcg,tb-size={_cache_size(machine.memory)}" if emulated else machine.accelerator]
    argv += ["-cpu", "max" if emulated else "host", "-smp", str(machine.cpus), "-m", f"{machine.memory >> 10}k"]
    # A guest that ends leaves QEMU waiting, so that nobody has to have watched to know how it ended.
    argv += ["-action", "shutdown=pause", "-action", "panic=pause", "-device", "pvpanic-pci"]
    if machine.kernel:
        argv += ["-kernel", machine.kernel, "-append", machine.command_line]
        if machine.initrd:
            argv += ["-initrd", machine.initrd]
    argv += _disks(machine)
    argv += ["-netdev", _network(machine), "-device", f"virtio-net-pci,netdev=n0,mac={machine.mac},romfile="]
    console = "socket,id=console,path=console.sock,server=on,wait=off,logfile=../log/console.log,logappend=on"
    argv += ["-chardev", console, "-serial", "chardev:console"]
    if machine.agent:
        argv += ["-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path=agent.sock,server=on,wait=off"]
        argv += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    for name in ("qmp", "events"):
        argv += ["-qmp", f"unix:{name}.sock,server=on,wait=off"]
    return argv


def _firmware(machine: MachineArgs) -> list[str]:
    if not machine.firmware:
        return []
    argv = ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={machine.firmware}"]
    argv += ["-drive", f"if=pflash,format=raw,unit=1,file={machine.variables}"]
    if machine.secure:  # the guest's kernel must not write what it was checked by
        argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return argv


def _disks(machine: MachineArgs) -> list[str]:
    argv: list[str] = []
    virtio = [disk for disk in machine.disks if disk.bus == "virtio"]
    ports = ports_for(len(virtio))
    for number, port in enumerate(ports):
        # Eight functions to a slot: slots are what a machine hasn't many of.
        more = ",multifunction=on" if number % 8 == 0 else ""
        argv += [
            "-device",
            f"pcie-root-port,id={port},chassis={number + 1},addr={0x10 + number // 8:#x}.{number % 8}{more}",
        ]
    if any(disk.bus == "scsi" for disk in machine.disks):
        argv += ["-device", "virtio-scsi-pci,id=scsi0"]
    free = iter(ports)
    for number, disk in enumerate(machine.disks):
        device = disk_device(disk, next(free) if disk.bus == "virtio" else "")
        if not machine.kernel and number == 0:
            device["bootindex"] = 1
        argv += ["-blockdev", json.dumps(block_node(disk)), "-device", json.dumps(device)]
    if machine.seed:
        node = {"driver": "raw", "node-name": "seed", "read-only": True}
        argv += ["-blockdev", json.dumps(node | {"file": {"driver": "file", "filename": machine.seed}})]
        argv += ["-device", "virtio-blk-pci,drive=seed,serial=seed"]
    return argv


def _network(machine: MachineArgs) -> str:
    parts = ["user", "id=n0"]
    if machine.network:
        address = IPv4Interface(machine.network)
        own = {str(address.ip)}
        hosts = (str(host) for host in address.network.hosts() if str(host) not in own)
        gateway = machine.gateway or next(hosts)
        own.add(gateway)
        nameserver = next(host for host in hosts if host not in own)
        parts += [f"net={address.network}", f"host={gateway}", f"dns={nameserver}", f"dhcpstart={address.ip}"]
    parts += [f"hostfwd={forward.rule(machine.host)}" for forward in machine.forwards]
    return ",".join(parts)


def _cache_size(memory: int) -> int:
    """MiB for translated code: a small guest needs little, and what it needs counts as the machine's own memory."""
    return 32 if memory <= 256 << 20 else 128


def most_memory(machine: MachineArgs) -> int:
    """Bytes that QEMU may use in all: the guest's memory, code that was translated, buffers of devices.

    Measured: about 100 MiB beside a guest's own memory, and its tables for each of its pages.
    """
    return machine.memory * 9 // 8 + ((256 + _cache_size(machine.memory)) << 20)


def restart_needed(machine: MachineArgs) -> Mapping[str, str]:
    """What can't change while the machine runs, by the field of the spec."""
    return {
        "spec.cpus": str(machine.cpus),
        "spec.memory": str(machine.memory),
        "spec.network": " ".join(filter(None, (machine.mac, machine.network, machine.gateway))),
        "spec.guestAgent.enabled": str(machine.agent).lower(),
    }
