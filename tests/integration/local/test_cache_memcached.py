"""Memcached as real processes, spoken to in its own text protocol."""

import asyncio
import ssl
from pathlib import Path

import pytest
from local_harness import Harness, kill, shared_cache, until

from chandlery.providers.local.ports import is_free
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache

pytestmark = pytest.mark.engine
MIB = 1 << 20


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", CacheDriver(), Cache, shared_cache())
    await made.provider.engines.ensure("memcached")
    yield made
    await made.close()


class Client:
    """As an application's: the first `set` of a connection says who it is."""

    def __init__(self, binding, address=None):
        self.entries = binding.entries
        self.host, _, self.port = (address or f"{self.entries['host']}:{self.entries['port']}").rpartition(":")

    async def __aenter__(self):
        context = ssl.create_default_context(cadata=self.entries["ca.crt"]) if "tls" in self.entries else None
        self.reader, self.writer = await asyncio.open_connection(self.host, int(self.port), ssl=context)
        said = await self.set("auth", f"{self.entries['username']} {self.entries['password']}")
        assert said == "STORED", said
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def set(self, key, value):
        self.writer.write(f"set {key} 0 0 {len(value)}\r\n{value}\r\n".encode())
        return await self.line()

    async def get(self, key):
        self.writer.write(f"get {key}\r\n".encode())
        if await self.line() == "END":
            return None
        value, end = await self.line(), await self.line()
        assert end == "END"
        return value

    async def settings(self):
        self.writer.write(b"stats settings\r\n")
        found = {}
        while (line := await self.line()) != "END":
            _, name, value = line.split(" ", 2)
            found[name] = value
        return found

    async def line(self):
        async with asyncio.timeout(30):
            return (await self.reader.readuntil(b"\r\n")).decode().rstrip("\r\n")


def spec(**more):
    return {"engine": "memcached", "memory": "64Mi", **more}


async def test_the_binding_leads_to_it_and_nobody_else_gets_in(local):
    obj = local.object(**spec())
    seen = await local.converge(obj)
    assert (seen.binding.type, seen.facts["version"].startswith("1.")) == ("memcached", True)
    async with Client(seen.binding) as cache:
        assert await cache.set("greeting", "ahoy") == "STORED"
        assert await cache.get("greeting") == "ahoy"
    reader, writer = await asyncio.open_connection("127.0.0.1", seen.endpoint.port)
    writer.write(b"get greeting\r\n")
    assert (await reader.readline()).startswith(b"CLIENT_ERROR unauthenticated")
    writer.close()
    instance = local.instance(obj)
    pid = instance.process("node-0").state().pid
    assert seen.binding.entries["password"].encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert {path.stat().st_mode & 0o077 for path in instance.config_dir.iterdir()} == {0}
    await local.delete(obj)
    assert not instance.root.exists()
    assert is_free(seen.endpoint.port)


async def test_memory_changes_live_and_the_rest_by_a_restart(local):
    obj = local.object(**spec(evictionPolicy="allkeys-lru"))
    seen = await local.converge(obj)
    async with Client(seen.binding) as cache:
        await cache.set("kept", "yes")
        obj = local.changed(obj, memory="100Mi")
        await local.converge(obj)
        assert local.plans == [("spec.memory", "none")]
        assert (await cache.get("kept"), (await cache.settings())["maxbytes"]) == ("yes", str(100 * MIB))
    obj = local.changed(obj, evictionPolicy="noeviction", configuration={"max-item-size": "2m", "idle_timeout": "60"})
    seen = await local.converge(obj)
    assert ("spec.evictionPolicy", "restart") in local.plans
    async with Client(seen.binding) as cache:
        settings = await cache.settings()
    assert (settings["evictions"], settings["item_size_max"], settings["idle_timeout"]) == ("off", str(2 * MIB), "60")
    assert settings["maxbytes"] == str(100 * MIB)


async def test_shards_come_and_go_and_come_back(local):
    obj = local.object(**spec(mode="sharded", shards=3))
    seen = await local.converge(obj)
    nodes = seen.binding.entries["nodes"].split(",")
    assert len(set(nodes)) == 3
    for number, node in enumerate(nodes):
        async with Client(seen.binding, node) as cache:
            assert await cache.set("who", str(number)) == "STORED"
    await kill(local.instance(obj).process("node-1").state().pid)
    await local.restart_operator()
    again = await local.converge(obj)
    assert again.binding == seen.binding
    for node, expected in zip(nodes, ("0", None, "2"), strict=True):
        async with Client(seen.binding, node) as cache:
            assert await cache.get("who") == expected
    fewer = await local.converge(local.changed(obj, shards=2))
    assert fewer.binding.entries["nodes"].split(",") == nodes[:2]
    assert local.instance(obj).process_names() == ("node-0", "node-1")


async def test_it_speaks_tls_behind_a_front(local):
    obj = local.object(**spec(tls={}))
    seen = await local.converge(obj)
    async with Client(seen.binding) as cache:
        assert await cache.set("greeting", "ahoy") == "STORED"
        assert await cache.get("greeting") == "ahoy"


async def test_a_full_cache_that_evicts_nothing_is_ready(local):
    obj = local.object(**spec(memory="64Mi"))
    seen = await local.converge(obj)
    async with Client(seen.binding) as cache:
        number = 0
        while await cache.set(f"k{number}", "x" * 1_000_000) == "STORED":
            number += 1
            assert number < 100
    assert (await local.converge(obj)).ready


async def test_passwords_are_replaced_without_a_restart(local):
    obj = local.object(**spec(rotation={"schedule": "0 0 1 1 *"}))
    before = await local.converge(obj)
    async with Client(before.binding) as held:
        await held.set("kept", "yes")
        meta = obj.metadata.model_copy(update={"annotations": {"chandlery.dev/rotate-requested-at": "now"}})
        asked = obj.model_copy(update={"metadata": meta})
        after = await local.converge(asked)
        assert after.binding.entries["password"] != before.binding.entries["password"]
        for binding in (before.binding, after.binding):
            async with Client(binding) as cache:
                assert await cache.get("kept") == "yes"
        instance = local.instance(obj)
        instance.record["rotation"]["users"]["chandlery"]["old"][0]["until"] = "2020-01-01T00:00:00+00:00"
        instance.save()
        await local.converge(asked)
        assert await held.get("kept") == "yes"

    async def refused():
        try:
            async with Client(before.binding):
                return False
        except AssertionError as error:
            return "authentication failure" in str(error)

    await until(refused, 30)
