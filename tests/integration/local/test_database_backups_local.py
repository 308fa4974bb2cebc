"""Backups of a real PostgreSQL under a client that writes and checks, and databases that begin with them."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from local_harness import Harness, kill, until

from chandlery.driver.protocol import Plan
from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local.backup_store import Store, folder_name
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.drivers.local_postgres_archive import complete_through
from chandlery_kinds.database.model import Database

pytestmark = pytest.mark.engine


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", DatabaseDriver(), Database)
    yield made
    await made.close()


def backup(path, **more):
    return {"destination": {"directory": {"path": str(path)}}, **more}


def store_of(path, obj):
    meta = obj.metadata
    return Store(path / folder_name(obj.kind, meta.namespace, meta.name, meta.uid))


def known(local, obj):
    """What the API server would answer when a restore asks for the source."""
    dumped = obj.model_dump(by_alias=True, exclude_none=True, mode="json")
    local.reader.objects[(obj.kind, obj.metadata.namespace, obj.metadata.name)] = dumped


def annotated(local, obj, text):
    dumped = obj.model_dump(by_alias=True, exclude_none=True, mode="json")
    dumped["metadata"]["annotations"] = {"chandlery.dev/backup-requested-at": text}
    return local.model.model_validate(dumped)


class Writer:
    """Writes rising numbers and remembers which were confirmed, and when, by the server's clock."""

    def __init__(self, uri):
        self.uri = uri
        self.confirmed = {}
        self._task = None

    async def __aenter__(self):
        connection = await asyncpg.connect(self.uri, timeout=10)
        await connection.execute("CREATE TABLE IF NOT EXISTS t (n bigint PRIMARY KEY, filler text)")
        self._task = asyncio.create_task(self._write(connection))
        return self

    async def _write(self, connection):
        number = 0
        try:
            while True:
                number += 1
                await connection.execute("INSERT INTO t VALUES ($1, repeat('x', 200))", number)
                self.confirmed[number] = datetime.now(UTC)
                await asyncio.sleep(0.002)
        finally:
            connection.terminate()

    async def more(self, count):
        have = len(self.confirmed)
        await until(lambda: len(self.confirmed) >= have + count, 60)

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def numbers(binding):
    connection = await asyncpg.connect(binding.entries["uri"], timeout=10)
    try:
        return {row["n"] for row in await connection.fetch("SELECT n FROM t")}
    finally:
        await connection.close()


async def until_seen(local, obj, check, seconds=120):
    """Converge until the observation shows something."""

    async def seen():
        observed = await local.converge(obj)
        return observed if check(observed) else None

    return await until(seen, seconds)


def completed(count):
    return lambda seen: (
        seen.facts["backup"]["count"] == count and seen.facts["backup"]["list"][0]["phase"] == "Completed"
    )


async def test_any_moment_can_be_restored(local, tmp_path):
    """A backup under a writer, more writing, and a new database as of a moment between: all that was confirmed
    until then is there, and nothing that was begun later. Then a second one with everything."""
    place = tmp_path / "backups"
    obj = local.object(backup=backup(place, continuousArchiving=True, retention={"count": 2}))
    seen = await local.converge(obj)
    async with Writer(seen.binding.entries["uri"]) as writer:
        await writer.more(20)
        seen = await until_seen(local, obj, completed(1))
        await writer.more(50)
        moment = datetime.now(UTC)
        await writer.more(50)
    known(local, obj)
    before = {number for number, at in writer.confirmed.items() if at <= moment}
    assert len(before) >= 70

    past = local.object(restoreFrom={"objectName": "demo", "pointInTime": moment.isoformat()})
    restored = await local.converge(past, 120)
    found = await numbers(restored.binding)
    assert before <= found, "no confirmed write is missing"
    assert not {number for number, at in writer.confirmed.items() if at > moment + timedelta(seconds=1)} & found
    assert max(found) <= max(before) + 1, "what was begun after the moment isn't there"
    assert restored.binding.entries["password"] != seen.binding.entries["password"]
    await local.delete(past)

    # everything, although the source was idle since its last write, and is gone in the end
    everything, ended = await numbers(seen.binding), datetime.now(UTC)  # it may be one more than was confirmed
    assert set(writer.confirmed) <= everything
    folder = store_of(place, obj).folder
    await until_seen(local, obj, lambda _: (complete_through(folder) or moment) >= ended)
    await local.delete(obj)
    whole = local.object(restoreFrom={"destination": {"directory": {"path": str(place)}}})
    restored = await local.converge(whole, 120)
    assert await numbers(restored.binding) == everything


