"""Kernel modules of a distribution's kernel: which there are, and in which order they must be loaded."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def find(root: Path) -> dict[str, Path]:
    """Every module below a kernel's folder by name. Names are written with underscores, as the kernel does."""
    found = {}
    for pattern in ("*.ko", "*.ko.xz"):
        for path in root.rglob(pattern):
            found[path.name.partition(".ko")[0].replace("-", "_")] = path
    return found


def content(path: Path) -> bytes:
    """A module as it is loaded, unpacked if it was packed."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def depends(data: bytes) -> tuple[str, ...]:
    """The modules that one needs, as it says in its own `modinfo`."""
    found = _DEPENDS.search(data)
    return tuple(name.replace("-", "_") for name in found[1].decode().split(",") if name) if found else ()


def in_order(wanted: Iterable[str], available: Mapping[str, Path]) -> dict[str, bytes]:
    """The wanted modules with all they need, each after those that it needs.

    What is not available is left out: it is built into the kernel, or not there at all.
    """
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in order or name not in available:
            return
        data = content(available[name])
        for needed in depends(data):
            add(needed)
        order[name] = data

    for name in wanted:
        add(name)
    return order
