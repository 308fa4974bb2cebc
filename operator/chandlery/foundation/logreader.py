"""Reads a log on across the cuts that keep it short (see logfiles)."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from chandlery.foundation.logfiles import begins_at, older


@dataclass(slots=True)
class Follower:
    """Reads a log as it grows, across cuts; what was cut between two looks is read from where it was kept."""

    path: Path
    _position: int = 0
    """Bytes read, counted from where the content began at the last look."""
    _latest: int | None = None
    """Which file had been cut last, at the last look."""
    _rest: bytes = b""

    def last(self, lines: int) -> list[str]:
        """The last lines that are there now, from older files too; what follows is for `new`."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                self._latest = inode_of(older(self.path, 1))
                begin = begins_at(file.fileno())
                size = os.fstat(file.fileno()).st_size
                start = max(begin, size - 300 * max(lines, 1))
                data = os.pread(file.fileno(), size - start, start)
        except FileNotFoundError:
            return []
        self._position = size - begin
        if start == begin and data.count(b"\n") < lines:
            data = self._before(300 * lines) + data
        whole, newline, self._rest = data.rpartition(b"\n")
        found = (whole + newline).decode(errors="replace").splitlines()
        return found[-lines:] if lines else []

    def _before(self, count: int) -> bytes:
        try:
            return older(self.path, 1).read_bytes()[-count:]
        except FileNotFoundError:
            return b""

    def new(self) -> list[str]:
        """The whole lines that came since the last look."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                latest = inode_of(older(self.path, 1))
                data = self._from_older(latest)
                begin = begins_at(file.fileno())
                size = os.fstat(file.fileno()).st_size
                if begin + self._position > size:
                    self._position = 0  # truncated by somebody else
                data += os.pread(file.fileno(), size - begin - self._position, begin + self._position)
                self._position = size - begin
        except FileNotFoundError:
            return []
        self._latest = latest
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest
        return (whole + newline).decode(errors="replace").splitlines()

    def _from_older(self, latest: int | None) -> bytes:
        """What was cut since the last look and hadn't been read."""
        if latest == self._latest:
            return b""
        cuts = []
        number = 1
        while (inode := inode_of(older(self.path, number))) is not None and inode != self._latest:
            cuts.append(older(self.path, number))
            number += 1
        found = b""
        for path in reversed(cuts):
            length = path.stat().st_size
            if self._position < length:
                found += path.read_bytes()[self._position :]
                self._position = 0
            else:
                self._position -= length
        return found


def inode_of(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