async def test_backups_by_request_retention_and_a_last_one(local, tmp_path):
    place = tmp_path / "backups"
    obj = local.object(backup=backup(place, schedule="0 3 * * *", retention={"count": 2}), deletionPolicy="Snapshot")
    seen = await local.converge(obj)
    assert seen.facts["backup"]["count"] == 0
    assert seen.facts["backup"]["nextScheduledTime"].endswith("T03:00:00Z")
    assert seen.poll_after <= 86400
    connection = await asyncpg.connect(seen.binding.entries["uri"])
    await connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    await connection.close()
    store = store_of(place, obj)
    for text in ("one", "two", "three"):
        obj = annotated(local, obj, text)
        newest = store.names()[-1:]
        await until_seen(local, obj, lambda _, newest=newest: store.names()[-1:] != newest)
    seen = await until_seen(local, obj, completed(2))
    assert seen.facts["backup"]["lastSuccessfulTime"]
    assert not seen.differences, "a request counts once"

    # the schedule: what was due since the last one is due once
    record, newest = local.instance(obj).record, store.names()[-1:]
    record["backup"]["since"] = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    local.instance(obj).save()
    await until_seen(local, obj, lambda _: store.names()[-1:] != newest)
    seen = await until_seen(local, obj, completed(2))
    assert not seen.differences

    await kill(local.instance(obj).process("node-0").state().pid)
    last = store_of(place, obj).names()[-1]
    await local.delete(obj)
    assert store_of(place, obj).names()[-1] > last, "a last backup was made"
    assert not local.instance(obj).root.exists()
    again = local.object(restoreFrom={"destination": {"directory": {"path": str(store_of(place, obj).folder)}}})
    restored = await local.converge(again, 120)
    assert await numbers(restored.binding) == set(range(1, 1001))


async def test_a_broken_destination_harms_nothing(local, tmp_path):
    """The database stays ready; the condition says what is wrong; when it is mended everything goes on."""
    place = tmp_path / "backups"
    place.write_text("a file where a folder should be")
    obj = local.object(backup=backup(place, continuousArchiving=True))
    seen = await until_seen(
        local, obj, lambda seen: {"Archiving"} <= {c.type for c in seen.conditions if c.status == "False"}
    )
    assert seen.ready
    condition = next(c for c in seen.conditions if c.type == "Archiving")
    assert str(place) in condition.message
    assert "at most 256MB" in condition.message
    asked = annotated(local, obj, "now")
    seen = await until_seen(local, asked, lambda seen: seen.facts["backup"]["list"])
    assert seen.facts["backup"]["list"][0]["phase"] == "Failed"
    assert any(event[1] == "BackupFailed" for event in local.events)
    place.unlink()
    record = local.instance(asked).record
    record["archive"]["not_before"] = 0.0
    local.instance(asked).save()
    asked = annotated(local, obj, "now it should work")  # asked for anew it doesn't wait until the back-off is over
    seen = await until_seen(local, asked, completed(1))
    await until_seen(
        local,
        asked,
        lambda seen: all(c.status == "True" for c in seen.conditions if c.type in {"Archiving", "BackedUp"}),
    )
    await a_gap_in_the_archive_begins_a_new_one(local, asked, place)
    known(local, obj)
    absent = local.object(restoreFrom={"objectName": "demo", "backup": "20200101T000000Z"})
    with pytest.raises(ChandleryError, match="no such backup") as caught:
        await local.driver.create(local.ctx, absent)
    assert caught.value.field == "spec.restoreFrom.backup"


async def a_gap_in_the_archive_begins_a_new_one(local, obj, place):
    """When the log that the archive still needs is gone: a new folder, and a new backup at once."""
    instance = local.instance(obj)
    await instance.process("archiver").stop()
    instance.process("archiver").log_path.write_text("requested WAL segment X has already been removed\n")
    observed = await local.driver.observe(local.ctx, obj)
    renew = [change for change in observed.differences if change.payload == ("archive", "renew")]
    await local.driver.update(local.ctx, obj, replace(observed, plan=Plan(tuple(renew))))
    await until_seen(local, obj, completed(2))
    assert (store_of(place, obj).folder / "wal-2").is_dir()
    assert any(event[1] == "ArchiveGap" for event in local.events)
