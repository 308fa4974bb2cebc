"""Backups in a folder of this machine: how they are named, made whole, listed, checked and thinned out.

<destination>/<kind>.<namespace>.<name>.<first 8 of the uid>/
    object.json               whose they are
    20261122T030000Z/         one backup: its files and manifest.json; the name is when it began, in UTC
    .20261122T030000Z.unfinished/

A folder has its final name only when everything in it is on the disk, so what can be listed is whole. `manifest.json`
holds the size and sha256 of every file; a restore checks them. What a kind keeps beside its backups (a write-ahead
log) has a folder of its own there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from chandlery.driver.schedule import moment, stamp
from chandlery.foundation.errors import DataLoss, NotFound, Unavailable
from chandlery.model.backup import BackupRetention
from chandlery.providers.local.files import make_dir, os_error, read_json, remove_tree, write_atomic

MANIFEST = "manifest.json"
OBJECT = "object.json"
FORMAT = 1
UNFINISHED = ".unfinished"
_NAME = re.compile(r"^\d{8}T\d{6}Z(-\d+)?$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished backup."""

    name: str
    folder: Path
    started: datetime
    completed: datetime
    engine: str
    version: str
    size: int
    """Bytes on the disk."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the kind put into the manifest besides."""

    def file(self, name: str) -> Path:
        return self.folder / name


def folder_name(kind: str, namespace: str, name: str, uid: str) -> str:
    """The folder of one object's backups below a destination. None of the parts can hold a slash."""
    return f"{kind.lower()}.{namespace}.{name}.{uid[:8]}"


def backup_name(started: datetime, taken: Iterable[str]) -> str:
    """Sorts as the time does; a second one within the same second gets a number."""
    base = started.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    names, number, name = set(taken), 1, base
    while name in names:
        number += 1
        name = f"{base}-{number}"
    return name


