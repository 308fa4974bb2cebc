"""A control plane without its network side: memory store, built-in resources, admission, controllers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from chandlery.controlplane.admission import AdmissionChain
from chandlery.controlplane.auth import Authorizer
from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.controllers import Controllers
from chandlery.controlplane.controllers.seed import seed
from chandlery.controlplane.core import Core
from chandlery.controlplane.localapi import Local
from chandlery.controlplane.store.memory import MemoryStore
from chandlery.controlplane.types import UserInfo

ROOT = UserInfo("root", groups=("system:masters",))


class World:
    """The local API with the words that tests use."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.api = Local(core)
        self.controllers = Controllers(self.api, root_ca="PEM")

    async def create(self, plural: str, name: str, namespace: str = "default", group: str = "", **body: Any) -> Any:
        meta = {"name": name, **body.pop("metadata", {})}
        if namespace:
            meta["namespace"] = namespace
        return await self.api.create(group, plural, {"metadata": meta, **body}, user=ROOT, manager="test")

    async def delete(self, plural: str, name: str, namespace: str = "default", group: str = "", **how: Any) -> None:
        await self.api.delete(group, plural, namespace, name, user=ROOT, **how)

    async def change(self, plural: str, obj: Any, group: str = "", subresource: str = "", **changes: Any) -> Any:
        meta = {**obj["metadata"], **changes.pop("metadata", {})}
        meta.pop("resourceVersion", None)
        body = {**obj, **changes, "metadata": {key: value for key, value in meta.items() if value is not None}}
        return await self.api.update(group, plural, body, user=ROOT, manager="test", subresource=subresource)

    def get(self, plural: str, name: str, namespace: str = "default", group: str = "") -> Any:
        return self.api.get(group, plural, namespace, name)

    async def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Wait for a condition; its value. Fails after a deadline."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not (value := condition()):
            assert loop.time() < deadline, "the condition did not come true"
            await asyncio.sleep(0.002)
        return value

    async def settled(self) -> None:
        """Wait until the controllers have nothing left to do."""
        for _ in range(3):
            await asyncio.sleep(0.002)
            await self.until(lambda: self.controllers.idle)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    core = Core(MemoryStore())
    core.cache.load(await core.store.open(core.cache.publish), 0)
    core.registry.add_builtin(builtin_resources())
    world = World(core)
    core.admission = AdmissionChain(world.api, authorizer=Authorizer(world.api))
    await seed(world.api)
    await world.controllers.start()
    await world.settled()
    yield world
    await world.controllers.stop()
    await core.close()
