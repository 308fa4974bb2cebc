"""As test_backups_across.py, with MariaDB, whose driver's user comes from elsewhere in a cluster."""

from __future__ import annotations

import contextlib

import aiomysql
import pytest
from kubernetes_cluster import CONTAINERS, eventually
from local_harness import Harness, shared_cache, until
from mariadb_programs import needed, programs

from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database

pytestmark = [
    *needed,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CONTAINERS, reason="the folder of a claim is seen from here only where pods are processes"),
]
ASKED = "chandlery.dev/backup-requested-at"
SPEC = {"engine": "mariadb", "version": "10.11", "storage": {"size": "1Gi"}}


@contextlib.asynccontextmanager
async def client(entries, host, port):
    words = {"user": entries["username"], "password": entries["password"], "db": entries["database"]}
    made = await aiomysql.connect(host=host, port=int(port), autocommit=True, connect_timeout=10, **words)
    try:
        async with made.cursor() as cursor:
            yield cursor
    finally:
        made.close()


async def test_a_mariadb_goes_to_the_cluster_and_back(kube, tmp_path):
    kube.workloads.programs.insert(0, str(await programs(kube.workloads.folder / "programs")))
    laptop = Harness(tmp_path / "data", DatabaseDriver(), Database, shared_cache())
    claims = kube.workloads.folder / "claims" / kube.namespace
    claims.mkdir(parents=True)
    there, back = ({"directory": {"path": str(claims / name)}} for name in ("there", "back"))
    for name in ("there", "back"):
        await kube.claim(name)
    try:
        obj = laptop.object(**SPEC, backup={"destination": there})
        entries = (await laptop.converge(obj, 180)).binding.entries
        async with client(entries, entries["host"], entries["port"]) as cursor:
            await cursor.execute("CREATE TABLE ships (name text)")
            await cursor.execute("INSERT INTO ships VALUES ('Argo')")
        metadata = obj.metadata.model_copy(update={"annotations": {ASKED: "now"}})
        asked = obj.model_copy(update={"metadata": metadata})

        async def done():
            return (await laptop.converge(asked)).facts["backup"]["count"] == 1

        await until(done, 120)
        restore = {"destination": {"volume": {"claimName": "there"}}}
        spec = {**SPEC, "restoreFrom": restore, "backup": {"destination": {"volume": {"claimName": "back"}}}}
        await kube.apply("Database", "moved", spec)
        await kube.ready("Database", "moved", 180)
        [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, "moved-database"))
        async with client(await kube.secret("moved"), host, port) as cursor:
            await cursor.execute("INSERT INTO ships VALUES ('Pegasus')")
        await kube.apply("Database", "moved", spec, annotations={ASKED: "now"})

        async def made():
            return ((await kube.get("Database", "moved"))["status"].get("backup") or {}).get("lastSuccessfulTime")

        await eventually(made, 180)
        again = laptop.object(**SPEC, restoreFrom={"destination": back})
        entries = (await laptop.converge(again, 180)).binding.entries
        async with client(entries, entries["host"], entries["port"]) as cursor:
            await cursor.execute("SELECT name FROM ships ORDER BY name")
            assert [row[0] for row in await cursor.fetchall()] == ["Argo", "Pegasus"]
    finally:
        await laptop.close()
