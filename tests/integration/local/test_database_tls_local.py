"""PostgreSQL with TLS, as clients see it: libpq with the URI as it is printed, and asyncpg."""

import asyncpg
import pytest
from local_harness import Harness, until

from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database

pytestmark = pytest.mark.engine
psycopg = pytest.importorskip("psycopg")


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", DatabaseDriver(), Database)
    yield made
    await made.close()


def ask(uri, sql="SELECT 1", **options):
    """By libpq."""
    with psycopg.connect(uri, connect_timeout=10, **options) as connection:
        return connection.execute(sql).fetchone()[0]


def answers(uri):
    try:
        return ask(uri) == 1
    except psycopg.OperationalError:
        return False


async def test_tls_in_front_of_an_engine_that_has_none(local):
    obj = local.object()
    seen = await local.converge(obj)
    plain, port = seen.binding.entries["uri"], seen.endpoint.port
    assert ask(plain) == 1
    held = await asyncpg.connect(plain)

    with_tls = local.changed(obj, tls={"enabled": True})
    seen = await local.converge(with_tls)
    assert {cost for _, cost in local.plans} <= {"none", "reload"}
    assert await held.fetchval("SELECT 1") == 1, "who is connected stays connected"
    await held.close()
    entries = seen.binding.entries
    assert seen.endpoint.port == int(entries["port"]) != port
    assert ask(entries["uri"]) == 1
    names = ("sslmode", "sslrootcert", "sslnegotiation")
    assert {name: entries[name] for name in names if name != "sslrootcert"} == {
        "sslmode": "verify-full",
        "sslnegotiation": "direct",
    }
    by_keys = {"user": entries["username"], "dbname": entries["database"], "password": entries["password"]}
    assert ask("", **by_keys, **{name: entries[name] for name in ("host", "port", *names)}) == 1
    assert "BEGIN CERTIFICATE" in entries["ca.crt"]
    with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
        ask(plain)  # required: who doesn't encrypt is refused
    with pytest.raises(psycopg.OperationalError):
        ask(entries["uri"], sslrootcert="system")  # another authority is not trusted

    # not required: the plain port is open too, and named
    seen = await local.converge(local.changed(obj, tls={"enabled": True, "required": False}))
    assert ask(seen.binding.entries["uri"]) == 1
    await until(lambda: answers(seen.binding.entries["plain-uri"]), 30)  # rules are read a moment after the signal

    # gone again
    seen = await local.converge(obj)
    assert seen.endpoint.port == port
    assert ask(seen.binding.entries["uri"]) == 1
    assert "tls-front" not in local.instance(obj).process_names()


async def test_copies_are_read_through_tls_too(local):
    obj = local.object(instances=2, tls={"enabled": True})
    seen = await local.converge(obj)
    uri = seen.binding.entries["uri"]
    reader = uri.replace(f":{seen.endpoint.port}/", f":{seen.endpoint.read_port}/")
    assert ask(uri, "SELECT pg_is_in_recovery()") is False
    assert ask(reader, "SELECT pg_is_in_recovery()") is True
