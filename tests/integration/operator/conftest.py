"""A real control plane in a process of its own, and the operator against it, over HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import waiting
import yaml

from chandlery.providers.memory import MemoryProvider, World
from chandlery.reconcile.api import RESOURCE_CLASSES, ResourceType, type_of
from chandlery.reconcile.client import HttpApi
from chandlery.reconcile.credentials import Credentials, from_kubeconfig
from chandlery.reconcile.operator import Operator, OperatorSettings
from chandlery.reconcile.settings import LoopSettings
from chandlery_kinds import KINDS

ROOT = Path(__file__).parents[3]
KUBECTL = Path(sys.executable).with_name("kubectl")
CRDS = ResourceType("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
NAMESPACE = ResourceType("", "v1", "namespaces", "Namespace", False)


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("control-plane")
    process = subprocess.Popen(
        [sys.executable, "-m", "chandlery.controlplane", "--data-dir", str(folder), "--store", "memory"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready:"), f"the control plane said: {line!r}"
        asyncio.run(_prepare(folder / "kubeconfig"))
        yield folder / "kubeconfig"
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


async def _prepare(path: Path) -> None:
    async with HttpApi(from_kubeconfig(path)) as api:
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            for document in yaml.safe_load_all(file.read_text()):
                await api.apply(CRDS, document)
        for kind in KINDS:
            await waiting.eventually(lambda kind=kind: api.list(type_of(kind.names)))
            name = kind.name.lower()
            await api.apply(
                RESOURCE_CLASSES,
                {
                    "apiVersion": "platform.chandlery.dev/v1alpha1",
                    "kind": "ResourceClass",
                    "metadata": {"name": name},
                    "spec": {"kind": kind.name, "driver": "memory", "default": True},
                },
            )


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return waiting.eventually


@pytest.fixture
def credentials(kubeconfig: Path) -> Credentials:
    return from_kubeconfig(kubeconfig)


@pytest.fixture
async def api(credentials: Credentials) -> AsyncIterator[HttpApi]:
    async with HttpApi(credentials) as made:
        yield made


@pytest.fixture
async def namespace(api: HttpApi, request: pytest.FixtureRequest) -> str:
    made = await api.create(NAMESPACE, {"metadata": {"name": _name(request)}})
    return str(made["metadata"]["name"])


def _name(request: pytest.FixtureRequest) -> str:
    import re

    return re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:50] + "-" + os.urandom(2).hex()


class Running:
    """An operator and its simulated world."""

    def __init__(self, operator: Operator, world: World) -> None:
        self.operator = operator
        self.world = world


@pytest.fixture
def run(credentials: Credentials) -> Callable[..., Any]:
    @contextlib.asynccontextmanager
    async def running(world: World | None = None, **settings: Any) -> AsyncIterator[Running]:
        world = world or World(start_time=0.05)
        loop = settings.pop("loop", LoopSettings(drift_interval=1.0))
        off = settings.pop("off", ())
        operator = Operator(
            credentials,
            [kind for kind in KINDS if kind.name not in off],
            {"memory": MemoryProvider(world)},
            others=[kind for kind in KINDS if kind.name in off],
            settings=OperatorSettings(**{"leader_election": False, "loop": loop, **settings}),
        )
        await operator.start()
        try:
            await asyncio.wait_for(operator.settled(), 60)
            yield Running(operator, world)
        finally:
            await operator.stop()

    return running


@pytest.fixture
def kubectl(kubeconfig: Path, tmp_path: Path) -> Callable[..., Any]:
    async def call(*args: str, stdin: Any = None, ok: bool = True) -> str:
        process = await asyncio.create_subprocess_exec(
            str(KUBECTL),
            *args,
            env={**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        given = json.dumps(stdin).encode() if stdin is not None else None
        out, err = await asyncio.wait_for(process.communicate(given), 150)  # more than any --timeout it is given
        text = out.decode() + err.decode()
        assert (process.returncode == 0) == ok, f"kubectl {' '.join(args)}: {text}"
        return text

    return call
