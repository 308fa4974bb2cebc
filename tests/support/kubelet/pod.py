"""One pod on the node: from its volumes to its last breath."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charts import restricted_problems
from kubelet import probes
from kubelet.network import hosts, resolver
from kubelet.runtime import Container, Mount, Surroundings, run, specification
from kubelet.volumes import NotYetError, Volumes

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.kubernetes.types import CONFIG_MAPS, PODS, SECRETS, Obj

if TYPE_CHECKING:
    from kubelet.node import Kubelet

BACK_OFF = (0, 10, 20, 40, 80, 160, 300)
"""Seconds before the first, second, ... restart."""
MESSAGE = "/dev/termination-log"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class State:
    """A container of the pod over its lives."""

    spec: Obj
    container: Container | None = None
    started: bool = False
    ready: bool = False
    restarts: int = -1
    began: str = ""
    waiting: tuple[str, str] = ("ContainerCreating", "")
    ended: Obj | None = None
    last: Obj | None = None
    stopping: bool = False
    message: Path = field(default_factory=Path)

    @property
    def running(self) -> bool:
        return self.container is not None and self.ended is None and self.container.running

    def status(self) -> Obj:
        state: Obj = {
            "waiting": {"reason": self.waiting[0], **({"message": self.waiting[1]} if self.waiting[1] else {})}
        }
        if self.ended is not None:
            state = {"terminated": self.ended}
        elif self.container is not None:
            state = {"running": {"startedAt": self.began}}
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": f"{self.spec['image']}@test",
            "ready": self.ready and self.ended is None and self.container is not None,
            "started": self.started,
            "restartCount": max(0, self.restarts),
            "state": state,
            **({"lastState": {"terminated": self.last}} if self.last else {}),
        }


class PodWorker:
    """Follows one pod until it is gone."""

    def __init__(self, node: Kubelet, pod: Obj) -> None:
        self.node = node
        self.pod = pod
        self.name = pod["metadata"]["name"]
        self.namespace = pod["metadata"]["namespace"]
        self.uid = pod["metadata"]["uid"]
        self.folder = node.folder / f"{self.name}.{self.uid[:8]}"
        self.volumes = Volumes(node.api, pod, self.folder, node.folder / "claims")
        self.first = [State(c) for c in pod["spec"].get("initContainers", ())]
        self.containers = {c["name"]: State(c) for c in pod["spec"]["containers"]}
        self.ip = ""
        self._network = ""
        self._phase = "Pending"
        self._reason: tuple[str, str] = ("", "")
        self.lost = False
        """Whether its node is."""
        self._unplaced = ""
        """Why the scheduler finds no node."""
        self._initialised = not self.first
        self._told: Obj | None = None
        self._going = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._gone = False

    # -- from outside

    def begin(self) -> None:
        self._work = asyncio.create_task(self._run())

    def seen(self, pod: Obj) -> None:
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp") and not self.lost:
            self._going.set()

    async def stop(self) -> None:
        """Without grace."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        await self._clean()

    def summary(self) -> str:
        states = [state.status() for state in (*self.first, *self.containers.values())]
        return (
            f"{self._phase} {self._reason} {[(s['name'], s['ready'], s['restartCount'], s['state']) for s in states]}"
        )

    def event(self, reason: str, text: str) -> None:
        line = f"{datetime.now(UTC):%H:%M:%S} {self.name}: {reason}: {text}"
        if not self.node.events or self.node.events[-1][9:] != line[9:]:
            self.node.events.append(line)

    # -- life

    async def _run(self) -> None:
        publish = asyncio.create_task(self._publishing())
        try:
            life = asyncio.create_task(self._live())
            going = asyncio.create_task(self._going.wait())
            await asyncio.wait((life, going), return_when=asyncio.FIRST_COMPLETED)
            if not self._going.is_set():
                if life.exception() is not None:
                    raise life.exception()  # type: ignore[misc]
                await going
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            await self._terminate()
        except Exception as error:
            self.event("Defect", f"{type(error).__name__}: {error}")
            raise
        finally:
            publish.cancel()
            await asyncio.gather(publish, return_exceptions=True)
        await self._clean()
        await self.node.remove(self.pod)

    async def _live(self) -> None:
        problems = list(restricted_problems(self.pod["spec"]))
        if problems:
            self._phase, self._reason = "Failed", ("PodSecurity", f"violates restricted: {problems}")
            self.event("FailedCreate", f"violates PodSecurity restricted: {problems}")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._network, self.ip = self.node.network.connect()
        memory = self.folder / "shm"
        memory.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=67108864,mode=1777", "shm", str(memory))
        while True:
            try:
                await self.volumes.prepare()
                break
            except NotYetError as error:
                self._unplaced = str(error) if "persistentvolumeclaim" in str(error).lower() else ""
                self.event("FailedScheduling" if self._unplaced else "FailedMount", str(error))
                await asyncio.sleep(0.3)
        self._unplaced = ""
        self._spawn(self._refreshing())
        for state in self.first:
            await self._initialise(state)
            if self._phase == "Failed":
                return
        self._initialised = True
        tasks = [self._spawn(self._keep(state)) for state in self.containers.values()]
        await asyncio.gather(*tasks)
        failed = any(state.ended and state.ended["exitCode"] for state in self.containers.values())
        self._phase = "Failed" if failed else "Succeeded"

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _refreshing(self) -> None:
        """A real kubelet takes up to a minute and more for it; tests needn't, but may ask for it."""
        while True:
            await asyncio.sleep(float(os.environ.get("CHANDLERY_KUBELET_REFRESH", "1")))
            try:
                await self.volumes.prepare()
            except (NotYetError, ChandleryError) as error:
                self.event("FailedMount", str(error))
            why = self.volumes.overfull()
            if why:
                self.event("Evicted", why)
                self._phase, self._reason = "Failed", ("Evicted", why)
                for state in self.containers.values():
                    if state.container is not None:
                        state.container.signal("KILL")

    async def _initialise(self, state: State) -> None:
        if state.spec.get("restartPolicy") == "Always":
            self._spawn(self._keep(state))
            while not state.started:
                await asyncio.sleep(0.1)
            return
        while True:
            await self._life(state)
            assert state.ended is not None
            if state.ended["exitCode"] == 0:
                state.ready = True
                return
            self.event("BackOff", f"init container {state.spec['name']} ended: {state.ended}")
            if self.pod["spec"].get("restartPolicy") == "Never":
                self._phase = "Failed"
                return
            await self._back_off(state)

    async def _keep(self, state: State) -> None:
        """Start it, and start it again as the pod's policy says."""
        policy = state.spec.get("restartPolicy") or self.pod["spec"].get("restartPolicy") or "Always"
        while self._phase != "Failed":
            await self._life(state)
            assert state.ended is not None
            failed = state.ended["exitCode"] != 0
            if policy == "Never" or (policy == "OnFailure" and not failed):
                return
            if not state.stopping:
                self.event("BackOff", f"container {state.spec['name']} ended: {state.ended}")
            await self._back_off(state)

    async def _back_off(self, state: State) -> None:
        seconds = BACK_OFF[min(state.restarts, len(BACK_OFF) - 1)]
        state.last, state.ended, state.container = state.ended, None, None
        state.waiting = ("CrashLoopBackOff", f"back-off {seconds}s restarting failed container={state.spec['name']}")
        await asyncio.sleep(seconds)

    async def _life(self, state: State) -> None:
        """One run of a container, to its end."""
        state.restarts += 1
        state.started = state.ready = state.stopping = False
        began = _now()
        while True:
            try:
                await self._start(state)
                break
            except (NotYetError, ValueError) as error:
                state.waiting = ("CreateContainerConfigError", str(error))
                self.event("Failed", str(error))
                await asyncio.sleep(1)
        assert state.container is not None
        state.began, state.ended = began, None
        watching = self._spawn(self._watch(state))
        try:
            code = await state.container.wait()
        finally:
            watching.cancel()
        why = "Completed" if code == 0 else "Error"
        if code == 128:
            why = "StartError"
            self.event("Failed", f"{state.spec['name']}: {state.container.problem}")
        said = state.message.read_text(errors="replace")[:4096]
        if not said and code and state.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            said = state.container.log.read_text(errors="replace")[-2048:]
        state.ended = {
            "exitCode": code,
            "reason": why,
            "message": said or state.container.problem,
            "startedAt": began,
            "finishedAt": _now(),
        }
        state.started = state.ready = False
        await state.container.end()

    async def _start(self, state: State) -> None:
        container, name = state.spec, state.spec["name"]
        image = await self.node.images.get(container["image"])
        if image is None:
            state.waiting = ("ImagePullBackOff", f"Back-off pulling image {container['image']}")
            raise NotYetError(f"failed to pull {container['image']}: not found")
        state.waiting = ("ContainerCreating", "")
        env = await self._environment(container)
        bundle = self.folder / "bundles" / f"{name}-{state.restarts}"
        bundle.mkdir(parents=True)
        state.message = bundle / "message"
        state.message.touch()
        state.message.chmod(0o666)
        around = Surroundings(
            bundle=bundle,
            identity=f"{self.name[-40:]}-{self.uid[:8]}-{name}-{state.restarts}",
            hostname=self.pod["spec"].get("hostname") or self.name,
            network=self.node.network.path(self._network),
            shared_memory=self.folder / "shm",
            mounts=[*self._own_files(state), *self._mounts(container)],
            env=env,
            sysctls={
                one["name"]: one["value"] for one in (self.pod["spec"].get("securityContext") or {}).get("sysctls", ())
            },
        )
        words = {key: [_expanded(w, env) for w in container[key]] for key in ("command", "args") if key in container}
        spec = specification({**container, **words}, self.pod, image, around)
        made = Container(spec, image, around, self.folder / f"{name}.log")
        await made.start()
        state.container = made

    def _own_files(self, state: State) -> list[Mount]:
        files = {"hosts": hosts(self.pod, self.ip), "resolv.conf": resolver(self.namespace), "hostname": self.name}
        found = []
        for name, text in files.items():
            path = self.folder / name
            path.write_text(text)
            path.chmod(0o644)
            found.append(Mount(path, f"/etc/{name}"))
        return [*found, Mount(state.message, state.spec.get("terminationMessagePath") or MESSAGE)]

    def _mounts(self, container: Obj) -> list[Mount]:
        found = []
        known = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", ())}
        for mount in container.get("volumeMounts", ()):
            if mount["name"] not in known:
                raise ValueError(f"volume {mount['name']} not found")
            source = self.volumes.where(mount["name"])
            volume = known[mount["name"]]
            if mount.get("subPath"):
                source = source / mount["subPath"]
                if not source.exists():
                    source.mkdir(parents=True)
                source = source.resolve()
            fixed = bool({"secret", "configMap", "projected", "downwardAPI"} & volume.keys())
            fixed = fixed or bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
            found.append(Mount(source.resolve(), mount["mountPath"], bool(mount.get("readOnly")) or fixed))
        return found

    async def _environment(self, container: Obj) -> dict[str, str]:
        env = {
            "KUBERNETES_SERVICE_HOST": "10.96.0.1",
            "KUBERNETES_SERVICE_PORT": "443",
            "KUBERNETES_SERVICE_PORT_HTTPS": "443",
        }
        own: dict[str, str] = {}
        for variable in container.get("env", ()):
            value = variable.get("value", "")
            source = variable.get("valueFrom") or {}
            if source:
                value = await self._value(source)
            own[variable["name"]] = _expanded(value, {**env, **own})
        return {**env, **own}

    async def _value(self, source: Obj) -> str:
        import base64

        if "fieldRef" in source:
            meta, path = self.pod["metadata"], source["fieldRef"]["fieldPath"]
            fields = {
                "metadata.name": self.name,
                "metadata.namespace": self.namespace,
                "metadata.uid": self.uid,
                "spec.nodeName": "node-1",
                "spec.serviceAccountName": self.pod["spec"].get("serviceAccountName", "default"),
                "status.podIP": self.ip,
                "status.podIPs": self.ip,
                "status.hostIP": "10.244.0.1",
            }
            match = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
            return str((meta.get(match[1]) or {}).get(match[2], "")) if match else fields[path]
        for key, kind in (("configMapKeyRef", CONFIG_MAPS), ("secretKeyRef", SECRETS)):
            if key in source:
                found = await self.node.api.get(kind, self.namespace, source[key]["name"])
                value = ((found or {}).get("data") or {}).get(source[key]["key"])
                if value is None:
                    raise NotYetError(f"{kind.kind} {source[key]['name']} has no {source[key]['key']}")
                return base64.b64decode(value).decode() if kind is SECRETS else str(value)
        raise ValueError(f"no such source of a variable here: {source}")

    # -- probes

    async def _watch(self, state: State) -> None:
        spec = state.spec
        if "startupProbe" in spec and not await self._until_started(state):
            return
        state.started = True
        if "readinessProbe" not in spec:
            state.ready = True
        work = [self._probing(state, kind) for kind in ("livenessProbe", "readinessProbe") if kind in spec]
        await asyncio.gather(*work)

    async def _probe(self, state: State, kind: str) -> bool:
        while self.lost:
            await asyncio.sleep(0.1)
        probe, container = state.spec[kind], state.container
        assert container is not None
        good, said = await probes.ask(probe, state.spec, container, self.ip, probe.get("timeoutSeconds", 1))
        if not good and state.ended is None and not state.stopping:
            self.event("Unhealthy", f"{state.spec['name']}: {kind} failed: {said}")
        return good

    async def _until_started(self, state: State) -> bool:
        probe, failures = state.spec["startupProbe"], 0
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            if await self._probe(state, "startupProbe"):
                return True
            failures += 1
            if failures >= probe.get("failureThreshold", 3):
                self._spawn(self._restart(state, "startupProbe"))
                return False
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def _probing(self, state: State, kind: str) -> None:
        probe, good, bad = state.spec[kind], 0, 0
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            if await self._probe(state, kind):
                good, bad = good + 1, 0
            else:
                good, bad = 0, bad + 1
            if kind == "readinessProbe":
                if good >= probe.get("successThreshold", 1):
                    state.ready = True
                elif bad >= probe.get("failureThreshold", 3):
                    state.ready = False
            elif bad >= probe.get("failureThreshold", 3):
                self._spawn(self._restart(state, kind))
                return
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def _restart(self, state: State, why: str) -> None:
        self.event("Killing", f"Container {state.spec['name']} failed {why}, will be restarted")
        await self._end(state, self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    # -- the end

    async def _terminate(self) -> None:
        grace = self.pod["metadata"].get("deletionGracePeriodSeconds", 30)
        await asyncio.gather(*(self._end(state, grace) for state in (*self.first, *self.containers.values())))

    async def _end(self, state: State, grace: float) -> None:
        container = state.container
        if container is None or not container.running:
            return
        state.stopping = True
        ends = time.monotonic() + grace
        hook = (state.spec.get("lifecycle") or {}).get("preStop")
        if hook and grace:
            asked = asyncio.create_task(probes.ask(hook, state.spec, container, self.ip, grace))
            gone = asyncio.create_task(container.wait())
            await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and not gone.done():
                good, said = asked.result()
                if not good:
                    self.event("FailedPreStopHook", f"{state.spec['name']}: {said}")
            await asyncio.gather(asked, return_exceptions=True)
            gone.cancel()
        container.signal("TERM")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(container.wait(), max(2.0, ends - time.monotonic()))
            return
        self.event("Killing", f"{state.spec['name']} didn't end within {grace} s")
        container.signal("KILL")
        await container.wait()

    async def _clean(self) -> None:
        if self._gone:
            return
        self._gone = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for state in (*self.first, *self.containers.values()):
            if state.container is not None:
                await state.container.end()
        with contextlib.suppress(RuntimeError):
            run("umount", "-l", str(self.folder / "shm"))
        if self._network:
            self.node.network.disconnect(self._network)
        logs = self.node.folder / "logs"
        logs.mkdir(exist_ok=True)
        for file in self.folder.glob("*.log"):
            file.rename(logs / f"{self.name}.{self.uid[:8]}.{file.name}")
        self.volumes.clean()

    # -- status

    async def _publishing(self) -> None:
        while True:
            with contextlib.suppress(ChandleryError):
                status = self._status()
                if status != self._told:
                    await self.node._status(PODS, self.pod, status)
                    self._told = status
            await asyncio.sleep(0.1)

    def _gone_node(self) -> list[Obj]:
        """What is told of a pod that is deleted because its node is lost."""
        if not self.lost or not self.pod["metadata"].get("deletionTimestamp"):
            return []
        words = "Taint manager: deleting due to NoExecute taint"
        return [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": words}]

    def _why(self, kind: str) -> Obj:
        if kind != "PodScheduled" or not self._unplaced:
            return {}
        return {"reason": "Unschedulable", "message": f"0/1 nodes are available: {self._unplaced}."}

    def _status(self) -> Obj:
        states = [state.status() for state in self.containers.values()]
        ready = all(s["ready"] for s in states) and self._phase not in ("Failed", "Succeeded")
        if self._phase == "Pending" and self._initialised and any(s.container for s in self.containers.values()):
            self._phase = "Running"
        truths = {
            "PodReadyToStartContainers": bool(self.ip),
            "Initialized": self._initialised,
            "Ready": ready and not self.lost,  # which whoever looks after nodes says then
            "ContainersReady": ready,
            "PodScheduled": not self._unplaced,
        }
        return {
            "phase": self._phase,
            **({"reason": self._reason[0], "message": self._reason[1]} if self._reason[0] else {}),
            **({"podIP": self.ip, "podIPs": [{"ip": self.ip}], "hostIP": "10.244.0.1"} if self.ip else {}),
            "conditions": [
                *({"type": t, "status": str(v), **self._why(t)} for t, v in truths.items()),
                *self._gone_node(),
            ],
            "containerStatuses": states,
            **({"initContainerStatuses": [s.status() for s in self.first]} if self.first else {}),
        }


def _expanded(text: str, env: dict[str, str]) -> str:
    """$(VAR) as the kubelet expands it: what isn't there stays, $$ is $."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return _REFERENCE.sub(one, text)
