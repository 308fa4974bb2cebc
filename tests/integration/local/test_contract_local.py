"""The local drivers keep the contract, with real engines, also when they are killed between two calls of the outside.

CHANDLERY_CONTRACT_STRIDE=1 kills at every call instead of at every n-th, and has databases and machines do all checks.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from local_harness import Secrets, shared_cache
from outside import Killed, Outside

from chandlery.driver import contract
from chandlery.driver.kind import Kind
from chandlery.driver.parameters import parameters_of
from chandlery.driver.protocol import Driver, DriverContext
from chandlery.foundation.context import Context
from chandlery.providers.local import LocalProvider, pids
from chandlery.providers.local.engines.apt import available
from chandlery.providers.local.ports import DEFAULT_RANGE, Ports
from chandlery.providers.local.process import MARK
from chandlery_kinds import KINDS

STRIDE = int(os.environ.get("CHANDLERY_CONTRACT_STRIDE", "0"))
PORTS = Ports(lambda: (), (DEFAULT_RANGE[1] - 3000, DEFAULT_RANGE[1] - 2001))
SPECS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Cache": ({"memory": "32Mi"}, {"memory": "48Mi", "users": [{"name": "app"}]}),
    "Queue": ({"storage": {"size": "64Mi"}}, {"maxDeliveries": 3}),
    "LoadBalancer": (
        {"pools": [{"name": "app", "targets": [{"name": "a", "address": "127.0.0.1", "port": 9}]}]},
        {"pools": [{"name": "app", "targets": [{"name": "b", "address": "127.0.0.1", "port": 9}]}]},
    ),
    "Database": ({}, {"configuration": {"work_mem": "8MB"}}),
    "VirtualMachine": (
        {"memory": "96Mi", "image": {"name": "tiny"}, "shutdownTimeout": "1s"},
        {"network": {"forwards": [{"name": "http", "guestPort": 80}]}},
    ),
}


class LocalHarness:
    """A driver on a data directory of its own; every `driver()` is a new operator."""

    crash = Killed

    def __init__(self, root: Path, kind: Kind, stride: int) -> None:
        self.root = root
        self.kind = kind
        self.stride = stride
        self.outside = Outside(root)
        self._waits = 0
        self.provider = self._open()

    def _open(self) -> LocalProvider:
        provider = LocalProvider(self.root, cache_dir=shared_cache())
        provider.open()
        return provider

    def driver(self) -> Driver[Any]:
        with self.outside.unheard():
            self.provider.close()
            self.provider = self._open()
        self._waits = 0
        return self.kind.load_driver("local")()

    def context(self, obj: Any) -> DriverContext:
        return DriverContext(Context(), Secrets(), self.provider, parameters_of(self.kind.load_driver("local"))())

    def make(self, **spec: Any) -> Any:
        base = copy.deepcopy(SPECS[self.kind.name][0])
        if self.kind.name == "LoadBalancer":
            base["listeners"] = [{"name": "web", "port": PORTS.choose(), "protocol": "HTTP", "pool": "app"}]
        names = self.kind.names
        return self.kind.model.model_validate(
            {
                "apiVersion": names.api_version,
                "kind": self.kind.name,
                "metadata": {"name": "one", "namespace": "shop", "uid": str(uuid.uuid4()), "generation": 1},
                "spec": {**base, **spec},
                "status": {},
            }
        )

    def change(self) -> Mapping[str, Any]:
        return SPECS[self.kind.name][1]

    def crash_at(self, call: int, when: str) -> None:
        if when == "before":
            self.outside.kill_before((call - 1) * self.stride + 1)

    def heal(self) -> None:
        self.outside.heal()

    def calls(self) -> int:
        return self.outside.count

    def inventory(self) -> Mapping[str, str]:
        """Directories with their configuration and processes; a process without a directory stands for itself."""
        marks = {mark for mark, _ in self.marked()}
        found = {}
        for home in self.provider.instances_dir.iterdir():
            digest = hashlib.sha256()
            for path in sorted((home / "config").rglob("*")):
                digest.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
            runs = sorted(mark for mark in marks if mark.partition("/")[0] == home.name)
            found[f"instance {home.name}"] = f"{digest.hexdigest()} {runs}"
        homes = {home.partition(" ")[2] for home in found}
        return found | {f"process {mark}": "" for mark in marks if mark.partition("/")[0] not in homes}

    def marked(self) -> list[tuple[str, int]]:
        found = []
        for pid in pids.all_pids():
            env = pids.environ(pid)
            if MARK in env and env.get("HOME", "").startswith(str(self.root)) and pids.start_time(pid):
                found.append((env[MARK], pid))
        return found

    async def wait(self, seconds: float) -> None:
        """A pass comes soon, a later one after a while: they are counted, and a machine that is busy takes its time."""
        self._waits += 1
        await asyncio.sleep(min(seconds, 0.1) if self._waits < 300 else 0.5)

    async def close(self) -> None:
        self.outside.close()
        for instance in self.provider.instances():
            await instance.stop_all()
        await self.provider.background.close()
        self.provider.close()


@pytest.fixture
async def harness(tmp_path):
    made = []

    def start(name: str, stride: int) -> LocalHarness:
        kind = next(kind for kind in KINDS if kind.name == name)
        made.append(LocalHarness(tmp_path / "data", kind, STRIDE or stride))
        return made[-1]

    yield start
    for one in made:
        await one.close()


CHECKS = {check.__name__: check for check in contract.CHECKS}
DEAR = {
    "Database": [
        "update_does_what_the_plan_says",
        "retain_leaves_everything",
        "survives_a_crash_at_any_call_of_create",
    ],
    "VirtualMachine": ["update_does_what_the_plan_says"],
}
"""What kinds that take seconds to start do in a common run."""
CASES = [
    pytest.param(kind, check, marks=[pytest.mark.slow] if kind in DEAR else [], id=f"{kind}-{check}")
    for kind in SPECS
    for check in CHECKS
    if STRIDE or check in DEAR.get(kind, CHECKS)
]


@pytest.mark.engine
@pytest.mark.timeout(1800 if STRIDE else 240)
@pytest.mark.parametrize(("kind", "check"), CASES)
async def test_contract_of_local_drivers(harness, kind, check):
    if kind == "VirtualMachine" and available():
        pytest.skip(f"QEMU and the guest come from Debian packages: {available()}")
    await CHECKS[check](harness(kind, stride=25 if kind in DEAR else 7))
