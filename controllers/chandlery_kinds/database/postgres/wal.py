"""Names in PostgreSQL's write-ahead log, and which files of an archive a restore needs. Pure.

Source: PostgreSQL manual, "WAL Internals": a segment's name is timeline, high and low part of its number, eight
hexadecimal digits each; an LSN is a byte position, printed as two halves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SEGMENT_BYTES = 16 * 1024 * 1024
_SEGMENT = re.compile(r"^[0-9A-F]{24}(\.partial)?$")
_HISTORY = re.compile(r"^[0-9A-F]{8}\.history$")


def position(lsn: str) -> int:
    """The byte position that an LSN such as `0/3002160` means."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def place(name: str) -> str:
    """What orders segments of all timelines: the number, without the timeline."""
    return name[8:24]


def place_of(lsn: str) -> str:
    """The place of the segment that holds an LSN."""
    number = position(lsn) // SEGMENT_BYTES
    per_high = 0x100000000 // SEGMENT_BYTES
    return f"{number // per_high:08X}{number % per_high:08X}"


def is_segment(name: str) -> bool:
    return _SEGMENT.match(name) is not None


def is_history(name: str) -> bool:
    return _HISTORY.match(name) is not None


def needless(names: Iterable[str], first_lsn: str) -> list[str]:
    """Segments that lie wholly before the first one that the oldest backup needs."""
    first = place_of(first_lsn)
    return sorted(name for name in names if is_segment(name) and place(name) < first)


def wanted(names: Iterable[str], first_lsn: str) -> dict[str, str]:
    """What a restore from this position on may ask for: name as PostgreSQL asks -> name in the archive.

    A segment that was still being written counts under its final name, when the final one isn't there.
    """
    first, found = place_of(first_lsn), {}
    for name in sorted(names, reverse=True):  # `X.partial` before `X`: the complete one wins
        if is_history(name) or (is_segment(name) and place(name) >= first):
            found[name.removesuffix(".partial")] = name
    return found
