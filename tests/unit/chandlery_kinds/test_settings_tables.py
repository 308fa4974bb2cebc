"""The tables of the engines' settings are whole, and agree with the engines where those are installed."""

import pytest

from chandlery.gen.reference import tables_of
from chandlery_kinds import KINDS

TABLES = [(engine, table) for kind in KINDS for engine, table in tables_of(kind).items()]


@pytest.mark.parametrize(("engine", "table"), TABLES, ids=[e for e, _ in TABLES])
def test_a_table_is_whole(engine, table) -> None:
    assert len(table.settings) > 50
    for setting in table.settings.values():
        if setting.effect == "owned":
            assert setting.instead, setting.name
        assert (setting.type == "enum") == bool(setting.values) or setting.effect == "owned", setting.name
        assert "'" not in setting.name, setting.name
        if setting.minimum is not None and setting.maximum is not None:
            assert setting.minimum < setting.maximum, setting.name


@pytest.mark.parametrize(
    ("engine", "name", "effect"),
    [
        ("valkey", "maxclients", "reload"),
        ("valkey", "databases", "restart"),
        ("valkey", "maxmemory", "owned"),
        ("redis", "hz", "reload"),
        ("memcached", "threads", "restart"),
        ("postgres", "work_mem", "reload"),
        ("postgres", "shared_buffers", "restart"),
        ("postgres", "synchronous_commit", "owned"),
        ("mariadb", "max_connections", "reload"),
        ("mariadb", "performance_schema", "restart"),
        ("nats", "max_connections", "reload"),
        ("rabbitmq", "heartbeat", "restart"),
        ("haproxy", "maxconn", "reload"),
    ],
)
def test_what_a_change_costs(engine: str, name: str, effect: str) -> None:
    assert dict(TABLES)[engine].effect(name) == effect


@pytest.mark.parametrize(
    ("engine", "wrong", "meant"),
    [
        ("valkey", "max-clients", "maxclients"),
        ("postgres", "work_memory", "work_mem"),
        ("mariadb", "innodb-buffer-pool-size", "innodb_buffer_pool_size"),
        ("haproxy", "maxconns", "maxconn"),
    ],
)
def test_near_misses(engine: str, wrong: str, meant: str) -> None:
    assert dict(TABLES)[engine].problems({wrong: "1"})[wrong].endswith(f"did you mean {meant}?")
