"""Engines don't run as root.

When the operator itself runs as root, an engine is started as `nobody`, and its directory is handed over to it. That
needs every parent directory to be passable for others and the engine's binary to be readable. Where this isn't so
(a data directory below /root), the engine gets a user namespace of its own instead: it then has no privileges
outside, but its files still belong to root; PostgreSQL, which refuses to run as root, is content with that too.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chandlery.foundation.errors import EngineFailed
from chandlery.providers.local.problems import MEND_ENGINE

UNPRIVILEGED_USER = "nobody"


@dataclass(frozen=True, slots=True)
class Drop:
    """How one engine is started: a command in front of its own, and the user to switch to."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None
    explanation: str = "runs as the operator's own user"


@cache
def _nobody() -> tuple[int, int] | None:
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


@cache
def _user_namespaces() -> tuple[str, ...] | None:
    """The command that starts another in a user namespace of its own, when the kernel allows it."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    command = (unshare, "--user", "--map-user=1000", "--map-group=1000", "--")
    try:
        done = subprocess.run([*command, "true"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return command if done.returncode == 0 else None


def passable(path: Path) -> bool:
    """True when any user can reach this path through all of its parents."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


class Privileges:
    """Decides once per directory how its engines are started."""

    def __init__(self, euid: int | None = None) -> None:
        self._root = (os.geteuid() if euid is None else euid) == 0
        self._owners: dict[Path, tuple[int, int] | None] = {}

    def owner_of_files(self, root: Path) -> tuple[int, int] | None:
        """(uid, gid) that an engine's files must belong to; None: leave them as they are."""
        if not self._root:
            return None
        if root not in self._owners:
            try:
                self._owners[root] = _nobody() if passable(root) else None
            except OSError:
                return None
        return self._owners[root]

    def drop(self, root: Path, binary: Path) -> Drop:
        """How to start `binary` on the instance directory `root`.

        Raises:
            EngineFailed: it isn't there.
        """
        if not binary.exists():
            raise EngineFailed(f"{binary} isn't there", hint=MEND_ENGINE)
        if not self._root:
            return Drop()
        owner = self.owner_of_files(root)
        if owner is not None and passable(binary) and binary.stat().st_mode & 0o001:
            return Drop(uid=owner[0], gid=owner[1], explanation=f"runs as {UNPRIVILEGED_USER}")
        self._owners[root] = None
        if owner is not None:
            self._take_back(root)
        prefix = _user_namespaces()
        if prefix is not None:
            return Drop(prefix=prefix, explanation="runs in a user namespace of its own")
        return Drop(explanation="runs as root: neither another user nor a user namespace could be used here")

    @staticmethod
    def _take_back(root: Path) -> None:
        """What was written for another user before it was known that the engine can't run as that one."""
        for directory, folders, files in os.walk(root):
            for name in (*folders, *files):
                full = Path(directory, name)
                if full.lstat().st_uid != 0:
                    os.chown(full, 0, 0, follow_symlinks=False)
        if root.exists() and root.stat().st_uid != 0:
            os.chown(root, 0, 0)

    def hand_over(self, path: Path, root: Path) -> None:
        """Give a directory and what is in it to the engine's user."""
        owner = self.owner_of_files(root)
        if owner is None:
            return
        if path.is_dir() and not path.is_symlink():
            for directory, _, files in os.walk(path):
                os.chown(directory, *owner)
                for name in files:
                    os.chown(Path(directory) / name, *owner, follow_symlinks=False)
        else:
            os.chown(path, *owner, follow_symlinks=False)
