"""Databases as real PostgreSQL servers: what a client sees."""

import asyncio
import sys

import asyncpg
import pytest
from local_harness import Harness, kill, until

from chandlery.foundation.errors import ChandleryError, InvalidSpec, Unavailable
from chandlery.providers.local import Process, pids
from chandlery.providers.local.files import make_dir
from chandlery.providers.local.tools import TOOL, run_tool
from chandlery_kinds.database.drivers import local_postgres_node, local_postgres_replication
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database

pytestmark = pytest.mark.engine


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", DatabaseDriver(), Database)
    yield made
    await made.close()


async def connect(binding, **options):
    return await asyncpg.connect(binding.entries["uri"], timeout=5, **options)


async def query(binding, sql, *args):
    connection = await connect(binding)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


async def test_one_database_from_creation_to_deletion(local):
    """One long life instead of many short ones: each initdb costs half a second."""
    obj = local.object()
    seen = await local.converge(obj)
    assert seen.facts["version"].startswith("18.")
    await query(seen.binding, "CREATE TABLE t AS SELECT generate_series(1, 100) AS n")

    # roles, grants, extensions and settings, with a client's connection held open
    held = await connect(seen.binding)
    changed = local.changed(
        obj,
        configuration={"work_mem": "8MB"},
        databases=[{"name": "app", "owner": "app", "extensions": [{"name": "vector"}], "schemas": ["extra"]}],
        roles=[{"name": "reader", "grants": [{"database": "app", "target": "tables", "privileges": ["SELECT"]}]}],
    )
    seen = await local.converge(changed)
    assert "restart" not in {cost for _, cost in local.plans}
    assert await held.fetchval("SHOW work_mem") == "8MB"
    await held.close()
    assert any(text.startswith("vector") for text in seen.facts["databases"][0]["extensions"])
    reader = seen.user_bindings["demo-role-reader"]
    assert (await query(reader, "SELECT count(*) FROM t"))[0][0] == 100
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await query(reader, "INSERT INTO t VALUES (1)")
    await query(seen.binding, "CREATE TABLE later AS SELECT 1 AS n")
    assert await query(reader, "SELECT n FROM later"), "objects made later are included"

    # somebody else's change is repaired
    admin = local.instance(obj).secret("admin")
    port = seen.endpoint.port
    root = await asyncpg.connect(host="127.0.0.1", port=port, user="chandlery", password=admin, database="postgres")
    await root.execute("ALTER ROLE reader PASSWORD 'other'; ALTER ROLE app CREATEDB")
    await root.close()
    seen = await local.converge(changed)
    assert ("spec.roles[reader].password", "none") in local.plans
    await query(reader, "SELECT 1")

    # a value that the engine refuses harms nothing
    wrong = local.changed(changed, configuration={"work_mem": "8MB", "TimeZone": "Nowhere/Land"})
    with pytest.raises(ChandleryError, match="refuses the value") as caught:
        await local.converge(wrong)
    assert caught.value.retry_after is None
    await query(reader, "SELECT 1")

    # so does a locale that this system doesn't have: nothing but a correction helps
    databases = [{"name": "app", "owner": "app"}, {"name": "foreign", "locale": "xx_YY.utf8"}]
    with pytest.raises(InvalidSpec, match="invalid LC_COLLATE") as caught:
        await local.converge(local.changed(changed, databases=databases))
    assert caught.value.field == "spec.databases[foreign]"

    # nor can it be another version that isn't to be had, or couldn't read the data; nobody is asked to approve that
    for version, words in (("11", r"18's, which an older one can't read"), ("99", "99 is not in the catalogue")):
        observed = await local.driver.observe(local.ctx, other := local.changed(changed, version=version))
        assert [(c.field, c.disruption.label) for c in observed.differences] == [("spec.version", "none")]
        with pytest.raises(ChandleryError, match=words) as caught:
            await local.converge(other)
        assert (caught.value.field, caught.value.retry_after) == ("spec.version", None)

    # a right taken away; a restart is called one
    changed = local.changed(changed, roles=[{"name": "reader"}], configuration={"max_connections": "42"})
    seen = await local.converge(changed)
    assert ("spec.configuration[max_connections]", "restart") in local.plans
    assert (await query(seen.binding, "SHOW max_connections"))[0][0] == "42"
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.PostgresError)):
        await query(reader, "SELECT n FROM t")

    # killed, and the operator with it
    await kill(local.instance(obj).process("node-0").state().pid)
    await local.restart_operator()
    seen = await local.converge(changed)
    assert (await query(seen.binding, "SELECT count(*) FROM t"))[0][0] == 100

    running = local.instance(obj).process("node-0").state().pid
    await local.delete(changed)
    assert pids.start_time(running) is None
    assert not local.instance(obj).root.exists()


async def in_step(seen, number):
    """A copy gets what the primary is told."""
    await query(seen.binding, "INSERT INTO t VALUES ($1)", number)
    copy = next(member for member in seen.facts["members"] if member["role"] == "replica")
    port = int(copy["address"].rpartition(":")[2])

    async def once():
        connection = await connect(seen.binding, port=port)
        try:
            return await connection.fetchval("SELECT count(*) FROM t WHERE n = $1", number)
        finally:
            await connection.close()

    await until(once, 60)


