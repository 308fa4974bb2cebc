"""Whole directories of an engine's data: copied, and brought to the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chandlery.providers.local.files import PRIVATE_DIR, PRIVATE_FILE, os_error


@dataclass(slots=True)
class Copied:
    """How much was copied."""

    files: int = 0
    bytes: int = 0


def copy_tree(source: Path, target: Path, leave_out: Callable[[str], bool] = lambda _name: False) -> Copied:
    """Copy directories and plain files, for nobody else to read; `target` must not be there.

    Blocks for some tens of milliseconds for each thousand files. On file systems that can, both share the blocks.

    Args:
        source: what is copied.
        target: its copy.
        leave_out: asked for each plain file, by its path below `source`.

    Raises:
        QuotaExceeded: the disk is full.
        Unavailable: something can't be read or written.
    """
    copied = Copied()
    try:
        _copy(source, target, "", leave_out, copied)
    except OSError as error:
        raise os_error(error, "copying to", target) from error
    return copied


def _copy(source: Path, target: Path, below: str, leave_out: Callable[[str], bool], copied: Copied) -> None:
    target.mkdir(PRIVATE_DIR)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _copy(source / entry.name, target / entry.name, f"{below}{entry.name}/", leave_out, copied)
            elif entry.is_file(follow_symlinks=False) and not leave_out(below + entry.name):
                copied.files += 1
                copied.bytes += _copy_file(entry.path, target / entry.name)


def _copy_file(source: str, target: Path) -> int:
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            _copy_content(reading, writing)
            return os.fstat(writing).st_size
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_content(reading: int, writing: int) -> None:
    left = os.fstat(reading).st_size
    if hasattr(os, "copy_file_range"):
        try:
            while left > 0 and (done := os.copy_file_range(reading, writing, left)):
                left -= done
        except OSError:  # between two file systems, or on one that can't
            os.lseek(reading, 0, os.SEEK_SET)
            os.ftruncate(writing, 0)
            os.lseek(writing, 0, os.SEEK_SET)
        else:
            return
    with os.fdopen(reading, "rb", closefd=False) as source, os.fdopen(writing, "wb", closefd=False) as target:
        shutil.copyfileobj(source, target)


def sync_tree(path: Path) -> None:
    """Wait until everything below `path` is on the disk. Blocks.

    Linux writes a whole file system with one call; that is much less work for it than a thousand files one by one.

    Raises:
        QuotaExceeded, Unavailable: the disk refused; it isn't there then.
    """
    try:
        if (sync_file_system := _syncfs()) is not None:
            _through(path, sync_file_system)
            return
        for directory, _, names in os.walk(path):
            for name in names:
                _through(Path(directory, name), os.fsync)
            _through(Path(directory), os.fsync)
        _through(path.parent, os.fsync)
    except OSError as error:
        raise os_error(error, "bringing to the disk", path) from error


def _through(path: Path, sync: Callable[[int], Any]) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


@cache
def _syncfs() -> Callable[[int], None] | None:
    """syncfs(2), which Python doesn't have; None where the system hasn't either."""
    import ctypes  # of use here only

    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return None

    def sync(fd: int) -> None:
        if function(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return sync
