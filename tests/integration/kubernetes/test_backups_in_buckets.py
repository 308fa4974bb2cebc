"""Backups in a store that speaks S3 and checks every signature: by the client alone, and by the pods of all engines."""

from __future__ import annotations

import os

import asyncpg
import pytest
import redis.asyncio as redis
from bucket_store import BUCKET, bucket_store
from kubernetes_cluster import CONTAINERS, eventually

from chandlery.foundation.errors import NotFound, PermissionDenied, ProviderError, Unavailable
from chandlery.providers.kubernetes.s3 import ACCESS_KEY, SECRET_KEY, Bucket, Keys
from chandlery.providers.kubernetes.types import JOBS, SECRETS

pytest.importorskip("moto", reason="the store comes with the development dependencies")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(CONTAINERS, reason="the store listens where only processes of this machine get at it"),
]
HEAVY = pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="takes a while: CHANDLERY_HEAVY=1")
ASKED = "chandlery.dev/backup-requested-at"
ODD = "shop/of ships+more"
PREFIX = "shop/of-ships"


@pytest.fixture
async def store():
    async with bucket_store("shop/") as made:
        yield made


async def test_a_bucket_is_listed_read_written_in_parts_and_emptied(store, tmp_path):
    keys = Keys(store.access, store.secret)
    big, small = tmp_path / "big", tmp_path / "small"
    big.write_bytes(os.urandom(11 * 2**20 + 17))
    small.write_bytes(b"")
    names = {"a/big one": big, "a/small~1": small, "b/ü+&=%": small}
    async with Bucket({**store.place, "prefix": ODD}, keys, part=5 * 2**20, page=2) as bucket:
        for name, path in names.items():
            await bucket.write(name, path)
        assert sorted(await bucket.names()) == sorted(names)
        await bucket.read("a/big one", tmp_path / "read" / "back")
        assert (tmp_path / "read" / "back").read_bytes() == big.read_bytes()
        await bucket.remove("a/big one")
        await bucket.remove("a/big one")
        assert sorted(await bucket.names()) == sorted(names.keys() - {"a/big one"})
        with pytest.raises(NotFound, match=f"s3://{BUCKET}"):
            await bucket.read("a/big one", tmp_path / "again")
        assert not (tmp_path / "again").exists()
    async with Bucket({**store.place, "prefix": ODD}, Keys(store.access, "another")) as bucket:
        with pytest.raises(PermissionDenied, match="SignatureDoesNotMatch"):
            await bucket.names()
    async with Bucket({**store.place, "prefix": "elsewhere"}, keys) as bucket:
        with pytest.raises(PermissionDenied):
            await bucket.write("x", small)
    async with Bucket({**store.place, "bucket": "nobodys"}, keys) as bucket:
        with pytest.raises((NotFound, PermissionDenied, ProviderError)) as told:
            await bucket.names()
        assert not isinstance(told.value, Unavailable)


async def destination(kube, store, secret="store"):
    data = {ACCESS_KEY: store.access, SECRET_KEY: store.secret}
    await kube.api.apply(SECRETS, {"metadata": {"name": secret, "namespace": kube.namespace}, "stringData": data})
    place = {"bucket": BUCKET, "prefix": f"{PREFIX}/", "endpoint": store.endpoint}
    return {"s3": {**place, "credentialsSecret": {"name": secret}}}


async def entry_of(kube, kind, name, count=1):
    async def made():
        listed = (await kube.get(kind, name))["status"].get("backup", {}).get("list", ())
        good = [entry for entry in listed if entry["phase"] == "Completed"]
        return good[0] if len(good) == count else None

    return await eventually(made, 180)


async def objects(store):
    async with Bucket({**store.place, "prefix": PREFIX}, Keys(store.access, store.secret)) as bucket:
        return await bucket.names()


