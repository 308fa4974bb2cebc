"""One engine process: started so that it outlives us, recognised again, watched, stopped in the engine's own way.

What is known about a process is in the instance's record and in run/<name>.pid. The pid file is written by the
process itself, before it becomes the engine: so there is no moment at which an engine runs and nobody could find it.
A pid alone proves nothing (they are used again), so a process counts as ours only when its start time is the one on
record, or, for one that was never recorded, when its environment carries the instance's mark or its output goes to the
instance's log. A directory may be a copy of another, records and all: a process whose output goes to the other's log is
the other's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.foundation.errors import EngineFailed
from chandlery.providers.local import pids
from chandlery.providers.local.asking import StopRequest, ask_to_stop
from chandlery.providers.local.files import in_words, os_error
from chandlery.providers.local.limiting import ProcessLimits
from chandlery.providers.local.problems import MEND_ENGINE

if TYPE_CHECKING:
    from chandlery.providers.local.instance import Instance

# Writes its own pid, waits until it is in its control groups, then becomes the engine. It doesn't join them itself,
# because it may be another user's process already; and whoever starts it may be gone before the word comes.
_SHIM = """umask 077
echo $$ >"$1" || exit 125
shift
read -r word || exit 125
exec "$@" </dev/null
"""
_GO = b"go\n"
MARK = "CHANDLERY_INSTANCE"
FIRST_BACKOFF = 0.5
MAX_BACKOFF = 60.0
_EXEC_LOOKS = 200
DYING_SECONDS = 10.0
"""A process that was killed for its memory has ended within so many seconds, on a busy machine, too."""
STABLE_AFTER = 60.0
"""Seconds after which a process that runs counts as well again: the next crash starts the back-off anew."""


@dataclass(frozen=True, slots=True)
class StopStep:
    """Send a signal, wait at most so many seconds."""

    signal: int
    wait: float


GRACEFUL = (StopStep(signal.SIGTERM, 10.0), StopStep(signal.SIGKILL, 5.0))


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How to start an engine. Nothing secret belongs into argv or env: both can be read by others."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stop: Sequence[StopStep] = GRACEFUL
    ask: StopRequest | None = None
    """Said before the first signal."""
    unprivileged: bool = True


@dataclass(frozen=True, slots=True)
class ExitInfo:
    """How a process ended. `code` and `signal` are None when it wasn't our child (the operator was restarted)."""

    at: float
    code: int | None = None
    signal: int | None = None
    memory: int | None = None
    """It was killed for using more than so many bytes, its limit."""

    def __str__(self) -> str:
        if self.memory is not None:
            limit = in_words(self.memory)
            return f"was killed for using more memory than its limit of {limit} (spec.resources.limits.memory)"
        if self.signal is not None:
            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = str(self.signal)
            return f"killed by {name}"
        if self.code is not None:
            return f"exited with code {self.code}"
        return "ended while no operator was watching"


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What is known right now."""

    running: bool
    pid: int | None = None
    started_at: float | None = None
    """Seconds since the epoch."""
    exit: ExitInfo | None = None
    """The last end that we didn't cause."""
    restarts: int = 0
    wait: float = 0.0
    """Seconds until the back-off allows another start; 0 means now."""
    not_before: float = 0.0
    """When that is, in seconds since the epoch."""
    wanted: bool = False
    """It was started and not stopped by us: not running means that it crashed."""

    short_of_memory: int = 0
    """How often the kernel ended something of it for using more memory than its limit, since it was started."""
    short_at: float = 0.0
    """When that was seen last, in seconds since the epoch."""

    @property
    def crashed(self) -> bool:
        return self.wanted and not self.running


