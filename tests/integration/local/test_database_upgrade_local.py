"""PostgreSQL 15 of Debian packages: TLS of its own, and the move of its data to version 18 and back."""

import os

import pytest
from local_harness import Harness, shared_cache

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local.engines import Engines
from chandlery.providers.local.engines.apt import available
from chandlery_kinds.database.drivers import local_postgres_upgrade
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database

psycopg = pytest.importorskip("psycopg")


def _wanted():
    if available():
        return False
    engines = Engines(shared_cache() / "engines")
    return bool(os.environ.get("CHANDLERY_DEBIAN_ENGINES")) or engines.look(engines.entry("postgres", "15")) is not None


pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not _wanted(), reason="needs postgresql-15: set CHANDLERY_DEBIAN_ENGINES=1 to have it fetched"),
]


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", DatabaseDriver(), Database, shared_cache())
    await made.provider.engines.ensure("postgres", "15")
    yield made
    await made.close()


def ask(uri, sql, fetch=True):
    with psycopg.connect(uri, connect_timeout=10) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchone()[0] if fetch else None


def annotated(local, obj, text):
    dumped = obj.model_dump(by_alias=True, exclude_none=True, mode="json")
    dumped["metadata"]["annotations"] = {"data.chandlery.dev/upgrade": text}
    return local.model.model_validate(dumped)


async def test_from_15_to_18_and_back_and_again(local):
    roles = [{"name": "reader", "grants": [{"database": "app", "privileges": ["SELECT"]}]}]
    old = local.object(version="15", roles=roles, instances=2)
    seen = await local.converge(old)
    assert seen.facts["version"].startswith("15.")
    uri = seen.binding.entries["uri"]
    ask(uri, "CREATE TABLE t (n serial PRIMARY KEY, text text UNIQUE)", fetch=False)
    ask(uri, "INSERT INTO t (text) SELECT 'row ' || g FROM generate_series(1, 1000) g", fetch=False)
    ask(uri, "CREATE VIEW v AS SELECT count(*) FROM t", fetch=False)

    new = local.changed(old, version="18")
    observed = await local.driver.observe(local.ctx, new)
    assert [(c.field, c.disruption.label) for c in observed.differences] == [("spec.version", "replace")]
    assert observed.ready, "nothing happens before it is approved"
    seen = await local.converge(new, 180)
    assert seen.facts["version"].startswith("18.")
    assert {m["version"].partition(".")[0] for m in seen.facts["members"]} == {"18"}
    assert seen.binding.entries["uri"] == uri, "clients connect as before"
    assert ask(uri, "SELECT count FROM v") == 1000
    assert ask(seen.user_bindings["demo-role-reader"].entries["uri"], "SELECT count(*) FROM t") == 1000
    ask(uri, "INSERT INTO t (text) VALUES ('since')", fetch=False)
    kept = local.instance(old).data_dir / "node-0.v15"
    assert kept.is_dir()
    assert "kept in" in next(c.message for c in seen.conditions if c.type == "Upgraded")

    # back to the old data; then once more, and confirmed
    back = annotated(local, local.changed(new, version="15"), "undo")
    observed = await local.driver.observe(local.ctx, back)
    assert ("upgrade", "data-loss") in [(c.field, c.disruption.label) for c in observed.differences]
    seen = await local.converge(back, 180)
    assert seen.facts["version"].startswith("15.")
    assert ask(uri, "SELECT count FROM v") == 1000
    assert not kept.exists()
    await local.converge(new, 180)
    seen = await local.converge(annotated(local, new, "confirm"))
    assert not kept.exists()
    assert ask(uri, "SELECT count FROM v") == 1000
    assert not [name for name in local.instance(old).process_names() if name.startswith("upgrade")]
    assert not [c for c in seen.conditions if c.type == "Upgraded"]


async def test_a_move_that_fails_or_is_cut_short_leaves_the_old_version_at_work(local):
    old = local.object(version="15")
    seen = await local.converge(old)
    uri = seen.binding.entries["uri"]
    ask(uri, "CREATE TABLE t AS SELECT 1 AS n", fetch=False)
    driver, instance = local.driver, local.instance(old)
    new = local.changed(old, version="18")
    servers = driver.servers(local.ctx, new, instance)

    class Broken(type(servers.upgrade)):
        async def _tool(self, engine, program, port, *argv, **more):
            if program == "pg_restore":
                raise ChandleryError("the disk is full")
            await super()._tool(engine, program, port, *argv, **more)

    upgrade = Broken(servers)
    await upgrade.apply("run")
    with pytest.raises(ChandleryError, match="disk is full"):
        await local.provider.background.wait(upgrade.job)
    observed = await driver.observe(local.ctx, new)
    condition = next(c for c in observed.conditions if c.type == "Upgraded")
    assert "15 goes on" in condition.message
    assert "spec.version" not in [c.field for c in observed.differences], "not again at once"
    seen = await local.converge(new)
    assert seen.facts["version"].startswith("15.")
    assert ask(uri, "SELECT n FROM t") == 1

    # cut short: the servers of the move still run when the operator comes back
    await local.restart_operator()
    instance = local.instance(old)
    servers = driver.servers(local.ctx, new, instance)
    await instance.process("node-0").stop()
    await servers.upgrade._start(servers.files.engine, instance.data_dir / "node-0", "upgrade-old")
    seen = await local.converge(new)
    assert ask(uri, "SELECT n FROM t") == 1
    assert "upgrade-old" not in instance.process_names()


async def test_a_newer_minor_version_waits_until_it_is_asked_for(local, monkeypatch):
    """Which program is installed is the system's affair; the server goes on with the one that it was started from."""
    obj = local.object(version="15")
    seen = await local.converge(obj)
    assert "availableVersion" not in seen.facts
    key = next(key for key in local_postgres_upgrade._VERSIONS if "/15/" in key[0])
    monkeypatch.setitem(local_postgres_upgrade._VERSIONS, key, "15.99")
    seen = await local.converge(obj)
    assert seen.facts["availableVersion"] == "15.99"
    observed = await local.driver.observe(local.ctx, local.changed(obj, version="15.99"))
    assert [(c.field, c.desired, c.disruption.label) for c in observed.differences] == [
        ("spec.version", "15.99", "restart")
    ]


async def test_tls_of_its_own_for_clients_of_any_age(local):
    obj = local.object(version="15", tls={"enabled": True})
    seen = await local.converge(obj)
    uri = seen.binding.entries["uri"]
    assert "sslnegotiation" not in uri
    assert ask(uri, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        ask(uri.replace("verify-full", "disable"), "SELECT 1")
