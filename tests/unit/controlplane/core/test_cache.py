"""Tables: order, history, watchers; by example and against a model."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import orjson
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane import cache as cache_module
from chandlery.controlplane.cache import KEEP_EVENTS, KEEP_SECONDS, Cache, Subscription
from chandlery.controlplane.core import dump
from chandlery.controlplane.store.base import Change


def change(rev: int, key: str, *, deleted: bool = False, labels: dict[str, str] | None = None) -> Change:
    namespace, _, name = key.rpartition("/")
    obj = {"metadata": {"name": name, "namespace": namespace, "resourceVersion": str(rev), "labels": labels or {}}}
    return Change(rev, f"g/things/{key}", orjson.dumps(obj), deleted)


STEPS = st.lists(st.tuples(st.sampled_from(["a/x", "a/y", "b/x", "a-b/x", "c/z"]), st.booleans()), max_size=60)


@given(STEPS)
def test_a_table_is_what_its_changes_say_at_every_revision(steps):
    cache = Cache()
    model: dict[str, int] = {}
    history: list[dict[str, int]] = [{}]
    for number, (key, remove) in enumerate(steps, 1):
        if remove and key in model:
            cache.publish([change(number, key, deleted=True)])
            del model[key]
        else:
            cache.publish([change(number, key)])
            model[key] = number
        history.append(dict(model))
    table = cache.table(("g", "things"))
    assert {entry.key: entry.rev for entry in table.span("")} == model
    assert [entry.key for entry in table.span("")] == sorted(model)
    for namespace in ("a", "b", "a-b", "c"):
        wanted = sorted(key for key in model if key.startswith(f"{namespace}/"))
        assert [entry.key for entry in table.span(namespace)] == wanted
    for number in range(table.floor, len(history)):
        past = table.at(number)
        assert past is not None
        assert {key: entry.rev for key, entry in past.items()} == history[number]
    assert [event.rev for event in table.since(0)] == list(range(1, len(steps) + 1))


def test_old_history_is_forgotten_and_asking_for_it_is_noticed():
    cache = Cache()
    for number in range(1, KEEP_EVENTS + 200):
        cache.publish([change(number, "a/x")])
    table = cache.table(("g", "things"))
    for event in table.ring:
        event.at -= 10_000
    cache.publish([change(KEEP_EVENTS + 200, "a/x")])
    assert len(table.ring) == KEEP_EVENTS
    assert table.at(5) is None
    assert table.floor == table.ring[0].rev - 1


def test_watchers_hear_of_their_namespace_and_name_only():
    cache = Cache()
    table = cache.table(("g", "things"))
    heard: dict[tuple[str, str], list[int]] = {}
    for where in (("", ""), ("a", ""), ("a", "x"), ("b", ""), ("", "x")):
        heard[where] = []
        subscription = Subscription(lambda event, log=heard[where]: (log.append(event.rev), event.kind)[1], 10)
        table.subscribe(subscription, *where)
    cache.publish([change(1, "a/x"), change(2, "a/y"), change(3, "b/x")])
    assert heard == {("", ""): [1, 2, 3], ("a", ""): [1, 2], ("a", "x"): [1], ("b", ""): [3], ("", "x"): [1, 3]}


def test_a_watcher_that_lags_is_cut_off_and_costs_no_memory():
    cache = Cache()
    table = cache.table(("g", "things"))
    woken: list[int] = []
    subscription = Subscription(lambda event: event.kind, 3)
    subscription.on_wake(lambda: woken.append(1))
    table.subscribe(subscription, "", "")
    cache.publish([change(number, "a/x") for number in range(1, 10)])
    assert subscription.overflowed
    assert len(subscription.queue) == 3
    assert woken


def test_entries_are_parsed_once_and_let_go_again():
    cache = Cache()
    cache.publish([change(1, "a/x", labels={"k": "v"})])
    entry = next(iter(cache.table(("g", "things")).span("")))
    assert entry.obj is entry.obj
    assert entry.labels == {"k": "v"}
    own = entry.fresh()
    own["metadata"]["labels"]["k"] = "changed"
    assert entry.labels == {"k": "v"}


def test_one_broken_watcher_or_listener_keeps_nothing_from_the_others():
    cache = Cache()
    table = cache.table(("g", "things"))
    heard: list[int] = []

    def broken(*_args: object) -> str:
        raise RuntimeError("broken")

    first = Subscription(broken, 10)
    second = Subscription(lambda event: heard.append(event.rev) or event.kind, 10)  # type: ignore[func-returns-value]
    table.subscribe(first, "", "")
    table.subscribe(second, "", "")
    cache.listen(broken)
    cache.listen(lambda kind, where, event: heard.append(-event.rev))
    cache.publish([change(1, "a/x"), change(2, "a/x")])
    assert heard == [-1, -2, 1, 2]
    assert first.overflowed


def _told(cache: Cache) -> list[int]:
    heard: list[int] = []
    subscription = Subscription(lambda event: heard.append(event.rev) or event.kind, 10_000)  # type: ignore[func-returns-value]
    cache.table(("g", "things")).subscribe(subscription, "", "")
    return heard


async def test_whoever_wrote_is_answered_before_watchers_hear_of_it():
    cache, loop, order = Cache(), asyncio.get_running_loop(), []
    heard = _told(cache)
    written = loop.create_future()

    async def write() -> None:
        await written
        order.append(list(heard))

    writer = asyncio.create_task(write())
    await asyncio.sleep(0)
    cache.publish([change(1, "a/x"), change(2, "a/y")])
    written.set_result(None)
    assert cache.revision == 2
    assert cache.told == 0  # no bookmark may say more
    await writer
    assert order == [[]]
    while cache.told < 2:
        await asyncio.sleep(0)
    assert heard == [1, 2]


async def test_watchers_are_told_in_order_and_never_far_behind():
    cache = Cache()
    heard = _told(cache)
    for number in range(1, 2001):
        cache.publish([change(number, "a/x")])
        if number % 50 == 0:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert number - cache.told <= 100
    while cache.told < 2000:
        await asyncio.sleep(0)
    assert heard == list(range(1, 2001))


async def test_watches_that_are_ended_hear_of_what_happened_before():
    cache = Cache()
    heard = _told(cache)
    cache.publish([change(1, "a/x")])
    cache.drop(("g", "things"))
    assert heard == [1]


def test_listeners_of_some_tables_hear_of_no_other():
    cache, heard = Cache(), []
    stop = cache.listen(lambda kind, where, event: heard.append(event.rev), [("g", "things")])
    other = Change(1, "g/others/a/x", b'{"metadata":{}}')
    cache.publish([other, change(2, "a/x")])
    assert heard == [2]
    stop()
    cache.publish([change(3, "a/x")])
    assert heard == [2]


def test_what_is_kept_of_an_object_takes_the_room_of_its_bytes():
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"key": "v" * 600}}
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [dump(obj) for _ in range(100)]
        took = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert took < 1.3 * sum(map(len, kept))


def test_the_history_of_large_objects_is_bounded_by_their_bytes(monkeypatch):
    monkeypatch.setattr(cache_module, "MOST_BYTES", 1000)
    cache = Cache()
    for rev in range(1, 20):
        cache.publish([Change(rev, "g/things/a/x", b'{"metadata":{}}' + b" " * 285)])
    table = cache.table(("g", "things"))
    assert [event.rev for event in table.ring] == [17, 18, 19]
    assert table.held == 900
    assert table.floor == 16
    assert table.at(15) is None


def test_old_history_goes_even_when_nothing_more_happens():
    cache = Cache()
    cache.publish([change(rev, "a/x") for rev in range(1, KEEP_EVENTS + 101)])
    table = cache.table(("g", "things"))
    assert len(table.ring) == KEEP_EVENTS + 100
    table.trim(time.monotonic() + 2 * KEEP_SECONDS)
    assert len(table.ring) == KEEP_EVENTS
    assert table.floor == 100
    assert table.held == sum(len(event.entry.raw) for event in table.ring)
