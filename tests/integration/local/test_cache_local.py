"""Caches as real processes: what a client of redis-py sees."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest
import redis.asyncio as redis
from local_harness import Harness, kill, until

from chandlery.providers.local import pids
from chandlery.providers.local.ports import is_free
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache

pytestmark = pytest.mark.engine


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", CacheDriver(), Cache)
    yield made
    await made.close()


@contextlib.contextmanager
def taken(port):
    """Another program that listens there."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


def client(binding, **options):
    return redis.from_url(binding.entries["uri"], decode_responses=True, **options)


async def test_a_client_writes_and_reads_with_the_binding(local):
    seen = await local.converge(local.object(memory="32Mi"))
    assert seen.endpoint.host == "127.0.0.1"
    async with client(seen.binding) as cache:
        await cache.set("greeting", "ahoy")
        assert await cache.get("greeting") == "ahoy"
        with pytest.raises(redis.ResponseError, match="no permissions"):
            await cache.config_get("*")


async def test_nobody_gets_in_without_the_password(local):
    seen = await local.converge(local.object())
    async with redis.Redis(port=seen.endpoint.port) as cache:
        with pytest.raises(redis.AuthenticationError):
            await cache.ping()


async def test_no_password_stands_in_argv_or_in_a_readable_file(local):
    obj = local.object(users=[{"name": "app"}])
    seen = await local.converge(obj)
    instance = local.instance(obj)
    pid = instance.process("node-0").state().pid
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    secrets = [seen.binding.entries["password"], *(b.entries["password"] for b in seen.user_bindings.values())]
    assert not [secret for secret in secrets if secret in argv]
    assert {path.stat().st_mode & 0o077 for path in instance.config_dir.iterdir()} == {0}
    assert not [p for p in instance.config_dir.glob("*.acl") if any(secret in p.read_text() for secret in secrets)]


async def test_live_changes_keep_a_clients_connection(local):
    obj = local.object(memory="32Mi")
    seen = await local.converge(obj)
    async with client(seen.binding, single_connection_client=True) as cache:
        identity = await cache.client_id()
        obj = local.changed(
            obj,
            memory="64Mi",
            evictionPolicy="allkeys-lru",
            persistence={"mode": "append-only", "storage": {"size": "1Gi"}},
            configuration={"maxclients": "500"},
            users=[{"name": "reader", "commands": {"allow": ["@read"]}, "keys": [{"pattern": "app:*"}]}],
        )
        seen = await local.converge(obj)
        assert {cost for _, cost in local.plans} == {"none"}
        assert await cache.client_id() == identity
    async with client(seen.user_bindings["demo-user-reader"]) as reader:
        assert await reader.get("app:1") is None
        for refused in (reader.get("other"), reader.set("app:1", "x")):
            with pytest.raises(redis.ResponseError, match=r"(?i)no permissions"):
                await refused


async def test_a_setting_taken_out_of_the_spec_goes_back(local):
    obj = local.object(configuration={"maxclients": "321"})
    seen = await local.converge(obj)
    file = local.instance(obj).config_dir / "node-0.conf"
    assert "maxclients 321" in file.read_text()
    await local.converge(local.changed(obj, configuration={}))
    assert "maxclients" not in file.read_text()
    admin = redis.Redis(port=seen.endpoint.port, username="chandlery", password=local.instance(obj).secret("admin"))
    async with admin:
        assert (await admin.config_get("maxclients"))["maxclients"] != "321"


async def test_somebody_elses_change_is_drift_and_is_repaired(local):
    obj = local.object(memory="32Mi")
    seen = await local.converge(obj)
    admin = redis.Redis(
        port=seen.endpoint.port,
        username="chandlery",
        password=local.instance(obj).secret("admin"),
        decode_responses=True,
    )
    async with admin:
        await admin.config_set("maxmemory", 1)
        await admin.execute_command("ACL", "SETUSER", "default", "nopass", "+@all")
        await local.converge(obj)
        assert ("spec.memory", "none") in local.plans
        assert (await admin.config_get("maxmemory"))["maxmemory"] == str(32 << 20)
    async with redis.Redis(port=seen.endpoint.port) as stranger:
        with pytest.raises(redis.AuthenticationError):
            await stranger.ping()


async def test_what_was_acknowledged_survives_a_kill(local):
    obj = local.object(persistence={"mode": "append-only", "fsync": "always", "storage": {"size": "1Gi"}})
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        for number in range(100):
            await cache.set(f"k{number}", number)
    await kill(local.instance(obj).process("node-0").state().pid)
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        assert await cache.dbsize() == 100


