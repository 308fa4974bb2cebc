"""A kubelet: pods of one control plane as real containers on this machine, with the workload controllers beside it."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from pathlib import Path
from typing import Any, Self

from controllers import Controllers
from kubelet.images import Images
from kubelet.managers import Managers
from kubelet.network import GATEWAY, Network, Services
from kubelet.pod import PodWorker
from kubelet.runtime import Container

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.kubernetes.types import PODS


class Kubelet(Controllers):
    """Runs until closed. Its thread must be inside `network`.

    Args:
        api: as whom the controllers and the kubelet speak.
        folder: for volumes and bundles.
        network: where pods are connected.
        images: what they run.
        port: where the control plane listens on 127.0.0.1.
    """

    def __init__(self, api: Any, folder: Path, network: Network, images: Images, port: int) -> None:
        super().__init__(api)
        self.binds = False
        self.managers = Managers(api, self._status)
        self.folder = folder
        self.network = network
        self.images = images
        self.host = GATEWAY
        """Where pods reach what a test serves itself."""
        self.services = Services(api, port)
        self.pods: dict[str, PodWorker] = {}
        self.binaries: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.events: list[str] = []
        """What a kubelet would tell as events of the type Warning."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.services.start()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self.pods.values()), return_exceptions=True)
        await self.services.stop()

    # what tests do and ask

    def running(self, name: str) -> PodWorker:
        return next(worker for worker in self.pods.values() if worker.name == name)

    def container(self, name: str, container: str = "") -> Container:
        known = self.running(name).containers
        found = known[container or next(iter(known))].container
        assert found is not None, f"{name} doesn't run"
        return found

    def kill(self, name: str, container: str = "") -> None:
        """kill -9 of a container's first process."""
        self.container(name, container).signal("KILL")

    def freeze(self, name: str, *, on: bool = True) -> None:
        for state in self.running(name).containers.values():
            if state.container is not None:
                state.container.freeze(on=on)

    def lose(self, name: str, *, on: bool = True) -> None:
        """The pod's node is gone: nothing of it is heard of any more, and nothing that is told reaches it."""
        self.freeze(name, on=on)
        self.running(name).lost = on

    def execute(self, name: str, command: list[str], container: str = "") -> int:
        """Run a command as `kubectl exec` would, or the kubelet for a probe; its exit code."""
        return self.container(name, container).execute(command)[0]

    def log(self, name: str, container: str = "") -> str:
        worker = self.running(name)
        file = worker.folder / f"{container or worker.pod['spec']['containers'][0]['name']}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def volume(self, name: str, volume: str) -> Path:
        """Where a pod's volume lies on this machine."""
        return self.running(name).volumes.where(volume)

    async def behind(self, namespace: str, service: str) -> list[tuple[str, int]]:
        """Where a Service leads: its own address, when somebody is ready behind it."""
        return self.services.behind((namespace, service), await self._first_port(namespace, service))

    async def _first_port(self, namespace: str, service: str) -> str:
        from chandlery.providers.kubernetes.types import SERVICES

        found = await self.api.get(SERVICES, namespace, service)
        return str(found["spec"]["ports"][0].get("name", ""))

    def describe(self) -> str:
        """What a person would want to see when a test fails."""
        lines = [*self.events[-40:]]
        for worker in self.pods.values():
            lines.append(f"--- {worker.name}: {worker.summary()}")
            for file in sorted(worker.folder.glob("*.log")):
                lines += [f"[{file.stem}] {line}" for line in file.read_text(errors="replace").splitlines()[-30:]]
        return "\n".join(lines)

    # the loop

    async def _run(self) -> None:
        while True:
            try:
                await self._pass()
            except ChandleryError:
                pass
            except Exception:  # a defect of this player: shown, as the test will fail by a time limit only
                traceback.print_exc()
            await asyncio.sleep(0.1)

    async def _pass(self) -> None:
        pods = (await self.api.list(PODS)).items
        await self.control(pods)
        await self.managers.look(pods)
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if uid not in self.pods:
                if pod["metadata"].get("deletionTimestamp"):
                    await self.remove(pod)
                    continue
                worker = self.pods[uid] = PodWorker(self, pod)
                worker.begin()
            self.pods[uid].seen(pod)
        alive = {pod["metadata"]["uid"] for pod in pods}
        for uid in [uid for uid in self.pods if uid not in alive]:
            with contextlib.suppress(Exception):
                await self.pods[uid].stop()
            del self.pods[uid]

    async def remove(self, pod: dict[str, Any]) -> None:
        """The pod's last breath: the object goes."""
        meta = pod["metadata"]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": meta["uid"]},
        }
        with contextlib.suppress(ChandleryError):
            await self.api._ask("delete", "DELETE", PODS, PODS.path(meta["namespace"], meta["name"]), options)
