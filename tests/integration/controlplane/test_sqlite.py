"""What only the SQLite store can: full disks, foreign files, backups while writing, one process alone."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading

import pytest

from chandlery.controlplane.cache import Cache
from chandlery.controlplane.plane import ControlPlane, ControlPlaneError
from chandlery.controlplane.settings import ControlPlaneSettings
from chandlery.controlplane.store import checkpoints
from chandlery.controlplane.store import sqlite as sqlite_store
from chandlery.controlplane.store.base import StoreError
from chandlery.controlplane.store.sqlite import FORMAT, SqliteStore, backup


async def put(store: SqliteStore, key: str, value: bytes = b"{}", expect: int = 0) -> int:
    return await store.txn(key, expect, lambda rev: value)


async def test_a_full_disk_refuses_writes_and_recovers(tmp_path):
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    seen: list[object] = []
    await store.open(seen.extend)
    rev = await put(store, "/cm/ns/a")
    pages = store._db.execute  # the writer's own connection

    def limit(count: int) -> None:
        pages(f"PRAGMA max_page_count={count}")

    loop = asyncio.get_running_loop()
    await loop.run_in_executor(store._writer, limit, 12)

    async def fill() -> None:
        for n in range(200):
            await put(store, f"/cm/ns/{n}", b"x" * 4000)

    with pytest.raises(StoreError, match="no room left on the disk"):
        await fill()
    before = len(seen)
    await loop.run_in_executor(store._writer, limit, 1_000_000)
    again = await put(store, "/cm/ns/after")
    assert again > rev
    assert len(seen) == before + 1
    await store.close()
    reopened = SqliteStore(path)
    held = list(await reopened.open(lambda changes: None))
    assert {c.key for c in held} == {c.key for c in seen}
    await reopened.close()


async def test_the_file_is_private(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    await store.open(lambda changes: None)
    assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o600
    await store.close()


async def test_a_store_of_a_newer_version_says_so(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    await store.open(lambda changes: None)
    await store.close()
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match=r"newer Chandlery \(format 99"):
        await SqliteStore(tmp_path / "store.db").open(lambda changes: None)


async def test_a_store_of_the_first_format_is_brought_up(tmp_path):
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    await store.open(lambda changes: None)
    first = await put(store, "/cm/ns/a", b"1")
    await put(store, "/cm/ns/a", b"2", first)
    await store.close()
    with sqlite3.connect(path) as db:
        db.execute("CREATE INDEX log_key ON log (key, rev)")
        db.execute("PRAGMA user_version=1")
    db.close()
    again = SqliteStore(path)
    held = list(await again.open(lambda changes: None))
    assert [change.value for change in held] == [b"1", b"2"]
    await again.compact(again.revision)
    await again.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == FORMAT
        assert not db.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND name = 'log_key'").fetchall()
        assert db.execute("SELECT value FROM log").fetchall() == [(b"2",)]
    db.close()


async def test_a_compaction_that_was_cut_short_is_finished_by_the_next(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    await store.open(lambda changes: None)
    monkeypatch.setattr(sqlite_store, "_FORGOTTEN_AT_ONCE", 3)
    rev = 0
    for number in range(10):
        rev = await put(store, "/cm/ns/a", str(number).encode(), rev)
    gone = await put(store, "/cm/ns/b")
    await store.txn("/cm/ns/b", gone, lambda rev: b"last", deleted=True)
    forget, left = store._forget, [2]

    def fail_at_the_third(revisions):
        if not left[0]:
            raise sqlite3.OperationalError("database or disk is full")
        left[0] -= 1
        forget(revisions)

    monkeypatch.setattr(store, "_forget", fail_at_the_third)
    with pytest.raises(StoreError, match="no room left"):
        await store.compact(store.revision)
    last = await put(store, "/cm/ns/a", b"after", rev)
    await store.close()
    again = SqliteStore(path)
    held = {change.key: change for change in await again.open(lambda changes: None) if not change.deleted}
    assert held["/cm/ns/a"].value == b"after"
    assert again.compacted == last - 1
    await again.compact(again.revision)
    await again.close()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT key, value FROM log").fetchall() == [("/cm/ns/a", b"after")]
    db.close()


async def test_writes_that_come_together_share_a_commit(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    published: list[int] = []
    await store.open(lambda changes: published.append(len(changes)))
    await asyncio.gather(*(put(store, f"/cm/ns/{number}") for number in range(100)))
    assert sum(published) == 100
    assert len(published) < 20
    await store.close()


async def test_what_is_written_is_brought_in_while_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "PAGES", 50)
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    await store.open(lambda changes: None)
    for number in range(200):
        await put(store, f"/cm/ns/{number}", b"x" * 8000)
    # SQLite by itself would not have done it yet.
    assert checkpoints.MOST_PAGES * 4096 > 200 * 8000
    rev = 0
    async with asyncio.timeout(120):
        while path.stat().st_size < 200 * 8000:
            rev = await put(store, "/cm/ns/more", b"y" * 8000, rev)
    await store.close()
    assert "checkpoints" not in {thread.name for thread in threading.enumerate()}
    assert not path.with_name("store.db-wal").exists()
    reopened = SqliteStore(path)
    held = {change.key for change in await reopened.open(lambda changes: None)}
    assert {f"/cm/ns/{number}" for number in range(200)} <= held
    await reopened.close()


async def test_writing_goes_on_when_nothing_can_be_brought_in(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(checkpoints, "PAGES", 10)

    def broken(_db: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(checkpoints, "_checkpoint", broken)
    store = SqliteStore(tmp_path / "store.db")
    await store.open(lambda changes: None)
    number = 0
    async with asyncio.timeout(120):
        while caplog.text.count("stays in the WAL") < 4:
            number += 1
            await put(store, f"/cm/ns/{number}", b"x" * 8000)
    await store.close()


async def test_another_program_s_database_is_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("CREATE TABLE people (name TEXT)")
    db.close()
    with pytest.raises(StoreError, match="some other SQLite database"):
        await SqliteStore(tmp_path / "store.db").open(lambda changes: None)


async def test_a_damaged_file_is_told_plainly(tmp_path):
    (tmp_path / "store.db").write_bytes(b"this is not a database, but it is long enough" * 100)
    with pytest.raises(StoreError, match="is damaged"):
        await SqliteStore(tmp_path / "store.db").open(lambda changes: None)


async def test_a_backup_while_writing_is_one_moment_s_state(tmp_path):
    store = SqliteStore(tmp_path / "store.db")
    await store.open(lambda changes: None)
    stop = asyncio.Event()
    written: list[int] = []

    async def write() -> None:
        n = 0
        while not stop.is_set():
            written.append(await put(store, f"/cm/ns/{n}", b"{}" * 50))
            n += 1

    writer = asyncio.create_task(write())
    while len(written) < 50:
        await asyncio.sleep(0)
    floor = written[-1]
    size = await asyncio.to_thread(backup, tmp_path / "store.db", tmp_path / "copy.db")
    stop.set()
    await writer
    await store.close()
    assert size > 0
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    copy = SqliteStore(tmp_path / "copy.db")
    held = list(await copy.open(lambda changes: None))
    revisions = [c.rev for c in held]
    assert revisions == list(range(1, len(revisions) + 1))
    assert revisions[-1] >= floor
    await copy.close()


def test_a_backup_needs_a_store_and_a_free_name(tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        backup(tmp_path / "none.db", tmp_path / "copy.db")
    (tmp_path / "store.db").write_bytes(b"")
    (tmp_path / "copy.db").write_bytes(b"")
    with pytest.raises(StoreError, match="already there"):
        backup(tmp_path / "store.db", tmp_path / "copy.db")


async def test_two_control_planes_never_share_a_data_directory(tmp_path):
    settings = ControlPlaneSettings(data_dir=tmp_path, store="sqlite")
    async with ControlPlane(settings):
        with pytest.raises(ControlPlaneError, match="in use by another control plane"):
            await ControlPlane(settings).start()
    async with ControlPlane(settings) as again:
        assert again.url


async def test_a_restart_keeps_objects_port_and_the_place_of_watches(tmp_path):
    settings = ControlPlaneSettings(data_dir=tmp_path, store="sqlite")
    user = None
    async with ControlPlane(settings) as plane:
        from chandlery.controlplane.types import UserInfo

        user = UserInfo("admin", groups=("system:masters",))
        made = await plane.api.create(
            "",
            "configmaps",
            {"metadata": {"name": "kept", "namespace": "default"}, "data": {"a": "1"}},
            user=user,
            manager="test",
        )
        url = plane.url
    async with ControlPlane(settings) as plane:
        found = plane.api.get("", "configmaps", "default", "kept")
        assert found == made
        assert plane.url == url
        rev = int(made["metadata"]["resourceVersion"])
        table = plane.core.cache.table(("", "configmaps"))
        assert table.since(rev - 1)[0].entry.name == "kept"
        assert table.floor < rev


def test_an_empty_cache_answers_sensibly():
    cache = Cache()
    table = cache.table(("g", "things"))
    assert list(table.span("")) == []
    assert table.at(0) == {}
    assert table.since(0) == []
