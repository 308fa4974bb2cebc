"""Debian packages without root: apt with a state of its own, which looks up, downloads and checks.

Nothing is installed into the system. What apt does here touches its own folder only. It works by the system's list of
sources and trusts the keys that the system trusts. Libraries that the system already has are not fetched again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import EngineFailed, NotSupported, Unavailable
from chandlery.providers.local.engines.tree import holding
from chandlery.providers.local.files import os_error

LISTS_LIFE = 12 * 3600.0
"""Seconds for which the lists of packages are taken as they are; a package that is gone makes them older at once."""
_INST = re.compile(r"^Inst (\S+) ")
_URI = re.compile(r"^'([^']+)' (\S+) (\d+) (\S+)$")


@dataclass(frozen=True, slots=True)
class Deb:
    """One package file as the signed lists name it."""

    package: str
    version: str
    file: str
    size: int
    sha256: str


def available() -> str:
    """Why packages can't be had here; empty when they can."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            return f"this system has no {program}"
    return ""


class Apt:
    """apt-get with its state below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.downloads = directory / "downloads"

    # -- asking

    async def resolve(self, packages: Sequence[str], *, only: str = "") -> list[Deb]:
        """What must be fetched for these packages: themselves and whatever they need that the system hasn't.

        `only` keeps the packages whose name it matches (a regular expression).

        Raises:
            NotSupported: there is no apt here, or it doesn't know a package.
            Unavailable: the lists could not be fetched.
        """
        why = available()
        if why:
            raise NotSupported(
                f"Debian packages can't be used: {why}",
                field="engine",
                value=", ".join(packages),
                hint="Install the engine with this system's package manager; it is found on PATH.",
            )
        async with holding(self.directory / "lock"):
            return await self._resolve(packages, only)

    async def _resolve(self, packages: Sequence[str], only: str) -> list[Deb]:
        await self._refresh()
        code, output = await self._apt("install", "--simulate", "--no-install-recommends", *packages)
        if code != 0:
            raise NotSupported(
                f"the package sources of this system don't provide {', '.join(packages)}: {_last(output)}",
                field="engine",
                value=", ".join(packages),
                hint="Look at /etc/apt/sources.list, or install the engine yourself; it is found on PATH.",
            )
        names = [*packages, *(found[1] for line in output.splitlines() if (found := _INST.match(line)))]
        if not only:
            names += await self._programs_of_the_system(packages)
        wanted = [name for name in dict.fromkeys(names) if not only or re.fullmatch(only, name)]
        code, output = await self._apt("download", "--print-uris", *wanted)
        located = [place for line in output.splitlines() if (place := _URI.match(line))]
        debs = [_deb(place[2], int(place[3]), place[4]) for place in located]
        if code != 0 or len(debs) < len(wanted):
            raise Unavailable(f"apt could not say where {', '.join(wanted)} come from: {_last(output)}")
        return debs

    async def _programs_of_the_system(self, packages: Sequence[str]) -> list[str]:
        """What these packages need and the system has, as far as it holds parts of the engine itself.

        apt leaves out what is installed, which is right for libraries: they are found wherever they are. Programs are
        looked for in the engine's tree. redis-server is a link to a program of redis-tools, and psql of PostgreSQL 15
        belongs to postgresql-client-15: each comes from the same source package as what was asked for.
        """
        # Its cache stands apart, or each of the two questions would have apt build the other's anew.
        nothing = ("-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache::pkgcache=bare.bin")
        code, output = await self._apt("install", "--simulate", "--no-install-recommends", *nothing, *packages)
        needed = [found[1] for line in output.splitlines() if (found := _INST.match(line))]
        if code != 0 or not needed:
            return []
        form = "${db:Status-Status} ${source:Package} ${Package}\n"
        # Its code only says that some of them aren't installed.
        _, output = await run(["dpkg-query", "--show", "--showformat", form, *needed, *packages], cwd=self.directory)
        installed = [words[1:] for line in output.splitlines() if (words := line.split())[:1] == ["installed"]]
        code, output = await self._apt_cache("show", "--no-all-versions", *packages)
        sources = set(packages) | {line.split()[1] for line in output.splitlines() if line.startswith("Source: ")}
        return [name for source, name in installed if source in sources]

    async def _refresh(self, *, force: bool = False) -> None:
        stamp = self.directory / "updated"
        with contextlib.suppress(OSError):
            if not force and time.time() - stamp.stat().st_mtime < LISTS_LIFE:
                return
        for path in ("lists/partial", "cache/archives/partial"):
            try:
                (self.directory / path).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise os_error(error, "making", self.directory / path) from error
        code, output = await self._apt("update")
        # One source of several that fails is the system's own affair, as long as what we need can be found.
        if code != 0 and not any((self.directory / "lists").glob("*Packages*")):
            raise Unavailable(
                f"the lists of packages could not be fetched: {_last(output)}",
                hint="Check the network and /etc/apt; it is tried again by itself.",
            )
        stamp.touch()

    # -- fetching

    async def fetch(self, debs: Sequence[Deb], tell: Callable[[str], None] = lambda _: None) -> list[Path]:
        """Download what isn't there yet; returns the files, each with the checksum that the signed lists name.

        Raises:
            Unavailable: the network or the mirror failed; what was fetched so far stays.
        """
        self.downloads.mkdir(parents=True, exist_ok=True)
        total = sum(deb.size for deb in debs)
        for attempt in (1, 2):
            missing = [deb for deb in debs if not await asyncio.to_thread(self._intact, deb)]
            if not missing:
                return [self.downloads / deb.file for deb in debs]
            watch = asyncio.ensure_future(self._watch(debs, total, tell))
            try:
                code, output = await self._apt(
                    "download", *(f"{deb.package}={deb.version}" for deb in missing), cwd=self.downloads
                )
            finally:
                watch.cancel()
            if code != 0 and attempt == 2:
                break
            if code != 0:
                async with holding(self.directory / "lock"):
                    await self._refresh(force=True)
        if code == 0 and all([await asyncio.to_thread(self._intact, deb) for deb in debs]):
            return [self.downloads / deb.file for deb in debs]
        raise Unavailable(f"packages could not be downloaded: {_last(output)}", hint="It is tried again by itself.")

    def _intact(self, deb: Deb) -> bool:
        path = self.downloads / deb.file
        try:
            if path.stat().st_size != deb.size:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == deb.sha256
        except OSError:
            return False

    async def _watch(self, debs: Sequence[Deb], total: int, tell: Callable[[str], None]) -> None:
        while True:
            here = 0
            for deb in debs:
                with contextlib.suppress(OSError):
                    here += (self.downloads / deb.file).stat().st_size
            tell(f"downloading, {here / 1e6:.0f} of {total / 1e6:.0f} MB")
            await ambient().sleep(0.5)

    def drop(self, debs: Sequence[Deb]) -> None:
        """Remove files that were unpacked, and what only makes apt's answers quicker: 110 MB."""
        for path in (*(self.downloads / deb.file for deb in debs), *(self.directory / "cache").glob("*.bin")):
            path.unlink(missing_ok=True)

    # -- running

    async def _apt(self, *arguments: str, cwd: Path | None = None) -> tuple[int, str]:
        return await self._run("apt-get", "-q", *arguments, cwd=cwd)

    async def _apt_cache(self, *arguments: str) -> tuple[int, str]:
        return await self._run("apt-cache", "-q", *arguments)

    async def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> tuple[int, str]:
        # Not where downloads are, unless it downloads: apt says nothing of a package whose file lies there already.
        options = {
            "Dir::State::lists": str(self.directory / "lists"),
            "Dir::Cache": str(self.directory / "cache"),
            # Systems for containers switch these off, and each question takes as long as reading all lists.
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "1",
            "APT::Get::Assume-Yes": "1",
            "Acquire::Retries": "2",
            "Acquire::Languages": "none",
        }
        argv = [program, *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
        return await run([*argv, *arguments], cwd=cwd or self.directory)


async def run(argv: Sequence[str], cwd: Path, seconds: float = 900.0) -> tuple[int, str]:
    """Run a program to its end: its code, and what it said.

    Raises:
        EngineFailed: it could not be started.
        Unavailable: it took too long.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            start_new_session=True,
        )
    except OSError as error:
        raise EngineFailed(f"{argv[0]} could not be started: {error.strerror or error}") from error
    try:
        async with ambient().timeout(seconds):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise Unavailable(f"{Path(argv[0]).name} did not end within {seconds:.0f} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")


def _deb(file: str, size: int, checksum: str) -> Deb:
    # name_version_architecture.deb, with the epoch's colon escaped
    name, version, _ = file.removesuffix(".deb").split("_", 2)
    return Deb(name, version.replace("%3a", ":"), file, size, checksum.removeprefix("SHA256:"))


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.startswith(("E:", "Err:"))]
    return "; ".join(lines[-2:]) or " ".join(output.split())[-200:]
