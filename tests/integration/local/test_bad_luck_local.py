"""Bad luck of every sort: each is told in plain words that name the way out, and it goes on by itself when mended."""

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
from dataclasses import replace

import pytest
import redis.asyncio as redis
from aiohttp import web
from local_harness import Harness, shared_cache, until

from chandlery.driver.protocol import Plan
from chandlery.foundation.errors import ChandleryError, InvalidSpec, PermissionDenied, Unavailable
from chandlery.providers.local import ExitInfo, LocalProvider, ProcessState, downloads
from chandlery.providers.local.driver import crash_loop
from chandlery.providers.local.engines import apt
from chandlery.providers.local.ports import DEFAULT_RANGE, Ports
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database
from chandlery_kinds.loadbalancer.drivers.local import LoadBalancerDriver
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue
from chandlery_kinds.virtualmachine.drivers.local import VirtualMachineDriver
from chandlery_kinds.virtualmachine.model import VirtualMachine

pytestmark = pytest.mark.engine
heavy = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
PORTS = Ports(lambda: (), (DEFAULT_RANGE[1] - 4900, DEFAULT_RANGE[1] - 4001))


@pytest.fixture
async def start(tmp_path):
    made = []

    def harness(driver, model):
        made.append(Harness(tmp_path / "data", driver, model, shared_cache()))
        return made[-1]

    yield harness
    for one in made:
        await one.close()


async def told(local, obj, words, seconds=60):
    """Go on as the loop does until a condition would say these words; the whole of what it says."""

    async def once():
        try:
            seen = await local.driver.observe(local.ctx, obj)
            if not seen.exists:
                await local.driver.create(local.ctx, obj)
            elif seen.differences:
                await local.driver.update(local.ctx, obj, replace(seen, plan=Plan(seen.differences)))
        except ChandleryError as error:
            return error.condition_message() if words in error.condition_message() else ""
        return seen.message if words in seen.message else ""

    return await until(once, seconds)


async def test_an_engine_that_is_damaged_is_named_and_back_when_it_is_mended(start, tmp_path):
    local = start(CacheDriver(), Cache)
    engines = local.provider.engines
    real = engines.find("valkey")
    copy = tmp_path / "valkey-server"
    copy.write_bytes(b"\x7fELF damaged")
    copy.chmod(0o755)
    engines._found[real.name, real.version] = replace(real, binary=copy)
    obj = local.object(memory="32Mi")
    said = await told(local, obj, "the program of node-0 can't be started")
    assert str(copy) in said
    assert "chandlery engines verify" in said
    copy.unlink()  # the kernel may still be at the old one
    shutil.copy(real.binary, copy)
    local.instance(obj).process("node-0").entry["not_before"] = 0.0
    await local.converge(obj)


BALANCER = {
    "listeners": [{"name": "web", "port": 0, "protocol": "TCP", "pool": "app"}],
    "pools": [{"name": "app"}],
}


def balancer(local, **more):
    """A load balancer at a port that nobody has."""
    listener = {**BALANCER["listeners"][0], "port": local.provider.ports.choose()}
    return local.object(**{**BALANCER, "listeners": [listener], **more})


async def test_a_damaged_load_balancer_is_not_taken_for_a_bad_configuration(start, tmp_path):
    """The program is there and may not be run: its configuration was never read."""
    local = start(LoadBalancerDriver(), LoadBalancer)
    real = local.provider.engines.find("haproxy")
    copy = tmp_path / "haproxy"
    copy.write_bytes(b"")
    copy.chmod(0o644)
    local.provider.engines._found[real.name, real.version] = replace(real, binary=copy)
    obj = balancer(local)
    said = await told(local, obj, "chandlery engines verify")
    assert "configuration" not in said
    local.provider.engines._found[real.name, real.version] = real
    await local.converge(obj)


