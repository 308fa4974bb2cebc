"""What the local drivers share: the data directory, the claimed ports, the engines, and word of processes that end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import signal
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.errors import AlreadyExists, ChandleryError, InvalidSpec
from chandlery.providers.local import identity, pids
from chandlery.providers.local.background import Background
from chandlery.providers.local.cgroups import Cgroups
from chandlery.providers.local.engines import Engines
from chandlery.providers.local.files import PRIVATE_DIR, make_dir, os_error
from chandlery.providers.local.housekeeping import Housekeeping, Limits
from chandlery.providers.local.instance import Instance
from chandlery.providers.local.ports import DEFAULT_RANGE, Ports
from chandlery.providers.local.privileges import Privileges
from chandlery.providers.local.process import MARK
from chandlery.providers.local.tools import TOOL

POLL_WITHOUT_PIDFD = 0.5
LOCK = "operator.lock"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def take(data_dir: Path) -> int:
    """Lock a data directory; the lock lasts as long as the descriptor.

    Raises:
        AlreadyExists: another operator works on this directory.
        PermissionDenied: it can't be written.
    """
    path = data_dir / LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise os_error(error, "opening", path) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(fd, 32).decode(errors="replace").strip()
        os.close(fd)
        raise AlreadyExists(
            f"another operator (process {holder or 'unknown'}) works on {data_dir}",
            hint="Stop it with `chandlery down`, or choose another directory with --data-dir.",
            retry_after=None,
        ) from error
    return fd


class LocalProvider:
    """The session of the `local` drivers: one per data directory."""

    name = "local"

    def __init__(
        self,
        data_dir: Path,
        *,
        cache_dir: Path | None = None,
        port_range: tuple[int, int] = DEFAULT_RANGE,
        notify: Callable[[str], None] = lambda _name: None,
        clock: Clock = SYSTEM,
        image_dirs: Iterable[Path] = (),
        limits: Limits | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.instances_dir = data_dir / "instances"
        self.clock = clock
        self.privileges = Privileges()
        self.cache_dir = cache_dir or data_dir
        """Engines and images: what can be fetched again, and may be shared by several data directories."""
        self.background = Background()
        self.engines = Engines(self.cache_dir / "engines", background=self.background)
        self.images_dir = self.cache_dir / "images"
        self.image_sources = tuple(dict.fromkeys((data_dir / "images", self.images_dir, *image_dirs)))
        """Folders that a machine's image may be taken from by a file URL."""
        self.housekeeping = Housekeeping(self, limits or Limits())
        self.ports = Ports(self._claimed_ports, port_range, begin=str(data_dir))
        self.ports.begin(str(data_dir))
        self.notify = notify
        """Called with an instance's name when a process of it ended; the operator enqueues the object."""
        self._instances: dict[str, Instance] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._codes: dict[int, int] = {}
        self._lock_fd: int | None = None
        self._cgroups: Cgroups | None = None

    # -- life

    def open(self) -> None:
        """Make the data directory and take its lock.

        Raises:
            AlreadyExists: another operator works on this directory.
            PermissionDenied: it can't be written.
        """
        # Passable, not readable: an engine that runs as another user must reach its own directory through these two.
        mode = 0o711 if os.geteuid() == 0 else PRIVATE_DIR
        make_dir(self.data_dir, mode)
        make_dir(self.instances_dir, mode)
        if self.cache_dir != self.data_dir and not self.cache_dir.exists():
            make_dir(self.cache_dir, 0o755)  # nothing in it is secret, and engines run as other users
        fd = take(self.data_dir)
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        self._lock_fd = fd
        try:
            identity.confirm(self)
        except ChandleryError:
            self.close()
            raise
        self._end_tools()

    def _end_tools(self) -> None:
        """Kill one-shot programs that an earlier operator waited for.

        Nobody would learn how they end, and what they change would be changed under the next one's hands.
        """
        for pid in pids.all_pids():
            env = pids.environ(pid)
            if TOOL in env and env.get("HOME", "").startswith(str(self.instances_dir) + os.sep):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop watching and give the lock back. The engines go on."""
        for cancel in list(self._watched.values()):
            cancel()
        self._watched.clear()
        self.housekeeping.stop()
        self.background.cancel()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    # -- limits

    @property
    def cgroups(self) -> Cgroups:
        """The control groups of this data directory's processes; found out at the first use."""
        if self._cgroups is None:
            self._cgroups = Cgroups.find(self.data_dir)
        return self._cgroups

    # -- instances

    def instance(self, name: str) -> Instance:
        """The instance of this external name, there or not.

        Raises:
            InvalidSpec: the name would lead out of the directory.
        """
        if not _NAME.fullmatch(name):
            raise InvalidSpec(
                "on this machine it is the name of a directory of the instances",
                field="spec.adopt.externalName",
                value=name,
                hint=f"Directories that are there: `ls {self.instances_dir}`.",
            )
        if name not in self._instances:
            self._instances[name] = Instance(self, name)
        return self._instances[name]

    def forget(self, name: str) -> None:
        self._instances.pop(name, None)

    def instances(self) -> list[Instance]:
        """Every instance that has a directory."""
        try:
            names = sorted(entry.name for entry in self.instances_dir.iterdir() if entry.is_dir())
        except FileNotFoundError:
            return []
        return [self.instance(name) for name in names]

    def _claimed_ports(self) -> Iterable[int]:
        for instance in self.instances():
            yield from instance.ports.values()

    async def stop_all(self) -> int:
        """Stop every process of every instance; returns how many there were. They are started again when wanted."""
        count = 0
        for instance in self.instances():
            running = [name for name in instance.process_names() if instance.process(name).state().running]
            count += len(running)
            await instance.stop_all()
        return count

    def owners(self) -> dict[str, str]:
        """Uid and kind of every object that a process is kept running for."""
        found = {}
        for instance in self.instances():
            owner = instance.record.get("owner", {})
            if owner and not instance.record.get("retained"):
                found[owner["uid"]] = owner["kind"]
        return found

    async def end(self, uids: Collection[str]) -> list[str]:
        """End the processes of objects that no longer exist; returns the instances' names.

        Their directories stay: whether the data may go was the object's own decision, and the object can't be
        asked any more. Only processes with our mark for an instance of this data directory are touched.
        """
        stopped = []
        for instance in self.instances():
            if instance.record.get("owner", {}).get("uid") not in uids:
                continue
            if any(instance.process(name).state().running for name in instance.process_names()):
                await instance.stop_all()
                stopped.append(instance.name)
        return stopped + await asyncio.to_thread(self.end_strays)

    def strays(self) -> list[tuple[int, str]]:
        """Processes with our mark or our log, but whose instance directory is gone: (pid, instance name)."""
        found = []
        for pid in pids.all_pids():
            env = pids.environ(pid)
            name = env[MARK].partition("/")[0] if MARK in env else self._by_log(pid)
            if name is None or (self.instances_dir / name).exists():
                continue
            if MARK not in env or env.get("HOME", "").startswith(str(self.instances_dir) + os.sep):
                found.append((pid, name))
        return found

    def _by_log(self, pid: int) -> str | None:
        """The instance whose log a process writes that has no environment any more (Valkey and Redis, by their title).

        Helpers of such a process are its own to end; only the first one of a session is looked at.
        """
        with contextlib.suppress(OSError):
            if os.getsid(pid) != pid:
                return None
        log = Path(pids.output(pid).removesuffix(" (deleted)"))
        return log.parts[-3] if log.match(f"{self.instances_dir.resolve()}/*/log/*.log") else None

    def end_strays(self) -> list[str]:
        """Kill processes left behind by instances that are gone."""
        ended = []
        for pid, name in self.strays():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                ended.append(name)
        self.cgroups.sweep({instance.name for instance in self.instances()})
        return ended

    # -- ends of processes

    def watch_exit(self, pid: int, name: str) -> None:
        """Call `notify(name)` when the process ends; needs a running event loop, else it is a no-op."""
        if pid in self._watched:
            return
        self._codes.pop(pid, None)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        try:
            fd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            started = pids.start_time(pid)
            self._watch_by_polling(pid, started, name)
            return

        def ended() -> None:
            self._unwatch(pid)
            self.collect(pid)
            self.notify(name)

        def cancel() -> None:
            loop.remove_reader(fd)
            os.close(fd)

        self._watched[pid] = cancel
        loop.add_reader(fd, ended)

    def collect(self, pid: int) -> int | None:
        """The exit code of a child of ours that has ended (negative: the signal); None for anybody else's process."""
        if pid not in self._codes:
            try:
                done, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                return None
            if done == 0:
                return None
            self._codes[pid] = os.waitstatus_to_exitcode(status)
        return self._codes[pid]

    def _watch_by_polling(self, pid: int, started: str | None, name: str) -> None:
        """Where the kernel has no pidfd (macOS)."""

        def look() -> None:
            if pids.is_same(pid, started):
                self._watched[pid] = self.clock.call_later(POLL_WITHOUT_PIDFD, look).cancel
            else:
                self._watched.pop(pid, None)
                self.collect(pid)
                self.notify(name)

        self._watched[pid] = self.clock.call_later(POLL_WITHOUT_PIDFD, look).cancel

    def _unwatch(self, pid: int) -> None:
        cancel = self._watched.pop(pid, None)
        if cancel is not None:
            cancel()
