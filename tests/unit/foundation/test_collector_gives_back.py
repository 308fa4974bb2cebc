"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from chandlery.foundation.collector import give_back


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="resident memory is read from /proc, and the C library must be able to",
)
def test_what_was_freed_below_what_is_used_goes_back():
    blocks = [bytes(2000) + bytes([number % 256]) for number in range(20_000)]
    last = blocks[-1]
    before = _resident()
    del blocks
    give_back()
    assert before - _resident() > 20_000_000
    assert last
