"""The newest version wins, whichever way it came; what is gone stays gone."""

from __future__ import annotations

from operator import attrgetter

from chandlery.foundation.clock import FakeClock
from chandlery.foundation.concurrency.workqueue import WorkQueue
from chandlery.foundation.context import Context
from chandlery.model.base import Ref
from chandlery.reconcile.api import FINALIZER, Key
from chandlery.reconcile.classes import MADE_BY
from chandlery.reconcile.engine import Engine, References
from chandlery.reconcile.loop import Next
from chandlery.reconcile.store import Store, newer
from chandlery.reconcile.writer import Writer

A = Key("Cache", "n", "a")


def obj(version, uid="u1", **more):
    meta = {"name": "a", "namespace": "n", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": {**meta, **more.pop("meta", {})}, **more}


def test_older_and_equal_versions_are_no_news():
    store = Store()
    assert store.put(A, obj(5))
    assert not store.put(A, obj(5))
    assert not store.put(A, obj(4))
    assert store.put(A, obj(10))
    assert store.find("u1") == A


def test_versions_are_numbers_not_text():
    assert newer("10", "9")
    assert not newer("9", "10")
    assert newer("abc", "abd")
    assert not newer("abc", "abc")


def test_a_deleted_object_does_not_come_back_by_a_late_answer():
    store = Store()
    store.put(A, obj(5))
    assert store.remove(A, "u1")
    assert not store.put(A, obj(6))
    assert store.get(A) is None
    assert store.put(A, obj(7, uid="u2"))


def test_a_late_deletion_does_not_take_the_successor():
    store = Store()
    store.put(A, obj(5))
    store.put(A, obj(8, uid="u2"))
    assert not store.remove(A, "u1")
    assert store.get(A)["metadata"]["uid"] == "u2"
    assert store.find("u1") is None


class NoMetrics:
    def passed(self, kind, seconds, *, failed):
        return


def engine():
    clock = FakeClock()
    store, queue = Store(), WorkQueue(group=attrgetter("kind"), clock=clock)

    async def reconcile(key):
        return Next()

    writer = Writer(None, lambda key, obj: None, lambda: None)
    made = Engine(
        clock=clock,
        store=store,
        queue=queue,
        writer=writer,
        groups={"Cache": "data.chandlery.dev"},
        reconcile=reconcile,
        logger=Context().logger,
        metrics=NoMetrics(),
    )
    return made, writer


def drain(queue):
    found = []
    while (key := queue.get_nowait()) is not None:
        found.append(key)
        queue.done(key)
    return found


def test_an_echo_of_our_own_write_makes_no_pass():
    made, writer = engine()
    made.feed("Cache", "ADDED", obj(1, spec={"a": 1}))
    assert drain(made.queue) == [A]
    from chandlery.reconcile.writer import _digest, _Last

    writer._last["u1"] = _Last(_digest({"phase": "Ready"}), 0)
    made.feed("Cache", "MODIFIED", obj(2, spec={"a": 1}, status={"phase": "Ready"}))
    assert drain(made.queue) == []
    marks = {"finalizers": [FINALIZER], "annotations": {MADE_BY: "x"}}
    made.feed("Cache", "MODIFIED", obj(3, spec={"a": 1}, status={"phase": "Ready"}, meta=marks))
    assert drain(made.queue) == []


def test_everything_else_makes_one():
    for change in (
        {"spec": {"a": 2}},
        {"status": {"phase": "Broken"}},
        {"meta": {"labels": {"a": "b"}}},
        {"meta": {"annotations": {"chandlery.dev/approve": "x"}}},
        {"meta": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ):
        made, writer = engine()
        from chandlery.reconcile.writer import _digest, _Last

        writer._last["u1"] = _Last(_digest({"phase": "Ready"}), 0)
        made.feed("Cache", "ADDED", obj(1, spec={"a": 1}, status={"phase": "Ready"}))
        drain(made.queue)
        now = {"spec": {"a": 1}, "status": {"phase": "Ready"}, **change}
        made.feed("Cache", "MODIFIED", obj(2, **now))
        assert drain(made.queue) == [A], change


def test_a_mark_of_ours_that_vanishes_makes_a_pass():
    made, writer = engine()
    from chandlery.reconcile.writer import _digest, _Last

    writer._last["u1"] = _Last(_digest({}), 0)
    made.feed("Cache", "ADDED", obj(1, meta={"finalizers": [FINALIZER]}))
    drain(made.queue)
    made.feed("Cache", "MODIFIED", obj(2))
    assert drain(made.queue) == [A]


def test_a_full_list_lets_go_what_is_gone_but_not_what_is_newer():
    made, _ = engine()
    made.feed("Cache", "ADDED", obj(5))
    assert made.swept("Cache", [], "4") == 0, "it came after the list was made"
    assert made.swept("Cache", [], "5") == 1
    assert made.store.get(A) is None


def test_who_refers_is_woken():
    made, _ = engine()
    user = Key("Queue", "n", "q")
    made.references.set(user, [Ref(group="data.chandlery.dev", kind="Cache", name="a"), Ref(kind="Secret", name="s")])
    made.feed("Cache", "ADDED", obj(1))
    assert set(drain(made.queue)) == {A, user}
    made.touch(("", "Secret", "n", "s"))
    assert drain(made.queue) == [user]
    made.references.set(user, [])
    made.touch(("", "Secret", "n", "s"))
    assert drain(made.queue) == []


def test_references_are_kept_both_ways():
    refs = References()
    refs.set(A, [Ref(kind="Secret", name="s"), Ref(kind="Secret", name="t", namespace="m")])
    assert refs.of(("", "Secret", "n", "s")) == (A,)
    assert refs.of(("", "Secret", "m", "t")) == (A,)
    assert refs.kinds() == {("", "Secret")}
    refs.set(A, [Ref(kind="Secret", name="t", namespace="m")])
    assert refs.of(("", "Secret", "n", "s")) == ()


async def test_a_worker_outlives_a_pass_that_throws():
    made, _ = engine()

    async def broken(key):
        raise RuntimeError("oops")

    made._reconcile = broken
    made.queue.add(A)
    await made.step(await made.queue.get())
    assert made.queue.failures(A) == 1


def test_what_somebody_did_meanwhile_comes_with_our_own_answer_and_is_not_missed():
    made, _ = engine()
    made.feed("Cache", "ADDED", obj(1, meta={"generation": 1}))
    assert drain(made.queue) == [A]
    made.stored(A, obj(2, meta={"generation": 1, "annotations": {MADE_BY: "x"}}))
    assert drain(made.queue) == [], "our own write alone"
    deleted = {"generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {MADE_BY: "x"}}
    made.stored(A, obj(4, meta=deleted))
    made.feed("Cache", "MODIFIED", obj(3, meta=deleted))  # its own event is late
    assert drain(made.queue) == [A]
