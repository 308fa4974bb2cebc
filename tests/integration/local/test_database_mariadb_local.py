"""MariaDB as a real server: what a client sees. The engine comes from Debian packages."""

import asyncio
import ssl

import aiomysql
import pymysql
import pytest
from local_harness import Harness, kill, shared_cache, until

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local.engines.apt import available
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(bool(available()), reason=f"mariadb comes from Debian packages: {available()}"),
]


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", DatabaseDriver(), Database, shared_cache())
    await made.provider.engines.ensure("mariadb")
    yield made
    await made.close()


async def connect(binding, **options):
    entries = binding.entries
    return await aiomysql.connect(
        host=entries["host"],
        port=int(entries["port"]),
        user=entries["username"],
        password=entries["password"],
        db=entries["database"],
        autocommit=True,
        connect_timeout=10,
        **options,
    )


async def run(connection, sql, *args):
    async with connection.cursor() as cursor:
        await cursor.execute(sql, args or None)
        return [row[0] for row in await cursor.fetchall()]


async def query(binding, sql, *args, **options):
    connection = await connect(binding, **options)
    try:
        return await run(connection, sql, *args)
    finally:
        connection.close()


async def test_one_database_from_creation_to_deletion(local):
    obj = local.object(engine="mariadb")
    seen = await local.converge(obj)
    assert seen.facts["version"].startswith("10.11")
    assert seen.facts["databases"] == [{"name": "app", "ready": True, "size": "0Mi"}]
    await query(seen.binding, "CREATE TABLE t (n int PRIMARY KEY)")
    await query(seen.binding, "INSERT INTO t VALUES (1), (2)")
    root = local.instance(obj).secret("admin")
    with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
        await aiomysql.connect(host="127.0.0.1", port=seen.endpoint.port, user="chandlery", password=root)

    # live: users, roles, rights, databases and settings while a client is connected
    held = await connect(seen.binding)
    more = {
        "databases": [{"name": "app"}, {"name": "other_db", "encoding": "latin1"}],
        "roles": [
            {
                "name": "reader",
                "connectionLimit": 2,
                "grants": [
                    {"database": "app", "privileges": ["SELECT"]},
                    {"database": "app", "objects": ["t"], "privileges": ["UPDATE"], "withGrantOption": True},
                ],
            },
            {"name": "group", "login": False, "grants": [{"database": "other_db", "privileges": ["ALL"]}]},
            {"name": "member", "memberOf": ["group"], "createDatabase": True},
        ],
        "configuration": {"max_connections": "42", "long_query_time": "1.5", "sort_buffer_size": "1M"},
    }
    changed = local.changed(obj, **more)
    seen = await local.converge(changed)
    assert {cost for _, cost in local.plans} <= {"none", "reload"}
    assert await run(held, "SELECT @@global.max_connections") == [42]
    assert await run(held, "SELECT @@global.sort_buffer_size") == [1 << 20]
    held.close()
    reader, member = seen.user_bindings["demo-role-reader"], seen.user_bindings["demo-role-member"]
    assert await query(reader, "SELECT count(*) FROM app.t") == [2]
    await query(reader, "UPDATE app.t SET n = 3 WHERE n = 2")
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        await query(reader, "INSERT INTO app.t VALUES (9)")
    first, second = await connect(reader), await connect(reader)
    with pytest.raises(pymysql.err.OperationalError, match="max_user_connections"):
        await connect(reader)
    first.close()
    second.close()
    await query(member, "CREATE TABLE other_db.x (n int)")
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        await query(member, "SELECT * FROM app.t")

    # somebody else's change is repaired, a right that was taken out of the spec is taken away
    admin = await local.driver.servers(local.ctx, changed, local.instance(obj)).server.connect()
    await run(admin, "GRANT DELETE ON app.* TO reader@'%'")
    await run(admin, "SET PASSWORD FOR reader@'%' = PASSWORD('other')")
    admin.close()
    more["roles"][0]["grants"] = more["roles"][0]["grants"][:1]
    changed = local.changed(changed, **more)
    seen = await local.converge(changed)
    for sql in ("DELETE FROM app.t", "UPDATE app.t SET n = 4"):
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            await query(reader, sql)

    # a value that it refuses harms nothing; a static one needs a restart and says so
    wrong = {**more, "configuration": {**more["configuration"], "character_set_server": "martian"}}
    with pytest.raises(ChandleryError, match="refuses the value") as caught:
        await local.converge(local.changed(changed, **wrong))
    assert caught.value.retry_after is None
    more["configuration"] = {"back_log": "77"}
    changed = local.changed(changed, **more)
    seen = await local.converge(changed)
    assert ("spec.configuration[back_log]", "restart") in local.plans
    assert await query(seen.binding, "SELECT @@global.back_log") == [77]
    assert await query(seen.binding, "SELECT @@global.max_connections") == [100]

    await local.delete(changed)
    assert not local.instance(obj).root.exists()


