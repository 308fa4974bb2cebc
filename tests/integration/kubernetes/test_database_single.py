"""A single PostgreSQL in a StatefulSet: the real server in its pod, what clients see, what the API server holds."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from kubernetes_cluster import eventually

from chandlery.providers.kubernetes.types import (
    CLAIMS,
    CONFIG_MAPS,
    CRON_JOBS,
    JOBS,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
)

pytestmark = pytest.mark.engine


@contextlib.asynccontextmanager
async def client(kube, secret, service):
    """What an application in the cluster gets with the binding, through the Service."""
    binding = await kube.secret(secret)
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, service))
    connection = await asyncpg.connect(
        host=host,
        port=port,
        user=binding["username"],
        password=binding["password"],
        database=binding["database"],
        ssl=False,
    )
    try:
        yield connection
    finally:
        await connection.close()


SPEC = {
    "storage": {"size": "1Gi"},
    "databases": [{"name": "app", "schemas": ["audit"]}],
    "roles": [{"name": "reader", "grants": [{"database": "app", "privileges": ["SELECT"]}]}],
}


async def test_life_of_a_single_database(kube):
    scripts = {"sqlSecrets": [{"name": "scripts", "key": "tables"}, {"name": "scripts", "key": "rows"}]}
    text = {"tables": "CREATE TABLE ports (name text)", "rows": "INSERT INTO ports VALUES ('Iolkos')"}
    await kube.api.apply(SECRETS, _secret(kube, "scripts", text))
    await kube.apply("Database", "one", {**SPEC, "initialization": scripts})
    status = await kube.ready("Database", "one")
    [done] = [c for c in status["conditions"] if c["type"] == "Initialized"]
    assert (done["status"], done["reason"]) == ("True", "Completed")
    assert status["endpoint"] == {"host": f"one-database.{kube.namespace}.svc", "port": 5432}
    assert status["members"][0]["name"] == "one-database-0"
    record = json.loads((await kube.get(CONFIG_MAPS, "one-database-record"))["data"]["record"])
    assert record["major"] == status["version"].split(".")[0]  # a newer operator doesn't take another's programs
    pod = await kube.get(PODS, "one-database-0")
    [container] = pod["spec"]["containers"]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert kube.workloads.execute("one-database-0", container[probe]["exec"]["command"], "database") == 0
    async with client(kube, "one", "one-database") as app:
        assert [row["name"] for row in await app.fetch("SELECT name FROM ports")] == ["Iolkos"]
        await app.execute("CREATE TABLE ships (name text); INSERT INTO ships VALUES ('Argo')")
        assert await app.fetchval("SHOW data_checksums") == "on"
        identity = await app.fetchval("SELECT pg_backend_pid()")
        # settings that need no start are set while clients work
        await kube.apply(
            "Database", "one", {**SPEC, "configuration": {"work_mem": "7MB", "search_path": "audit, public"}}
        )
        await kube.ready("Database", "one")
        assert await app.fetchval("SELECT pg_backend_pid()") == identity
        assert await eventually(lambda: _shows(app, "work_mem", "7MB"))
    async with client(kube, "one-role-reader", "one-database") as reader:
        assert await reader.fetchval("SHOW search_path") == "audit, public"
        assert await reader.fetchval("SELECT name FROM public.ships") == "Argo"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("INSERT INTO public.ships VALUES ('Ghost')")
    # one that does replaces the pod, whose data stay
    await kube.apply("Database", "one", {**SPEC, "configuration": {"max_connections": "50"}})
    await kube.ready("Database", "one")
    again = await kube.get(PODS, "one-database-0")
    assert again["metadata"]["uid"] != pod["metadata"]["uid"]
    async with client(kube, "one", "one-database") as app:
        assert await app.fetchval("SHOW max_connections") == "50"
        assert await app.fetchval("SHOW work_mem") == "4MB"
        assert await app.fetchval("SELECT name FROM ships") == "Argo"
    await kube.delete("Database", "one")
    left = [
        o["metadata"]["name"]
        for kind in (STATEFUL_SETS, SERVICES, PODS, CLAIMS, CONFIG_MAPS, SECRETS)
        for o in (await kube.api.list(kind, kube.namespace)).items
        if o["metadata"]["name"] not in ("kube-root-ca.crt", "scripts")
    ]
    assert left == []


async def test_days_of_a_database(kube):
    """Begun where initdb was cut short; grown; a refused value; a restart that waits; kept when it is deleted."""
    half = kube.workloads.folder / "claims" / kube.namespace / "data-two-database-0" / "pgdata-0"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    if os.geteuid() == 0:  # the server doesn't run as root
        shutil.chown(half, "nobody")
    spec = {**SPEC, "deletionPolicy": "Retain"}
    await kube.apply("Database", "two", spec)
    await kube.ready("Database", "two")

    # the volume is grown live
    spec["storage"] = {"size": "3Gi"}
    await kube.apply("Database", "two", spec)

    async def grown():
        claim = await kube.get(CLAIMS, "data-two-database-0")
        return claim["spec"]["resources"]["requests"]["storage"] == "3Gi"

    await eventually(grown)
    await kube.ready("Database", "two")

    # what PostgreSQL refuses is told, with the field; it goes on with what it has
    await kube.apply("Database", "two", {**spec, "configuration": {"default_tablespace": "nowhere"}})
    await eventually(lambda: _told(kube, "two", "spec.configuration[default_tablespace]", "nowhere"))
    await kube.apply("Database", "two", spec)
    await kube.ready("Database", "two")

    # drift inside of the engine is repaired; a server that is killed comes back with its data
    binding = await kube.secret("two")
    async with client(kube, "two", "two-database") as app:
        await app.execute("CREATE TABLE kept (n int)")
        await app.execute(f"ALTER ROLE app PASSWORD '{'x' * 12}'")
    kube.workloads.kill("two-database-0")

    async def logs_in():
        async with client(kube, "two", "two-database") as app:
            return await app.fetchval("SELECT count(*) FROM kept") == 0

    await eventually(logs_in)
    assert await kube.secret("two") == binding

    # new passwords when a person asks: at once, everywhere
    await kube.apply("Database", "two", spec, annotations={"chandlery.dev/rotate-requested-at": "now"})

    async def rotated():
        return (await kube.secret("two"))["password"] != binding["password"]

    await eventually(rotated)
    await kube.ready("Database", "two")
    assert await eventually(logs_in)

    # a restart waits for the window
    pod = (await kube.get(PODS, "two-database-0"))["metadata"]["uid"]
    waits = {**spec, "maintenanceWindow": _closed(), "configuration": {"max_connections": "60"}}
    await kube.apply("Database", "two", waits)

    async def held():
        status = (await kube.get("Database", "two"))["status"]
        return "max_connections" in str(status.get("drift")) or "postgresql.conf" in str(status.get("drift"))

    await eventually(held)
    assert (await kube.get(PODS, "two-database-0"))["metadata"]["uid"] == pod
    await kube.delete("Database", "two")
    left = [
        o["metadata"]["name"]
        for kind in (STATEFUL_SETS, SERVICES, PODS, CLAIMS, CONFIG_MAPS, SECRETS)
        for o in (await kube.api.list(kind, kube.namespace, labels="chandlery.dev/owner-uid")).items
    ]
    assert left == ["data-two-database-0", "two-database-auth"]


@pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
@pytest.mark.parametrize("method", ["physical", "logical"])
async def test_a_backup_is_made_and_another_database_begins_with_it(kube, method):
    await kube.claim("safe")
    backups = {"destination": {"volume": {"claimName": "safe", "path": "ships"}}, "method": method}
    backups |= {"schedule": "0 3 * * *", "retention": {"count": 2}}
    await kube.apply("Database", "old", {**SPEC, "backup": backups})
    status = await kube.ready("Database", "old")
    assert status["backup"]["nextScheduledTime"].endswith("T03:00:00Z")
    cron = await kube.get(CRON_JOBS, "old-database-backup")
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    async with client(kube, "old", "old-database") as app:
        await app.execute("CREATE TABLE ships (name text); INSERT INTO ships VALUES ('Argo')")
    asked = {"chandlery.dev/backup-requested-at": "now"}
    await kube.apply("Database", "old", {**SPEC, "backup": backups}, annotations=asked)

    async def made():
        found = (await kube.get("Database", "old"))["status"].get("backup", {})
        return found if found.get("lastSuccessfulTime") else None

    [entry] = (await eventually(made, 120))["list"]
    assert entry["phase"] == "Completed"
    conditions = {c["type"]: c["status"] for c in (await kube.get("Database", "old"))["status"]["conditions"]}
    assert conditions["BackedUp"] == "True"
    async with client(kube, "old", "old-database") as app:
        await app.execute("INSERT INTO ships VALUES ('Ghost')")

    restore = {"objectName": "old", "backup": entry["name"]}
    await kube.apply("Database", "new", {**SPEC, "restoreFrom": restore})
    await kube.ready("Database", "new")
    async with client(kube, "new", "new-database") as app:
        assert [row["name"] for row in await app.fetch("SELECT name FROM ships")] == ["Argo"]
    assert (await kube.secret("new"))["password"] != (await kube.secret("old"))["password"]
    await kube.delete("Database", "old")
    assert (await kube.api.list(JOBS, kube.namespace)).items == []


async def _told(kube, name, *words):
    conditions = str((await kube.get("Database", name))["status"]["conditions"])
    return all(word in conditions for word in words)


def _secret(kube, name, data):
    return {"metadata": {"name": name, "namespace": kube.namespace}, "stringData": data}


@pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
async def test_a_script_that_fails_leaves_nothing_and_is_tried_again(kube):
    text = {"rows": "CREATE TABLE ports (name text); SELECT nothing"}
    await kube.api.apply(SECRETS, _secret(kube, "scripts", text))
    scripts = {"sqlSecrets": [{"name": "scripts", "key": "rows"}, {"name": "scripts", "key": "more"}]}
    await kube.apply("Database", "one", {**SPEC, "initialization": scripts})
    await eventually(lambda: _told(kube, "one", "spec.initialization.sqlSecrets[0]", "nothing"))
    await kube.api.apply(SECRETS, _secret(kube, "scripts", {"rows": "CREATE TABLE ports (name text)"}))
    await eventually(lambda: _told(kube, "one", "spec.initialization.sqlSecrets[1]", "has no key more"))
    await kube.api.apply(SECRETS, _secret(kube, "scripts", {"rows": "SELECT 1/0", "more": "SELECT 1"}))
    await kube.ready("Database", "one")
    async with client(kube, "one", "one-database") as app:
        assert await app.fetchval("SELECT count(*) FROM ports") == 0


def _closed():
    """A window that opens in half a day."""
    opens = datetime.now(UTC) + timedelta(hours=12)
    return {"start": opens.strftime("%H:%M"), "duration": "1h"}


async def _shows(connection, name, value):
    return await connection.fetchval(f"SHOW {name}") == value