class Store:
    """The backups of one object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # -- making

    def prepare(self, owner: Mapping[str, str]) -> None:
        """Make the object's folder below a destination that is there, or that can be made in a folder that is.

        Raises:
            PermissionDenied, QuotaExceeded, Unavailable: why it can't be.
        """
        destination = self.folder.parent
        if not destination.exists() and not destination.parent.is_dir():
            raise Unavailable(
                f"the folder {destination.parent} isn't there",
                field="spec.backup.destination.directory.path",
                value=str(destination),
                hint="Create or mount it; the backup is tried again by itself.",
            )
        try:
            if not destination.exists():
                destination.mkdir()
                # Passable, not readable: where we are root, engines that run as another user must get to their folder.
                destination.chmod(0o711 if os.geteuid() == 0 else 0o700)
        except OSError as error:
            raise os_error(error, "making", destination) from error
        make_dir(self.folder)
        write_atomic(self.folder / OBJECT, json.dumps({"format": FORMAT, **owner}, indent=1, sort_keys=True) + "\n")

    def begin(self, started: datetime) -> tuple[str, Path]:
        """Name and folder of a new backup; what earlier attempts left behind goes."""
        for left in self._unfinished():
            remove_tree(left)
        name = backup_name(started, self.names())
        folder = self.folder / f".{name}{UNFINISHED}"
        make_dir(folder)
        return name, folder

    def finish(self, name: str, folder: Path, started: datetime, completed: datetime, facts: Mapping[str, Any]) -> None:
        """Write the manifest, have everything on the disk, then give the folder its name. Takes as long as reading it.

        `facts` holds at least `engine` and `version`.
        """
        try:
            files = {str(path.relative_to(folder)): _digest_and_sync(path) for path in _files(folder)}
            manifest = {
                "format": FORMAT,
                "name": name,
                "startedAt": started.isoformat(),
                "completedAt": completed.isoformat(),
                "size": sum(size for size, _ in files.values()),
                "files": {path: {"size": size, "sha256": digest} for path, (size, digest) in files.items()},
                **facts,
            }
            write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            for directory in {folder, *(path.parent for path in _files(folder))}:
                _sync_directory(directory)
            folder.rename(self.folder / name)
            _sync_directory(self.folder)
        except OSError as error:
            raise os_error(error, "finishing", folder) from error

    def _unfinished(self) -> list[Path]:
        try:
            return [path for path in self.folder.iterdir() if path.name.endswith(UNFINISHED)]
        except FileNotFoundError:
            return []

    # -- listing

    def names(self) -> list[str]:
        """Names of the finished backups, oldest first."""
        try:
            return sorted(path.name for path in self.folder.iterdir() if _NAME.match(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise os_error(error, "listing", self.folder) from error

    def entries(self) -> list[Entry]:
        """The finished backups, oldest first; folders without a manifest are none."""
        return [entry for name in self.names() if (entry := self.entry(name)) is not None]

    def entry(self, name: str) -> Entry | None:
        loaded = read_json(self.folder / name / MANIFEST)
        if loaded is None:
            return None
        return Entry(
            name=name,
            folder=self.folder / name,
            started=moment(loaded["startedAt"]),
            completed=moment(loaded["completedAt"]),
            engine=str(loaded["engine"]),
            version=str(loaded["version"]),
            size=int(loaded["size"]),
            facts={k: v for k, v in loaded.items() if k not in {"files", "format"}},
        )

    def choose(self, name: str | None, before: datetime | None = None) -> Entry:
        """The backup of this name, else the newest (of those that ended before a moment).

        Raises:
            NotFound: there is none.
        """
        entries = self.entries()
        if name is not None:
            found = next((entry for entry in entries if entry.name == name), None)
            if found is None:
                have = ", ".join(entry.name for entry in entries[-5:]) or "none"
                raise NotFound(
                    f"there is no such backup in {self.folder} (the newest are: {have})",
                    field="spec.restoreFrom.backup",
                    value=name,
                    retry_after=10.0,
                )
            return found
        fitting = [entry for entry in entries if before is None or entry.completed <= before]
        if not fitting:
            if before is not None and entries:
                raise NotFound(
                    "no backup ended before this moment; the first one that can be restored is "
                    + stamp(entries[0].completed + timedelta(seconds=1)),
                    field="spec.restoreFrom.pointInTime",
                    value=stamp(before),
                    retry_after=None,
                )
            raise NotFound(f"there is no backup in {self.folder} yet", field="spec.restoreFrom", retry_after=10.0)
        return fitting[-1]

    # -- checking and removing

    def verify(self, entry: Entry) -> None:
        """Compare every file with the manifest. Takes as long as reading it.

        Raises:
            DataLoss: a file is missing or isn't what was written.
        """
        manifest = read_json(entry.folder / MANIFEST) or {}
        for path, wanted in manifest.get("files", {}).items():
            full = entry.folder / path
            try:
                with full.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise DataLoss(f"the backup {entry.name} is damaged: {full}: {error.strerror}") from error
            if digest != wanted["sha256"]:
                raise DataLoss(
                    f"the backup {entry.name} is damaged: {full} isn't what was written",
                    hint="Name another backup in spec.restoreFrom.backup.",
                )

    def thin_out(self, retention: BackupRetention | None, now: datetime) -> list[str]:
        """Remove what the retention doesn't keep; returns the names that went."""
        entries = self.entries()
        going = [entry for entry in entries if entry.name not in kept(entries, retention, now)]
        for entry in going:
            aside = self.folder / f".{entry.name}.old{UNFINISHED}"
            try:
                entry.folder.rename(aside)  # at once: a backup that is half gone must not be listed
            except OSError as error:
                raise os_error(error, "removing", entry.folder) from error
            remove_tree(aside)
        return [entry.name for entry in going]


def kept(entries: Sequence[Entry], retention: BackupRetention | None, now: datetime) -> frozenset[str]:
    """What stays: whatever either rule keeps, and the newest one in any case."""
    if retention is None:
        return frozenset(entry.name for entry in entries)
    ordered = sorted(entries, key=lambda entry: entry.name)
    stay = {entry.name for entry in ordered[-max(1, retention.count or 0) :]}
    if retention.days is not None:
        oldest = now - timedelta(days=retention.days)
        stay |= {entry.name for entry in ordered if entry.completed >= oldest}
    return frozenset(stay)


def store_at(path: Path, kind: str) -> Store:
    """The backups that a destination holds: of the one object of this kind below it, or the object's own folder.

    Raises:
        NotFound: there are none, or of several objects.
    """
    field = "spec.restoreFrom.destination.directory.path"
    try:
        own = read_json(path / OBJECT)
        if own is not None:
            found = [path] if str(own.get("kind", "")).lower() == kind.lower() else []
        else:
            found = sorted(p for p in path.iterdir() if p.name.startswith(f"{kind.lower()}.") and (p / OBJECT).exists())
    except FileNotFoundError:
        found = []
    except OSError as error:
        raise os_error(error, "reading", path) from error
    if not found:
        raise NotFound(f"this folder holds no backups of a {kind}", field=field, value=str(path), retry_after=10.0)
    if len(found) > 1:
        names = ", ".join(str(p) for p in found[:5])
        raise NotFound(
            f"this folder holds backups of {len(found)} objects",
            field=field,
            value=str(path),
            hint=f"Name the folder of one of them: {names}.",
            retry_after=None,
        )
    return Store(found[0])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def _digest_and_sync(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size, digest


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