async def test_kill_loses_nothing_that_was_committed(local):
    obj = local.object(engine="mariadb")
    seen = await local.converge(obj)
    await query(seen.binding, "CREATE TABLE t (n int PRIMARY KEY)")
    confirmed = []

    async def write():
        number = 0
        while True:
            try:
                connection = await connect(seen.binding)
                while True:
                    number += 1
                    await run(connection, "INSERT INTO t VALUES (%s)", number)
                    confirmed.append(number)
            except (OSError, pymysql.err.MySQLError, asyncio.IncompleteReadError, RuntimeError):
                await asyncio.sleep(0.05)

    writer = asyncio.create_task(write())
    try:
        await until(lambda: len(confirmed) > 20, 60)
        await kill(local.instance(obj).process("mariadb").state().pid)
        await local.restart_operator()
        await local.converge(obj)
        before = len(confirmed)
        await until(lambda: len(confirmed) > before + 20, 60)
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
    present = set(await query(seen.binding, "SELECT n FROM t"))
    assert not [number for number in confirmed if number not in present]


async def test_backups_by_request_and_before_deletion(local, tmp_path):
    place = tmp_path / "backups"
    destination = {"directory": {"path": str(place)}}
    obj = local.object(engine="mariadb", deletionPolicy="Snapshot", backup={"destination": destination})
    seen = await local.converge(obj)
    await query(seen.binding, "CREATE TABLE t AS SELECT seq AS n FROM seq_1_to_1000")
    dumped = obj.model_dump(by_alias=True, exclude_none=True, mode="json")
    dumped["metadata"]["annotations"] = {"chandlery.dev/backup-requested-at": "now"}
    obj = local.model.model_validate(dumped)

    async def done():
        return (await local.converge(obj)).facts["backup"]["count"] == 1

    await until(done, 120)
    await query(seen.binding, "INSERT INTO t VALUES (1001)")
    await local.delete(obj)
    (folder,) = place.iterdir()
    first, last = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for name, rows in ((first, 1000), (last, 1001)):
        restored = local.object(engine="mariadb", restoreFrom={"destination": destination, "backup": name})
        again = await local.converge(restored, 120)
        assert await query(again.binding, "SELECT count(*) FROM t") == [rows]
        assert again.binding.entries["password"] != seen.binding.entries["password"]


async def test_tls_of_its_own(local):
    obj = local.object(engine="mariadb", tls={"enabled": True})
    seen = await local.converge(obj)
    entries = seen.binding.entries
    context = ssl.create_default_context(cadata=entries["ca.crt"])
    assert (await query(seen.binding, "SHOW STATUS LIKE 'Ssl_version'", ssl=context)) == ["Ssl_version"]
    with pytest.raises(pymysql.err.OperationalError, match=r"denied|secure"):
        await query(seen.binding, "SELECT 1")
    assert f"ssl-ca={local.instance(obj).config_dir}" in entries["uri"]
    assert 'ssl-verify-server-cert = "on"' in entries["my.cnf"]


def test_what_it_cannot_do_is_refused_by_name(tmp_path):
    harness = Harness(tmp_path / "data", DatabaseDriver(), Database)
    try:
        obj = harness.object(
            engine="mariadb",
            instances=2,
            backup={"destination": {"volume": {"claimName": "x"}}},
            roles=[{"name": "a"}, {"name": "b", "memberOf": ["a"]}],
        )
        fields = {item.field for item in harness.driver.unsupported(obj, {})}
    finally:
        harness.provider.close()
    assert {"spec.instances", "spec.backup.destination.volume", "spec.roles[b].memberOf"} <= fields
