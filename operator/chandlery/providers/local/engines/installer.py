"""Installs engines: from Debian packages, without root, and from wheels, beside Chandlery's own environment."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import DataLoss, EngineFailed, NotSupported, Unavailable
from chandlery.providers.local.engines import tree
from chandlery.providers.local.engines.apt import Apt, Deb, run
from chandlery.providers.local.engines.catalogue import EngineEntry, Source
from chandlery.providers.local.engines.finder import Engines, covers, tree_binary, tree_environment
from chandlery.providers.local.files import os_error, remove_tree

UNPACKED_FACTOR = 6
"""How much larger packages may be once unpacked; for the check of free space only."""

Tell = Callable[[str], None]


class Installer:
    """Puts engines below `directory`. Several processes may share it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.apt = Apt(directory / ".apt")

    def home(self, entry: EngineEntry) -> Path:
        return self.directory / entry.name / entry.version

    async def install(self, entry: EngineEntry, source: Source, tell: Tell = lambda _: None) -> tree.Installed:
        """Install an engine; one that another process is installing is waited for. Safe to repeat and to interrupt.

        Raises:
            Unavailable: network or disk; what was downloaded stays and is gone on with.
            NotSupported: this system can't have it.
            DataLoss: what was downloaded isn't what the catalogue asks for.
        """
        self._make_directory()
        home = self.home(entry)
        lock = self.directory / f".{entry.name}-{entry.version}.lock"
        async with tree.holding(lock, lambda: tell("another process is installing it")):
            present = tree.read(home)
            if present is not None and tree_binary(home / "root", source) is not None:
                return present
            return await self._install(entry, source, home, tell)

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if os.access(self.directory, os.W_OK) and self.directory.stat().st_uid == os.geteuid():
                self.directory.chmod(0o755)
        except OSError as error:
            raise os_error(error, "making", self.directory) from error

    async def _install(self, entry: EngineEntry, source: Source, home: Path, tell: Tell) -> tree.Installed:
        staged = self.directory / f".{entry.name}-{entry.version}-{secrets.token_hex(4)}"
        for left in self.directory.glob(f".{entry.name}-{entry.version}-????????"):
            await asyncio.to_thread(remove_tree, left)  # from a run that was killed: we hold the lock
        try:
            (staged / "root").mkdir(parents=True)
            if source.type == "debian":
                packages, sums = await self._debian(source, staged / "root", home / "root", tell)
            else:
                packages, sums = await self._wheel(source, staged / "root", tell)
            tell("checking")
            await self._check(entry, source, staged / "root")
            files = await asyncio.to_thread(tree.checksums, staged / "root")
            record = tree.Installed(
                name=entry.name,
                version=entry.version,
                source=source.type,
                packages=packages,
                files=files,
                checksums=sums,
                licences=tree.licences(files),
                root=str(home / "root"),
            )
            await asyncio.to_thread(tree.put, staged, home, record)
        except OSError as error:
            raise os_error(error, "installing", home) from error
        finally:
            await asyncio.to_thread(remove_tree, staged)
        return record

    # -- Debian

    async def _debian(
        self, source: Source, root: Path, final: Path, tell: Tell
    ) -> tuple[dict[str, str], dict[str, str]]:
        tell("looking up packages")
        debs = await self.apt.resolve(source.packages)
        tree.free_space(self.directory, sum(deb.size for deb in debs) * UNPACKED_FACTOR)
        paths = await self.apt.fetch(debs, tell)
        for number, (deb, path) in enumerate(zip(debs, paths, strict=True), 1):
            tell(f"unpacking {number} of {len(debs)}: {deb.package}")
            await unpack(path, root)
        for relative in source.relocate:
            await asyncio.to_thread(_relocate, root, relative, final)
        await asyncio.to_thread(tree.prune, root)
        self.apt.drop(debs)
        return {deb.package: deb.version for deb in debs}, {deb.file: deb.sha256 for deb in debs}

    async def unpack_only(self, packages: tuple[str, ...], only: str, root: Path, tell: Tell) -> list[Deb]:
        """Unpack single packages without what they depend on: for their files, not to run them."""
        self._make_directory()
        lock = self.directory / f".{packages[0]}.lock"
        async with tree.holding(lock):
            tell("looking up packages")
            debs = await self.apt.resolve(packages, only=only)
            paths = await self.apt.fetch(debs, tell)
            for deb, path in zip(debs, paths, strict=True):
                tell(f"unpacking {deb.package}")
                await unpack(path, root)
            self.apt.drop(debs)
            return debs

    # -- wheels

    async def _wheel(self, source: Source, root: Path, tell: Tell) -> tuple[dict[str, str], dict[str, str]]:
        tell(f"downloading {source.distribution} {source.release}")
        requirement = f"{source.distribution}=={source.release}"
        wanted = root.parent / "requirements.txt"
        wanted.write_text(" ".join([requirement, *(f"--hash={checksum}" for checksum in source.checksums)]) + "\n")
        code, output = await run([*_pip(root), "--requirement", str(wanted)], cwd=root.parent)
        wanted.unlink()
        if code != 0:
            words = " ".join(output.split())[-400:]
            if "hash" in output.lower():
                raise DataLoss(
                    f"{requirement} isn't what the catalogue asks for: {words}",
                    hint="Don't use it. The package index may be wrong, or in wrong hands.",
                )
            raise Unavailable(f"{requirement} could not be installed: {words}")
        await asyncio.to_thread(tree.prune, root)
        return {source.distribution: source.release}, {}

    # -- checking

    async def _check(self, entry: EngineEntry, source: Source, root: Path) -> None:
        binary = tree_binary(root, source)
        if binary is None:
            raise EngineFailed(
                f"{source} doesn't hold {source.binary}",
                hint=f"Install {entry.name} with this system's package manager; it is found on PATH.",
                retry_after=None,
            )
        await version_of(entry, binary, tree_environment(root), strict=True)


