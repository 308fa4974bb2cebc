"""Failovers of PostgreSQL that go wrong on the way: what was confirmed is there afterwards, whoever dies when."""

import asyncio
import contextlib
import os
import signal
from dataclasses import replace

import asyncpg
import pytest
from checking_writers import DatabaseWriter
from local_harness import Harness, kill, until
from outside import Killed, Outside

from chandlery.driver.protocol import Plan
from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local import pids
from chandlery_kinds.database.drivers import local_postgres_replication
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.drivers.local_postgres_replication import Copies
from chandlery_kinds.database.model import Database

pytestmark = pytest.mark.engine
heavy = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
PAIR = {"instances": 2, "replication": {"mode": "synchronous"}}
THREE = {"instances": 3, "replication": {"mode": "synchronous"}}


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", DatabaseDriver(), Database)
    yield made
    await made.close()


async def query(binding, sql, *args):
    connection = await asyncpg.connect(binding.entries["uri"], timeout=10)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


def node(local, obj, name):
    return local.instance(obj).process(name)


def others(seen, besides):
    return [member["name"] for member in seen.facts["members"] if member["name"] not in besides]


async def writing(binding):
    async def entries():
        return binding.entries

    writer = DatabaseWriter("checking", entries)
    writer.start()
    await writer.more(5)
    return writer


def spoil(local, obj, name):
    """The server can't be started on its data any more."""
    (local.instance(obj).data_dir / name / "global" / "pg_control").write_bytes(b"")


async def fails_over_although_killed(local, obj, call):
    """One failover with the operator killed at its n-th call of the outside; False when it was over before that."""
    seen = await local.converge(obj)
    old = seen.facts["primary"]
    (heir,) = others(seen, {old})
    await query(seen.binding, "INSERT INTO t VALUES ($1)", call)
    await kill(node(local, obj, old).state().pid)
    spoil(local, obj, old)
    # until the plan is to promote; the kill counts from there
    while True:
        observed = await local.driver.observe(local.ctx, obj)
        if any(change.payload[0] == "promote" for change in observed.differences):
            break
    outside = Outside(local.root)
    outside.kill_before(call)
    died = False
    try:
        await local.driver.update(local.ctx, obj, replace(observed, plan=Plan(observed.differences)))
    except Killed:
        died = True
    finally:
        outside.heal()
        outside.close()
    await local.restart_operator()
    again = await local.converge(obj)
    assert again.facts["primary"] == heir, f"killed at call {call}"
    assert again.endpoint.port == seen.endpoint.port
    there = {row["n"] for row in await query(again.binding, "SELECT n FROM t")}
    assert there == set(range(1, call + 1))
    assert "promoting" not in local.instance(obj).record
    return died


async def pair_with_table(local):
    obj = local.object(**PAIR)
    seen = await local.converge(obj)
    await query(seen.binding, "CREATE TABLE t (n int PRIMARY KEY)")
    return obj


async def test_an_operator_killed_right_after_it_promoted_a_copy_stays_with_that_one(local, monkeypatch):
    """The old primary can't be started any more: whoever goes back to it never gets anywhere."""
    obj = await pair_with_table(local)
    real = Copies._promote

    async def promote_and_die(copies, heir):
        await real(copies, heir)
        raise Killed

    monkeypatch.setattr(Copies, "_promote", promote_and_die)
    await kill(node(local, obj, "node-0").state().pid)
    spoil(local, obj, "node-0")
    with pytest.raises(Killed):
        await local.converge(obj)
    monkeypatch.undo()
    # and the copy dies, too, before anybody knows of it
    await kill(node(local, obj, "node-1").state().pid)
    await local.restart_operator()
    again = await local.converge(obj)
    assert again.facts["primary"] == "node-1"
    assert await query(again.binding, "SELECT count(*) FROM t")


@heavy
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_an_operator_killed_anywhere_in_a_failover_goes_on_with_it(local):
    obj = await pair_with_table(local)
    call = 1
    while await fails_over_although_killed(local, obj, call):
        call += 1
    assert call > 5


@heavy
async def test_a_copy_that_dies_before_it_was_promoted_is_not_waited_for(local, monkeypatch):
    """It is on record as the next primary, and was none: the old one may go on."""
    obj = await pair_with_table(local)
    copy = node(local, obj, "node-1").state().pid

    async def die_with_the_copy(copies, heir):
        await kill(copy)
        raise Killed

    monkeypatch.setattr(Copies, "_promote", die_with_the_copy)
    await kill(node(local, obj, "node-0").state().pid)
    with pytest.raises(Killed):
        await local.converge(obj)
    monkeypatch.undo()
    await local.restart_operator()
    again = await local.converge(obj)
    assert {m["role"] for m in again.facts["members"]} == {"primary", "replica"}
    await query(again.binding, "INSERT INTO t VALUES (1)")


