"""New PostgreSQL clusters from a template: each one of its own, on the disk before anybody is told of it."""

import shutil

import asyncpg
import pytest
from local_harness import Harness

from chandlery_kinds.database.drivers import local_postgres_beginning
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.drivers.local_postgres_node import BORROWED
from chandlery_kinds.database.drivers.local_postgres_template import Template
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.control import identifier_of

pytestmark = pytest.mark.engine


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", DatabaseDriver(), Database, tmp_path / "cache")
    yield made
    await made.close()


@pytest.fixture
def synced(monkeypatch):
    """The directories that were brought to the disk."""
    found, real = [], local_postgres_beginning.sync_tree
    monkeypatch.setattr(local_postgres_beginning, "sync_tree", lambda path: (found.append(path), real(path)))
    return found


def admin(local, obj, seen, password):
    host, port = seen.endpoint.host, seen.endpoint.port
    return asyncpg.connect(host=host, port=port, user="chandlery", password=password, database="postgres", timeout=30)


def control(local, obj):
    return (local.instance(obj).data_dir / "node-0" / "global" / "pg_control").read_bytes()


async def test_copies_of_a_template_are_clusters_of_their_own(local, synced):
    first, second, third = (local.object() for _ in range(3))
    for obj in (first, second):
        await local.converge(obj)
    # the second one had it made
    (template,) = [path for path in (local.provider.cache_dir / "templates").iterdir() if path.is_dir()]
    assert template.stat().st_mode & 0o777 == 0o700

    # an operator dies after the password was replaced and before that is on record
    seen = await local.converge(third)
    shared = Template(local.driver.servers(local.ctx, third, local.instance(third)).files)._about(template)["password"]
    local.instance(third).secret(BORROWED, lambda: shared)
    await local.restart_operator()
    seen = await local.converge(third)
    assert BORROWED not in local.instance(third).record["secrets"]

    # the passwords: the template's opens nothing, each has its own
    secrets = {local.instance(obj).secret("admin") for obj in (first, second, third)}
    assert len(secrets) == 3
    with pytest.raises(asyncpg.InvalidPasswordError):
        await admin(local, third, seen, shared)
    connection = await admin(local, third, seen, local.instance(third).secret("admin"))
    try:
        names = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        assert names == {"postgres", "template0", "template1", "app"}
        rights = "SELECT datacl::text FROM pg_database WHERE datname = 'app'"
        assert await connection.fetchval(rights) == "{app=CTc/app}"
        identifier = await connection.fetchval("SELECT system_identifier FROM pg_control_system()")
    finally:
        await connection.close()
    assert identifier == identifier_of(control(local, third))
    assert len({identifier_of(control(local, obj)) for obj in (first, second, third)}) == 3
    assert len({control(local, obj)[257:289] for obj in (first, second, third)}) == 3
    assert synced == [local.instance(obj).data_dir for obj in (first, second, third)]
    assert [path.name for path in local.instance(second).data_dir.iterdir()] == ["node-0"]

    # a damaged template is not used, and goes
    (template / "data" / "PG_VERSION").unlink()
    await local.converge(local.object())
    assert not template.exists()


async def test_what_never_reached_the_disk_is_made_anew(local, monkeypatch):
    obj = local.object()
    synced, real = [], local_postgres_beginning.sync_tree

    def cut_short(_path):
        raise SystemError("the operator is gone")

    monkeypatch.setattr(local_postgres_beginning, "sync_tree", cut_short)
    with pytest.raises(SystemError):
        await local.driver.create(local.ctx, obj)
    instance = local.instance(obj)
    await local.restart_operator()
    monkeypatch.setattr(local_postgres_beginning, "sync_tree", lambda path: (synced.append(path), real(path)))
    seen = await local.driver.observe(local.ctx, obj)
    assert (seen.exists, seen.ready, [d.field for d in seen.differences]) == (True, False, ["data"])

    # the machine stops: the server is gone, and who knows what is left of its files
    await local.instance(obj).process("node-0").stop()
    shutil.rmtree(instance.data_dir / "node-0" / "global")
    assert not (await local.driver.observe(local.ctx, obj)).exists
    assert (await local.converge(obj)).ready
    assert synced == [instance.data_dir]

    # once it was on the disk nothing is ever made anew
    await local.instance(obj).process("node-0").stop()
    assert (await local.driver.observe(local.ctx, obj)).exists
