"""Log files of programs that never reopen them, kept short without losing a line.

A program that appends to its log can't be told that the file was renamed, and a copy that is followed by a truncation
loses what was written in between. Linux can take the beginning of a file away while others append to it: the file
systems ext4 and XFS shorten it, others leave a hole that takes no room. So what is cut was copied before and can't
have changed since. Elsewhere the file is copied and truncated at once.

    node-0.log      goes on
    node-0.log.1    what was cut from it last; .2 what was cut before, and so on

Only the standard library is used here: the keeper needs it, too.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

_COLLAPSE, _PUNCH = 0x08, 0x01 | 0x02
_BLOCK = 4096
_CHUNK = 1 << 20


def older(path: Path, number: int) -> Path:
    """The file with what was cut; 1 is the latest."""
    return path.with_name(f"{path.name}.{number}")


def begins_at(fd: int) -> int:
    """Where a file's content begins, after the hole that a cut may have left."""
    size = os.fstat(fd).st_size
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else 0  # nothing but a hole, or a system that can't tell


def rotate(path: Path, limit: int, keep: int = 2) -> bool:
    """Cut a log that is longer than `limit` bytes; True when it was.

    A full disk doesn't stop it: what can't be kept is dropped then, the oldest first.
    """
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # nobody reads in between: a reader sees all of a cut or nothing of it
        begin = begins_at(fd)
        end = os.fstat(fd).st_size
        if end - begin <= limit:
            return False
        cut = begin + (end - begin - 1) // _BLOCK * _BLOCK
        _keep_copy(fd, path, begin, cut, keep)
        if _fallocate(fd, _COLLAPSE, 0, cut) or _fallocate(fd, _PUNCH, 0, cut):
            return True
        _truncate(fd, path, cut)
        return True
    finally:
        os.close(fd)


def _keep_copy(fd: int, path: Path, begin: int, end: int, keep: int) -> None:
    for number in range(keep, 0, -1):
        source = older(path, number)
        if source.exists():
            source.replace(older(path, number + 1))
    older(path, keep + 1).unlink(missing_ok=True)
    if keep == 0:
        return
    temporary = path.with_name(f".{path.name}.cut")
    try:
        with temporary.open("wb") as file:
            temporary.chmod(0o600)
            position = begin
            while position < end:
                chunk = os.pread(fd, min(_CHUNK, end - position), position)
                file.write(chunk)
                position += len(chunk)
        temporary.replace(older(path, 1))
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        for number in range(1, keep + 1):
            older(path, number).unlink(missing_ok=True)


def _fallocate(fd: int, mode: int, offset: int, length: int) -> bool:
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError):
        return False  # not Linux
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)
    return bool(call(fd, mode, offset, length) == 0)


def _truncate(fd: int, path: Path, copied: int) -> None:
    """Copy what came since, too, and empty the file at once."""
    try:
        with older(path, 1).open("ab") as file:
            while chunk := os.pread(fd, _CHUNK, copied):
                file.write(chunk)
                copied += len(chunk)
            os.ftruncate(fd, 0)
    except OSError:
        os.ftruncate(fd, 0)
