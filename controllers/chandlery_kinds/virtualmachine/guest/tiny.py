"""`tiny`: the smallest guest that is still a machine: Debian's kernel for clouds with busybox.

It has no disk and lives in 96 MiB of memory. It reads a NoCloud seed (host name, network, user data that begins with
#!), serves /www by HTTP on port 80, switches itself off when the power button is pressed, and has a shell on its serial
console.
"""

from __future__ import annotations

import subprocess
from importlib.resources import files
from pathlib import Path

from chandlery_kinds.virtualmachine.guest import modules
from chandlery_kinds.virtualmachine.guest.cpio import Archive

NAME = "tiny"
REVISION = 1
"""Goes up with every change to what is built, so that a newer Chandlery builds anew."""
LEAST_MEMORY = 96 << 20
PACKAGES = ("linux-image-cloud-amd64", "busybox-static")
ONLY = r"linux-image-[0-9].*|busybox-static"
"""Of what the packages depend on, the kernel alone is needed."""
COMMAND_LINE = "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t"
EMULATED = "tsc=reliable no_timer_check nokaslr mitigations=off"
"""Where the processor is emulated, what guards against its faults costs time and guards nothing."""
READY_MARK = b"READY "
MODULES = (
    "virtio_pci", "virtio_blk", "virtio_net", "isofs", "button", "evdev", "pvpanic_pci", "virtio_scsi", "sd_mod",
)  # fmt: skip
_POWER_OFF = b"#!/bin/sh\nsync\npoweroff -f\n"
_DHCP = b"""#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip address add "$ip/$mask" dev "$interface"
for gateway in $router; do ip route add default via "$gateway"; done
for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
"""
_PROFILE = b"export PATH=/bin PS1='\\h# ' HOME=/\n"


def initrd(tree: Path) -> bytes:
    """The initial file system from a tree with the unpacked packages."""
    available = modules.find(tree / "lib/modules")
    archive = Archive()
    archive.folder("dev")
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3, 0o666)
    for folder in ("proc", "sys", "etc", "tmp"):
        archive.folder(folder)
    archive.file("bin/busybox", (tree / "bin/busybox").read_bytes(), 0o755)
    for name in _applets(tree / "bin/busybox"):
        archive.link(f"bin/{name}", "busybox")
    archive.file("init", files(__package__).joinpath("init.sh").read_bytes(), 0o755)
    loaded = modules.in_order(MODULES, available)
    for name, data in loaded.items():
        archive.file(f"lib/modules/{name}.ko", data)
    archive.file("lib/modules/order", "".join(f"{name}\n" for name in loaded).encode())
    archive.file("etc/acpi/PWRF/00000080", _POWER_OFF, 0o755)
    archive.file("etc/udhcpc.sh", _DHCP, 0o755)
    archive.file("etc/profile", _PROFILE)
    return archive.finish()


def _applets(busybox: Path) -> list[str]:
    """The commands that this busybox is, as it says itself."""
    done = subprocess.run([busybox, "--list"], capture_output=True, text=True, timeout=10, check=True)
    return [name for name in done.stdout.split() if name != "busybox"]


def kernel(tree: Path) -> Path:
    """The kernel among the unpacked packages."""
    return max((tree / "boot").glob("vmlinuz-*"), key=lambda path: path.name)
