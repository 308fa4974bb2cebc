"""What `chandlery up` tells while it works: one line when something is reached, colours on a terminal only."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from chandlery.foundation.colour import wants_colour

_STYLES = {"good": "32", "bad": "31", "dim": "2", "bold": "1"}


class Progress:
    """Lines with the seconds since the beginning. Goes to standard error: standard output is for results."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._began = time.monotonic()
        self._colour = wants_colour(self._stream)
        self._waiting = ""

    def style(self, text: str, name: str) -> str:
        return f"\033[{_STYLES[name]}m{text}\033[0m" if self._colour else text

    def done(self, text: str) -> None:
        """Something was reached."""
        self._line(self.style("✓", "good") if self._colour else "+", text)

    def failed(self, text: str) -> None:
        self._line(self.style("✗", "bad") if self._colour else "!", text)

    def note(self, text: str) -> None:
        self._line(" ", text)

    def waiting(self, text: str) -> None:
        """What is being waited for; on a terminal the line is overwritten, elsewhere it is said once."""
        if self._quiet or text == self._waiting:
            return
        self._waiting = text
        if self._stream.isatty():
            self._stream.write(f"\r\033[K  {self._seconds()}  {text}")
        self._stream.flush()

    def _seconds(self) -> str:
        return self.style(f"{time.monotonic() - self._began:5.1f} s", "dim")

    def _line(self, mark: str, text: str) -> None:
        if self._quiet:
            return
        clear = "\r\033[K" if self._waiting and self._stream.isatty() else ""
        self._waiting = ""
        self._stream.write(f"{clear}{mark} {self._seconds()}  {text}\n")
        self._stream.flush()
