"""A whole operator in memory: fake clock, API server in memory, simulated world."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from chandlery.driver.kind import Kind
from chandlery.foundation.clock import FakeClock
from chandlery.model.examples import example_spec
from chandlery.providers.memory import MemoryProvider, World
from chandlery.reconcile.api import EVENTS, NAMESPACES, PROVIDER_CONFIGS, RESOURCE_CLASSES, SECRETS, Key, Obj, type_of
from chandlery.reconcile.core import Core
from chandlery.reconcile.memory import MemoryApi
from chandlery.reconcile.settings import LoopSettings
from chandlery_kinds import KINDS

SPECS: dict[str, dict[str, Any]] = {
    "Cache": {"memory": "64Mi"},
    "Database": {"instances": 1},
    "Queue": {"replicas": 1},
    "LoadBalancer": {
        "listeners": [{"name": "web", "protocol": "TCP", "port": 8080, "pool": "app"}],
        "pools": [{"name": "app", "targets": [{"name": "a", "address": "192.0.2.1", "port": 80}]}],
    },
    "VirtualMachine": {
        "image": {"name": "alpine"},
        "rootDisk": {"size": "1Gi"},
    },
}
for _kind in KINDS:  # a kind that isn't in the table: what its README shows
    SPECS.setdefault(_kind.name, example_spec(_kind.package, "Minimal"))


class Stage:
    """One test's world and operator; the operator can be killed and started again."""

    def __init__(self, kinds: list[Kind], settings: LoopSettings | None = None) -> None:
        self.clock = FakeClock()
        self.api = MemoryApi(self.clock)
        self.world = World(self.clock, start_time=0.5)
        self.provider = MemoryProvider(self.world)
        self.kinds = {kind.name: kind for kind in kinds}
        self.types = {kind.name: type_of(kind.names) for kind in kinds}
        self.settings = settings or LoopSettings(workers=4, drift_interval=60.0)
        self.audit: list[tuple[str, Key, str]] = []
        self.core: Core | None = None
        self.fence: Callable[[], int] = lambda: 1

    async def prepare(self) -> None:
        await self.api.create(NAMESPACES, {"metadata": {"name": "shop"}})
        for kind in self.kinds:
            await self.add_class(f"{kind.lower()}-default", kind, default=True)

    async def add_class(self, name: str, kind: str, **spec: Any) -> Obj:
        body = {"metadata": {"name": name}, "spec": {"kind": kind, "driver": "memory", **spec}}
        return await self.api.create(RESOURCE_CLASSES, body)

    async def add_config(self, name: str, provider: str = "memory") -> Obj:
        return await self.api.create(PROVIDER_CONFIGS, {"metadata": {"name": name}, "spec": {"provider": provider}})

    async def start(self) -> Core:
        self.core = Core(
            self.api,
            list(self.kinds.values()),
            {"memory": self.provider},
            settings=self.settings,
            clock=self.clock,
            fence=lambda: self.fence(),  # noqa: PLW0108 - tests replace it while it runs
            audit=lambda what, key, why: self.audit.append((what, key, why)),
            jitter=lambda: 0.5,
        )
        await self.core.start()
        self.core.follow_primaries()
        return self.core

    async def kill(self) -> None:
        if self.core is not None:
            core, self.core = self.core, None
            await core.stop()

    async def apply(self, kind: str, name: str = "one", spec: dict[str, Any] | None = None, **meta: Any) -> Obj:
        where = self.types[kind]
        live = await self.api.get(where, "shop", name)
        body: Obj = {
            "apiVersion": where.api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": "shop", **meta},
            "spec": copy.deepcopy(SPECS[kind] if spec is None else spec),
        }
        if live is None:
            return await self.api.create(where, body)
        body["metadata"] = {**live["metadata"], **meta}
        return await self.api.replace(where, body)

    async def annotate(self, kind: str, name: str, **annotations: str) -> None:
        patch = {
            "metadata": {"annotations": {f"chandlery.dev/{k.replace('_', '-')}": v for k, v in annotations.items()}}
        }
        await self.api.merge_patch(self.types[kind], "shop", name, patch)

    async def delete(self, kind: str, name: str = "one") -> None:
        await self.api.delete(self.types[kind], "shop", name)

    async def get(self, kind: str, name: str = "one") -> Obj | None:
        return await self.api.get(self.types[kind], "shop", name)

    async def status(self, kind: str, name: str = "one") -> dict[str, Any]:
        found = await self.get(kind, name)
        assert found is not None, f"{kind} {name} is gone"
        return found.get("status") or {}

    async def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        status = await self.status(kind, name)
        return next((c for c in status.get("conditions", ()) if c["type"] == condition), {})

    async def secret(self, name: str = "one") -> Obj | None:
        return await self.api.get(SECRETS, "shop", name)

    async def ready(self, kind: str, name: str = "one", limit: float = 60.0) -> dict[str, Any]:
        """Let time pass until the object's status speaks of its generation and says Ready, and nothing is under way."""
        await self.until(lambda obj: obj is not None and is_ready(obj), kind, name, limit)
        return await self.status(kind, name)

    async def until(
        self, holds: Callable[[Obj | None], bool], kind: str, name: str = "one", limit: float = 60.0
    ) -> None:
        objects = self.api._objects

        def check() -> bool:
            return holds(objects.get((kind, "shop", name)))

        try:
            await self.clock.advance_until(check, limit=limit)
        except TimeoutError as error:
            raise AssertionError(f"{error}\nobject: {objects.get((kind, 'shop', name))}") from None

    async def events(self) -> list[tuple[str, str]]:
        assert self.core is not None
        await self.core.recorder.flush()
        return [(e["reason"], e["message"]) for e in (await self.api.list(EVENTS)).items]

    def writes(self) -> list[tuple[str, str, str]]:
        return [r for r in self.api.requests if r[0] not in {"get", "list", "watch"} and r[1] != "Event"]


def conditions(obj: Obj) -> dict[str, str]:
    return {c["type"]: c["status"] for c in (obj.get("status") or {}).get("conditions", ())}


def is_ready(obj: Obj) -> bool:
    status = obj.get("status") or {}
    return (
        status.get("observedGeneration") == obj["metadata"]["generation"]
        and conditions(obj).get("Ready") == "True"
        and conditions(obj).get("Reconciling") == "False"
        and conditions(obj).get("Stalled") == "False"
    )


@pytest.fixture(scope="session")
def stages() -> Callable[[list[Kind]], Stage]:
    """For tests that make stages of their own."""
    return Stage


@pytest.fixture(scope="session")
def helpers() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(conditions=conditions, is_ready=is_ready)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage(list(KINDS))
    await made.prepare()
    yield made
    await made.kill()


@pytest.fixture
def specs() -> dict[str, dict[str, Any]]:
    return copy.deepcopy(SPECS)
