"""Plays the kubelet on this machine, for tests: pods of StatefulSets, Deployments and Jobs.

A container's command is run for real with the engine from this environment: volumes become folders, each pod gets a
loopback address of its own (127/8 is all ours), ports stay what they are. What is not played is the container;
the folder kubelet has those.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from controllers import Controllers

from chandlery.foundation.errors import ChandleryError, NotFound
from chandlery.providers.kubernetes.types import CONFIG_MAPS, PODS, SECRETS, SERVICES, Obj

PROBE_SECONDS = 0.5
_NEVER_ROOT = ("initdb", "postgres", "mariadb", "pg_")
_ADDRESSES = iter(range(1, 60000))


def _address() -> str:
    number = next(_ADDRESSES)
    return f"127.{10 + os.getpid() % 200}.{number // 250}.{1 + number % 250}"


@dataclass
class Running:
    """A pod's containers."""

    ip: str
    folder: Path
    argv: dict[str, list[str]] = field(default_factory=dict)
    env: dict[str, dict[str, str]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    initialised: set[str] = field(default_factory=set)
    """Init containers that have done their work."""
    before_stop: dict[str, list[str]] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    """Mounts, and where they are on this machine."""
    users: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    probed: dict[str, tuple[float, bool]] = field(default_factory=dict)
    """When the probe of a container was last run, and what it said."""
    told: str = ""


class Workloads(Controllers):
    """Runs until closed.

    Args:
        api: as whom the controllers and the kubelet speak.
        folder: for volumes.
        binaries: what stands for a command's first word.
        programs: folders with what shells in containers call.
    """

    def __init__(self, api: Any, folder: Path, binaries: dict[str, str], programs: list[str] | None = None) -> None:
        super().__init__(api)
        self.folder = folder
        self.binaries = binaries
        self.programs = programs or []
        self.environment: dict[str, str] = {}
        """What binaries of this machine need to start."""
        self.host = "127.0.0.1"
        """Where pods reach what a test serves itself."""
        self.pods: dict[str, Running] = {}
        self.names: dict[tuple[str, str], str] = {}
        """Addresses by namespace and pod: stands for DNS; a new pod of the name gets a new one."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for pod in self.pods.values():
            self._end(pod)

    # what tests do and ask

    def running(self, name: str) -> Running:
        return next(pod for pod in self.pods.values() if pod.folder.name.startswith(f"{name}."))

    def kill(self, name: str, container: str = "") -> None:
        """kill -9 of a pod's process."""
        pod = self.running(name)
        pod.processes[container or next(iter(pod.processes))].kill()

    def freeze(self, name: str, *, on: bool = True) -> None:
        """SIGSTOP, or SIGCONT."""
        for process in self.running(name).processes.values():
            process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def execute(self, name: str, command: list[str], container: str = "") -> int:
        """Run a command as `kubectl exec` would, or the kubelet for a probe; its exit code."""
        return self._run_in(self.running(name), container or next(iter(self.running(name).argv)), command)

    def volume(self, name: str, volume: str) -> Path:
        """Where a pod's volume lies on this machine."""
        return self.running(name).folder / volume

    async def behind(self, namespace: str, service: str) -> list[tuple[str, int]]:
        """Where a Service leads: addresses of the ready pods that it selects, with the target port."""
        found = await self.api.get(SERVICES, namespace, service)
        selector = ",".join(f"{k}={v}" for k, v in found["spec"]["selector"].items())
        target = found["spec"]["ports"][0]["targetPort"]
        places = []
        for pod in (await self.api.list(PODS, namespace, labels=selector)).items:
            ready = any(
                c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ())
            )
            if ready or found["spec"].get("publishNotReadyAddresses"):
                ports = [p for c in pod["spec"]["containers"] for p in c.get("ports", ())]
                number = next((p["containerPort"] for p in ports if p.get("name") == target), target)
                places.append((pod["status"]["podIP"], number))
        return places

    # the loop

    async def _run(self) -> None:
        while True:
            try:
                await self._pass()
            except ChandleryError:
                pass
            except Exception:  # a defect of this player: shown, as the test will fail by a time limit only
                traceback.print_exc()
            await asyncio.sleep(0.05)

    async def _pass(self) -> None:
        pods = (await self.api.list(PODS)).items
        await self.control(pods)
        for pod in pods:
            try:
                await self._pod(pod)
            except NotFound:
                pass
            except AssertionError:  # perhaps one that another test left behind: the others go on
                traceback.print_exc()
        alive = {pod["metadata"]["uid"] for pod in pods}
        for uid in [uid for uid in self.pods if uid not in alive]:
            self._end(self.pods.pop(uid))

    async def _once(self, pod: Obj, known: Running) -> None:
        """A pod that isn't started again."""
        [container] = pod["spec"]["containers"]
        name = container["name"]
        if name not in known.argv:
            self._prepare(pod, container, known)
            self._start(name, known)
        code = known.processes[name].poll()
        if code is None or known.told == str(code):
            return
        told = known.folder / "termination"
        message = told.read_text() if told.exists() else (known.folder / f"{name}.log").read_text()[-2000:]
        state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": message}}
        said = {"name": name, "image": container["image"], "imageID": "", "ready": False, "restartCount": 0}
        phase = "Succeeded" if code == 0 else "Failed"
        await self._status(
            PODS, pod, {"phase": phase, "podIP": known.ip, "containerStatuses": [{**said, "state": state}]}
        )
        known.told = str(code)

    # kubelet

    async def _pod(self, pod: Obj) -> None:
        meta = pod["metadata"]
        known = self.pods.get(meta["uid"])
        if meta.get("deletionTimestamp"):
            self.names.pop((meta["namespace"], meta["name"]), None)
            if known is not None:
                self._end(self.pods.pop(meta["uid"]))
            path = PODS.path(meta["namespace"], meta["name"])
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
            await self.api._ask("delete", "DELETE", PODS, path, options)
            return
        if known is None:
            ip = self._named(meta["namespace"], meta["name"])
            known = self.pods[meta["uid"]] = Running(ip, self.folder / f"{meta['name']}.{meta['uid'][:8]}")
        if not await self._volumes(pod, known):
            return
        if not await self._initialised(pod, known):
            return
        if pod["spec"].get("restartPolicy") == "Never":
            await self._once(pod, known)
            return
        containers = []
        for container in pod["spec"]["containers"]:
            name = container["name"]
            if name not in known.argv:
                self._prepare(pod, container, known)
            process = known.processes.get(name)
            if process is None or process.poll() is not None:
                if process is not None:
                    known.restarts[name] = known.restarts.get(name, 0) + 1
                self._start(name, known)
            up = await self._up(container, known)
            containers.append(
                {
                    "name": name,
                    "image": container["image"],
                    "imageID": "",
                    "ready": up,
                    "started": up,
                    "restartCount": known.restarts.get(name, 0),
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                }
            )
        up = all(c["ready"] for c in containers)
        conditions = [{"type": t, "status": "True" if up else "False"} for t in ("Ready", "ContainersReady")]
        conditions.append({"type": "PodScheduled", "status": "True"})
        status = {
            "phase": "Running",
            "podIP": known.ip,
            "podIPs": [{"ip": known.ip}],
            "conditions": conditions,
            "containerStatuses": containers,
        }
        text = json.dumps(status)
        if text != known.told:
            await self._status(PODS, pod, status)
            known.told = text

    async def _initialised(self, pod: Obj, known: Running) -> bool:
        """Run init containers one after the other; False while one isn't done."""
        for container in pod["spec"].get("initContainers", ()):
            name = container["name"]
            if name in known.initialised:
                continue
            if name not in known.argv:
                self._prepare(pod, container, known)
            process = known.processes.get(name)
            code = process.poll() if process is not None else 1
            if code == 0:
                self._hand_over(pod, container, known)
                known.initialised.add(name)
                del known.processes[name], known.argv[name]
                continue
            if code is not None:
                self._start(name, known)
            return False
        return True

    async def _volumes(self, pod: Obj, known: Running) -> bool:
        """Bring volumes up to date; False while something that they need is missing."""
        namespace = pod["metadata"]["namespace"]
        for volume in pod["spec"].get("volumes", ()):
            folder = known.folder / volume["name"]
            kind, name = None, ""
            if "secret" in volume:
                kind, name = SECRETS, volume["secret"]["secretName"]
            elif "configMap" in volume:
                kind, name = CONFIG_MAPS, volume["configMap"]["name"]
            elif "persistentVolumeClaim" in volume:
                place = self.folder / "claims" / namespace / volume["persistentVolumeClaim"]["claimName"]
                place.mkdir(parents=True, exist_ok=True)
                if not folder.exists():
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    folder.symlink_to(place)
            elif "emptyDir" in volume:
                folder.mkdir(parents=True, exist_ok=True)
            if kind is None:
                continue
            found = await self.api.get(kind, namespace, name)
            if found is None:
                return False
            version = found["metadata"]["resourceVersion"]
            if known.versions.get(volume["name"]) != version:
                known.versions[volume["name"]] = version
                folder.mkdir(parents=True, exist_ok=True)
                items = {item["key"] for item in volume.get("secret", {}).get("items", ())}
                for key, value in (found.get("data") or {}).items():
                    if items and key not in items:
                        continue
                    data = base64.b64decode(value).decode() if kind is SECRETS else value
                    (folder / key).write_text(self._adapted(data, pod, known))
        return True

    def _paths(self, pod: Obj, known: Running) -> dict[str, str]:
        containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
        mounts = [m for c in containers for m in c.get("volumeMounts", ())]
        return {
            m["mountPath"]: str(known.folder / m["name"] / m.get("subPath", "")).rstrip("/")
            for m in sorted(mounts, key=lambda m: -len(m["mountPath"]))
        }

    def _adapted(self, text: str, pod: Obj, known: Running) -> str:
        """Paths of mounts, and 'every address', as they are on this machine."""
        for mount, path in self._paths(pod, known).items():
            text = text.replace(mount, path)
        domain = pod["spec"].get("subdomain")
        if domain:
            namespace, base = pod["metadata"]["namespace"], domain.removesuffix("-nodes")
            names = rf"({re.escape(base)}-\d+)\.{re.escape(domain)}(\.{re.escape(namespace)}\.svc(\.cluster\.local)?)?"
            text = re.sub(names, lambda found: self._named(namespace, found[1]), text)
        for everywhere in ("* -::*", "0.0.0.0"):
            text = text.replace(everywhere, known.ip)
        text = text.replace("listen_addresses = '*'", f"listen_addresses = '{known.ip}'")
        text = text.replace('bind_address = "*"', f'bind_address = "{known.ip}"')
        text = text.replace("/dev/termination-log", str(known.folder / "termination"))
        for other in self.pods.values():  # the names of Services that lead to one pod
            name = other.folder.name.partition(".")[0]
            if name.endswith("-0"):
                service = name.removesuffix("-0").removesuffix("-s0")
                text = text.replace(f"{service}.{pod['metadata']['namespace']}.svc", other.ip)
        return text.replace("bind *:", f"bind {known.ip}:").replace("ipv4@*:", f"ipv4@{known.ip}:")

    async def _up(self, container: Obj, known: Running) -> bool:
        """Whether a container serves: by its own readiness probe where its program is here, else by its ports."""
        command = container.get("readinessProbe", {}).get("exec", {}).get("command") or [""]
        if command[0] not in self.binaries:
            return await _listens(known.ip, [p["containerPort"] for p in container.get("ports", ())])
        now = asyncio.get_running_loop().time()
        at, said = known.probed.get(container["name"], (0.0, False))
        if now - at > PROBE_SECONDS:
            said = await asyncio.to_thread(self._run_in, known, container["name"], command) == 0
            known.probed[container["name"]] = (now, said)
        return said

    def _named(self, namespace: str, pod: str) -> str:
        return self.names.setdefault((namespace, pod), _address())

    def _prepare(self, pod: Obj, container: Obj, known: Running) -> None:
        words = [*container["command"], *container.get("args", ())]
        env: dict[str, str] = {}
        for e in container.get("env", ()):
            reference = e.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
            fields = {"metadata.name": pod["metadata"]["name"], "status.podIP": known.ip}
            value = fields[reference] if reference else e.get("value", "")
            for key, before in env.items():  # as the kubelet: what stands before may be referred to
                value = value.replace(f"$({key})", before)
            env[e["name"]] = value
        for key, value in env.items():
            words = [w.replace(f"$({key})", value) for w in words]
        first = self.binaries.get(words[0])
        assert first, f"no binary stands for {words[0]}"
        known.argv[container["name"]] = [first, *(self._adapted(w, pod, known) for w in words[1:])]
        known.env[container["name"]] = {k: self._adapted(v, pod, known) for k, v in env.items()}
        before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        # One that signals process 1 means the container's own: here that is somebody else.
        if before and not any("kill" in word for word in before):
            known.before_stop[container["name"]] = before
        known.paths = self._paths(pod, known)
        known.users[container["name"]] = self._user(words, pod, known)

    def _user(self, words: list[str], pod: Obj, known: Running) -> tuple[int, int] | None:
        """As whom it runs: some engines refuse to be root. Its volumes are that user's, as by fsGroup."""
        if os.geteuid() != 0 or not _refuses_root(words):
            return None  # Python may stand where only we get at it
        nobody = pwd.getpwnam("nobody")
        self.folder.chmod(0o755)
        os.chown(known.folder, nobody.pw_uid, nobody.pw_gid)
        for volume in pod["spec"].get("volumes", ()):
            if "emptyDir" in volume or "persistentVolumeClaim" in volume:
                os.chown(known.folder / volume["name"], nobody.pw_uid, nobody.pw_gid)
        return nobody.pw_uid, nobody.pw_gid

    def _hand_over(self, pod: Obj, container: Obj, known: Running) -> None:
        """What our own program wrote is the engine's too, as the containers of a pod are one user."""
        after = [c["command"] for c in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])]
        if os.geteuid() != 0 or container["command"][0] != "python" or not any(map(_refuses_root, after)):
            return
        nobody = pwd.getpwnam("nobody")
        for volume in pod["spec"].get("volumes", ()):
            if "emptyDir" in volume or "persistentVolumeClaim" in volume:
                for folder, _, files in os.walk(known.folder / volume["name"]):
                    for path in (Path(folder), *(Path(folder) / file for file in files)):
                        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)

    def _as(self, name: str, known: Running) -> dict[str, Any]:
        """How a container's processes are started."""
        path = os.pathsep.join([*self.programs, os.environ["PATH"]])
        user = known.users.get(name)
        who = {"user": user[0], "group": user[1], "extra_groups": []} if user else {}
        return {"cwd": known.folder, "env": {**os.environ, "PATH": path, **self.environment, **known.env[name]}, **who}

    def _start(self, name: str, known: Running) -> None:
        with (known.folder / f"{name}.log").open("ab") as log:
            known.processes[name] = subprocess.Popen(known.argv[name], stdout=log, stderr=log, **self._as(name, known))

    def _run_in(self, known: Running, name: str, command: list[str]) -> int:
        words = [self.binaries.get(command[0], command[0]), *command[1:]]
        for mount, path in known.paths.items():
            words = [word.replace(mount, path) for word in words]
        with (known.folder / f"{name}.log").open("ab") as log:
            return subprocess.run(
                words, stdout=log, stderr=log, timeout=60, check=False, **self._as(name, known)
            ).returncode

    def _end(self, pod: Running) -> None:
        for process in pod.processes.values():
            process.send_signal(signal.SIGCONT)
        for name, command in pod.before_stop.items():
            if name in pod.processes and pod.processes[name].poll() is None:
                self._run_in(pod, name, command)
        for process in pod.processes.values():
            process.terminate()
        for process in pod.processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(pod.folder, ignore_errors=True)


def _refuses_root(words: list[str]) -> bool:
    return words[0] != "python" and any(word in " ".join(words) for word in _NEVER_ROOT)


async def _listens(ip: str, ports: list[int]) -> bool:
    for port in ports:
        try:
            async with asyncio.timeout(0.5):
                _, writer = await asyncio.open_connection(ip, port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return True
