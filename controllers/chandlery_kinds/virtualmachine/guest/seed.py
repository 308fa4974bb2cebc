"""The NoCloud seed: a small CD that tells a guest its name, its network and what to do at its first boot.

Read by cloud-init (documentation: datasources, NoCloud) and by anything that does the same.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seed:
    """What a guest is told."""

    instance_id: str
    hostname: str
    user_data: str = ""
    ssh_keys: Sequence[str] = ()
    mac: str = ""
    address: str = ""
    """With the network's size, 192.0.2.10/24; "" for DHCP."""
    gateway: str = ""
    nameservers: Sequence[str] = ()
    network_data: str = ""
    """Given whole by the user; then the fields above don't count."""


def meta_data(seed: Seed) -> str:
    lines = [f"instance-id: {seed.instance_id}", f"local-hostname: {seed.hostname}"]
    if seed.ssh_keys:
        lines += ["public-keys:", *(f"  - {json.dumps(key)}" for key in seed.ssh_keys)]
    return "\n".join(lines) + "\n"


def network_config(seed: Seed) -> str:
    """Version 2, as netplan has it; one interface, matched by its MAC address."""
    if seed.network_data:
        return seed.network_data
    lines = ["version: 2", "ethernets:", "  nic0:", "    match:", f'      macaddress: "{seed.mac}"']
    if seed.address:
        lines += ["    dhcp4: false", f'    addresses: ["{seed.address}"]']
        if seed.gateway:
            lines += ["    routes:", "      - to: default", f'        via: "{seed.gateway}"']
    else:
        lines.append("    dhcp4: true")
    if seed.nameservers:
        servers = ", ".join(f'"{server}"' for server in seed.nameservers)
        lines += ["    nameservers:", f"      addresses: [{servers}]"]
    return "\n".join(lines) + "\n"


def contents(seed: Seed) -> dict[str, str]:
    """The files on the CD."""
    return {
        "meta-data": meta_data(seed),
        "user-data": seed.user_data or "#cloud-config\n{}\n",
        "network-config": network_config(seed),
    }


def iso(files: Mapping[str, str]) -> bytes:
    """A CD with these files and the label that makes it a seed. Takes some milliseconds, and 8 MB for the package."""
    import pycdlib

    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for number, (name, content) in enumerate(sorted(files.items()), 1):
        data = content.encode()
        disc.add_fp(io.BytesIO(data), len(data), f"/SEED{number}.;1", rr_name=name, joliet_path=f"/{name}")
    out = io.BytesIO()
    disc.write_fp(out)
    disc.close()
    return out.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(iso(json.load(sys.stdin.buffer)))