@heavy
async def test_a_primary_that_was_frozen_does_not_wake_up_as_a_second_one(local):
    """All its processes stand still, with a client's commit on the way: none of them is there after the failover."""
    obj = local.object(instances=2)  # asynchronous: nothing but its end keeps it from confirming
    seen = await local.converge(obj)
    await query(seen.binding, "CREATE TABLE t (n int PRIMARY KEY)")
    client = await asyncpg.connect(seen.binding.entries["uri"], timeout=5)
    home = (local.instance(obj).data_dir / "node-0").resolve()
    binary = local.driver.servers(local.ctx, obj, local.instance(obj)).files.engine.binary.resolve()
    frozen = pids.working_in(home, binary)
    assert len(frozen) > 3
    for pid, _ in frozen:
        os.kill(pid, signal.SIGSTOP)
    insert = asyncio.create_task(client.execute("INSERT INTO t VALUES (666)"))
    fails_over = asyncio.create_task(local.converge(obj))
    again = await fails_over
    assert again.facts["primary"] == "node-1"
    for pid, started in frozen:
        if pids.is_same(pid, started):
            os.kill(pid, signal.SIGCONT)
    told = await asyncio.gather(insert, return_exceptions=True)
    assert isinstance(told[0], Exception), "a commit that is nowhere was confirmed"
    assert not [pid for pid, started in frozen if pids.is_same(pid, started)]
    client.terminate()
    assert not await query(again.binding, "SELECT n FROM t")


@heavy
@pytest.mark.timeout(300)
async def test_two_servers_lost_at_once(local):
    """With three, each confirmed commit is on two: whoever is left alone waits until it can be certain."""
    obj = local.object(**THREE)
    seen = await local.converge(obj)
    writer = await writing(seen.binding)
    try:
        for _ in range(2):
            primary = seen.facts["primary"]
            copy = others(seen, {primary})[0]
            await asyncio.gather(*(kill(node(local, obj, name).state().pid) for name in (primary, copy)))
            seen = await local.converge(obj)
            await writer.more()
        # and one that is to follow again dies while it does
        primary = seen.facts["primary"]
        await kill(node(local, obj, primary).state().pid)
        await until_running_again(local, obj, primary)
        await kill(node(local, obj, primary).state().pid)
        seen = await local.converge(obj)
        await writer.more()
    finally:
        await writer.stop()
    assert not await writer.lost()
    assert sorted(m["role"] for m in seen.facts["members"]) == ["primary", "replica", "replica"]


async def until_running_again(local, obj, name):
    """Pass after pass until a server that was killed runs."""
    for _ in range(2000):
        observed = await local.driver.observe(local.ctx, obj)
        if node(local, obj, name).state().running:
            return
        if observed.differences:
            plan = Plan(observed.differences)
            with contextlib.suppress(ChandleryError):
                await local.driver.update(local.ctx, obj, replace(observed, plan=plan))
    raise AssertionError(f"{name} is not started again")


@heavy
async def test_a_copy_that_missed_a_failover_does_not_take_over(local, monkeypatch):
    """Its log is longer than that of the others, and of a history that was given up."""
    monkeypatch.setattr(local_postgres_replication, "GIVEN_UP_SECONDS", 3600.0)
    obj = local.object(instances=3)
    seen = await local.converge(obj)
    await query(seen.binding, "CREATE TABLE t (n int PRIMARY KEY)")
    # node-2 gets what node-1 doesn't, and is away when node-1 takes over
    await freeze(local, obj, "node-1", signal.SIGSTOP)
    await query(seen.binding, "CREATE TABLE noise AS SELECT generate_series(1, 20000) AS n")
    await freeze(local, obj, "node-2", signal.SIGSTOP)
    await freeze(local, obj, "node-1", signal.SIGCONT)
    await kill(node(local, obj, "node-0").state().pid)
    await until_primary(local, obj, "node-1")
    await query(seen.binding, "INSERT INTO t VALUES (1)")
    # node-1 dies before anybody follows it; node-2 is the only one there is
    await kill(node(local, obj, "node-1").state().pid)
    await freeze(local, obj, "node-2", signal.SIGCONT)
    again = await local.converge(obj)
    assert again.facts["primary"] == "node-1"
    assert [row["n"] for row in await query(again.binding, "SELECT n FROM t")] == [1]


async def freeze(local, obj, name, number):
    files = local.driver.servers(local.ctx, obj, local.instance(obj)).files
    home = (local.instance(obj).data_dir / name).resolve()
    for pid, _ in pids.working_in(home, files.engine.binary.resolve()):
        os.kill(pid, number)


async def until_primary(local, obj, name):
    async def is_so():
        observed = await local.driver.observe(local.ctx, obj)
        if observed.facts.get("primary") == name and observed.facts.get("timeline"):
            return True
        plan = [change for change in observed.differences if change.payload[0] in ("promote", "start")]
        with contextlib.suppress(ChandleryError):
            await local.driver.update(local.ctx, obj, replace(observed, plan=Plan(tuple(plan))))
        return False

    await until(is_so, 120)
