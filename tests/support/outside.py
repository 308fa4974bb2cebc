"""Counts what a driver does to the outside, and kills it there: by Python's audit events, so that nothing is patched.

An event comes right before the call that it tells of. A crash after the n-th call is therefore a crash before the next
one, and only "before" is told apart here. From the crash on every further call fails too: a killed process cleans up
nothing, whatever its `finally` says.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate"})
OTHERS = frozenset({"subprocess.Popen", "os.kill", "os.killpg", "socket.connect"})


class Killed(BaseException):
    """As kill -9 would: no `except Exception` sees it."""


class Outside:
    """One at a time is listened to; `root` bounds the files that count."""

    _current: Outside | None = None
    _hooked = False

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.count = 0
        self.dead = False
        self._at = 0
        if not Outside._hooked:
            Outside._hooked = True
            sys.addaudithook(_heard)
        Outside._current = self

    def kill_before(self, call: int) -> None:
        """Die at this call, counted from 1 and from now."""
        self._at = self.count + call

    def heal(self) -> None:
        self._at, self.dead = 0, False

    @contextlib.contextmanager
    def unheard(self) -> Iterator[None]:
        """What happens within is none of the driver's doing."""
        Outside._current = None
        try:
            yield
        finally:
            Outside._current = self

    def close(self) -> None:
        Outside._current = None

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event in FILES:
            if not str(args[0]).startswith(self.root):
                return
        elif event not in OTHERS:
            return
        self.count += 1
        if self.dead or self.count == self._at:
            self.dead = True
            raise Killed(f"{event} {args[0]}")


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if Outside._current is not None:
        Outside._current.heard(event, args)
