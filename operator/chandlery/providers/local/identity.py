"""Which data directory it is: a copy of one must not take the other's engines for its own.

A copy has the same records, with the same processes in them, and the same ports. It may be run instead of the other, or
on another machine, but not while the other's engines run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chandlery.foundation.errors import AlreadyExists
from chandlery.providers.local import pids
from chandlery.providers.local.files import os_error, read_json, write_atomic

if TYPE_CHECKING:
    from chandlery.providers.local.provider import LocalProvider

FILE = "directory.json"


def confirm(provider: LocalProvider) -> None:
    """Check that the directory is the one it says to be, and note which one it is.

    Raises:
        AlreadyExists: it is a copy, and engines of the original run.
    """
    try:
        found = provider.data_dir.stat()
    except OSError as error:
        raise os_error(error, "reading", provider.data_dir) from error
    path = provider.data_dir / FILE
    own = {"path": str(provider.data_dir.resolve()), "device": found.st_dev, "inode": found.st_ino}
    known: dict[str, Any] = read_json(path) or {}
    if known == own:
        return
    if known and (known.get("device"), known.get("inode")) != (found.st_dev, found.st_ino):
        running = _of_the_original(provider)
        if running is not None:
            raise AlreadyExists(
                f"{provider.data_dir} is a copy of {known['path']}, and engines of that one run ({running})",
                hint=f"Stop them with `chandlery down --data-dir {known['path']}`. Both have the same ports, so that "
                "only one of them can run at a time.",
                retry_after=None,
            )
    write_atomic(path, json.dumps(own, sort_keys=True) + "\n")


def _of_the_original(provider: LocalProvider) -> str | None:
    """A process on record that runs and isn't of this directory."""
    for instance in provider.instances():
        for name, entry in instance.record.get("processes", {}).items():
            pid, log = entry.get("pid"), instance.log_dir / f"{name}.log"
            if pid is not None and pids.is_same(pid, entry.get("started")) and pids.logs_to(pid, log) is False:
                return f"{instance.name}/{name}, process {pid}"
    return None
