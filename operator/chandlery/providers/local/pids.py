"""Is a process the one that we knew? Linux by /proc, elsewhere by psutil."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@cache
def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """A text that is the same for one process all its life and differs for any other that gets its pid.

    Reboots are told apart too.

    None when there is no such process, or only its zombie.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except FileNotFoundError:
        return None if (_PROC / "self").exists() else _psutil_start_time(pid)
    except ProcessLookupError:
        return None
    # The command's name may hold spaces and brackets; the fields after its last bracket don't.
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return f"{_boot_id()}:{fields[19].decode()}"


def _psutil_start_time(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def is_same(pid: int, started: str | None) -> bool:
    """True when the process with this pid is alive and is the one that started then."""
    return started is not None and start_time(pid) == started


def environ(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it can't be read."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        if (_PROC / "self").exists():
            return {}
        return _psutil_environ(pid)
    pairs = (part.partition(b"=") for part in raw.split(b"\0") if part)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}


def _psutil_environ(pid: int) -> dict[str, str]:
    import psutil

    try:
        return dict(psutil.Process(pid).environ())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return {}


def all_pids() -> list[int]:
    """Every process on this machine."""
    if (_PROC / "self").exists():
        return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    import psutil

    return psutil.pids()


def working_in(directory: Path, program: Path) -> list[tuple[int, str]]:
    """Processes of this program whose working directory is this one: pid and start time. Both paths are resolved.

    Blocks for some milliseconds.
    """
    found = []
    for pid in all_pids():
        if _link(pid, "cwd") == str(directory) and _link(pid, "exe") == str(program):
            started = start_time(pid)
            if started is not None:
                found.append((pid, started))
    return found


def output(pid: int) -> str:
    """The file that a process prints to, by its name; "" when it can't be seen."""
    return _link(pid, "fd/1")


def logs_to(pid: int, log: Path) -> bool | None:
    """Whether what a process prints goes to this file; None when it can't be seen, or goes somewhere else altogether.

    False means a file of that name in another directory: the process is of a copy of this one, or of its original. A
    file keeps its name here when it was removed, and gets its new name when a directory above it was moved.
    """
    for fd in ("fd/1", "fd/2"):
        link = Path(_link(pid, fd).removesuffix(" (deleted)"))
        if link.name == log.name:
            return link.parent == log.parent.resolve() or _same(link.parent, log.parent)
    return None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _link(pid: int, name: str) -> str:
    """Where a process works (cwd), which program it is (exe), or which file it has open; "" when it can't be read."""
    try:
        return str((_PROC / str(pid) / name).readlink())
    except OSError:
        if (_PROC / "self").exists():
            return ""
        return _psutil_link(pid, name)


def _psutil_link(pid: int, name: str) -> str:
    import psutil

    if name not in ("cwd", "exe"):
        return ""
    try:
        process = psutil.Process(pid)
        return str(process.cwd() if name == "cwd" else process.exe())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""
