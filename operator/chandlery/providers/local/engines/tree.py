"""An installed engine on disk: <engines>/<name>/<version>/{root/, installed.json}.

A tree is made aside and renamed into place whole: what is there is complete. `installed.json` holds the sha256 of every
file, so that a damaged one can be named.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import Unavailable
from chandlery.providers.local.files import os_error, read_json, remove_tree, write_atomic

RECORD = "installed.json"
FORMAT = 1
LOCK_POLL = 0.1
# Never looked at by an engine; licences are kept.
_NEEDLESS = ("usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/bug", "usr/include")
_DOC = "usr/share/doc"
_LICENCE_NAMES = ("copyright", "licen", "copying", "notice")


@dataclass(frozen=True, slots=True)
class Installed:
    """What is on record of one installed engine."""

    name: str
    version: str
    source: str
    packages: Mapping[str, str]
    """Package or distribution -> its full version."""
    files: Mapping[str, str]
    """Path below root -> sha256."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """File as downloaded -> sha256."""
    licences: tuple[str, ...] = ()
    root: str = ""
    """Where it was put: some files hold this path."""

    def dump(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "name": self.name,
                "version": self.version,
                "source": self.source,
                "packages": dict(self.packages),
                "checksums": dict(self.checksums),
                "licences": list(self.licences),
                "root": self.root,
                "files": dict(self.files),
            },
            indent=1,
            sort_keys=True,
        )


def read(home: Path) -> Installed | None:
    """The record of the engine below `home`; None when none is installed there."""
    loaded: dict[str, Any] | None = read_json(home / RECORD)
    if loaded is None or not (home / "root").is_dir():
        return None
    return Installed(
        name=loaded["name"],
        version=loaded["version"],
        source=loaded["source"],
        packages=loaded["packages"],
        files=loaded["files"],
        checksums=loaded.get("checksums", {}),
        licences=tuple(loaded.get("licences", ())),
        root=loaded.get("root", ""),
    )


def prune(root: Path) -> None:
    """Remove what no engine needs, and the bits by which a program would get another user's rights."""
    for path in _NEEDLESS:
        remove_tree(root / path)
    if (root / _DOC).is_dir():
        for directory, _, names in os.walk(root / _DOC):
            for name in names:
                if not name.lower().startswith(_LICENCE_NAMES):
                    (Path(directory) / name).unlink()
    for directory, folders, names in os.walk(root):
        for name in (*folders, *names):
            full = Path(directory, name)
            mode = full.lstat().st_mode
            if not stat.S_ISLNK(mode):
                # Readable for the engine's own user, whoever that is; nothing in a package is secret.
                wanted = (stat.S_IMODE(mode) & 0o755) | (0o555 if stat.S_ISDIR(mode) or mode & 0o100 else 0o444)
                full.chmod(wanted)


def checksums(root: Path) -> dict[str, str]:
    """sha256 of every file below root, links left out."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory) / name
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    found[str(path.relative_to(root))] = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(sorted(found.items()))


def licences(files: Mapping[str, str]) -> tuple[str, ...]:
    """The licence texts among the files."""
    return tuple(path for path in files if Path(path).name.lower().startswith(_LICENCE_NAMES))


def damaged(home: Path, record: Installed) -> list[str]:
    """What is not as it was installed, one sentence a file."""
    found = []
    for path, wanted in record.files.items():
        full = home / "root" / path
        try:
            with full.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                    found.append(f"{full} is damaged: its content changed since it was installed")
        except OSError as error:
            found.append(f"{full} can't be read: {error.strerror}")
    return found


def put(staged: Path, home: Path, record: Installed) -> None:
    """Rename a finished tree into place; one that was there goes."""
    write_atomic(staged / RECORD, record.dump(), mode=0o644)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        _passable(home.parent)
        old = home.with_name(f".{home.name}.old")
        remove_tree(old)
        if home.exists():
            home.rename(old)
        staged.rename(home)
        _passable(home)
        remove_tree(old)
    except OSError as error:
        raise os_error(error, "installing", home) from error


def _passable(path: Path) -> None:
    path.chmod(0o755)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock file; False when somebody else holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise os_error(error, "opening", path) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(fd)


@contextlib.asynccontextmanager
async def holding(path: Path, wait: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Hold a lock file; waits while another process, or another task of this one, has it. `wait` is called then."""
    while True:
        with locked(path) as mine:
            if mine:
                yield
                return
        wait()
        await ambient().sleep(LOCK_POLL)


def free_space(path: Path, wanted: int) -> None:
    """Raise when the disk hasn't so many bytes left."""
    left = shutil.disk_usage(path).free
    if left < wanted:
        raise Unavailable(
            f"{wanted / 1e6:.0f} MB are needed below {path}, and {left / 1e6:.0f} MB are free",
            hint="Free space on that file system; it goes on by itself then.",
        )
