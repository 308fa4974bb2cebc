"""Bad luck of every sort: each is told in plain words that name the way out, and it goes on by itself when mended."""

import asyncio
import hashlib
import os
import shutil
import subprocess
from dataclasses import replace

import pytest
from aiohttp import web
from local_harness import Harness, until

from chandlery.driver.protocol import Plan
from chandlery.foundation.errors import ChandleryError, InvalidSpec, PermissionDenied, Unavailable
from chandlery.providers.local import LocalProvider, downloads
from chandlery.providers.local.ports import DEFAULT_RANGE, Ports
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database

pytestmark = pytest.mark.engine
PORTS = Ports(lambda: (), (DEFAULT_RANGE[1] - 4900, DEFAULT_RANGE[1] - 4001))


@pytest.fixture
async def start(tmp_path):
    made = []

    def harness(driver, model):
        made.append(Harness(tmp_path / "data", driver, model))
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
    said = await told(local, obj, "node-0 exited with code")
    assert str(copy) in said
    copy.unlink()  # the kernel may still be at the old one
    shutil.copy(real.binary, copy)
    local.instance(obj).process("node-0").entry["not_before"] = 0.0
    await local.converge(obj)


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