async def install_entry(tell: Tell, directory: str, where: str, name: str, version: str) -> None:
    """What a process of its own does (see `apart`): install this version line of an engine for this platform."""
    engines = Engines(Path(directory), where)
    entry = next(each for each in engines.entries(name) if each.version == version)
    source = next(source for source in engines.sources(entry) if source.type != "path")
    await Installer(engines.directory).install(entry, source, tell)


async def unpack(path: Path, root: Path) -> None:
    """Unpack a package file below root.

    Raises:
        DataLoss: the file is damaged.
    """
    code, output = await run(["dpkg-deb", "--extract", str(path), str(root)], cwd=root)
    if code != 0:
        path.unlink(missing_ok=True)
        if "No space left" in output:
            tree.free_space(root, 1 << 62)
        raise DataLoss(f"{path.name} could not be unpacked: {output.strip()}", retry_after=10.0)


async def version_of(entry: EngineEntry, binary: Path, env: dict[str, str], *, strict: bool = False) -> str:
    """The version that the engine says it is; "" where it can't be asked.

    Raises:
        EngineFailed: it doesn't start, or (strict) is another version than the catalogue's line.
    """
    if not entry.expect:
        return ""
    try:
        process = await asyncio.create_subprocess_exec(
            str(binary),
            *entry.verify,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "HOME": "/nonexistent", **env},
        )
        async with ambient().timeout(20):
            output, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        raise EngineFailed(f"{binary} {' '.join(entry.verify)} does not end", retry_after=None) from error
    except OSError as error:
        raise EngineFailed(f"{binary} can't be started: {error.strerror or error}", retry_after=None) from error
    text = output.decode(errors="replace").strip()
    found = re.search(entry.expect, text)
    if found is None:
        raise EngineFailed(
            f"{binary} doesn't say its version: {' '.join(text.split())[-300:] or f'exit code {process.returncode}'}",
            hint=f"Run `chandlery engines install --force {entry.name}`, or use another system.",
            retry_after=None,
        )
    version = found[1]
    if strict and not entry.floating and not covers(entry.version, version):
        raise NotSupported(
            f"what this system's packages hold is {entry.name} {version}, not {entry.version}",
            field="engine",
            value=f"{entry.name} {entry.version}",
        )
    return version


def _relocate(root: Path, relative: str, final: Path) -> None:
    """Scripts that hold an absolute path of their own get the path where the tree will be."""
    for path in root.glob(relative):
        text = path.read_bytes()
        path.write_bytes(re.sub(rb"(?<![\w/])/usr/lib/", f"{final}/usr/lib/".encode(), text))


def _pip(target: Path) -> list[str]:
    """How to install into a folder: by uv when it is here, else by pip."""
    from shutil import which

    uv = which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is not None:
        options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--python", sys.executable]
        return [uv, "pip", "install", *options, "--target", str(target)]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    return [sys.executable, "-m", "pip", "install", *options, "--target", str(target)]
