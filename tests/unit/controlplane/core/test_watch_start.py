"""Where a watch begins: what was there at its start is told once, however late the telling of it is."""

from __future__ import annotations

import asyncio

import pytest

from chandlery.controlplane.builtins.resources import builtin_resources
from chandlery.controlplane.core import Core
from chandlery.controlplane.server.encode import WatchEncoder
from chandlery.controlplane.server.negotiate import PLAIN
from chandlery.controlplane.store.memory import MemoryStore
from chandlery.controlplane.types import Obj, RequestContext, UserInfo
from chandlery.controlplane.verbs.options import list_options
from chandlery.controlplane.verbs.watch import Watch

_CONFIG_MAPS = next(resource for resource in builtin_resources() if resource.plural == "configmaps")


def _named(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}}


async def _core() -> Core:
    store = MemoryStore()
    core = Core(store)
    await store.open(core.cache.publish)
    _CONFIG_MAPS.builtin = True
    core.registry.add_builtin([_CONFIG_MAPS])
    return core


@pytest.mark.parametrize("since", ["", "0", "1", "2"])
async def test_nothing_is_told_twice(since):
    core = await _core()
    await core.write(_CONFIG_MAPS, "a", "first", 0, _named("first"))
    core.cache.tell()
    heard: list[str] = []
    other = core.cache.table(_CONFIG_MAPS.storage_key)
    told_before = core.cache.told

    # The second is written, and the watch starts, before watchers hear of it.
    writing = asyncio.create_task(core.write(_CONFIG_MAPS, "a", "second", 0, _named("second")))
    while core.cache.revision == told_before:
        await asyncio.sleep(0)
    query = {"resourceVersion": since} if since else {}
    ctx = RequestContext(UserInfo("u"), "watch", _CONFIG_MAPS, namespace="a")
    watch = Watch(
        core, ctx, list_options(query, _CONFIG_MAPS, watch=True), WatchEncoder(core, _CONFIG_MAPS, PLAIN, ""), None
    )
    watch.start()
    await writing
    core.cache.tell()
    await core.write(_CONFIG_MAPS, "a", "third", 0, _named("third"))
    core.cache.tell()

    async def follow() -> None:
        async for chunk in watch.lines():
            for name in ("first", "second", "third"):
                heard.extend([name] * chunk.count(b'"name":"%b"' % name.encode()))
            if "third" in heard:
                watch.end()

    async with asyncio.timeout(60):
        await follow()
    watch.close()
    assert not other.watchers
    wanted = ["first", "second", "third"]
    assert heard == wanted[int(since or "0") :]
    await core.close()
