"""Leaders that die, event sources that end, events that are lost, clients that meet errors: over a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import aiohttp
import pytest

from chandlery.foundation.clock import SYSTEM
from chandlery.foundation.context import Context
from chandlery.foundation.errors import AlreadyExists, Conflict, NotFound, Unavailable
from chandlery.providers.memory import World
from chandlery.reconcile.api import LEASES, SECRETS, ResourceType, type_of
from chandlery.reconcile.client import HttpApi
from chandlery.reconcile.credentials import Credentials
from chandlery.reconcile.informer import Informer
from chandlery.reconcile.locks import LeaseLocks
from chandlery.reconcile.settings import LoopSettings
from chandlery_kinds import KINDS

CACHES = type_of(next(k for k in KINDS if k.name == "Cache").names)


def cache(namespace, name="one", **spec):
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"memory": "64Mi", **spec}}


async def is_ready(api, namespace, name="one"):
    live = await api.get(CACHES, namespace, name)
    status = (live or {}).get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    current = live is not None and status.get("observedGeneration") == live["metadata"]["generation"]
    return current and conditions.get("Ready") == "True" and conditions.get("Reconciling") == "False"


async def test_apply_to_ready_takes_less_than_a_tenth_of_a_second(run, api, namespace, eventually):
    """With a driver that takes no time: all of it is ours. The median of several; on a machine that is busy with other
    work the yardstick is what a single request takes there."""
    async with run(World()) as running:
        await eventually(lambda: running.operator.source.ready)
        await api.create(CACHES, cache(namespace, "warm"))
        await eventually(lambda: is_ready(api, namespace, "warm"))
        took, trips = [], []
        for number in range(9):
            began = time.monotonic()
            await api.get(CACHES, namespace, "warm")
            trips.append(time.monotonic() - began)
            began = time.monotonic()
            await api.create(CACHES, cache(namespace, f"c{number}"))
            await eventually(lambda number=number: is_ready(api, namespace, f"c{number}"))
            took.append(time.monotonic() - began)
        assert sorted(took)[4] < max(0.1, 40 * sorted(trips)[4]), (took, trips)


async def test_the_user_that_runs_it_needs_no_name(run, api, namespace, eventually, monkeypatch):
    """As in a container, whose user is a number that nobody knows."""

    def nobody(*_):
        raise KeyError("getpwuid(): uid not found: 65532")

    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    async with run(World(start_time=0.05)) as running:
        await api.create(CACHES, cache(namespace))
        await eventually(lambda: is_ready(api, namespace))
        assert running.operator.source.restarts == 0


@pytest.mark.parametrize("source", ["kopf", "informer"])
async def test_an_operator_takes_over_from_one_that_died(run, api, namespace, eventually, source):
    world = World(start_time=0.05)
    async with run(world, source=source):
        await api.create(CACHES, cache(namespace))
        await eventually(lambda: is_ready(api, namespace))
    await api.merge_patch(CACHES, namespace, "one", {"spec": {"memory": "128Mi"}})
    await api.create(CACHES, cache(namespace, "two"))
    async with run(world, source=source):
        await eventually(lambda: is_ready(api, namespace))
        await eventually(lambda: is_ready(api, namespace, "two"))
        uids = [(await api.get(CACHES, namespace, name))["metadata"]["uid"] for name in ("one", "two")]
        for name in ("one", "two"):
            await api.delete(CACHES, namespace, name)
        await eventually(lambda: not [part for part, of in world.everything() if of[-36:] in uids])


async def test_two_replicas_one_works_and_the_other_takes_over(run, api, namespace, eventually):
    world = World(start_time=0.02)
    election = {"leader_election": True, "lease_namespace": namespace, "lease_seconds": 8.0}
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(run(world, **election))
        second = asyncio.create_task(stack.enter_async_context(run(world, **election)))
        await api.create(CACHES, cache(namespace))
        await eventually(lambda: is_ready(api, namespace))
        assert first.operator.leading
        assert not second.done()
        token = (await api.get(LEASES, namespace, "chandlery"))["spec"]["leaseTransitions"]
        first.operator._task.cancel()  # dies without giving the lease back
        await eventually(second.done, 40)
        assert (await api.get(LEASES, namespace, "chandlery"))["spec"]["leaseTransitions"] > token
        await api.merge_patch(CACHES, namespace, "one", {"spec": {"memory": "128Mi"}})
        await eventually(lambda: is_ready(api, namespace))


async def test_a_leader_that_stops_in_order_hands_over_at_once(run, api, namespace, eventually):
    election = {"leader_election": True, "lease_namespace": namespace, "lease_seconds": 60.0}
    async with run(World(), **election):
        assert (await api.get(LEASES, namespace, "chandlery"))["spec"]["holderIdentity"]
    assert (await api.get(LEASES, namespace, "chandlery"))["spec"]["holderIdentity"] == ""
    async with run(World(), **election) as running:
        assert running.operator.leading


async def test_kopf_that_ends_is_started_again_and_nothing_is_missed(run, api, namespace, eventually):
    world = World(start_time=0.02)
    async with run(world) as running:
        source = running.operator.source
        await eventually(lambda: source.ready)
        await api.create(CACHES, cache(namespace))
        await eventually(lambda: is_ready(api, namespace))
        source._inner.call_soon_threadsafe(source._flag.set)  # kopf leaves by itself
        await api.delete(CACHES, namespace, "one")
        await api.create(CACHES, cache(namespace, "two"))
        await eventually(lambda: source.restarts == 1)
        await eventually(lambda: is_ready(api, namespace, "two"))
        await eventually(lambda: api_gone(api, namespace, "one"))


async def api_gone(api, namespace, name):
    return await api.get(CACHES, namespace, name) is None


async def test_a_deletion_that_no_event_told_of_is_noticed(run, api, namespace, eventually):
    """What kopf does not bring back after a gap: the finalizer is taken off while nobody listens."""
    async with run(World(), loop=LoopSettings(sweep_interval=0.3)) as running:
        await api.create(CACHES, cache(namespace))
        await eventually(lambda: is_ready(api, namespace))
        store = running.operator.core.engine.store
        ghost = await api.get(CACHES, namespace, "one")
        ghost["metadata"] |= {"name": "ghost", "uid": "never-was"}
        running.operator.core.engine.feed("Cache", "ADDED", ghost)
        assert store.find("never-was")
        await eventually(lambda: store.find("never-was") is None)
        assert store.find((await api.get(CACHES, namespace, "one"))["metadata"]["uid"])


async def test_probes_and_metrics(run, api, namespace, eventually):
    async with run(World()) as running:
        await api.create(CACHES, cache(namespace))
        await eventually(lambda: is_ready(api, namespace))
        base = f"http://127.0.0.1:{running.operator.server.port}"
        async with aiohttp.ClientSession() as http:
            for path in ("/livez", "/readyz"):
                async with http.get(base + path) as answer:
                    assert (answer.status, await answer.text()) == (200, "ok\n")
            async with http.get(base + "/metrics") as answer:
                text = await answer.text()
            assert (
                'chandlery_driver_call_seconds_count{driver="memory",kind="Cache",outcome="ok",verb="create"}' in text
            )
            assert "chandlery_last_event_age_seconds" in text
            running.operator.core.crashed.set()
            await eventually(lambda: running.operator.core is not None)


async def test_a_watch_of_kopf_that_falls_silent_fails_the_probe(run, api, namespace, eventually):
    async with run(World()) as running:
        operator = running.operator
        await eventually(lambda: operator.source is not None and operator.source.ready)
        assert set(operator.source._heard) == {where.plural for where in operator.core.types.values()}

        async def probe() -> tuple[int, str]:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://127.0.0.1:{operator.server.port}/livez") as answer,
            ):
                return answer.status, await answer.text()

        async def age() -> float:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://127.0.0.1:{operator.server.port}/metrics") as answer,
            ):
                lines = (await answer.text()).splitlines()
            return next(float(line.split()[1]) for line in lines if line.startswith("chandlery_last_event_age_seconds"))

        async def silent() -> bool:
            operator.source._heard["caches"] -= 10_000  # again and again: a watch may just now be opened anew
            status, text = await probe()
            return status == 503 and "watch: nothing heard of the API server" in text and await age() > 9_000

        await eventually(silent)
        await api.create(CACHES, cache(namespace))  # its event is a sign of life

        async def heard() -> bool:
            return (await probe())[0] == 200 and await age() < 9_000

        await eventually(heard)


async def test_events_are_told_by_describe(run, api, namespace, kubectl, eventually):
    async with run(World(), loop=LoopSettings(routine_events=True)):
        await api.create(CACHES, cache(namespace))
        await eventually(lambda: is_ready(api, namespace))

        async def told():
            return "Made by the driver memory" in await kubectl("describe", "cache", "one", "-n", namespace)

        await eventually(told)


async def test_objects_stay_clean(run, api, namespace, eventually):
    async with run(World()):
        await api.create(CACHES, cache(namespace))
        await eventually(lambda: is_ready(api, namespace))
        live = await api.get(CACHES, namespace, "one")
        assert "kopf" not in json.dumps(live)
        assert list(live["metadata"]["annotations"]) == ["chandlery.dev/made-by"]
        assert live["metadata"]["finalizers"] == ["chandlery.dev/external-resource"]


# The client


async def test_client_verbs_and_their_errors(api, namespace):
    secret = {"metadata": {"name": "s", "namespace": namespace}, "data": {"a": "eA=="}}
    made = await api.create(SECRETS, secret)
    with pytest.raises(AlreadyExists):
        await api.create(SECRETS, secret)
    assert await api.get(SECRETS, namespace, "nope") is None
    assert await api.json_patch(SECRETS, namespace, "nope", [{"op": "remove", "path": "/data"}]) is None
    test = {"op": "test", "path": "/data/a", "value": "b"}
    with pytest.raises(Conflict):
        await api.json_patch(SECRETS, namespace, "s", [test, {"op": "remove", "path": "/data/a"}])
    stale = {**made, "data": {"a": "eQ=="}}
    await api.replace(SECRETS, stale)
    with pytest.raises(Conflict):
        await api.replace(SECRETS, stale)
    with pytest.raises(Conflict):
        await api.apply(SECRETS, {**secret, "data": {"a": "eg=="}}, force=False)
    applied = await api.apply(SECRETS, {**secret, "data": {"a": "eg=="}})
    assert applied["data"] == {"a": "eg=="}
    with pytest.raises(Conflict):
        await api.delete(SECRETS, namespace, "s", uid="another")
    assert await api.delete(SECRETS, namespace, "s", uid=made["metadata"]["uid"])
    assert not await api.delete(SECRETS, namespace, "s")
    with pytest.raises(NotFound):
        await api.list(ResourceType("example.org", "v1", "nothings", "Nothing"))


async def test_a_server_that_is_away_is_unavailable():
    async with HttpApi(Credentials("http://127.0.0.1:9")) as api:
        with pytest.raises(Unavailable):
            await api.get(SECRETS, "default", "x")


async def test_an_informer_follows_and_says_what_is_gone(api, namespace, eventually):
    seen = []
    informer = Informer(
        api,
        SECRETS,
        lambda event, obj: seen.append((event, obj["metadata"]["name"])),
        clock=SYSTEM,
        logger=Context().logger,
        labels=f"test={namespace}",
        watch_seconds=1.0,
    )
    labels = {"labels": {"test": namespace}}
    await api.create(SECRETS, {"metadata": {"name": "a", "namespace": namespace, **labels}})
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced.wait(), 10)
        await api.create(SECRETS, {"metadata": {"name": "b", "namespace": namespace, **labels}})
        await api.create(SECRETS, {"metadata": {"name": "other", "namespace": namespace}})
        await api.delete(SECRETS, namespace, "a")
        await eventually(lambda: ("DELETED", "a") in seen and ("ADDED", "b") in seen)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.delete(SECRETS, namespace, "b")
        informer._version = ""
        task = asyncio.create_task(informer.run())
        await eventually(lambda: ("DELETED", "b") in seen)
        assert not any(name == "other" for _, name in seen)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_lease_locks_keep_their_promises(api, namespace):
    ctx = Context().child(timeout=90)
    one, two = LeaseLocks(api, namespace), LeaseLocks(api, namespace)
    hold = await one.acquire(ctx, "lock", "first", 1.0)
    assert await two.try_acquire(ctx, "lock", "second", 1.0) is None
    again = await one.try_acquire(ctx, "lock", "first", 1.0)
    assert again is not None
    assert again.token == hold.token
    taken = await two.acquire(ctx, "lock", "second", 1.0)  # the first never renews
    assert taken.token > hold.token
    with pytest.raises(Conflict):
        await one.renew(ctx, hold)
    await two.renew(ctx, taken)
    await one.release(ctx, hold)
    assert await one.try_acquire(ctx, "lock", "first", 1.0) is None
    await two.release(ctx, taken)
    last = await one.try_acquire(ctx, "lock", "first", 1.0)
    assert last is not None
    assert last.token > taken.token