async def test_a_missing_tool_of_an_engine_is_named(start, tmp_path):
    local = start(DatabaseDriver(), Database)
    real = local.provider.engines.find("postgres")
    copy = tmp_path / "postgres"
    copy.write_bytes(b"")
    local.provider.engines._found[real.name, real.version] = replace(real, binary=copy)
    said = await told(local, local.object(), "initdb isn't there")
    assert "chandlery engines verify" in said


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 MiB, and what makes it larger."""
    where = tmp_path / "small"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m,mode=0755", "tmpfs", where], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield where, lambda: subprocess.run(["mount", "-o", "remount,size=400m", where], check=True)
    subprocess.run(["umount", "--lazy", where], check=True)


async def test_initdb_on_a_disk_without_room_says_so_and_goes_on_when_there_is_some(small_disk):
    where, grow = small_disk
    local = Harness(where / "data", DatabaseDriver(), Database)
    try:
        filler = where / "filler"
        filler.write_bytes(b"x" * (88 << 20))
        obj = local.object()
        assert "Free space" in await told(local, obj, "no room left on the disk while running initdb")
        filler.unlink()
        grow()
        await local.converge(obj)
    finally:
        await local.close()


@pytest.mark.parametrize(
    ("driver", "model"), [(CacheDriver, Cache), (QueueDriver, Queue), (LoadBalancerDriver, LoadBalancer)]
)
async def test_a_port_that_somebody_took_while_the_engine_was_away_is_waited_for(start, driver, model):
    """Clients know the port, so it isn't changed."""
    local = start(driver(), model)
    obj = balancer(local) if model is LoadBalancer else local.object()
    seen = await local.converge(obj)
    await local.instance(obj).stop_all()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", seen.endpoint.port))
        taken.listen()
        said = await told(local, obj, f"port {seen.endpoint.port} is taken by another program")
        assert "ss -ltnp" in said
    assert (await local.converge(obj)).endpoint.port == seen.endpoint.port


async def test_too_little_memory_is_named_with_the_limit_and_more_mends_it(start):
    local = start(LoadBalancerDriver(), LoadBalancer)
    if "memory" not in local.provider.cgroups.controllers:
        pytest.skip(f"limits can't be set here: {local.provider.cgroups}")
    obj = balancer(local, resources={"limits": {"memory": "4Mi"}})
    said = await told(local, obj, "was killed for using more memory than its limit of 4 MiB")
    assert "spec.resources.limits.memory" in said
    obj = local.changed(obj, resources={"limits": {"memory": "128Mi"}})
    local.instance(obj).process("haproxy").entry["not_before"] = 0.0
    await local.converge(obj)


def test_what_is_said_of_a_crash_stays_the_same_until_the_next_try(tmp_path):
    """A countdown would be a write of the status each second."""
    provider = LocalProvider(tmp_path)
    process = provider.instance("cache-1").process("node-0")
    ended = ExitInfo(at=0.0, code=1)
    states = [
        ProcessState(running=False, wanted=True, restarts=3, exit=ended, wait=wait, not_before=3600.0)
        for wait in (8.0, 7.0, 0.5)
    ]
    said = {crash_loop("node-0", process, state) for state in states}
    assert said == {("CrashLoop", "node-0 exited with code 1, next try at 01:00:00 UTC; its last words: ")}


async def test_data_of_another_version_are_left_alone(start):
    local = start(DatabaseDriver(), Database)
    obj = local.object()
    await local.converge(obj)
    await local.instance(obj).stop_all()
    found = local.instance(obj).data_dir.rglob("PG_VERSION")
    version = min(found, key=lambda path: len(path.parts))  # each database has one, too
    was = version.read_text()
    version.write_text("12\n")
    said = await told(local, obj, "12")
    assert "18" in said
    assert version.read_text() == "12\n"
    version.write_text(was)
    await local.converge(obj)


async def another(local, obj, path, content, words):
    """Put in place what another version would have left: it is told and left as it is; when it is back, all is well."""
    await local.converge(obj)
    await local.instance(obj).stop_all()
    (path,) = local.instance(obj).data_dir.rglob(path)
    was = path.read_bytes()
    path.write_bytes(content(bytearray(was)))
    said = await told(local, obj, words)
    assert "left as they are" in said or "left as it is" in said
    assert path.read_bytes() == content(bytearray(was))
    path.write_bytes(was)
    for name in local.instance(obj).process_names():
        local.instance(obj).process(name).entry["not_before"] = 0.0
    return await local.converge(obj)


def numbered(data):
    """A snapshot of a format that is still to come."""
    digits = data.index(b"0")  # after the engine's name: REDIS and four of them, VALKEY and three
    data[digits:9] = b"0999"[-(9 - digits) :]
    return bytes(data)


@pytest.mark.parametrize("engine", ["valkey", pytest.param("redis", marks=heavy)])
async def test_a_snapshot_of_a_newer_cache_is_left_alone(start, engine):
    local = start(CacheDriver(), Cache)
    obj = local.object(engine=engine, memory="32Mi", persistence={"mode": "append-only", "storage": {"size": "1Gi"}})
    seen = await local.converge(obj)
    async with redis.from_url(seen.binding.entries["uri"], decode_responses=True) as cache:
        await cache.set("kept", "yes")
    await another(local, obj, "*.base.rdb", numbered, "Can't handle RDB format version 999")
    async with redis.from_url(seen.binding.entries["uri"], decode_responses=True) as cache:
        assert await cache.get("kept") == "yes"


