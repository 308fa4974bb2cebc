"""How fast a guest can run here: asked by running one.

That /dev/kvm is there proves nothing: in a cloud's machine it may be there and be slower than emulation. So a guest of
512 bytes is started, which ends QEMU by writing to a port; what counts is that it did, and how soon.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import ChandleryError, EngineFailed
from chandlery.providers.local import Instance
from chandlery.providers.local.engines import Engine
from chandlery.providers.local.files import make_dir, read_json, write_atomic
from chandlery.providers.local.tools import Done, run_tool

# mov al, 49; out 0xf4, al; hlt; jmp to hlt. The debug port turns 49 into the exit code 99.
BOOT_SECTOR = bytes.fromhex("b031e6f4f4ebfd").ljust(510, b"\0") + b"\x55\xaa"
GUEST_RAN = 99
PATIENCE = 2.0
EMULATION_PATIENCE = 30.0
SLOWER = 2.0
"""So many times as long as emulation, and hardware help is none."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What this QEMU can do on this machine."""

    accelerator: str
    sandbox: bool


async def abilities(instance: Instance, engine: Engine, libraries: list[str]) -> Abilities:
    """Measured once for this QEMU, this /dev/kvm and these privileges; kept in a file.

    Raises:
        EngineFailed: QEMU can't run any guest.
    """
    provider = instance.provider
    drop = provider.privileges.drop(instance.root, engine.binary)
    stat = engine.binary.stat()
    device = Path("/dev/kvm")
    kvm = str(device.stat().st_mode) if device.exists() else ""
    fact = {"binary": str(engine.binary), "changed": stat.st_mtime_ns, "uid": drop.uid or os.geteuid(), "kvm": kvm}
    path = provider.cache_dir / f"qemu-abilities-{fact['uid']}.json"
    known = read_json(path) or {}
    if known.get("of") == fact:
        return Abilities(**known["are"])
    found = await _measure(instance, engine, libraries, kvm=bool(kvm))
    write_atomic(path, json.dumps({"of": fact, "are": asdict(found)}))
    return found


async def _measure(instance: Instance, engine: Engine, libraries: list[str], *, kvm: bool) -> Abilities:
    make_dir(instance.run_dir)
    sector = instance.run_dir / "probe.img"
    write_atomic(sector, BOOT_SECTOR, owner=instance.provider.privileges.owner_of_files(instance.root))
    try:
        sandbox = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
        done, emulated = await _run(instance, engine, [*libraries, *sandbox], sector, "tcg", EMULATION_PATIENCE)
        confined = done.code == GUEST_RAN
        if not confined:
            done, emulated = await _run(instance, engine, libraries, sector, "tcg", EMULATION_PATIENCE)
        if done.code != GUEST_RAN:
            raise EngineFailed(
                f"QEMU ran no guest: exit code {done.code}: {done.tail()}",
                hint="Run `chandlery engines verify qemu`.",
            )
        options = [*libraries, *(sandbox if confined else [])]
        if kvm and await _kvm_is_faster(instance, engine, options, sector, emulated):
            return Abilities("kvm", confined)
        return Abilities("tcg", confined)
    finally:
        sector.unlink(missing_ok=True)


async def _kvm_is_faster(instance: Instance, engine: Engine, options: list[str], sector: Path, emulated: float) -> bool:
    try:
        done, seconds = await _run(instance, engine, options, sector, "kvm", PATIENCE)
    except ChandleryError:
        return False
    return done.code == GUEST_RAN and seconds <= max(0.5, emulated * SLOWER)


async def _run(
    instance: Instance, engine: Engine, options: list[str], sector: Path, accelerator: str, patience: float
) -> tuple[Done, float]:
    processor = "host" if accelerator == "kvm" else "max"
    argv = [str(engine.binary), *options, "-machine", "pc", "-accel", accelerator, "-cpu", processor, "-m", "16"]
    argv += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    argv += ["-drive", f"file={sector},format=raw,if=ide"]
    begun = ambient().monotonic()
    done = await run_tool(instance, argv, env=engine.env, seconds=patience, check=False)
    return done, ambient().monotonic() - begun