async def client(kube, name):
    binding = await kube.secret(name)
    [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-cache"))
    return redis.Redis(host=host, port=port, username=binding["username"], password=binding["password"])


@HEAVY
async def test_a_cache_is_backed_up_into_a_bucket_and_another_begins_with_it(kube, store):
    where = await destination(kube, store)
    spec = {"memory": "32Mi", "backup": {"destination": where, "retention": {"count": 1}}}
    await kube.apply("Cache", "old", spec)
    await kube.ready("Cache", "old")
    async with await client(kube, "old") as cache:
        await cache.set("ship", "Argo")
    await kube.apply("Cache", "old", spec, annotations={ASKED: "now"})
    first = await entry_of(kube, "Cache", "old")
    assert len([name for name in await objects(store) if name.endswith("/manifest.json")]) == 1
    async with await client(kube, "old") as cache:
        await cache.set("ship", "Pegasus")
    await kube.apply("Cache", "old", spec, annotations={ASKED: "again"})
    entry = await entry_of(kube, "Cache", "old", 2)
    left = await objects(store)
    assert [name for name in left if f"/{entry['name']}/" in name]
    assert not [name for name in left if f"/{first['name']}/" in name]  # one is kept

    # the cache that made it is gone: by the place
    await kube.delete("Cache", "old")
    await kube.apply("Cache", "new", {"memory": "32Mi", "restoreFrom": {"destination": where}})
    await kube.ready("Cache", "new")
    async with await client(kube, "new") as cache:
        assert await cache.get("ship") == b"Pegasus"
    # once the data are there, the credentials may go
    shown = str((await kube.api.list(JOBS, kube.namespace)).items) + str(await kube.get("Cache", "new"))
    assert store.secret not in shown


@HEAVY
async def test_a_database_is_backed_up_into_a_bucket_and_another_begins_with_it(kube, store):
    where, storage = await destination(kube, store), {"size": "1Gi"}
    spec = {"storage": storage, "backup": {"destination": where}}
    await kube.apply("Database", "old", spec)
    await kube.ready("Database", "old", 180)

    async def app(name):
        binding = await kube.secret(name)
        [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-database"))
        words = {"user": binding["username"], "password": binding["password"], "database": binding["database"]}
        return await asyncpg.connect(host=host, port=port, **words)

    connection = await app("old")
    await connection.execute("CREATE TABLE ships (name text); INSERT INTO ships VALUES ('Argo')")
    await connection.close()
    await kube.apply("Database", "old", spec, annotations={ASKED: "now"})
    entry = await entry_of(kube, "Database", "old")
    restore = {"objectName": "old", "backup": entry["name"]}
    await kube.apply("Database", "new", {"storage": storage, "restoreFrom": restore})
    await kube.ready("Database", "new", 180)
    connection = await app("new")
    assert await connection.fetchval("SELECT name FROM ships") == "Argo"
    await connection.close()


@HEAVY
async def test_what_a_store_refuses_is_told_and_mended(kube, store):
    where = await destination(kube, store)
    wrong = {ACCESS_KEY: store.access, SECRET_KEY: "of somebody else"}
    secret = {"metadata": {"name": "store", "namespace": kube.namespace}}
    await kube.api.apply(SECRETS, {**secret, "stringData": wrong})
    spec = {"memory": "32Mi", "backup": {"destination": where}}
    await kube.apply("Cache", "one", spec, annotations={ASKED: "now"})
    await kube.ready("Cache", "one")

    async def told():
        found = {c["type"]: c for c in (await kube.get("Cache", "one"))["status"]["conditions"]}
        return found.get("BackedUp", {}).get("reason") == "Failed" and found["BackedUp"]["message"]

    message = await eventually(told, 120)
    assert "SignatureDoesNotMatch" in message
    assert f"s3://{BUCKET}" in message
    right = {ACCESS_KEY: store.access, SECRET_KEY: store.secret}
    await kube.api.apply(SECRETS, {**secret, "stringData": right})
    await kube.apply("Cache", "one", spec, annotations={ASKED: "mended"})
    await entry_of(kube, "Cache", "one")