async def test_a_copy_whose_rewind_was_interrupted_is_made_anew(local, monkeypatch):
    """pg_rewind over its own unfinished work would fork the primary's timeline where nothing sees it."""
    obj = local.object(instances=2, replication={"mode": "synchronous"})
    seen = await local.converge(obj)
    await query(seen.binding, "CREATE TABLE t (n int PRIMARY KEY)")
    await kill(local.instance(obj).process("node-0").state().pid)

    class OperatorKilledError(Exception):
        """Right after pg_rewind ended."""

    async def run_and_die(instance, argv, **options):
        done = await run_tool(instance, argv, **options)
        if argv[0].endswith("pg_rewind"):
            raise OperatorKilledError
        return done

    monkeypatch.setattr(local_postgres_node, "run_tool", run_and_die)
    with pytest.raises(OperatorKilledError):
        await local.converge(obj)
    monkeypatch.undo()
    await local.restart_operator()
    seen = await local.converge(obj)
    assert seen.facts["primary"] == "node-1"
    await in_step(seen, 1)
    assert not list(local.instance(obj).data_dir.glob("*.rewinding"))

    # one that follows no more is copied anew when it is certain that it won't by itself
    monkeypatch.setattr(local_postgres_replication, "STUCK_SECONDS", 0.5)
    path = local.instance(obj).data_dir / "node-0" / "pg_wal"
    await local.instance(obj).process("node-0").stop()
    for segment in path.glob("0*"):
        if segment.suffix != ".history":
            segment.unlink()
    connection = await connect(seen.binding)
    try:
        await connection.execute("SET synchronous_commit = off")  # its only copy is away
        await connection.execute("INSERT INTO t VALUES (2)")
    finally:
        await connection.close()
    seen = await local.converge(obj)
    await in_step(seen, 3)


class OperatorCutShortError(Exception):
    """It was killed here."""


async def test_a_promoted_copy_that_still_listens_where_copies_do_is_found(local, monkeypatch):
    """The operator died after the record said who is primary, and before that one took the primary's port."""
    obj = local.object(instances=2, replication={"mode": "synchronous"})
    seen = await local.converge(obj)
    await query(seen.binding, "CREATE TABLE t AS SELECT 1 AS n")
    await kill(local.instance(obj).process("node-0").state().pid)
    real = Process.stop

    async def stop(process, *args):
        if process.name == "node-1":
            raise OperatorCutShortError
        return await real(process, *args)

    monkeypatch.setattr(Process, "stop", stop)
    with pytest.raises(OperatorCutShortError):
        await local.converge(obj)
    monkeypatch.undo()
    await local.restart_operator()
    again = await local.converge(obj)
    assert (again.facts["primary"], again.endpoint.port) == ("node-1", seen.endpoint.port)
    await in_step(again, 1)


async def test_a_server_that_goes_down_in_the_middle_of_a_question_is_no_fault_of_the_operator(local):
    """What the client library raises then is told as what it is, and tried again soon."""
    obj = local.object()
    await local.converge(obj)
    files = local.driver.servers(local.ctx, obj, local.instance(obj)).files
    pid = local.instance(obj).process("node-0").state().pid

    async def ask():
        async with files.one_pass():
            connection = await files.connect(local.instance(obj).port("client"))
            asked = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
            await kill(pid)
            await asked

    with pytest.raises(Unavailable, match="went down while it was asked"):
        await ask()
    await local.converge(obj)


async def test_what_a_killed_operator_had_running_is_ended_by_the_next(local):
    obj = local.object()
    instance = local.instance(obj)
    make_dir(instance.data_dir)
    task = asyncio.create_task(run_tool(instance, [sys.executable, "-c", "import time; time.sleep(300)"]))
    await until(lambda: tools_of(instance))
    (pid,) = tools_of(instance)
    await local.restart_operator()
    await until(lambda: pids.start_time(pid) is None)
    done = await asyncio.gather(task, return_exceptions=True)
    assert done[0] is not None


def tools_of(instance):
    mine = str(instance.data_dir)
    return [p for p in pids.all_pids() if TOOL in (env := pids.environ(p)) and env.get("HOME") == mine]


async def test_failover_loses_nothing_that_was_confirmed(local):
    """Synchronous: whatever a client was told is there afterwards. The old primary follows, then leaves."""
    obj = local.object(instances=2, replication={"mode": "synchronous"})
    seen = await local.converge(obj)
    await query(seen.binding, "CREATE TABLE t (n int PRIMARY KEY)")
    confirmed = []

    async def write():
        number = 0
        while True:
            try:
                connection = await connect(seen.binding, command_timeout=2)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            try:
                while True:
                    number += 1  # never the same one again: after an error nobody knows whether it is there
                    await connection.execute("INSERT INTO t VALUES ($1)", number)
                    confirmed.append(number)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError):
                pass
            finally:
                connection.terminate()

    writer = asyncio.create_task(write())
    try:
        await until(lambda: len(confirmed) > 20, 60)
        await kill(local.instance(obj).process("node-0").state().pid)
        again = await local.converge(obj)
        before = len(confirmed)
        await until(lambda: len(confirmed) > before + 20, 60)
    finally:
        writer.cancel()
    assert again.facts["primary"] == "node-1"
    assert again.facts["timeline"] >= 2
    assert {m["name"]: m["role"] for m in again.facts["members"]} == {"node-0": "replica", "node-1": "primary"}
    present = {row["n"] for row in await query(again.binding, "SELECT n FROM t")}
    assert not [number for number in confirmed if number not in present]

    # with a delay it is rather started again, when that helps
    patient = local.changed(obj, replication={"mode": "synchronous", "failoverDelay": "1h"})
    await local.converge(patient)
    await kill(local.instance(obj).process("node-1").state().pid)
    again = await local.converge(patient)
    assert again.facts["primary"] == "node-1"

    single = local.changed(obj, instances=1, replication={"mode": "asynchronous"})
    seen = await local.converge(single)
    rows = await query(seen.binding, "SELECT count(*) FROM t")
    assert rows[0][0] >= len(set(confirmed))
