"""The disk gets full while clients write: what was acknowledged is there when there is room again; it needs no more.

CHANDLERY_HEAVY=1 tries it with every kind that keeps data.
"""

import asyncio
import contextlib
import os
import subprocess

import pytest
from checking_writers import CacheWriter, DatabaseWriter, QueueWriter
from local_harness import Harness, until

from chandlery.foundation.errors import ChandleryError
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database
from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1"),
]
LOGGED = {"mode": "append-only", "fsync": "always", "storage": {"size": "1Gi"}}
BATCH = 1 << 20
CASES = [
    pytest.param(CacheDriver, Cache, {"persistence": LOGGED}, CacheWriter, id="cache"),
    pytest.param(
        CacheDriver, Cache, {"mode": "replicated", "replicas": 1, "persistence": LOGGED}, CacheWriter, id="cache-copied"
    ),
    pytest.param(QueueDriver, Queue, {"storage": {"size": "256Mi"}}, QueueWriter, id="queue"),
    pytest.param(DatabaseDriver, Database, {}, DatabaseWriter, id="database"),
    pytest.param(
        DatabaseDriver,
        Database,
        {"instances": 2, "replication": {"mode": "synchronous"}},
        DatabaseWriter,
        id="database-copied",
    ),
]


@pytest.fixture
def small_disk(tmp_path):
    where = tmp_path / "small"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m,mode=0755", "tmpfs", where], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield where
    subprocess.run(["umount", "--lazy", where], check=True)


def fill(path):
    """Until nothing more fits: what is written next has no room."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (BATCH, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass


@pytest.mark.parametrize(("driver", "model", "spec", "writing"), CASES)
async def test_what_was_acknowledged_is_there_when_there_is_room_again(small_disk, driver, model, spec, writing):
    local = Harness(small_disk / "data", driver(), model)
    obj = local.object(**spec)
    try:
        seen = await local.converge(obj)

        async def entries():
            return seen.binding.entries

        writer = writing("checking", entries)
        writer.start()
        try:
            await writer.more(10)
            filler = small_disk / "filler"
            said = set()
            looking = asyncio.create_task(looks(local, obj, said))
            await until(lambda: stands_still(writer, filler), 240)
            # a single database goes on in the log that it has
            assert not spec or any("no room left on the disk" in text or "no space left" in text for text in said)
            filler.unlink()
            looking.cancel()
            await asyncio.wait({looking})
            await local.converge(obj, 240)
            await writer.more(10, seconds=120)
        finally:
            await writer.stop()
        assert not await writer.lost()
    finally:
        await local.close()


async def stands_still(writer, filler):
    """Whether nothing is acknowledged any more, or a good deal was though the disk is full (it had room of its own)."""
    fill(filler)
    before = len(writer.acknowledged)
    with contextlib.suppress(AssertionError):
        await writer.more(300, seconds=6)
    fill(filler)
    return len(writer.acknowledged) == before or len(writer.acknowledged) > 1500


async def looks(local, obj, said):
    """The operator does what it can meanwhile, and says what is wrong."""
    while True:
        try:
            await local.converge(obj, 5)
        except (AssertionError, ChandleryError) as error:
            said.add(str(error))
        await asyncio.sleep(0.05)
