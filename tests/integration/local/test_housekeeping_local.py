"""Logs that grow, data that take too much room, a disk that fills up: told, bounded, and over when mended."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys

import pytest
import redis.asyncio as redis
from local_harness import Harness, until

from chandlery.foundation import logfiles
from chandlery.foundation.logreader import Follower
from chandlery.providers.local import LocalProvider, ProcessSpec
from chandlery.providers.local.housekeeping import CONDITION, Limits, in_words
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache

pytestmark = pytest.mark.engine
KEPT = {"mode": "append-only", "storage": {"size": "1Mi"}}


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", CacheDriver(), Cache)
    limits(made)
    yield made
    await made.close()


def limits(local, **changes):
    local.provider.housekeeping.limits = Limits(rest=0, **changes)


def condition(seen):
    return next(c for c in seen.conditions if c.type == CONDITION)


async def test_the_log_of_a_running_engine_stays_short_and_no_line_is_lost(tmp_path):
    provider = LocalProvider(tmp_path / "data", limits=Limits(log_bytes=50_000, log_files=1000, rest=0))
    provider.open()
    instance = provider.instance("cache-1")
    instance.create(kind="Cache", namespace="default", name="a", uid="1")
    process = instance.process("node-0")
    talk = "import itertools, time\nfor n in itertools.count():\n"
    talk += " print('line', n, 'x' * 50, flush=True)\n n % 100 or time.sleep(0.002)\n"
    await process.start(ProcessSpec([sys.executable, "-S", "-c", talk]))
    follower = Follower(process.log_path)
    seen = follower.last(0)
    await until(lambda: process.log_path.stat().st_size > 50_000, 30)
    for _ in range(5):
        await asyncio.to_thread(provider.housekeeping.look)
        seen += follower.new()
        while not (new := follower.new()):
            await asyncio.sleep(0.01)
        seen += new
    await process.stop()
    await asyncio.to_thread(provider.housekeeping.look)
    seen += follower.new()
    assert logfiles.older(process.log_path, 1).exists()
    assert process.log_path.stat().st_blocks * 512 <= 54_000
    numbers = [int(line.split()[1]) for line in seen if line.startswith("line")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[0] <= 1
    provider.close()


async def test_data_that_outgrow_their_storage_are_told_of_until_they_fit_again(local):
    obj = local.object(memory="64Mi", persistence=KEPT)
    seen = await local.converge(obj)
    assert (condition(seen).status, condition(seen).reason) == ("True", "Enough")
    woken = []
    local.provider.notify = woken.append
    async with redis.from_url(seen.binding.entries["uri"]) as cache:
        await cache.set("large", "x" * (3 << 20))
        assert await until(lambda: asyncio.to_thread(local.provider.housekeeping.look), 30) == [
            local.instance(obj).name
        ]
        told = condition(await local.driver.observe(local.ctx, obj))
        assert (told.status, told.reason) == ("False", "DataTooLarge")
        assert "more than the 1 MiB" in told.message
        larger = local.changed(obj, persistence={**KEPT, "storage": {"size": "100Mi"}})
        await local.converge(larger)
        await until(lambda: asyncio.to_thread(local.provider.housekeeping.look), 30)
        assert condition(await local.driver.observe(local.ctx, larger)).status == "True"


async def test_a_disk_that_is_nearly_full_is_told_of_until_there_is_room(local):
    obj = local.object(persistence=KEPT)
    await local.converge(obj)
    limits(local, disk_reserve=shutil.disk_usage(local.root).total)
    assert local.provider.housekeeping.look() == [local.instance(obj).name]
    told = condition(await local.driver.observe(local.ctx, obj))
    assert told.reason == "DiskNearlyFull"
    assert str(local.root) in told.message
    limits(local, disk_reserve=0)
    assert local.provider.housekeeping.look() == [local.instance(obj).name]
    assert condition(await local.driver.observe(local.ctx, obj)).status == "True"


async def test_what_keeps_nothing_has_no_such_condition(local):
    seen = await local.converge(local.object())
    assert not [c for c in seen.conditions if c.type == CONDITION]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    where = tmp_path / "small"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0755", "tmpfs", str(where)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(folder):
    """A file that takes all the room there is."""
    path = folder / "filler"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(fd, b"x" * 4096):
            pass
    os.close(fd)
    return path


async def test_a_full_disk_is_said_in_plain_words_and_it_goes_on_when_there_is_room(small_disk):
    local = Harness(small_disk / "data", CacheDriver(), Cache)
    try:
        filler = fill(small_disk)
        obj = local.object(memory="16Mi")
        converging = asyncio.create_task(local.converge(obj))
        # what the loop would write into the condition
        with pytest.raises(Exception, match="no room left on the disk") as caught:
            await local.driver.create(local.ctx, local.object(memory="16Mi"))
        assert caught.value.retry_after
        filler.unlink()
        seen = await converging
        assert seen.ready
        await local.delete(obj)
    finally:
        await local.close()


def test_sizes_are_said_as_people_do():
    assert [in_words(n) for n in (5, 2048, 1 << 20, 3 << 29)] == ["5 bytes", "2 KiB", "1 MiB", "1.5 GiB"]
