"""Files that survive a crash at any line: written whole, 0600, renamed into place."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from chandlery.foundation.errors import ChandleryError, FailedPrecondition, PermissionDenied, QuotaExceeded, Unavailable

PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600


def os_error(error: OSError, doing: str, path: Path) -> ChandleryError:
    """Translate what the operating system said into our tree, with the way out."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return QuotaExceeded(
            f"no room left on the disk while {doing} {path}",
            hint="Free space on that file system; it goes on by itself then.",
            retry_after=5.0,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(
            f"not allowed ({error.strerror}) while {doing} {path}",
            hint="Make the data directory writable for the user that runs Chandlery, or name another by --data-dir.",
            retry_after=10.0,
        )
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return FailedPrecondition(
            f"a file is where a directory must be, while {doing} {path}",
            hint="Move the file away, or name another directory by --data-dir.",
            retry_after=10.0,
        )
    return Unavailable(f"{error.strerror or error} while {doing} {path}")


def make_dir(path: Path, mode: int = PRIVATE_DIR) -> None:
    """Make a directory with exactly this mode, parents included. Raises our errors, never OSError."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
    except OSError as error:
        raise os_error(error, "making", path) from error


def write_atomic(
    path: Path, content: str | bytes, mode: int = PRIVATE_FILE, *, owner: tuple[int, int] | None = None
) -> bool:
    """Write a file whole; True when its content changed.

    The data is on the disk before the name points to it, so that after a power cut there is the old or the new
    file, never a part of one.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.read_bytes() == data and path.stat().st_mode & 0o777 == mode:
            return False
    except OSError:
        pass
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                if owner is not None:
                    os.fchown(file.fileno(), *owner)
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise os_error(error, "writing", path) from error
    return True


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None when there is no such file.

    Raises:
        Unavailable: the file is there but damaged.
    """
    try:
        loaded = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Unavailable(
            f"{path} is damaged: {error}",
            hint="Restore it from a backup, or move it away to start anew.",
            retry_after=None,
        ) from error
    except OSError as error:
        raise os_error(error, "reading", path) from error
    if not isinstance(loaded, dict):
        raise Unavailable(f"{path} doesn't hold a JSON object", retry_after=None)
    return loaded


def remove_tree(path: Path) -> None:
    """Remove a directory with everything in it; nothing there is fine. Never follows symbolic links out of it."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise os_error(error, "removing", path) from error


def in_words(size: int) -> str:
    """Bytes as people say them: 1.5 GiB."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} bytes"
