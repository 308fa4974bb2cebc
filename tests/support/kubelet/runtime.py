"""Containers by runc, as a kubelet's runtime makes them: a bundle from what the pod says, started, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Obj = dict[str, Any]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECCOMP = Path("/usr/share/containers/seccomp.json")
OPEN_FILES = min(1048576, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
"""What containerd gives on most distributions, or as much as we may: programs that make tables of that size show it."""
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip
MASKED = ("asound", "acpi", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi")
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")


def missing() -> str:
    """Why containers can't be run here; empty when they can."""
    if os.geteuid() != 0:
        return "containers need root"
    for program in ("runc", "ip", "mount"):
        if shutil.which(program) is None:
            return f"there is no {program} here (Debian: apt-get install runc iproute2)"
    return ""


@dataclass(slots=True)
class Image:
    """What a registry would give."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    directory: str = "/root"
    """Where processes begin; closed to all but root in images that nobody has thought about."""
    user: int = 0


@dataclass(slots=True)
class Mount:
    """Of a container: `source` on this machine."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(slots=True)
class Surroundings:
    """What a container gets from its pod."""

    bundle: Path
    identity: str
    hostname: str
    network: Path
    shared_memory: Path
    mounts: list[Mount]
    env: dict[str, str]
    sysctls: dict[str, str]


def specification(container: Obj, pod: Obj, image: Image, around: Surroundings) -> Obj:
    """The OCI runtime specification of a container.

    Raises:
        ValueError: the kubelet would refuse to create it.
    """
    shared, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    user = own.get("runAsUser", shared.get("runAsUser", image.user))
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")) and user == 0:
        raise ValueError("container has runAsNonRoot and image will run as root")
    group = own.get("runAsGroup", shared.get("runAsGroup", 0))
    more = [*shared.get("supplementalGroups", ()), *([shared["fsGroup"]] if "fsGroup" in shared else ())]
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": around.hostname, **image.env, **around.env}
    capabilities = _capabilities(own) if user == 0 else []
    bounding = _capabilities(own)
    limits = (container.get("resources") or {}).get("limits") or {}
    words = [*(container.get("command") or ["/entrypoint"]), *container.get("args", ())]
    linux: Obj = {
        "namespaces": [
            {"type": "pid"},
            {"type": "ipc"},
            {"type": "uts"},
            {"type": "mount"},
            {"type": "cgroup"},
            {"type": "network", "path": str(around.network)},
        ],
        "cgroupsPath": f"/chandlery-kubelet/{around.identity}",
        "maskedPaths": [f"/proc/{name}" for name in MASKED],
        "readonlyPaths": [f"/proc/{name}" for name in READ_ONLY],
        "sysctl": around.sysctls,
        "resources": {"devices": [{"allow": False, "access": "rwm"}], **_limits(limits)},
    }
    profile = own.get("seccompProfile") or shared.get("seccompProfile") or {}
    if profile.get("type") == "RuntimeDefault" and SECCOMP.exists():
        linux["seccomp"] = seccomp(tuple(bounding))
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": user, "gid": group, "umask": 0o022, "additionalGids": more},
            "args": words,
            "env": [f"{key}={value}" for key, value in env.items()],
            "cwd": container.get("workingDir") or image.directory,
            "capabilities": {
                "bounding": bounding,
                "effective": capabilities,
                "permitted": capabilities,
                "inheritable": [],
                "ambient": [],
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": OPEN_FILES, "soft": OPEN_FILES}],
            "noNewPrivileges": own.get("allowPrivilegeEscalation") is False,
        },
        "root": {"path": "root", "readonly": bool(own.get("readOnlyRootFilesystem"))},
        "hostname": around.hostname,
        "mounts": _mounts(around),
        "linux": linux,
    }


def _capabilities(own: Obj) -> list[str]:
    said = own.get("capabilities") or {}
    dropped = {f"CAP_{name}" for name in said.get("drop", ())}
    kept = set() if "CAP_ALL" in dropped else set(CAPABILITIES) - dropped
    return sorted(kept | {f"CAP_{name}" for name in said.get("add", ())})


def _limits(limits: Obj) -> Obj:
    from chandlery.foundation.validation.quantity import Quantity

    found: Obj = {"pids": {"limit": 4096}}
    if "memory" in limits:
        memory = int(Quantity(str(limits["memory"])))
        found["memory"] = {"limit": memory}
    return found