class Process:
    """One named process of an instance."""

    def __init__(self, instance: Instance, name: str) -> None:
        self.instance = instance
        self.name = name
        self.log_path = instance.log_dir / f"{name}.log"
        self.pid_path = instance.run_dir / f"{name}.pid"
        self.limits = ProcessLimits(self)
        self._here: tuple[tuple[int, str | None], bool] | None = None

    def now(self) -> float:
        """Wall time in seconds: what is on record must mean the same after a restart of the operator."""
        return self.instance.provider.clock.now().timestamp()

    # -- looking

    @property
    def entry(self) -> dict[str, Any]:
        """Its part of the instance's record."""
        processes: dict[str, Any] = self.instance.record.setdefault("processes", {})
        entry: dict[str, Any] = processes.setdefault(self.name, {})
        return entry

    def state(self) -> ProcessState:
        """Look at the process; records its end when there was one."""
        entry = self.instance.record.get("processes", {}).get(self.name, {})
        pid, started = entry.get("pid"), entry.get("started")
        running = pid is not None and pids.is_same(pid, started) and self._is_here(pid, started)
        if not running:
            found = self._find_unrecorded(pid)
            if found is not None:
                pid, started = found
                self._remember(pid, started)
                entry, running = self.entry, True
        if running and pid is not None:
            self.instance.provider.watch_exit(pid, self.instance.name)  # also what an earlier operator started
        if pid is not None and not running and entry.get("exit_of") != [pid, started]:
            self._note_exit(pid, started)
            entry = self.entry
        if running:
            self.limits.note_kills()
        ended = entry.get("exit")
        return ProcessState(
            running=running,
            pid=pid if running else None,
            started_at=entry.get("at"),
            exit=ExitInfo(**ended) if ended else None,
            restarts=entry.get("restarts", 0),
            wait=0.0 if running else max(0.0, entry.get("not_before", 0.0) - self.now()),
            not_before=entry.get("not_before", 0.0),
            wanted=bool(entry.get("wanted")),
            short_of_memory=entry.get("short", 0),
            short_at=entry.get("short_at", 0.0),
        )

    def _find_unrecorded(self, known: int | None) -> tuple[int, str] | None:
        """A process that started but was never recorded, because the operator died in between.

        The pid file is emptied before each start and removed after each stop. So none means that nothing was started
        since; an empty one, that a start had just begun.
        """
        try:
            text = self.pid_path.read_text().strip()
            pid = int(text) if text else self._just_started()
        except (OSError, ValueError):
            return None
        if pid is None or pid == known:
            return None
        for _ in range(_EXEC_LOOKS):
            started = pids.start_time(pid)
            if started is None or pids.environ(pid):
                break
            os.sched_yield()  # between two programs: it has just become the engine, and has no environment yet
        return (pid, started) if started is not None and self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """By what it was started with. Valkey and Redis write their title over it; then by where its output goes."""
        here = pids.logs_to(pid, self.log_path)
        mark = pids.environ(pid).get(MARK)
        if mark is None:
            return bool(here)
        return mark == f"{self.instance.name}/{self.name}" and here is not False

    def _is_here(self, pid: int, started: str | None) -> bool:
        """Not a process of the directory that this one is a copy of: the record was copied, too."""
        if self._here is None or self._here[0] != (pid, started):
            self._here = (pid, started), pids.logs_to(pid, self.log_path) is not False
        return self._here[1]

    def _just_started(self) -> int | None:
        """Among all processes, the first one of a session that carries our mark."""
        for pid in pids.all_pids():
            with contextlib.suppress(OSError):
                if MARK in pids.environ(pid) and self._is_ours(pid) and os.getsid(pid) == pid:
                    return pid
        return None

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of the engine's log, for a condition's message."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 8192))
                tail = deque(file.read().decode(errors="replace").splitlines(), maxlen=lines)
        except OSError:
            return ""
        return "\n".join(line if len(line) <= 300 else f"{line[:97]} ... {line[-198:]}" for line in tail)

    # -- acting

    async def start(self, spec: ProcessSpec) -> int:
        """Start the engine unless it runs; returns its pid.

        Raises:
            EngineFailed: it could not be started at all (binary missing, not executable).
            Unavailable: the back-off after a crash is not over; `retry_after` says when.
        """
        state = self.state()
        if state.running and state.pid is not None:
            return state.pid
        if state.wait > 0:
            raise EngineFailed(self._crash_message(state), retry_after=state.wait)
        pid = self._spawn(spec)
        # With the pid goes the engine's own way to stop: whoever stops it later may not know the engine.
        self.entry["stop"] = [[int(step.signal), step.wait] for step in spec.stop]
        self.entry["ask"] = spec.ask.dump() if spec.ask is not None else None
        self._remember(pid, pids.start_time(pid) or "")
        return pid

    def _crash_message(self, state: ProcessState) -> str:
        tail = self.log_tail(3)
        why = f"{self.name} {state.exit}" if state.exit else f"{self.name} ended"
        return f"{why}, {state.restarts} times so far" + (f"; its last words: {tail}" if tail else "")

    def _spawn(self, spec: ProcessSpec) -> int:
        instance = self.instance
        binary = Path(spec.argv[0])
        privileges = instance.provider.privileges
        drop = privileges.drop(instance.root, binary) if spec.unprivileged else None
        try:
            os.close(os.open(self.pid_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise os_error(error, "opening", self.log_path) from error
        if drop is not None and drop.uid is not None:
            for directory in (instance.config_dir, instance.data_dir, instance.log_dir, instance.run_dir):
                privileges.hand_over(directory, instance.root)
            os.chown(instance.root, drop.uid, drop.gid if drop.gid is not None else -1)
        env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(instance.data_dir),
            "TMPDIR": str(instance.run_dir),
            **spec.env,
            MARK: f"{instance.name}/{self.name}",
        }
        argv = ["/bin/sh", "-c", _SHIM, "sh", str(self.pid_path)]
        argv += [*(drop.prefix if drop else ()), *map(str, spec.argv)]
        self.limits.prepare()
        instance.flush()
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=env,
                cwd=spec.cwd or instance.data_dir,
                start_new_session=True,
                close_fds=True,
                user=drop.uid if drop else None,
                group=drop.gid if drop else None,
                extra_groups=[] if drop and drop.uid is not None else None,
            )
        except OSError as error:
            raise EngineFailed(
                f"{binary} could not be started: {error.strerror or error}",
                hint=MEND_ENGINE,
            ) from error
        finally:
            os.close(log)
        # It may outlive this object and us: the provider collects it by pid, and Popen must not complain.
        child.returncode = 0
        instance.provider.watch_exit(child.pid, instance.name)
        self.limits.join(child.pid)
        if child.stdin is not None:
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(_GO)
        return child.pid

    def _remember(self, pid: int, started: str) -> None:
        entry = self.entry
        entry.update({"pid": pid, "started": started, "at": self.now(), "wanted": True})
        entry.pop("stopped", None)
        entry.pop("exit_of", None)
        self.instance.save()
        self.instance.provider.watch_exit(pid, self.instance.name)

    def _note_exit(self, pid: int, started: str | None) -> None:
        """Record that the process is gone, why, and until when the back-off lasts."""
        entry = self.entry
        now = self.now()
        code = self.instance.provider.collect(pid)
        info: dict[str, Any] = {"at": now, "code": None, "signal": None}
        if code is not None:
            info["signal" if code < 0 else "code"] = abs(code)
        self.limits.note_kills()  # maybe the kill was seen before the end was
        if code in (None, -signal.SIGKILL) and now - entry.get("short_at", 0.0) < DYING_SECONDS:
            info["memory"] = entry.get("limit")
        lived = now - entry.get("at", now)
        streak = entry.get("streak", 0)
        if code is None and streak:
            # Nobody saw it end: the operator was away, or so was the whole machine. That says nothing of the engine.
            pause = 0.0
        else:
            streak = 1 if lived > STABLE_AFTER else streak + 1
            # The first restart is immediate: a killed engine should be back before its clients give up.
            pause = 0.0 if streak == 1 else min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** (streak - 2))
        entry.update(
            {
                "exit": info,
                "exit_of": [pid, started],
                "restarts": entry.get("restarts", 0) + 1,
                "streak": streak,
                "not_before": now + pause,
            }
        )
        self.instance.save()

    def settled(self) -> None:
        """The engine answered with its real protocol: forget the streak of crashes once it has run for a while."""
        entry = self.entry
        if entry.get("streak") and self.now() - entry.get("at", 0.0) > STABLE_AFTER:
            entry["streak"] = 0
            self.instance.save()

    def signal(self, number: int) -> bool:
        """Send a signal; False when the process doesn't run."""
        state = self.state()
        if state.pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, number)
            return True
        return False

    async def stop(self, steps: Sequence[StopStep] | None = None) -> None:
        """Stop the engine: its own way (on record since its start) first, then harder. It doesn't count as crashed.

        Ends the whole process group at the last step, so that helpers of the engine don't stay behind.
        """
        state = self.state()
        entry = self.entry
        entry["wanted"] = False
        self.instance.save()
        if steps is None:
            await self._ask(entry)
            steps = [StopStep(number, wait) for number, wait in entry.get("stop", ())] or GRACEFUL
        if state.pid is not None:
            for step in steps:
                if await self._signal_and_wait(state.pid, entry.get("started"), step):
                    break
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(state.pid, signal.SIGKILL)
            self.instance.provider.collect(state.pid)
        entry = self.entry
        entry.update({"pid": None, "started": None, "stopped": True, "not_before": 0.0, "streak": 0})
        await self.limits.drop()
        self.pid_path.unlink(missing_ok=True)
        self.instance.save()

    async def _ask(self, entry: Mapping[str, Any]) -> None:
        """Have the engine end by itself, where it said how to ask it for that."""
        pid, started = entry.get("pid"), entry.get("started")
        if entry.get("ask") and pid is not None:
            request = StopRequest.load(entry["ask"])
            clock = self.instance.provider.clock
            await ask_to_stop(request, self.instance.run_dir, lambda: pids.is_same(pid, started), clock)

    async def _signal_and_wait(self, pid: int, started: str | None, step: StopStep) -> bool:
        try:
            if step.signal == signal.SIGKILL:
                os.killpg(pid, step.signal)
            else:
                os.kill(pid, step.signal)
        except ProcessLookupError:
            pass
        clock = self.instance.provider.clock
        deadline = clock.monotonic() + step.wait
        pause = 0.002
        while clock.monotonic() < deadline:
            if not pids.is_same(pid, started):
                return True
            await clock.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        return False

    def forget(self) -> None:
        """Drop a stopped process from the record (a replica that was scaled away)."""
        if self.instance.record.get("processes", {}).pop(self.name, None) is not None:
            self.instance.save()
        self.instance.drop_process(self.name)
