"""Control planes in the background: started until they are ready, found again by their data directory, stopped."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05


class DetachError(RuntimeError):
    """It did not start or stop; the text says why."""


def holder(data_dir: Path) -> int | None:
    """The process that serves a data directory; None when nobody does."""
    try:
        descriptor = os.open(data_dir / "lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None


def start_detached(data_dir: Path, flags: list[str]) -> str:
    """Start a server of its own session; its "ready" line once it is. Raises DetachError with what it said instead."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = data_dir / "controlplane.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "chandlery.controlplane", *flags],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("ready:"):
                return f"{line} in the background, process {process.pid}, log {log}"
        if process.poll() is not None:
            raise DetachError(log.read_text(errors="replace").strip().removeprefix("error: ") or f"see {log}")
        time.sleep(_POLL_SECONDS)
    process.kill()
    raise DetachError(f"the control plane was not ready within {START_SECONDS:.0f} s; its log is {log}")


def stop_detached(data_dir: Path) -> str:
    """Stop the server of a data directory, and wait until it is gone. Raises DetachError."""
    pid = holder(data_dir)
    if pid is None:
        raise DetachError(f"no control plane runs on {data_dir}")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if holder(data_dir) is None:
            return f"stopped process {pid}"
        time.sleep(_POLL_SECONDS)
    raise DetachError(f"process {pid} was told to stop and is still there after {STOP_SECONDS:.0f} s")
