"""Limits of memory and CPU by the kernel's control groups, version 2 or 1, where this process may make some.

A process has a group of its own below the one that the operator is in (so what limits the operator as a whole limits
its engines, too): <base>/chandlery-<data directory>/<instance>.<process>. With version 1 there is one such directory
for each controller.

Whether it may is found out by trying. With version 2 a group that holds processes can't give controllers to groups
below it, and who isn't root may write only below what systemd delegated; so the nearest ancestor that can is taken.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; systemd's CGROUP_DELEGATION.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PERIOD = 100_000
"""Microseconds over which CPU time is counted: the kernel's own default."""
LEAST_QUOTA = 1_000
"""The kernel takes no fewer microseconds in a period."""
_UNLIMITED = 1 << 60
"""Version 1 says "no limit" by a number of about 2^63."""
NEAR = 1 << 20
"""The kernel counts in batches: a peak so many bytes below the limit has reached it."""
PROCS = "cgroup.procs"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one process with its children may use at most. None: as much as there is."""

    memory: int | None = None
    """Bytes."""
    cpu: float | None = None
    """Cores."""

    def __bool__(self) -> bool:
        return self.memory is not None or self.cpu is not None


@dataclass(frozen=True, slots=True)
class Kills:
    """How often the kernel ended a process of a group because memory was short."""

    count: int
    by_limit: bool
    """It was the group's own limit that was reached, not the machine's end."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Where groups for one resource are made."""

    name: str
    """memory or cpu."""
    version: int
    parent: Path
    """The directory that holds the groups of one data directory."""


class Cgroups:
    """The groups of one data directory's processes. `why` says for each resource why it can't be limited."""

    def __init__(self, controllers: Mapping[str, Controller], why: Mapping[str, str]) -> None:
        self.controllers = controllers
        self.why = why

    @classmethod
    def find(cls, data_dir: Path, proc: Path = Path("/proc")) -> Cgroups:
        """Find out by trying what can be limited. Never raises."""
        name = f"chandlery-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:10]}"
        found, why = {}, {}
        for resource in ("memory", "cpu"):
            try:
                found[resource] = _controller(resource, name, proc)
            except OSError as error:
                why[resource] = _sentence(error)
        return cls(found, why)

    def __str__(self) -> str:
        parts = []
        for name in ("memory", "cpu"):
            where = self.controllers.get(name)
            by = (
                f"held by the kernel, control groups of version {where.version} in {where.parent.parent}"
                if where
                else ""
            )
            parts.append(f"{name} is {by}" if by else f"{name} is left to the engine itself ({self.why[name]})")
        return "; ".join(parts)

    # -- one group

    def paths(self, instance: str, process: str) -> list[Path]:
        """The group's directories, one for all with version 2; they need not be there."""
        return list(dict.fromkeys(each.parent / f"{instance}.{process}" for each in self.controllers.values()))

    def prepare(self, instance: str, process: str, allowance: Allowance) -> list[Path]:
        """Make the group and set its limits; returns its directories. Safe to repeat.

        Raises:
            OSError: the kernel refused.
        """
        paths = self.paths(instance, process)
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            path.mkdir(exist_ok=True)
        set_limits(paths, allowance)
        return paths

    def sweep(self, instances: set[str]) -> None:
        """Remove the groups of instances that are gone, and the directory that holds them when it is empty."""
        for parent in {each.parent for each in self.controllers.values()}:
            for path in _directories(parent):
                if path.name.rpartition(".")[0] not in instances:
                    _remove(path)
            _remove(parent)


