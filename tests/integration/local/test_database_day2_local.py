"""A pooler in front of PostgreSQL, scripts at its beginning, new passwords, the port that the spec names."""

import contextlib

import asyncpg
import pytest
from local_harness import Harness, kill, shared_cache, until

from chandlery.providers.local.engines.apt import available
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database

pytestmark = pytest.mark.engine
psycopg = pytest.importorskip("psycopg")
needs_apt = pytest.mark.skipif(bool(available()), reason=f"pgbouncer comes from Debian packages: {available()}")


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", DatabaseDriver(), Database, shared_cache())
    yield made
    await made.close()


def ask(uri, sql="SELECT 1"):
    """By libpq, one transaction, nothing prepared."""
    with psycopg.connect(uri, connect_timeout=10, prepare_threshold=None) as connection:
        return connection.execute(sql).fetchone()[0]


@needs_apt
async def test_the_binding_leads_to_the_pooler(local):
    await local.provider.engines.ensure("pgbouncer")
    pooler = {"mode": "transaction", "poolSize": 2, "maxClientConnections": 50}
    obj = local.object(pooler=pooler, roles=[{"name": "other"}])
    seen = await local.converge(obj)
    entries = seen.binding.entries
    assert seen.facts["poolerReady"] is True
    assert seen.endpoint.port == int(entries["port"]) != int(entries["direct-port"])
    assert ask(entries["uri"], "SELECT current_user") == "app"
    assert ask(entries["direct-uri"], "SELECT current_user") == "app"
    assert ask(seen.user_bindings["demo-role-other"].entries["uri"].replace("/app", "/postgres", 1)) == 1
    wrong = entries["uri"].replace(entries["password"], "wrong")
    with pytest.raises(psycopg.OperationalError):
        ask(wrong)
    admin = local.instance(obj).secret("admin")
    with pytest.raises(psycopg.OperationalError):
        ask(f"postgresql://other:{admin}@127.0.0.1:{entries['port']}/app")

    # twenty clients, two server connections
    clients = [await psycopg.AsyncConnection.connect(entries["uri"], autocommit=True) for _ in range(20)]
    found = set()
    for client in clients:
        found.add((await (await client.execute("SELECT pg_backend_pid()")).fetchone())[0])
    assert len(found) <= 2

    # read again while clients stay
    changed = local.changed(obj, pooler={**pooler, "poolSize": 5, "configuration": {"query_wait_timeout": "33"}})
    await local.converge(changed)
    assert {cost for _, cost in local.plans} <= {"none", "reload"}
    assert (await (await clients[0].execute("SELECT 1")).fetchone()) == (1,)
    for client in clients:
        await client.close()

    await kill(local.instance(obj).process("pooler-0").state().pid)
    await local.converge(changed)
    assert ask(entries["uri"]) == 1

    # with TLS, more processes, and gone in the end
    seen = await local.converge(local.changed(changed, tls={"enabled": True}, pooler={**pooler, "instances": 2}))
    uri = seen.binding.entries["uri"]
    assert "sslnegotiation" not in uri
    assert ask(uri) == 1
    assert "sslnegotiation=direct" in seen.binding.entries["direct-uri"]
    assert ask(seen.binding.entries["direct-uri"]) == 1
    seen = await local.converge(local.object(obj.metadata.uid))
    assert not [name for name in local.instance(obj).process_names() if name.startswith("pooler")]
    assert ask(seen.binding.entries["uri"]) == 1


def test_settings_that_the_pooler_does_not_have_are_refused_by_name(tmp_path):
    harness = Harness(tmp_path / "data", DatabaseDriver(), Database)
    try:
        configuration = {"pool_mode": "session", "server_idle_timeot": "3", "auth_file": "/etc/passwd", "verbose": "1"}
        obj = harness.object(pooler={"configuration": configuration})
        found = {item.field: item.why for item in harness.driver.unsupported(obj, {})}
    finally:
        harness.provider.close()
    assert found.keys() == {f"spec.pooler.configuration[{n}]" for n in configuration if n != "verbose"}
    assert "use spec.pooler.mode" in found["spec.pooler.configuration[pool_mode]"]
    assert "did you mean server_idle_timeout" in found["spec.pooler.configuration[server_idle_timeot]"]


async def test_scripts_run_once_as_the_owner(local):
    secrets = local.reader.secrets
    secrets["default", "sql"] = {
        "one.sql": b"CREATE TABLE t (who text DEFAULT current_user); INSERT INTO t DEFAULT VALUES;",
        "two.sql": b"INSERT INTO t VALUES ('two'); SELECT * FROM nothing;",
    }
    refs = [{"name": "sql", "key": "one.sql"}, {"name": "sql", "key": "two.sql"}]
    obj = local.object(initialization={"sqlSecrets": refs})

    async def refused():
        with contextlib.suppress(AssertionError):
            await local.converge(obj, 0.2)
        observed = await local.driver.observe(local.ctx, obj)
        told = [c.message for c in observed.conditions if c.type == "Initialized"]
        return observed if told and "two.sql failed" in told[0] else None

    observed = await until(refused, 60)
    assert [change.field for change in observed.differences] == ["spec.initialization.sqlSecrets[1]"]
    assert not observed.ready
    assert ask(observed.binding.entries["uri"], "SELECT string_agg(who, ',') FROM t") == "app", "all of it or nothing"

    # corrected; and a crash right after the commit, before it was on record
    secrets["default", "sql"]["two.sql"] = b"INSERT INTO t VALUES ('two')"
    seen = await local.converge(obj)
    record = local.instance(obj).record["scripts"]
    number = ask(seen.binding.entries["uri"], "SELECT xmin::text FROM t WHERE who = 'two'")
    del record["done"]["sql/two.sql"]
    record["under_way"] = {"name": "sql/two.sql", "transaction": int(number)}
    local.instance(obj).save()
    seen = await local.converge(obj)
    assert ask(seen.binding.entries["uri"], "SELECT string_agg(who, ',' ORDER BY who) FROM t") == "app,two"
    assert next(c.status for c in seen.conditions if c.type == "Initialized") == "True"


async def test_new_passwords_on_request_and_the_port_that_the_spec_names(local):
    obj = local.object(roles=[{"name": "other"}])
    seen = await local.converge(obj)
    old = seen.binding.entries["uri"]
    held = await asyncpg.connect(old)
    dumped = obj.model_dump(by_alias=True, exclude_none=True, mode="json")
    dumped["metadata"]["annotations"] = {"chandlery.dev/rotate-requested-at": "now"}
    asked = local.model.model_validate(dumped)
    seen = await local.converge(asked)
    assert await held.fetchval("SELECT 1") == 1, "who is connected stays connected"
    assert seen.binding.entries["uri"] != old
    assert ask(seen.binding.entries["uri"]) == 1
    with pytest.raises(psycopg.OperationalError, match="password"):
        ask(old)
    assert all(role["lastRotatedTime"] for role in seen.facts["roles"])
    assert {role["secretName"] for role in seen.facts["roles"]} == {"demo-role-app", "demo-role-other"}
    await held.close()

    port = local.provider.ports.choose()
    seen = await local.converge(local.changed(asked, exposure={"port": port}))
    assert ("spec.exposure.port", "restart") in local.plans
    assert seen.endpoint.port == port
    assert ask(seen.binding.entries["uri"]) == 1
    seen = await local.converge(local.changed(asked, exposure={"port": port}, tls={"enabled": True}))
    assert seen.endpoint.port == port, "the front takes it, and the engine moves away"
    assert ask(seen.binding.entries["uri"]) == 1
