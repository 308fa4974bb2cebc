"""The operator with its kubernetes drivers against a control plane, with workloads played on this machine.

With CHANDLERY_CONTAINERS=1 pods are containers of runc under a kubelet as strict as the real one (the folder kubelet);
else they are processes with paths of their own (workloads).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubelet.images import Images
from kubelet.network import DNS, Network
from kubelet.node import Kubelet
from kubelet.runtime import missing
from permission_record import Recorder
from waiting import eventually
from workloads import Workloads

from chandlery.providers.kubernetes import KubernetesProviderFactory
from chandlery.providers.kubernetes.types import CLAIMS, SERVICES
from chandlery.providers.local.engines import Engines
from chandlery.reconcile.api import NAMESPACES, RESOURCE_CLASSES, ResourceType, type_of
from chandlery.reconcile.client import HttpApi
from chandlery.reconcile.credentials import from_kubeconfig
from chandlery.reconcile.operator import Operator, OperatorSettings
from chandlery.reconcile.settings import LoopSettings
from chandlery.testing import RunningControlPlane, start_control_plane
from chandlery_kinds import KINDS

ROOT = Path(__file__).parents[2]
STORAGE_CLASSES = ResourceType("storage.k8s.io", "v1", "storageclasses", "StorageClass", False)
CRDS = ResourceType("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
TYPES = {kind.name: type_of(kind.names) for kind in KINDS}
NAMES = {kind.name: kind.names for kind in KINDS}

CONTAINERS = bool(os.environ.get("CHANDLERY_CONTAINERS"))


@pytest.fixture(scope="session")
def network() -> Iterator[Network | None]:
    """Of pods that are containers; None where they are processes."""
    if not CONTAINERS:
        yield None
        return
    why = missing()
    if why:
        pytest.skip(f"CHANDLERY_CONTAINERS: {why}")
    made = Network()
    yield made
    made.close()


def _inside(network: Network | None) -> contextlib.AbstractContextManager[None]:
    return network.entered() if network is not None else contextlib.nullcontext()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, network: Network | None) -> Iterator[RunningControlPlane]:
    with _inside(network):
        context = start_control_plane(tmp_path_factory.mktemp("kubernetes-drivers"))
        plane = context.__enter__()
        asyncio.run(_prepare(plane.kubeconfig))
    try:
        yield plane
    finally:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, network: Network | None) -> Images:
    return Images(tmp_path_factory.mktemp("images"), network)


async def _prepare(path: Path) -> None:
    async with HttpApi(from_kubeconfig(path)) as api:
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            for document in yaml.safe_load_all(file.read_text()):
                await api.apply(CRDS, document)
        for name, kind in TYPES.items():
            await eventually(lambda kind=kind: api.list(kind))
            await api.apply(
                RESOURCE_CLASSES,
                {"metadata": {"name": name.lower()}, "spec": {"kind": name, "driver": "kubernetes", "default": True}},
            )
        await furnish(api)


async def furnish(api: HttpApi) -> None:
    """What every cluster has: a default StorageClass, and a Service of the DNS."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    disks = {"metadata": {"name": "standard", "annotations": default}, "allowVolumeExpansion": True}
    late = {"volumeBindingMode": "WaitForFirstConsumer"}
    await api.apply(STORAGE_CLASSES, {**disks, **late, "provisioner": "example.com/disks"})
    names = {"clusterIP": DNS, "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}
    await api.create(SERVICES, {"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": names})


def binaries() -> dict[str, str]:
    """What stands for the commands of containers."""
    engines = Engines(Path("/nonexistent"))
    return {
        "valkey-server": str(engines.find("valkey", None).binary),
        "haproxy": str(engines.find("haproxy", None).binary),
        "nats-server": str(engines.find("nats", None).binary),
        "sh": "/bin/sh",
        "python": sys.executable,
    }


def programs() -> list[str]:
    """Folders with what shells in containers call."""
    return [str(Engines(Path("/nonexistent")).find("postgres", None).binary.parent)]


class Cluster:
    """A namespace of a test's own, in a cluster with an operator and workloads."""

    def __init__(self, api: HttpApi, namespace: str, workloads: Workloads | Kubelet, credentials: Any) -> None:
        self.api = api
        self.namespace = namespace
        self.workloads = workloads
        self.factory = KubernetesProviderFactory()
        self.operator: Operator | None = None
        self._credentials = credentials

    async def start(self) -> None:
        self.factory = KubernetesProviderFactory()
        self.operator = Operator(
            self._credentials,
            list(KINDS),
            {"kubernetes": self.factory},
            settings=OperatorSettings(leader_election=False, source="informer", loop=LoopSettings(drift_interval=5.0)),
        )
        self.factory.api = self.operator.api
        self.recorder = Recorder(self.operator.api)
        await self.operator.start()
        await asyncio.wait_for(self.operator.settled(), 15)

    async def stop(self) -> None:
        if self.operator is not None:
            await self.operator.stop()
            self.operator = None
            self.recorder.check()

    async def apply(self, kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
        names = NAMES[kind]
        meta = {"name": name, "namespace": self.namespace, **metadata}
        body = {"apiVersion": names.api_version, "kind": kind, "metadata": meta, "spec": spec}
        return await self.api.apply(TYPES[kind], body, manager="tester")

    async def claim(self, name: str, size: str = "1Gi") -> None:
        """As people make one for backups."""
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        await self.api.create(CLAIMS, {"metadata": {"name": name, "namespace": self.namespace}, "spec": spec})

    async def get(self, kind: str | ResourceType, name: str) -> dict[str, Any] | None:
        where = TYPES[kind] if isinstance(kind, str) else kind
        return await self.api.get(where, self.namespace, name)

    async def ready(self, kind: str, name: str, seconds: float = 120.0) -> dict[str, Any]:
        """Its status, once it is ready and nothing is different."""

        async def check() -> Any:
            found = await self.get(kind, name)
            status = found["status"]
            conditions = {c["type"]: c["status"] for c in status["conditions"]}
            good = conditions["Ready"] == "True" and conditions["Reconciling"] == "False"
            current = status["observedGeneration"] == found["metadata"]["generation"]
            return status if good and current and not status.get("drift") else None

        began = time.monotonic()
        try:
            return await eventually(check, seconds)
        except AssertionError as error:
            if isinstance(self.workloads, Kubelet) and self.workloads.images.moment > began:
                return await self.ready(kind, name, seconds)  # the time went by while an image was made
            found = await self.get(kind, name)
            raise AssertionError(json.dumps((found or {}).get("status"), indent=1)) from error

    async def secret(self, name: str) -> dict[str, str]:
        import base64

        found = await self.api.get(ResourceType("", "v1", "secrets", "Secret"), self.namespace, name)
        return {k: base64.b64decode(v).decode() for k, v in found["data"].items()}

    async def delete(self, kind: str, name: str, seconds: float = 60.0) -> None:
        await self.api.delete(TYPES[kind], self.namespace, name)

        async def gone() -> bool:
            return await self.get(kind, name) is None

        await eventually(gone, seconds)


def _player(
    api: HttpApi, folder: Path, plane: RunningControlPlane, network: Network | None, images: Images
) -> Workloads | Kubelet:
    if network is None:
        return Workloads(api, folder, binaries(), programs())
    return Kubelet(api, folder, network, images, int(plane.url.rpartition(":")[2]))


@pytest.fixture
async def kube(
    cluster: RunningControlPlane, network: Network | None, images: Images, request: pytest.FixtureRequest
) -> AsyncIterator[Cluster]:
    credentials = from_kubeconfig(cluster.kubeconfig)
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40] + "-" + os.urandom(2).hex()
    folder = Path(tempfile.mkdtemp(prefix="k-"))  # short: the path of a socket in it has 107 characters at most
    with _inside(network):
        async with HttpApi(credentials) as api, _player(api, folder, cluster, network, images) as workloads:
            await api.create(NAMESPACES, {"metadata": {"name": name}})
            made = Cluster(api, name, workloads, credentials)
            await made.start()
            try:
                yield made
            finally:
                if isinstance(workloads, Kubelet):
                    print(workloads.describe())  # pytest shows it where a test has failed
                for kind in TYPES.values():
                    with contextlib.suppress(Exception):
                        for obj in (await api.list(kind, name)).items:
                            await api.delete(kind, name, obj["metadata"]["name"])
                for kind in TYPES.values():

                    async def empty(kind: ResourceType = kind) -> bool:
                        return not (await api.list(kind, name)).items

                    with contextlib.suppress(AssertionError):
                        await eventually(empty, 10)
                await made.stop()
        shutil.rmtree(folder, ignore_errors=True)
        await asyncio.sleep(0.2)  # aiohttp leaves the end of TLS connections to the loop, and has nothing to wait for