def set_limits(paths: Sequence[Path], allowance: Allowance) -> None:
    """Write the limits into a group's files.

    Raises:
        OSError: EBUSY when the group uses more memory now than it should have.
    """
    memory = "-1" if allowance.memory is None else str(allowance.memory)
    for path in paths:
        if (path / "memory.limit_in_bytes").exists():
            _set_memory_v1(path, memory)
        elif (path / "memory.max").exists():
            if allowance.memory is not None and held(path) > allowance.memory:
                raise OSError(errno.EBUSY, "more is in use")  # it would be killed at once
            (path / "memory.max").write_text("max" if allowance.memory is None else memory)
            with contextlib.suppress(OSError):  # a kernel without swap accounting has no such file
                (path / "memory.swap.max").write_text("max" if allowance.memory is None else "0")
        quota = "max" if allowance.cpu is None else str(max(LEAST_QUOTA, round(allowance.cpu * PERIOD)))
        if (path / "cpu.cfs_quota_us").exists():
            (path / "cpu.cfs_quota_us").write_text("-1" if allowance.cpu is None else quota)
        elif (path / "cpu.max").exists():
            (path / "cpu.max").write_text(f"{quota} {PERIOD}")


def _set_memory_v1(path: Path, value: str) -> None:
    """Memory with swap may never be less than memory alone: which goes first depends on the direction."""
    both = (path / "memory.limit_in_bytes", path / "memory.memsw.limit_in_bytes")
    files = [file for file in both if file.exists()]
    if value == "-1" or (_number(both[0]) or 0) < int(value):
        files.reverse()
    for file in files:
        file.write_text(value)


def limits(paths: Sequence[Path]) -> Allowance | None:
    """The limits that a group has now; None when it isn't there."""
    if not paths or not all(path.is_dir() for path in paths):
        return None
    memory: int | None = None
    cpu: float | None = None
    for path in paths:
        for name in ("memory.limit_in_bytes", "memory.max"):
            number = _number(path / name)
            if number is not None and 0 <= number < _UNLIMITED:
                memory = number
        quota = _number(path / "cpu.cfs_quota_us")
        if quota is None:
            quota = _number(path / "cpu.max")
        if quota is not None and quota > 0:
            cpu = quota / PERIOD
    return Allowance(memory, cpu)


def held(path: Path) -> int:
    """Bytes in use that can't be given back by forgetting what is on the disk anyway."""
    used = _number(path / "memory.current") or 0
    return max(0, used - _fields(path / "memory.stat").get("file", 0) + _fields(path / "memory.stat").get("shmem", 0))


def kills(paths: Sequence[Path]) -> Kills:
    """How often memory ran out in the group since it was made."""
    count, by_limit = 0, False
    for path in paths:
        found = _fields(path / "memory.oom_control") | _fields(path / "memory.events")
        count = max(count, found.get("oom_kill", 0))
        peak, limit = _number(path / "memory.max_usage_in_bytes"), _number(path / "memory.limit_in_bytes")
        # version 1 doesn't count how often the limit was reached; how much was used at most says whether it was
        reached = peak is not None and limit is not None and peak >= limit - NEAR
        by_limit = by_limit or reached or bool(found.get("oom"))
    return Kills(count, by_limit)


def join(paths: Sequence[Path], pid: int) -> None:
    """Put a process with everything that came from it into a group.

    Raises:
        OSError: the kernel refused, or the process is gone.
    """
    for path in paths:
        (path / PROCS).write_text(str(pid))
    for child in descendants(pid):
        for path in paths:
            with contextlib.suppress(ProcessLookupError):
                (path / PROCS).write_text(str(child))


def joined(paths: Sequence[Path], pid: int) -> bool:
    """Whether a process is in the group."""
    return bool(paths) and all(str(pid) in _read(path / PROCS).split() for path in paths)


def descendants(pid: int, proc: Path = Path("/proc")) -> Iterator[int]:
    """The children of a process, their children, and so on; nothing where the kernel doesn't list them."""
    pending = [pid]
    while pending:
        for task in _directories(proc / str(pending.pop()) / "task"):
            children = [int(word) for word in _read(task / "children").split()]
            yield from children
            pending += children


def remove(paths: Sequence[Path]) -> bool:
    """Remove a group; False when processes are still in it."""
    left = [path for path in paths if not _remove(path)]
    for path in paths:
        _remove(path.parent)  # stays while there are others
    return not left


