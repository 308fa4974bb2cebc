"""`chandlery service`: the same as `chandlery up`, kept by systemd over logins and reboots.

The unit starts the keeper, which runs control plane and operator; then `chandlery up --detach` applies what an
installation needs. Stopping the service is `chandlery down`: every engine is stopped in its own way, data stay.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from chandlery.app import keeping
from chandlery.app.home import Home
from chandlery.app.up import UpOptions, processes
from chandlery.foundation.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable

UNIT = "chandlery.service"


def unit_path() -> Path:
    """Where the unit belongs: the system's for root, the user's own for everybody else."""
    if os.geteuid() == 0:
        return Path("/etc/systemd/system") / UNIT
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "systemd" / "user" / UNIT


def quoted(argv: Sequence[str]) -> str:
    """A command line as systemd.service(5) reads it: specifiers and variables are not expanded."""
    words = []
    for word in argv:
        plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        words.append(f'"{plain}"' if any(char in word for char in " \t'\"\\;") or not word else plain)
    return " ".join(words)


def unit(options: UpOptions) -> str:
    """The text of the unit."""
    home = Home(options.data_dir)
    chandlery = [sys.executable, "-c", "from chandlery.app.entry import main; main()"]
    where = ["--data-dir", str(home.root)]
    apply = [word for path in options.apply for word in ("--apply", str(path.resolve()))]
    if options.kubeconfig is not None:
        apply += ["--kubeconfig", str(options.kubeconfig)]
    title = str(home.root).replace("%", "%%")
    argv, environment = keeping.command(home)
    settings = "\n".join(f"Environment={quoted([f'{name}={value}'])}" for name, value in environment.items())
    wanted_by = "multi-user.target" if os.geteuid() == 0 else "default.target"
    return f"""\
# Written by `chandlery service install`; `chandlery service uninstall` removes it. Changes here are overwritten.
[Unit]
Description=Chandlery: backing services on this machine ({title})
After=network.target

[Service]
Type=exec
{settings}
# CHANDLERY_* variables for operator, control plane and engines; a file that only its owner reads.
EnvironmentFile=-{title}/environment
ExecStart={quoted(argv)}
ExecStartPost={quoted([*chandlery, "up", "--detach", "--quiet", "--no-wait", *where, *apply])}
ExecStop={quoted([*chandlery, "down", "--quiet", *where])}
Restart=on-failure
RestartSec=2
TimeoutStartSec=600
TimeoutStopSec=180
# `chandlery down` stops the engines, each in its own way; what is left after that is killed.
KillMode=mixed
# Limits of memory and CPU are set for each object below the service's own control group. A group that holds processes
# can't limit those below it, so the service's own are one further down (systemd 254; ignored before).
Delegate=memory cpu pids
DelegateSubgroup=chandlery

[Install]
WantedBy={wanted_by}
"""


def install(options: UpOptions, *, start: bool = True) -> list[str]:
    """Write the unit and have systemd start it now and at each boot; returns what a person should know.

    Raises:
        AlreadyExists: a unit for another data directory is there.
        FailedPrecondition: Chandlery runs on the directory already, outside of the service.
        Unavailable: there is no systemd, or it refused.
    """
    home = Home(options.data_dir)
    path = unit_path()
    text = unit(options)
    if path.exists() and f"({str(home.root).replace('%', '%%')})" not in path.read_text():
        raise AlreadyExists(
            f"{path} is for another data directory",
            hint="Remove it first: chandlery service uninstall.",
            retry_after=None,
        )
    if start:
        _need_systemd()
        if keeping.is_kept(home) and not path.exists():
            raise FailedPrecondition(
                f"Chandlery already runs on {home.root}",
                hint=f"Stop it first: chandlery down --data-dir {home.root}.",
                retry_after=None,
            )
    keeping.make_directories(home)
    keeping.write_spec(home, processes(options, home))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    notes = [f"{path} is written"]
    if start:
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", UNIT)
        notes.append(f"it runs, now and after each {'boot' if os.geteuid() == 0 else 'login'}")
    if os.geteuid() != 0 and not _lingers():
        notes.append("it ends when you log out, unless you say once: loginctl enable-linger")
    return notes


def uninstall() -> list[str]:
    """Stop the service and remove the unit. Data stay.

    Raises:
        NotFound: there is no unit.
        Unavailable: systemd refused.
    """
    path = unit_path()
    if not path.exists():
        raise NotFound(f"there is no {path}", hint="Nothing to do: the service is not installed.")
    if shutil.which("systemctl"):
        _systemctl("disable", "--now", UNIT)
    path.unlink()
    if shutil.which("systemctl"):
        _systemctl("daemon-reload")
    return [f"{path} is removed; data stay where they are"]


def _need_systemd() -> None:
    if shutil.which("systemctl") is None or not Path("/run/systemd/system").is_dir():
        raise Unavailable(
            "systemd does not run on this machine",
            hint="Use `chandlery up --detach`, or `chandlery service print` for the text of a unit to take elsewhere.",
            retry_after=None,
        )


def _systemctl(*words: str) -> None:
    user = [] if os.geteuid() == 0 else ["--user"]
    done = subprocess.run(["systemctl", *user, *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(
            f"systemctl {' '.join([*user, *words])} failed: {done.stderr.strip() or done.returncode}",
            hint=f"`journalctl {' '.join(user)} -u {UNIT}` says more.".replace("  ", " "),
            retry_after=None,
        )


def _lingers() -> bool:
    import pwd

    return Path("/var/lib/systemd/linger", pwd.getpwuid(os.geteuid()).pw_name).exists()