async def test_the_engine_outlives_the_operator(local):
    obj = local.object()
    seen = await local.converge(obj)
    pid = local.instance(obj).process("node-0").state().pid
    await local.restart_operator()
    again = await local.converge(obj)
    assert local.instance(obj).process("node-0").state().pid == pid
    assert again.binding == seen.binding
    assert local.plans == []


async def test_a_copy_takes_over_on_the_same_port_and_the_old_primary_follows(local):
    obj = local.object(mode="replicated", replicas=2)
    seen = await local.converge(obj)
    assert seen.facts["primary"] == "node-0"
    written = []

    async def write():
        number = 0
        while True:
            try:
                async with client(seen.binding, socket_timeout=0.5) as cache:
                    while True:
                        await cache.set(f"k{number}", number)
                        await cache.wait(2, 200)
                        written.append(number)
                        number += 1
                        await asyncio.sleep(0.005)
            except (redis.RedisError, OSError):
                await asyncio.sleep(0.02)

    writer = asyncio.create_task(write())
    try:
        await until(lambda: len(written) > 20)
        await kill(local.instance(obj).process("node-0").state().pid)
        again = await local.converge(obj)
        after = len(written)
        await until(lambda: len(written) > after + 20)
    finally:
        writer.cancel()
    assert again.facts["primary"] != "node-0"
    assert again.endpoint.port == seen.endpoint.port
    roles = {member["name"]: member["role"] for member in again.facts["members"]}
    assert roles["node-0"] == "replica"
    async with client(again.binding) as cache:
        present = {int(key[1:]) for key in await cache.keys("k*")}
    assert not [number for number in written if number not in present]


async def test_fewer_copies_lose_nothing_even_when_the_primary_goes(local):
    obj = local.object(mode="replicated", replicas=1)
    seen = await local.converge(obj)
    await kill(local.instance(obj).process("node-0").state().pid)
    seen = await local.converge(obj)
    assert seen.facts["primary"] == "node-1"
    async with client(seen.binding) as cache:
        await cache.set("kept", "yes")
    single = local.changed(obj, mode="standalone", replicas=0)
    seen = await local.converge(single)
    async with client(seen.binding) as cache:
        assert await cache.get("kept") == "yes"


async def test_a_user_that_is_disabled_is_thrown_out_and_nobody_else(local):
    obj = local.object(users=[{"name": "app"}, {"name": "other"}])
    seen = await local.converge(obj)
    async with (
        client(seen.user_bindings["demo-user-app"], retry=None) as app,
        client(seen.user_bindings["demo-user-other"], single_connection_client=True) as other,
    ):
        await app.set("a", "1")
        number = await other.execute_command("CLIENT", "ID")
        await local.converge(local.changed(obj, users=[{"name": "app", "disabled": True}, {"name": "other"}]))
        with pytest.raises((redis.AuthenticationError, redis.ConnectionError)):
            await app.get("a")
        assert await other.execute_command("CLIENT", "ID") == number


async def test_a_port_taken_by_another_program_is_named(local):
    obj = local.object()
    seen = await local.converge(obj)
    port = seen.endpoint.port
    await local.instance(obj).stop_all()
    with taken(port), pytest.raises(Exception, match=f"port {port} is taken by another program"):
        await local.converge(obj, 2)
    assert (await local.converge(obj)).endpoint.port == port, "clients know it by now"


async def test_a_port_taken_before_it_was_ever_used_is_given_up(local):
    obj = local.object()
    instance = local.instance(obj)
    instance.create(kind="Cache", namespace="default", name="demo", uid=obj.metadata.uid)
    port = instance.port("client")
    with taken(port):
        seen = await local.converge(obj)
        assert seen.endpoint.port != port


async def test_nothing_is_left_after_deletion(local):
    obj = local.object(mode="replicated", replicas=1)
    seen = await local.converge(obj)
    instance = local.instance(obj)
    running = [instance.process(name).state().pid for name in instance.process_names()]
    ports = list(instance.ports.values())
    await local.delete(obj)
    await local.delete(obj)
    assert not instance.root.exists()
    assert [pids.start_time(pid) for pid in running] == [None] * len(running)
    assert all(is_free(port) for port in ports)
    assert seen.endpoint.port in ports


async def test_retain_leaves_the_data_and_says_where(local):
    obj = local.object(
        deletionPolicy="Retain", persistence={"mode": "append-only", "fsync": "always", "storage": {"size": "1Gi"}}
    )
    await local.converge(obj)
    await local.delete(obj)
    instance = local.instance(obj)
    assert list(instance.data_dir.glob("node-0/appendonlydir/*"))
    assert ("Normal", "Retained", instance.kept()) in local.events