def relabelled(data):
    """A redo log as a later MariaDB may begin it, with the checksum that it needs to be believed."""
    data[0:4], data[16:32] = b"Phyz", b"MariaDB 99.1.2\0\0"
    crc = 0xFFFFFFFF
    for byte in data[:508]:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    data[508:512] = (crc ^ 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(data)


@heavy
async def test_data_of_a_newer_mariadb_are_left_alone(start):
    local = start(DatabaseDriver(), Database)
    words = "The redo log was created with MariaDB 99.1.2"
    await another(local, local.object(engine="mariadb"), "ib_logfile0", relabelled, words)


@heavy
async def test_data_of_a_newer_rabbitmq_are_left_alone(start):
    """It would not look at what it doesn't know, and begin with nothing."""
    local = start(QueueDriver(), Queue)
    obj = local.object(engine="rabbitmq")
    words = "a newer RabbitMQ wrote (with khepri_db)"
    await another(local, obj, "*-feature_flags", lambda was: bytes(was).replace(b"[", b"[khepri_db,", 1), words)


def of_version_9(data):
    data[4:8] = (9).to_bytes(4, "big")
    return bytes(data)


def of_unknown_kind(data):
    return b"VDSK" + bytes(data[4:])


def with_a_new_feature(data):
    data[74] |= 1
    return bytes(data)


@heavy
@pytest.mark.timeout(600)
@pytest.mark.skipif(bool(apt.available()), reason=f"QEMU and the guest come from Debian packages: {apt.available()}")
async def test_a_disk_that_another_program_wrote_is_left_alone(start):
    local = start(VirtualMachineDriver(), VirtualMachine)
    disk = {"name": "safe", "size": "16Mi"}
    obj = local.object(memory="96Mi", image={"name": "tiny"}, disks=[disk], shutdownTimeout="2s")
    await another(local, obj, "disk-safe.qcow2", of_version_9, "is a qcow2 image of version 9")
    await another(local, obj, "disk-safe.qcow2", of_unknown_kind, "is no qcow2 image any more")
    await another(local, obj, "disk-safe.qcow2", with_a_new_feature, "Unsupported qcow2 feature(s)")


@pytest.fixture
def read_only():
    """Makes a directory read-only, and writable again; also for root, where file systems can be mounted."""
    mounted = []

    def mount(*argv):
        done = subprocess.run(["mount", *map(str, argv)], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")

    def lock(where):
        if os.geteuid() != 0:
            where.chmod(0o500)
            return
        mount("--bind", where, where)
        mounted.append(where)
        mount("-o", "remount,ro,bind", where)

    def unlock(where):
        if os.geteuid() != 0:
            where.chmod(0o700)
            return
        subprocess.run(["umount", "--lazy", str(where)], check=True)
        mounted.remove(where)

    yield lock, unlock
    for where in mounted:
        unlock(where)


async def test_a_read_only_data_directory_is_named(tmp_path, read_only):
    lock, unlock = read_only
    where = tmp_path / "locked"
    where.mkdir()
    lock(where)
    with pytest.raises(PermissionDenied, match=f"not allowed .* {where}") as caught:
        LocalProvider(where / "data").open()
    assert "--data-dir" in caught.value.hint
    unlock(where)
    local = Harness(where / "data", CacheDriver(), Cache)
    try:
        obj = local.object(memory="32Mi")
        lock(local.provider.instances_dir)
        assert "Make the data directory writable" in await told(local, obj, "not allowed")
        unlock(local.provider.instances_dir)
        await local.converge(obj)
        await local.delete(obj)
    finally:
        await local.close()


async def test_an_image_that_can_not_be_reached_or_is_another_is_named(tmp_path):
    content = b"an image"
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    port = PORTS.choose()
    url = f"http://127.0.0.1:{port}/image"
    with pytest.raises(Unavailable, match=f"{url} can't be fetched") as caught:
        await downloads.fetch(url, checksum, tmp_path, field="spec.image.url")
    assert caught.value.retry_after
    answers = [b"something else", content]
    app = web.Application()

    async def answer(_):
        return web.Response(body=answers.pop(0))

    app.router.add_get("/image", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        with pytest.raises(InvalidSpec, match="has the checksum"):
            await downloads.fetch(url, checksum, tmp_path, field="spec.image.url")
        path = await downloads.fetch(url, checksum, tmp_path, field="spec.image.url")
        assert await asyncio.to_thread(path.read_bytes) == content
    finally:
        await runner.cleanup()
