"""Keeps the control plane and the operator running, and ends them together.

A process of its own that imports little but the standard library, because it stays for as long as Chandlery is up and
should cost next to nothing. It is told what to run by a JSON file, `run/keeper-spec.json`:

    {"processes": [{"name": "controlplane", "argv": [...]}, ...]}

and writes what it knows to `run/keeper.json`. SIGHUP has it start what the file names besides by now. SIGTERM and
SIGINT end it and what it runs, last started first; the engines go on. Killed hard, it leaves its processes behind, and
the next keeper ends those before it begins.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from chandlery.foundation.logfiles import rotate

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
STABLE_AFTER = 30.0
STOP_SECONDS = 20.0
LOG_BYTES = 16 * 1024 * 1024
LOOK_SECONDS = 60.0
"""Between looks at the length of the logs."""
ALREADY_RUNNING = 3
"""Exit code when another keeper holds the directory."""


def start_time(pid: int) -> str | None:
    """As chandlery.providers.local.pids.start_time, without its imports. None: no such process, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        if Path("/proc/self").exists():
            return None
        return _is_alive(pid)
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def _is_alive(pid: int) -> str | None:
    """Where there is no /proc: alive or not is all that can be said cheaply."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"


def identity(directory: Path) -> list[int]:
    """What tells a directory from its copy. A copy names the processes of the other in its files."""
    found = directory.stat()
    return [found.st_dev, found.st_ino]


class Child:
    """One process that is kept."""

    def __init__(self, name: str, argv: list[str], log: Path) -> None:
        self.name = name
        self.argv = argv
        self.log = log
        self.pid = 0
        self.started = 0.0
        self.restarts = 0
        self.streak = 0
        self.not_before = 0.0
        self.last_exit = ""

    def start(self) -> None:
        fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, fd, 1), (os.POSIX_SPAWN_DUP2, fd, 2)]
        try:
            self.pid = os.posix_spawn(self.argv[0], self.argv, os.environ, file_actions=actions, setsid=True)
        finally:
            os.close(fd)
            os.close(null)
        self.started = time.monotonic()

    def ended(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.last_exit = f"killed by signal {-code}" if code < 0 else f"exited with code {code}"
        lived = time.monotonic() - self.started
        self.streak = 1 if lived > STABLE_AFTER else self.streak + 1
        self.restarts += 1
        pause = 0.0 if self.streak == 1 else min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.streak - 2))
        self.not_before = time.monotonic() + pause
        self.pid = 0

    def state(self) -> dict[str, Any]:
        return {
            "pid": self.pid or None,
            "started": start_time(self.pid) if self.pid else None,
            "restarts": self.restarts,
            "lastExit": self.last_exit,
        }


class Keeper:
    def __init__(self, run_dir: Path, log_dir: Path) -> None:
        self.run_dir = run_dir
        self.log_dir = log_dir
        self.state_file = run_dir / "keeper.json"
        self.children: list[Child] = []
        self.stopping = False
        self.asked = True

    def take_lock(self) -> bool:
        self.lock = os.open(self.run_dir / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def end_leftovers(self) -> bool:
        """End what a keeper that was killed left running; False when there was nothing."""
        try:
            state = json.loads(self.state_file.read_text())
            known = state["children"]
        except (OSError, ValueError, KeyError):
            return False
        own = identity(self.run_dir)
        if state.get("directory", own) != own:
            return False  # this directory is a copy, and they are the other's
        left = [(c["pid"], c["started"]) for c in known.values() if c.get("pid")]
        left = [(pid, started) for pid, started in left if started is not None and start_time(pid) == started]
        self._end(reversed(left), ours=False)
        return bool(left)

    def release(self) -> None:
        """Leave the directory to whoever comes next."""
        os.close(self.lock)

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGHUP, self._ask)
        # Each signal puts a byte into the pipe, so none is missed that comes just before the wait below.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.end_leftovers()
        next_look = 0.0
        while not self.stopping:
            changed = self._reap()
            if self.asked:
                self.asked = False
                self._read_spec()
            for child in self.children:
                if not child.pid and time.monotonic() >= child.not_before and not self.stopping:
                    child.start()
                    changed = True
            if changed:
                self._write_state()
            if time.monotonic() >= next_look:
                self._cut_logs()
                next_look = time.monotonic() + LOOK_SECONDS
            self._wait(next_look)
        self._end([(c.pid, start_time(c.pid)) for c in reversed(self.children) if c.pid], ours=True)
        self.state_file.unlink(missing_ok=True)
        return 0

    def _read_spec(self) -> None:
        """Take on what isn't here yet. What runs goes on as it was started."""
        known = {child.name for child in self.children}
        for wanted in json.loads((self.run_dir / "keeper-spec.json").read_text())["processes"]:
            if wanted["name"] not in known:
                self.children.append(Child(wanted["name"], wanted["argv"], self.log_dir / f"{wanted['name']}.log"))

    def _cut_logs(self) -> None:
        for path in self.log_dir.glob("*.log"):
            try:
                rotate(path, LOG_BYTES)
            except OSError as error:
                sys.stderr.write(f"{path} could not be cut: {error}\n")

    def _wait(self, until: float) -> None:
        until = min([until, *(child.not_before for child in self.children if not child.pid)])
        select.select([self._woken], [], [], max(0.0, until - time.monotonic()))
        try:
            os.read(self._woken, 4096)
        except BlockingIOError:
            pass

    def _reap(self) -> bool:
        changed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return changed
            if pid == 0:
                return changed
            for child in self.children:
                if child.pid == pid:
                    child.ended(status)
                    changed = True
                    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                    sys.stderr.write(f"{stamp} {child.name} {child.last_exit}; starting it again\n")
                    sys.stderr.flush()

    def _write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
            "directory": identity(self.run_dir),
            "children": {child.name: child.state() for child in self.children},
        }
        temporary = self.state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(state, indent=1))
        temporary.chmod(0o600)
        temporary.replace(self.state_file)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def _end(self, processes: Iterable[tuple[int, str | None]], *, ours: bool) -> None:
        """Gently one after the other, then hard."""
        for pid, started in processes:
            self._kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline and start_time(pid) == started is not None:
                time.sleep(0.01)
            if start_time(pid) == started is not None:
                self._kill(pid, signal.SIGKILL)
            if ours:
                try:
                    os.waitpid(pid, 0)
                except ChildProcessError:
                    pass

    @staticmethod
    def _kill(pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def main(argv: list[str]) -> int:
    run_dir, log_dir = Path(argv[0]), Path(argv[1])
    os.umask(0o077)
    keeper = Keeper(run_dir, log_dir)
    if not keeper.take_lock():
        return ALREADY_RUNNING
    return keeper.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
