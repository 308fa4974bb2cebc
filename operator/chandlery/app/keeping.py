"""Starting and stopping the keeper, and knowing what it runs."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chandlery.app.home import Home
from chandlery.app.keeper import Keeper, identity, start_time
from chandlery.foundation.errors import EngineFailed, Timeout


def make_directories(home: Home) -> None:
    """The data directory and what is in it; passable for engines of other users, readable for us only."""
    from chandlery.providers.local.files import make_dir

    make_dir(home.root, 0o711 if os.geteuid() == 0 else 0o700)
    for path in (home.logs, home.run, home.controlplane):
        make_dir(path)


def state(home: Home) -> dict[str, Any] | None:
    """What the keeper wrote, when it is alive."""
    try:
        found: dict[str, Any] = json.loads(home.keeper_state.read_text())
        own = identity(home.run)
    except (OSError, ValueError):
        return None
    if found.get("directory", own) != own:
        return None  # the keeper of the directory that this one is a copy of
    return found if start_time(found.get("pid", 0)) == found.get("started") else None


def check_no_copy(home: Home) -> None:
    """Raise when it is a copy of a directory whose engines run: the operator would not work on it.

    Raises:
        AlreadyExists: says which one, and how to go on.
    """
    try:
        known = json.loads((home.root / "directory.json").read_text())
    except (OSError, ValueError):
        return
    if [known.get("device"), known.get("inode")] == identity(home.root):
        return
    from chandlery.providers.local import LocalProvider

    provider = LocalProvider(home.root)
    provider.open()  # it knows the processes
    provider.close()


def is_kept(home: Home) -> bool:
    """Whether a keeper holds the data directory, seen by its lock: true from its first moment on."""
    try:
        fd = os.open(home.keeper_lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def command(home: Home) -> tuple[list[str], dict[str, str]]:
    """How a keeper is started: its command, and what its environment needs beside what is there."""
    # -S leaves out site-packages, and with them every .pth file; the package is found by PYTHONPATH instead.
    # One arena: glibc gives each thread one of its own else, and what they hold is never given back.
    argv = [sys.executable, "-S", "-m", "chandlery.app.keeper", str(home.run), str(home.logs)]
    path = [_source_root(), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    return argv, {"MALLOC_ARENA_MAX": "1", "PYTHONPATH": os.pathsep.join(path)}


def write_spec(home: Home, processes: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Say what the keeper is to run."""
    from chandlery.providers.local.files import write_atomic

    wanted = {"processes": [{"name": name, "argv": list(argv)} for name, argv in processes]}
    write_atomic(home.run / "keeper-spec.json", json.dumps(wanted, indent=1))


def spec(home: Home) -> dict[str, list[str]]:
    """The processes that the keeper was told to run, by name."""
    try:
        found = json.loads((home.run / "keeper-spec.json").read_text())["processes"]
    except (OSError, ValueError, KeyError):
        return {}
    return {each["name"]: each["argv"] for each in found}


def kubeconfig(home: Home) -> Path:
    """The file that leads to the API server that the operator works on: our own, or that of `up --kubeconfig`."""
    argv = spec(home).get("operator", [])
    return Path(argv[argv.index("--kubeconfig") + 1]) if "--kubeconfig" in argv else home.kubeconfig


def add(home: Home, processes: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Have the keeper that is at work run these besides; those that it runs already go on as they are.

    Returns the names of what was added.
    """
    before = spec(home)
    added = [(name, argv) for name, argv in processes if name not in before]
    known = state(home)
    if added and known is not None:
        write_spec(home, [*before.items(), *added])
        os.kill(known["pid"], signal.SIGHUP)
    return [name for name, _ in added]


def start(home: Home, processes: Sequence[tuple[str, Sequence[str]]]) -> subprocess.Popen[bytes]:
    """Start a keeper for these processes, in a session of its own."""
    write_spec(home, processes)
    argv, environment = command(home)
    log = os.open(home.log("keeper"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **environment, **_chosen("MALLOC_ARENA_MAX")},
        )
    finally:
        os.close(log)


def _chosen(name: str) -> dict[str, str]:
    """A variable that a person has set counts more than ours."""
    return {name: os.environ[name]} if name in os.environ else {}


def _source_root() -> str:
    import chandlery

    return str(Path(chandlery.__file__).resolve().parents[1])


def stop(home: Home, seconds: float = 60.0) -> bool:
    """End the keeper and what it runs, or what a keeper that was killed left running; False when there was nothing.

    Raises:
        Timeout: it is still there after so many seconds.
    """
    known = state(home)
    if known is None:
        return _end_leftovers(home)
    pid, started = known["pid"], known["started"]
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    deadline = time.monotonic() + seconds
    while start_time(pid) == started:
        if time.monotonic() > deadline:
            raise Timeout(
                f"the keeper (process {pid}) did not end within {seconds:.0f} s", hint=f"See {home.log('keeper')}."
            )
        time.sleep(0.01)
    return True


def _end_leftovers(home: Home) -> bool:
    if not home.run.is_dir():
        return False
    nobody = Keeper(home.run, home.logs)
    if not nobody.take_lock():
        return False  # one that is just coming; it ends them itself
    try:
        return nobody.end_leftovers()
    finally:
        nobody.release()


def check_alive(home: Home, keeper: subprocess.Popen[bytes] | None, name: str) -> None:
    """Raise when there is no hope any more: the keeper is gone, or a process of it fails again and again.

    Raises:
        EngineFailed: with the last lines of the log that tells why.
    """
    if keeper is not None and keeper.poll() is not None:
        raise EngineFailed(f"the keeper ended with code {keeper.returncode}: {tail(home, 'keeper')}")
    known = state(home)
    child = (known or {}).get("children", {}).get(name, {})
    if child.get("restarts", 0) >= 3:
        raise EngineFailed(
            f"{name} {child['lastExit']}, {child['restarts']} times; its last words: {tail(home, name)}",
            hint=f"The whole log is in {home.log(name)}.",
        )


def tail(home: Home, name: str, lines: int = 3) -> str:
    try:
        text = home.log(name).read_text(errors="replace")
    except OSError:
        return "(no log)"
    said = list(dict.fromkeys(text.splitlines()))  # who was started three times said it three times
    return " | ".join(said[-lines:]) or "(empty log)"
