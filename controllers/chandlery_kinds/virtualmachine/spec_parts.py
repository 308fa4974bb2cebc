"""What a VirtualMachine is made of: image, disks, network, cloud-init, snapshots."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from chandlery.model.base import CelRule, Label, LocalRef, Model, Name, SecretKeyRef
from chandlery.model.parts import Port
from chandlery.model.rules import (
    absent,
    at_most_one_of,
    each,
    extra,
    fixed,
    fixed_optional,
    map_list,
    one_of,
    only_grows,
    only_when,
    set_list,
)
from chandlery.model.scalars import Address, Cron, HostCidr, Size, TimeZone
from chandlery.model.words import Checksum, Url, Words

CommandLine = Annotated[str, Words("[^\\r\\n\\x00]*", "must be one line", 2048)]
BridgeName = Annotated[
    str,
    Words(
        "[A-Za-z0-9][A-Za-z0-9_.-]*",
        "must begin with a letter or digit and go on with these, _ . or -, such as br0",
    ),
]


class RemoteFile(Model):
    """A file that is fetched once and checked."""

    url: Annotated[Url, Field(description="http, https or file URL.")]
    checksum: Annotated[Checksum, Field(description="sha256:... or sha512:... in hexadecimal.")]


class DirectBoot(Model):
    """A kernel without a boot loader."""

    kernel: Annotated[RemoteFile, Field(description="The kernel.")]
    initrd: Annotated[RemoteFile | None, Field(description="The initial file system.")] = None
    command_line: Annotated[CommandLine, Field(description="The kernel's command line.")] = "console=ttyS0"


class Image(Model):
    """What the machine starts from: exactly one of these."""

    cel_rules = (
        one_of(("url", "name", "kernel"), "give exactly one of url (with checksum), name or kernel"),
        CelRule(
            rule="has(self.url) == has(self.checksum)",
            message="url and checksum belong together: sha256:... of the image",
            field_path=".checksum",
        ),
    )

    url: Annotated[Url | None, Field(description="Disk image (qcow2 or raw) to copy for the root disk.")] = None
    checksum: Annotated[Checksum | None, Field(description="sha256:... or sha512:... of the image at url.")] = None
    name: Annotated[Label | None, Field(description="Name in the catalogue of the ResourceClass.")] = None
    kernel: Annotated[DirectBoot | None, Field(description="A kernel without a boot loader.")] = None


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"
    UEFI_SECURE = "uefi-secure"


class RootDisk(Model):
    """The disk that the image is copied to. It can grow, never shrink."""

    cel_rules = (fixed_optional("className", "the storage class can't change after creation"),)

    size: Annotated[
        Size,
        Field(
            description="Size of the disk; at least that of the image.",
            json_schema_extra=extra(only_grows("a disk can't shrink: give the present size or more")),
        ),
    ]
    class_name: Annotated[Name | None, Field(description="StorageClass, where the driver makes volumes.")] = None


class DiskBus(StrEnum):
    VIRTIO = "virtio"
    SCSI = "scsi"
    SATA = "sata"


class Disk(Model):
    """A further disk. Added and removed while the machine runs."""

    cel_rules = (
        fixed_optional("className", "the storage class can't change after creation"),
        fixed_optional("source", "a disk's source is read at its creation only and can't change"),
        CelRule(
            rule="!self.readOnly || has(self.source)",
            message="readOnly needs source: an empty disk that nobody can write to holds nothing",
            field_path=".readOnly",
        ),
    )

    name: Annotated[Label, Field(description="Name of the disk; its serial number in the guest, up to 20 characters.")]
    size: Annotated[
        Size,
        Field(
            description="Size of the disk. It may only grow.",
            json_schema_extra=extra(only_grows("a disk can't shrink: give the present size or more")),
        ),
    ]
    class_name: Annotated[Name | None, Field(description="StorageClass, where the driver makes volumes.")] = None
    bus: Annotated[
        DiskBus,
        Field(description="How the guest sees it.", json_schema_extra=extra(fixed("a disk's bus can't change"))),
    ] = DiskBus.VIRTIO
    read_only: Annotated[bool, Field(description="Whether the guest can't write to it.")] = False
    source: Annotated[RemoteFile | None, Field(description="Image to fill it with. Default: empty.")] = None


class NetworkMode(StrEnum):
    USER = "user"
    BRIDGE = "bridge"


class ForwardProtocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"


class PortForward(Model):
    """A port of the host that leads into the guest. Changed while the machine runs."""

    name: Annotated[Label, Field(description="Name of the forward, as in status.forwards and the binding.")]
    guest_port: Annotated[Port, Field(description="Port in the guest.")]
    host_port: Annotated[Port | None, Field(description="Port of the host. Default: a free one that is kept.")] = None
    protocol: Annotated[ForwardProtocol, Field(description="TCP or UDP.")] = ForwardProtocol.TCP


class Network(Model):
    """The network interface."""

    cel_rules = (
        only_when("bridge", "self.mode == 'bridge'", "bridge needs mode bridge"),
        CelRule(
            rule="self.mode != 'bridge' || has(self.bridge)",
            message="mode bridge needs bridge, the name of a bridge or network at the substrate",
            field_path=".bridge",
        ),
        CelRule(
            rule=f"self.mode == 'user' || {absent('forwards')}",
            message="forwards need mode user: in mode bridge the guest has an address of its own",
            field_path=".forwards",
        ),
        CelRule(
            rule=each(
                "forwards",
                "f",
                "!has(f.hostPort) || self.forwards.exists_one(g, has(g.hostPort) && g.hostPort == f.hostPort && "
                "g.protocol == f.protocol)",
            ),
            message="two forwards can't have the same hostPort",
            field_path=".forwards",
        ),
        only_when("gateway", "has(self.address)", "gateway needs address"),
        CelRule(
            rule="!has(self.gateway) || !has(self.address) || !isIP(self.gateway) || !isCIDR(self.address) || "
            "(cidr(self.address).containsIP(self.gateway) && !self.address.startsWith(self.gateway + '/'))",
            message="gateway must be another address within the network that address gives",
            field_path=".gateway",
        ),
    )

    mode: Annotated[
        NetworkMode,
        Field(
            description="user: behind the host, reachable by forwards. bridge: on the host's network, as a machine "
            "of its own."
        ),
    ] = NetworkMode.USER
    bridge: Annotated[
        BridgeName | None,
        Field(description="Name of the bridge."),
    ] = None
    mac: Annotated[
        str | None,
        Field(
            max_length=17,
            description="MAC address. Default: derived from the object's namespace and name, so that it survives "
            "recreation.",
            json_schema_extra=extra(
                CelRule(
                    rule="self.matches('^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$')",
                    message="must be a unicast MAC address in lower case, such as 52:54:00:12:34:56",
                )
            ),
        ),
    ] = None
    address: Annotated[
        HostCidr | None,
        Field(description="Fixed address with the network's size, such as 192.0.2.10/24. Default: by DHCP."),
    ] = None
    gateway: Annotated[Address | None, Field(description="Default gateway, with address.")] = None
    nameservers: Annotated[
        tuple[Address, ...],
        Field(max_length=3, description="DNS servers. Default: the host's.", json_schema_extra=set_list()),
    ] = ()
    forwards: Annotated[
        tuple[PortForward, ...],
        Field(
            max_length=64, description="Ports of the host that lead into the guest.", json_schema_extra=map_list("name")
        ),
    ] = ()


class CloudInit(Model):
    """What the guest is told at its first boot (NoCloud)."""

    cel_rules = (at_most_one_of(("userData", "userDataSecret"), "give userData or userDataSecret, not both"),)

    hostname: Annotated[Label | None, Field(description="Host name of the guest. Default: the object's name.")] = None
    user_data: Annotated[
        str | None,
        Field(
            max_length=16384,
            description="User data: #cloud-config or a script. Nothing secret: use userDataSecret for that.",
        ),
    ] = None
    user_data_secret: Annotated[SecretKeyRef | None, Field(description="Secret that holds the user data.")] = None
    network_data: Annotated[
        str | None, Field(max_length=16384, description="Network configuration, version 2. Default: made from network.")
    ] = None
    ssh_authorized_keys: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=2048)], ...],
        Field(
            max_length=32,
            description="Public keys that may log in as the image's user.",
            json_schema_extra=set_list(
                CelRule(
                    rule="self.all(k, k.matches('^(ssh-(ed25519|rsa|dss)|ecdsa-sha2-nistp[0-9]+|sk-[a-z0-9@.-]+) "
                    "[A-Za-z0-9+/=]+( .*)?$'))",
                    message="must be public keys as in authorized_keys, such as 'ssh-ed25519 AAAA... me@here'",
                )
            ),
        ),
    ] = ()


class RunStrategy(StrEnum):
    ALWAYS = "Always"
    HALTED = "Halted"
    MANUAL = "Manual"
    RERUN_ON_FAILURE = "RerunOnFailure"
    ONCE = "Once"


class GuestAgent(Model):
    """qemu-guest-agent in the guest: its addresses, a quiet file system for snapshots, a clean shutdown."""

    enabled: Annotated[bool, Field(description="Offer the channel.")] = True
    required: Annotated[bool, Field(description="Ready only when the agent answers.")] = False


class Snapshot(Model):
    """A snapshot by name. It is taken when it appears here, and dropped when it vanishes."""

    name: Annotated[Label, Field(description="Name of the snapshot.")]
    memory: Annotated[
        bool,
        Field(
            description="Include the running memory.",
            json_schema_extra=extra(fixed("a snapshot can't change: make a new one")),
        ),
    ] = False


class Snapshots(Model):
    """Snapshots of all disks."""

    cel_rules = (only_when("keep", "has(self.schedule)", "keep needs schedule"),)

    named: Annotated[
        tuple[Snapshot, ...], Field(max_length=32, description="Snapshots by name.", json_schema_extra=map_list("name"))
    ] = ()
    schedule: Annotated[Cron | None, Field(description="Take one on this schedule.")] = None
    time_zone: Annotated[TimeZone, Field(description="Time zone of the schedule.")] = TimeZone("UTC")
    keep: Annotated[int | None, Field(ge=1, le=100, description="How many scheduled ones are kept. Default: 7.")] = None


class MachineRestore(Model):
    """Begin with the disks of a snapshot. Read once, at creation."""

    machine: Annotated[LocalRef, Field(description="VirtualMachine of this namespace that has the snapshot.")]
    snapshot: Annotated[Label, Field(description="Name of the snapshot.")]