# -- finding


def _controller(resource: str, name: str, proc: Path) -> Controller:
    """Where this resource's groups can be made, tried out.

    Raises:
        OSError: nowhere, and why.
    """
    own = _own(proc)
    mounts = list(_mounts(proc))
    for point, root, kind, options in mounts:
        if kind == "cgroup" and resource in options and resource in own:
            parent = _below(point, root, own[resource]) / name
            _try(parent, resource)
            return Controller(resource, 1, parent)
    for point, root, kind, _ in mounts:
        if kind == "cgroup2" and "" in own:
            here = _below(point, root, own[""])
            if resource not in _read(here / "cgroup.controllers").split():
                raise OSError(errno.ENOENT, f"the controller {resource} isn't given to {here}")
            return Controller(resource, 2, _delegated(here, point, resource, name))
    raise OSError(errno.ENOENT, f"this system has no control groups for {resource}")


def _delegated(here: Path, top: Path, resource: str, name: str) -> Path:
    """The nearest group from here upwards below which one with this controller can be made."""
    problem: OSError | None = None
    for base in (here, *here.parents):
        if not base.is_relative_to(top):
            break
        try:
            if not os.access(base / PROCS, os.W_OK):
                raise OSError(errno.EACCES, f"{base} isn't delegated to this user")
            _give(base, resource)
            parent = base / name
            made = not parent.exists()
            parent.mkdir(exist_ok=True)
            try:
                _give(parent, resource)
                _try(parent, resource)
            finally:
                if made:
                    _remove(parent)
        except OSError as error:
            problem = problem or error
            continue
        return parent
    raise problem or OSError(errno.ENOENT, f"{here} is outside of {top}")


def _give(group: Path, resource: str) -> None:
    """Have groups below this one get the controller."""
    control = group / "cgroup.subtree_control"
    if resource not in _read(control).split():
        control.write_text(f"+{resource}")


def _try(parent: Path, resource: str) -> None:
    """Make a group with a limit, and remove it again."""
    made = not parent.exists()
    parent.mkdir(exist_ok=True)
    trial = parent / "trial"
    try:
        trial.mkdir(exist_ok=True)
        set_limits([trial], Allowance(memory=64 << 20, cpu=1.0))
        found = limits([trial])
        if found is None or getattr(found, resource) is None:
            raise OSError(errno.ENOTSUP, f"{trial} takes no limit of {resource}")
    finally:
        _remove(trial)
        if made:
            _remove(parent)


def _own(proc: Path) -> dict[str, str]:
    """The group that this process is in, by controller; the one of version 2 has the name ""."""
    found = {}
    for line in _read(proc / "self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        found.update(dict.fromkeys(names.split(","), path))
    return found


def _mounts(proc: Path) -> Iterator[tuple[Path, str, str, list[str]]]:
    """Where control groups are: directory, the group it shows, type, options."""
    for line in _read(proc / "self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            fields = before.split(" ")
            yield Path(fields[4].replace("\\040", " ")), fields[3], kind, options.split(",")


def _below(point: Path, root: str, own: str) -> Path:
    """Where a group is seen when a mount shows those below `root` only (in a container)."""
    inside = own.removeprefix(root.rstrip("/")) if own.startswith(root) else "/"
    return point / inside.lstrip("/")


# -- small things


def _sentence(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename:
        return f"not allowed to write {error.filename}"
    if error.errno == errno.EBUSY and error.filename:
        return f"{Path(error.filename).parent} holds processes, so it can't have groups with limits below it"
    return error.strerror or str(error)


def _remove(path: Path) -> bool:
    """True when the group is gone. With processes in it, it stays."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """The first word of a file, when it is a number."""
    words = _read(path).split()
    return int(words[0]) if words and words[0].lstrip("-").isdigit() else None


def _fields(path: Path) -> dict[str, int]:
    lines = (line.split() for line in _read(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}


def _directories(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir()]
    except OSError:
        return []
