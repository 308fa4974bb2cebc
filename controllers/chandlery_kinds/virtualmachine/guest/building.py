"""Builds the guest `tiny`, in a process of its own (chandlery.providers.local.apart): whole packages pass through."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from chandlery.providers.local.engines.installer import Installer
from chandlery.providers.local.engines.tree import holding
from chandlery.providers.local.files import os_error, remove_tree, write_atomic
from chandlery_kinds.virtualmachine.guest import tiny


async def build(tell: Callable[[str], None], home: str, engines: str) -> None:
    """Put kernel and initial file system into `home`, unless they are there; `engines` is where packages are fetched.

    Raises:
        ChandleryError: as `Installer.unpack_only`; or the disk is full.
    """
    target = Path(home)
    async with holding(target.parent / ".tiny.lock", lambda: tell("another process is building it")):
        if not (target / "made.json").exists():
            await _build(target, Installer(Path(engines)), tell)


async def _build(home: Path, installer: Installer, tell: Callable[[str], None]) -> None:
    """Unpack kernel and busybox aside, write the initial file system, rename the result into place."""
    for left in home.parent.glob(".tiny-????????"):
        remove_tree(left)
    staged = home.parent / f".tiny-{secrets.token_hex(4)}"
    try:
        tree = staged / "packages"
        tree.mkdir(parents=True)
        debs = await installer.unpack_only(tiny.PACKAGES, tiny.ONLY, tree, tell)
        tell("packing")
        _finish(tree, staged / "done", {deb.package: deb.version for deb in debs})
        remove_tree(home)
        (staged / "done").rename(home)
    except OSError as error:
        raise os_error(error, "building", home) from error
    finally:
        remove_tree(staged)


def _finish(tree: Path, done: Path, packages: Mapping[str, str]) -> None:
    done.mkdir()
    kernel, initrd = done / "vmlinuz", done / "initrd"
    shutil.copyfile(tiny.kernel(tree), kernel)
    initrd.write_bytes(tiny.initrd(tree))
    licences = done / "licences"
    licences.mkdir()
    for path in (tree / "usr/share/doc").glob("*/copyright"):
        shutil.copyfile(path, licences / path.parent.name)
    checksum = hashlib.sha256(kernel.read_bytes() + initrd.read_bytes()).hexdigest()
    made = {"packages": dict(packages), "checksum": f"sha256:{checksum}"}
    write_atomic(done / "made.json", json.dumps(made, indent=1) + "\n", mode=0o644)
    for directory, _, names in os.walk(done):
        Path(directory).chmod(0o755)
        for name in names:
            Path(directory, name).chmod(0o644)
