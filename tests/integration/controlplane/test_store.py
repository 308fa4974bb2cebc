"""One suite for every store: revisions, compare-and-swap, publishing, history, compaction, reopening."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from chandlery.controlplane.store.base import Change, Conflict, Store, StoreError
from chandlery.controlplane.store.etcd import EtcdStore
from chandlery.controlplane.store.memory import MemoryStore
from chandlery.controlplane.store.sqlite import SqliteStore

KEY = "g/things/ns/a"


class Opened:
    """A store in use, with what it has published."""

    def __init__(self, make: Callable[[], Store]) -> None:
        self.make = make
        self.store = make()
        self.seen: list[Change] = []
        self.held: list[Change] = []

    async def open(self) -> Opened:
        self.held = list(await self.store.open(self.seen.extend))
        return self

    async def reopen(self) -> Opened:
        await self.store.close()
        return await Opened(self.make).open()

    async def put(self, key: str, value: bytes, expect: int = 0) -> int:
        return await self.store.txn(key, expect, lambda rev: value)

    async def remove(self, key: str, expect: int) -> int:
        return await self.store.txn(key, expect, lambda rev: b"gone", deleted=True)


def live(changes: list[Change]) -> dict[str, tuple[int, bytes]]:
    found: dict[str, tuple[int, bytes]] = {}
    for change in changes:
        if change.deleted:
            found.pop(change.key, None)
        else:
            found[change.key] = (change.rev, change.value)
    return found


PREFIXES = itertools.count()


def maker(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    if kind == "memory":
        return MemoryStore
    if kind == "sqlite":
        return lambda: SqliteStore(tmp_path / "store.db")
    servers, prefix = [request.getfixturevalue("etcd")], f"/test-{next(PREFIXES)}"
    return lambda: EtcdStore(servers, prefix=prefix)


@pytest.fixture(params=["memory", "sqlite", "etcd"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    subject = await Opened(maker(request.param, request, tmp_path)).open()
    yield subject
    await subject.store.close()


@pytest.fixture(params=["sqlite", "etcd"])
async def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    """Stores that keep what they hold."""
    subject = await Opened(maker(request.param, request, tmp_path)).open()
    yield subject
    await subject.store.close()


@pytest.fixture
async def logged(tmp_path: Path) -> AsyncIterator[Opened]:
    """The store that keeps its history from one run to the next."""
    subject = await Opened(lambda: SqliteStore(tmp_path / "store.db")).open()
    yield subject
    await subject.store.close()


async def test_an_empty_store_holds_nothing(opened):
    assert opened.held == []
    assert opened.store.compacted <= opened.store.revision


async def test_a_write_gets_the_next_revision_and_is_published(opened):
    first = await opened.put(KEY, b"1")
    second = await opened.put("g/things/ns/b", b"2")
    assert second > first > 0
    assert [(c.rev, c.key, c.value) for c in opened.seen] == [(first, KEY, b"1"), (second, "g/things/ns/b", b"2")]
    assert opened.store.revision == second


async def test_the_value_is_made_for_its_revision(opened):
    rev = await opened.store.txn(KEY, 0, lambda rev: b'{"metadata":{"resourceVersion":"%d"}}' % rev)
    assert json.loads(opened.seen[0].value)["metadata"]["resourceVersion"] == str(rev)


async def test_creating_what_exists_is_a_conflict(opened):
    await opened.put(KEY, b"1")
    with pytest.raises(Conflict):
        await opened.put(KEY, b"2")
    assert [c.value for c in opened.seen] == [b"1"]


async def test_updating_needs_the_current_revision(opened):
    first = await opened.put(KEY, b"1")
    second = await opened.put(KEY, b"2", first)
    with pytest.raises(Conflict):
        await opened.put(KEY, b"3", first)
    assert await opened.put(KEY, b"3", second) > second


async def test_updating_what_is_absent_is_a_conflict(opened):
    with pytest.raises(Conflict):
        await opened.put(KEY, b"1", 5)


async def test_deleting_takes_a_revision_and_shows_the_last_value(opened):
    first = await opened.put(KEY, b"1")
    gone = await opened.remove(KEY, first)
    assert gone > first
    assert opened.seen[-1].deleted
    assert opened.seen[-1].rev == gone
    with pytest.raises(Conflict):
        await opened.remove(KEY, gone)
    assert await opened.put(KEY, b"again") > gone


async def test_one_of_many_concurrent_writers_wins(opened):
    rev = await opened.put(KEY, b"0")
    results = await asyncio.gather(*(opened.put(KEY, str(n).encode(), rev) for n in range(20)), return_exceptions=True)
    assert sum(isinstance(r, int) for r in results) == 1
    assert sum(isinstance(r, Conflict) for r in results) == 19


async def test_concurrent_writes_are_published_in_order_and_before_they_return(opened):
    async def write(n: int) -> None:
        rev = await opened.put(f"g/things/ns/{n}", b"x")
        assert any(change.rev == rev for change in opened.seen)

    await asyncio.gather(*(write(n) for n in range(300)))
    revisions = [change.rev for change in opened.seen]
    assert revisions == sorted(revisions)
    assert len(set(revisions)) == 300


async def test_counting_by_compare_and_swap_loses_nothing(opened):
    await opened.put(KEY, b"0")
    at = {c.key: (c.rev, c.value) for c in opened.seen}

    async def add() -> None:
        for _ in range(5):
            while True:
                rev, value = live(opened.seen)[KEY]
                try:
                    await opened.put(KEY, str(int(value) + 1).encode(), rev)
                    break
                except Conflict:
                    await asyncio.sleep(0)

    await asyncio.gather(*(add() for _ in range(10)))
    assert live(opened.seen)[KEY][1] == b"50"
    assert at[KEY][1] == b"0"


async def test_a_cancelled_writer_does_not_hurt_the_others(opened):
    tasks = [asyncio.create_task(opened.put(f"g/things/ns/{n}", b"x")) for n in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, int) for result in results[1::2])
    published = {change.key for change in opened.seen}
    assert {f"g/things/ns/{n}" for n in range(1, 50, 2)} <= published


async def test_compaction_keeps_live_values_writable(opened):
    rev = await opened.put(KEY, b"1")
    rev = await opened.put(KEY, b"2", rev)
    await opened.store.compact(rev)
    assert opened.store.compacted == rev
    assert await opened.put(KEY, b"3", rev) > rev


async def test_writing_after_closing_is_refused(opened):
    await opened.store.close()
    with pytest.raises(Exception, match="closed"):
        await opened.put(KEY, b"1")


async def test_reopening_gives_back_everything(logged):
    lasting = logged

    first = await lasting.put(KEY, b"1")
    second = await lasting.put(KEY, b"2", first)
    third = await lasting.put("g/things/ns/b", b"3")
    fourth = await lasting.remove("g/things/ns/b", third)
    again = await lasting.reopen()
    assert [(c.rev, c.key, c.value, c.deleted) for c in again.held] == [
        (first, KEY, b"1", False),
        (second, KEY, b"2", False),
        (third, "g/things/ns/b", b"3", False),
        (fourth, "g/things/ns/b", b"gone", True),
    ]
    assert again.store.revision == fourth
    assert await again.put("g/things/ns/c", b"4") > fourth
    await again.store.close()


async def test_compaction_forgets_history_but_no_live_value(lasting):
    rng = random.Random(7)
    now: dict[str, int] = {}
    for n in range(300):
        key = f"g/things/ns/{rng.randrange(20)}"
        if key in now and rng.random() < 0.3:
            await lasting.remove(key, now.pop(key))
        else:
            now[key] = await lasting.put(key, str(n).encode(), now.get(key, 0))
    middle = lasting.seen[200].rev
    await lasting.store.compact(middle)
    again = await lasting.reopen()
    assert live(again.held) == live(lasting.seen)
    assert again.store.compacted >= middle
    if isinstance(again.store, SqliteStore):
        assert [c.rev for c in again.held if c.rev > middle] == [c.rev for c in lasting.seen if c.rev > middle]
    assert len(again.held) < len(lasting.seen)
    await again.store.close()


async def test_the_counter_never_goes_back_even_when_everything_is_forgotten(lasting):
    rev = await lasting.put(KEY, b"1")
    rev = await lasting.remove(KEY, rev)
    await lasting.store.compact(rev)
    again = await lasting.reopen()
    assert again.held == []
    assert await again.put(KEY, b"2") > rev
    await again.store.close()


async def test_random_histories_survive_reopening(lasting):
    rng = random.Random(11)
    subject: Any = lasting
    now: dict[str, int] = {}
    everything: list[Change] = []
    for _ in range(5):
        for n in range(40):
            key = f"g/things/ns/{rng.randrange(10)}"
            if key in now and rng.random() < 0.4:
                await subject.remove(key, now.pop(key))
            else:
                now[key] = await subject.put(key, str(n).encode(), now.get(key, 0))
        everything += subject.seen
        subject = await subject.reopen()
        assert live(subject.held) == live(everything)
    await subject.store.close()


async def test_two_servers_on_one_etcd_see_each_other(etcd):
    prefix = f"/test-{next(PREFIXES)}"
    one = await Opened(lambda: EtcdStore([etcd], prefix=prefix)).open()
    other = await Opened(lambda: EtcdStore([etcd], prefix=prefix)).open()
    rev = await one.put(KEY, b"1")
    await other.store.synced()
    assert live(other.seen)[KEY] == (rev, b"1")
    second = await other.put(KEY, b"2", rev)
    with pytest.raises(Conflict):
        await one.put(KEY, b"3", rev)
    assert live(one.seen)[KEY] == (second, b"2")
    await one.remove(KEY, second)
    await other.store.synced()
    assert live(other.seen) == {}
    await one.store.close()
    await other.store.close()


async def test_an_etcd_that_is_not_there_is_named():
    with pytest.raises(StoreError, match=r"etcd at http://127\.0\.0\.1:1 can't be reached"):
        await EtcdStore(["http://127.0.0.1:1"]).open(lambda changes: None)


@pytest.mark.parametrize("servers", [["ftp://x"], [], ["http://a:1", "https://b:1"]])
def test_bad_etcd_servers_are_refused(servers):
    with pytest.raises(ValueError, match="--etcd-servers"):
        EtcdStore(servers)