def _mounts(around: Surroundings) -> list[Obj]:
    quiet = ["nosuid", "noexec", "nodev"]
    found: list[Obj] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "ro"]},
        _bind(Mount(around.shared_memory, "/dev/shm")),
    ]
    return [*found, *(_bind(mount) for mount in sorted(around.mounts, key=lambda m: m.target.count("/")))]


def _bind(mount: Mount) -> Obj:
    options = ["rbind", "rprivate", "ro" if mount.read_only else "rw"]
    return {"destination": mount.target, "type": "bind", "source": str(mount.source), "options": options}


@functools.cache
def seccomp(capabilities: tuple[str, ...]) -> Obj:
    """The default profile of container engines, for a container with these capabilities."""
    profile = json.loads(SECCOMP.read_text())
    calls = []
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if "arches" in includes and not {"amd64", "x86", "x32"} & set(includes["arches"]):
            continue
        if {"amd64"} & set(excludes.get("arches") or ()):
            continue
        if not set(includes.get("caps") or ()) <= set(capabilities):
            continue
        if set(excludes.get("caps") or ()) & set(capabilities):
            continue
        said = {"names": rule["names"], "action": rule["action"]}
        said |= {key: rule[key] for key in ("args", "errnoRet") if rule.get(key)}
        calls.append(said)
    architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": 1,
        "architectures": architectures,
        "syscalls": calls,
    }


class Container:
    """One container: started once."""

    def __init__(self, spec: Obj, image: Image, around: Surroundings, log: Path) -> None:
        self.spec = spec
        self.identity = around.identity
        self.bundle = around.bundle
        self.log = log
        self.errors = around.bundle / "runc.log"
        self._state = around.bundle / "state"
        self._image = image
        self._process: subprocess.Popen[bytes] | None = None
        self._mounted = False

    async def start(self) -> None:
        """With a layer of its own above the image. It runs afterwards, or has ended."""
        for name in ("upper", "work", "root"):
            (self.bundle / name).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={self._image.root},upperdir={self.bundle / 'upper'},workdir={self.bundle / 'work'}"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.bundle / "root"))
        self._mounted = True
        (self.bundle / "config.json").write_text(json.dumps(self.spec, indent=1))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._runc, "--log", str(self.errors), "run", "--bundle", str(self.bundle), self.identity],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = self._process
        made = self._state / self.identity
        while process.poll() is None and not ((made / "state.json").exists() and not (made / "exec.fifo").exists()):
            await asyncio.sleep(0.02)

    @property
    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self._state)]

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def wait(self) -> int:
        """Its exit code; 128 when it could not be started."""
        assert self._process is not None
        while (code := self._process.poll()) is None:  # a thread for each of them would be all that asyncio has
            await asyncio.sleep(0.05)
        if code == 1 and self.problem:
            return 128
        return 128 - code if code < 0 else code

    @property
    def problem(self) -> str:
        """Why runc could not start it."""
        if not self.errors.exists():
            return ""
        return "\n".join(line for line in self.errors.read_text().splitlines() if "level=error" in line)

    def signal(self, name: str, *, everybody: bool = False) -> None:
        """To its first process, or to all of them."""
        more = ["--all"] if everybody else []
        subprocess.run([*self._runc, "kill", *more, self.identity, name], capture_output=True, check=False, timeout=30)

    def freeze(self, *, on: bool) -> None:
        verb = "pause" if on else "resume"
        subprocess.run([*self._runc, verb, self.identity], capture_output=True, check=False, timeout=30)

    def execute(self, command: list[str], seconds: float = 60.0) -> tuple[int, str]:
        """Run a command in it; its exit code and what it said. 124: not within the time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                [*self._runc, "exec", self.identity, *command],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False,
            )  # fmt: skip
            return done.returncode, (done.stdout + done.stderr).decode(errors="replace").strip()
        return 124, f"command timed out: {' '.join(command)}"[:200]

    async def end(self) -> None:
        """At once, whatever it does; what it held is gone."""
        if self.running:
            self.freeze(on=False)
            self.signal("KILL", everybody=True)
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), 10)
        words = [*self._runc, "delete", "--force", self.identity]
        await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False, timeout=30)
        if self._mounted:
            run("umount", "-l", str(self.bundle / "root"))
            self._mounted = False


def run(*words: str) -> str:
    """A program of this machine.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
