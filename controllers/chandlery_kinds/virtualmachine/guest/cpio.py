"""Writes cpio archives as the Linux kernel unpacks them at boot ("newc", kernel documentation buffer-format)."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

_TRAILER = "TRAILER!!!"


@dataclass(slots=True)
class Archive:
    """An archive that grows. Devices are only entries in it, so that nobody needs rights to make them."""

    _parts: list[bytes] = field(default_factory=list)
    _inode: int = 0
    _folders: set[str] = field(default_factory=set)

    def folder(self, path: str, mode: int = 0o755) -> None:
        """A folder with all those above it; made once."""
        above, _, _ = path.rpartition("/")
        if above:
            self.folder(above)
        if path not in self._folders:
            self._folders.add(path)
            self._add(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._parents(path)
        self._add(path, stat.S_IFREG | mode, content)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._parents(path)
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A character device."""
        self._parents(path)
        self._add(path, stat.S_IFCHR | mode, b"", (major, minor))

    def finish(self) -> bytes:
        """The whole archive."""
        self._add(_TRAILER, 0, b"")
        return b"".join(self._parts)

    def _parents(self, path: str) -> None:
        above, _, _ = path.rpartition("/")
        if above:
            self.folder(above)

    def _add(self, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        links = 2 if stat.S_ISDIR(mode) else 1
        encoded = name.encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check; times are left at
        # zero, so that the same content makes the same archive.
        numbers = (self._inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % number for number in numbers)
        self._parts.append(_padded(header + encoded))
        if content:
            self._parts.append(_padded(content))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
