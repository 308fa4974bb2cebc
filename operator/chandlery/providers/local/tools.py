"""One-shot programs of an engine (initdb, pg_basebackup, qemu-img), run with the engine's own privileges."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chandlery.foundation.errors import EngineFailed, Timeout
from chandlery.providers.local.files import os_error
from chandlery.providers.local.privileges import Drop
from chandlery.providers.local.problems import MEND_ENGINE, NO_ROOM, NOT_STARTED

if TYPE_CHECKING:
    from chandlery.providers.local.instance import Instance

TOOL = "CHANDLERY_TOOL"
"""Marks a one-shot program with its name: what outlives the operator that waited for it is ended by the next one."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended and what it said (standard output and error together, the last 64 KiB)."""

    code: int
    output: str

    def tail(self, lines: int = 3) -> str:
        return " | ".join(self.output.strip().splitlines()[-lines:])


def _spawn(
    instance: Instance, argv: Sequence[str], drop: Drop, env: Mapping[str, str], cwd: Path | None
) -> subprocess.Popen[bytes]:
    """Not by asyncio's own subprocesses: uvloop's can't change the user."""
    try:
        return subprocess.Popen(
            [*drop.prefix, *map(str, argv)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "LANG": "C.UTF-8",
                "HOME": str(instance.data_dir),
                "TMPDIR": str(instance.run_dir),
                TOOL: Path(argv[0]).name,
                **env,
            },
            cwd=cwd or instance.data_dir,
            start_new_session=True,
            user=drop.uid,
            group=drop.gid,
            extra_groups=[] if drop.uid is not None else None,
        )
    except OSError as error:
        raise EngineFailed(
            f"{Path(argv[0]).name} could not be started: {error.strerror or error}",
            hint=MEND_ENGINE,
        ) from error


async def run_tool(
    instance: Instance,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
    seconds: float = 60.0,
    check: bool = True,
) -> Done:
    """Run a program to its end. Secrets come by `stdin` or by a file, never by argv or env.

    Raises:
        EngineFailed: it could not be started, or (with `check`) its exit code isn't 0.
        QuotaExceeded: it failed and says that the disk is full.
        Timeout: it took longer than `seconds`; it is ended then, with its children.
    """
    privileges = instance.provider.privileges
    binary = Path(argv[0])
    drop = privileges.drop(instance.root, binary)
    if drop.uid is not None:
        privileges.hand_over(instance.root, instance.root)
    instance.flush()  # a password that goes into data must be on record before they are there
    process = _spawn(instance, argv, drop, env or {}, cwd)
    try:
        output, _ = await asyncio.to_thread(process.communicate, stdin, seconds)
    except subprocess.TimeoutExpired as error:
        raise Timeout(f"{binary.name} did not end within {seconds:.0f} s") from error
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    done = Done(process.returncode or 0, output[-65536:].decode(errors="replace"))
    if drop.prefix and done.code in NOT_STARTED and str(binary) in done.output:
        raise EngineFailed(f"{binary.name} could not be started: {done.tail(1)}", hint=MEND_ENGINE)
    if done.code != 0 and NO_ROOM.search(done.output):
        raise os_error(OSError(errno.ENOSPC, "no room"), f"running {binary.name} in", instance.root)
    if check and done.code != 0:
        raise EngineFailed(f"{binary.name} exited with code {done.code}: {done.tail()}")
    return done
