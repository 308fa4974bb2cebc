"""What a machine starts from, on this machine: fetched or built once, shared by all machines.

<images>/sha256-<digits>        files by checksum: disk images, kernels
<images>/tiny-<revision>/       the small guest of the catalogue: vmlinuz, initrd, made.json
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chandlery.foundation.errors import InvalidSpec, NotSupported
from chandlery.providers.local import LocalProvider, apart, downloads
from chandlery.providers.local.background import Job
from chandlery.providers.local.files import make_dir, read_json
from chandlery_kinds.virtualmachine.guest import tiny
from chandlery_kinds.virtualmachine.model import VirtualMachineSpec
from chandlery_kinds.virtualmachine.parameters import MachineParameters

_QCOW2_MAGIC = b"QFI\xfb"
DATA_FILE = 1 << 2
"""qcow2's incompatible feature bit for an external data file."""


@dataclass(frozen=True, slots=True)
class File:
    """Something to fetch."""

    url: str
    checksum: str
    field: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the spec asks for. Either a disk, or a kernel, or the built-in guest."""

    title: str
    disk: File | None = None
    kernel: File | None = None
    initrd: File | None = None
    command_line: str = ""
    built_in: bool = False

    @property
    def files(self) -> list[File]:
        return [file for file in (self.disk, self.kernel, self.initrd) if file is not None]

    @property
    def checksum(self) -> str:
        return self.files[0].checksum if self.files else ""


@dataclass(frozen=True, slots=True)
class Image:
    """What is here."""

    disk: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    command_line: str = ""
    tells_ready: bool = False
    """It writes a line to its console when it has booted."""
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class DiskFormat:
    """What the first bytes of a disk image say."""

    name: str
    size: int
    """Bytes that the guest sees."""
    leans_on: str = ""
    """What else it would read; "" when it is whole."""


def wanted(spec: VirtualMachineSpec, parameters: MachineParameters) -> Wanted:
    """What a spec's image means.

    Raises:
        InvalidSpec: the catalogue has no image of this name.
    """
    image = spec.image
    if image.kernel is not None:
        boot = image.kernel
        kernel = File(str(boot.kernel.url), str(boot.kernel.checksum), "spec.image.kernel.kernel")
        initrd = None
        if boot.initrd is not None:
            initrd = File(str(boot.initrd.url), str(boot.initrd.checksum), "spec.image.kernel.initrd")
        return Wanted("the kernel", kernel=kernel, initrd=initrd, command_line=boot.command_line)
    if image.url is not None:
        return Wanted("the image", disk=File(str(image.url), str(image.checksum), "spec.image.url"))
    name = str(image.name)
    known = parameters.images
    if name in known:
        return Wanted(f"the image {name}", disk=File(known[name].url, known[name].checksum, "spec.image.name"))
    if name == tiny.NAME:
        return Wanted("the guest tiny", built_in=True, command_line=tiny.COMMAND_LINE)
    raise InvalidSpec(
        "no image of this name is in the catalogue",
        field="spec.image.name",
        value=name,
        hint=f"Known: {', '.join(sorted({*known, tiny.NAME}))}. A ResourceClass adds more in parameters.images.",
    )


class Images:
    """The images of one provider."""

    def __init__(self, provider: LocalProvider) -> None:
        self.provider = provider
        self.directory = provider.images_dir

    def look(self, want: Wanted) -> Image | None:
        """The image, when all of it is here."""
        if want.built_in:
            return self._tiny()
        paths = {file.field: downloads.path_of(self.directory, file.checksum) for file in want.files}
        if not all(path.exists() for path in paths.values()):
            return None

        def path(file: File | None) -> Path | None:
            return paths[file.field] if file else None

        return Image(path(want.disk), path(want.kernel), path(want.initrd), want.command_line, checksum=want.checksum)

    def job(self, want: Wanted) -> Job | None:
        """The work that fetches it, or how that ended."""
        return self.provider.background.get(self._key(want))

    def begin(self, want: Wanted, wake: Callable[[], None]) -> Job:
        """Fetch or build it in the background."""

        async def work(job: Job) -> None:
            if want.built_in:
                await self._build_tiny(job)
            for file in want.files:
                await downloads.fetch(
                    file.url,
                    file.checksum,
                    self.directory,
                    field=file.field,
                    tell=job.tell,
                    folders=self.provider.image_sources,
                )

        verb = "building" if want.built_in else "fetching"
        return self.provider.background.start(self._key(want), f"{verb} {want.title}", work, wake)

    @staticmethod
    def _key(want: Wanted) -> tuple[str, ...]:
        return ("image", want.title, *(file.checksum for file in want.files))

    # -- tiny

    @property
    def _tiny_home(self) -> Path:
        return self.directory / f"tiny-{tiny.REVISION}"

    def _tiny(self) -> Image | None:
        home = self._tiny_home
        if not (home / "made.json").exists():
            return None
        made = read_json(home / "made.json") or {}
        return Image(
            kernel=home / "vmlinuz",
            initrd=home / "initrd",
            command_line=tiny.COMMAND_LINE,
            tells_ready=True,
            checksum=made.get("checksum", ""),
        )

    async def _build_tiny(self, job: Job) -> None:
        make_dir(self.directory, downloads.SHARED_DIR)
        await apart.run(
            "chandlery_kinds.virtualmachine.guest.building:build",
            *(str(self._tiny_home), str(self.provider.engines.directory)),
            tell=job.tell,
        )


def disk_format(path: Path) -> DiskFormat:
    """What kind of disk image a file is. Reads its header only.

    Raises:
        NotSupported: a qcow2 of a version that isn't known.
    """
    with path.open("rb") as file:
        header = file.read(104)
    if not header.startswith(_QCOW2_MAGIC):
        return DiskFormat("raw", path.stat().st_size)
    version, backing, length = struct.unpack_from(">IQI", header, 4)
    size = struct.unpack_from(">Q", header, 24)[0]
    if version not in (2, 3):
        raise NotSupported(f"{path} is a qcow2 image of version {version}", field="spec.image")
    if backing:
        with path.open("rb") as file:
            file.seek(backing)
            return DiskFormat("qcow2", size, file.read(min(length, 1023)).decode(errors="replace"))
    if version == 3 and struct.unpack_from(">Q", header, 72)[0] & DATA_FILE:
        return DiskFormat("qcow2", size, "an external data file")
    return DiskFormat("qcow2", size)
