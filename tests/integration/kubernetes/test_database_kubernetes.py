"""Databases handed over to CloudNativePG: refused without it; made with it, with a real server in place of its own."""

from __future__ import annotations

import contextlib

import asyncpg
import pytest
from foreign_crds import BARMAN_CLOUD, CLOUDNATIVE_PG, MARIADB_OPERATOR
from kubernetes_cluster import CONTAINERS, CRDS, TYPES, eventually

from chandlery.providers.kubernetes.pods import CONTAINER, pod_security
from chandlery.providers.kubernetes.types import (
    CNPG_BACKUPS,
    CNPG_CLUSTERS,
    CNPG_POOLERS,
    CNPG_SCHEDULES,
    MARIADBS,
    OBJECT_STORES,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
)

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(CONTAINERS, reason="the pods of CloudNativePG are played by the test"),
]
# What CloudNativePG does, as far as it can be seen from outside: passwords from its Secrets, the first database.
PRIMARY = """set -eu
read -r owner < /fake-app/password || :
if [ ! -e /fake-data/pg ]; then
  initdb --pgdata=/fake-data/pg --username=postgres --pwfile=/fake-admin/password --auth=scram-sha-256 --no-sync
  echo 'host all all all scram-sha-256' >> /fake-data/pg/pg_hba.conf
  printf "CREATE ROLE app LOGIN PASSWORD '%s';\\nCREATE DATABASE app OWNER app;\\n" "$owner" |
    postgres --single -D /fake-data/pg postgres
fi
exec postgres -D /fake-data/pg -c listen_addresses=0.0.0.0 -c unix_socket_directories=
"""


@pytest.fixture
async def without(kube):
    yield kube
    for definition in (*CLOUDNATIVE_PG, *BARMAN_CLOUD):
        await kube.api.delete(CRDS, "", definition["metadata"]["name"])


async def install(kube):
    for definition in CLOUDNATIVE_PG:
        await kube.api.apply(CRDS, definition)
    for kind in (CNPG_CLUSTERS, CNPG_POOLERS):
        await eventually(lambda kind=kind: kube.api.list(kind))


async def told(kube, kind, name, status):
    """Its status, as CloudNativePG writes it."""
    body = {"metadata": {"name": name, "namespace": kube.namespace}, "status": status}
    await kube.api.apply(kind, body, manager="cnpg", subresource="status")


async def play(kube, cluster):
    """The primary of a Cluster, and its status."""
    meta, spec = cluster["metadata"], cluster["spec"]
    name = f"{meta['name']}-1"
    owner = {"apiVersion": CNPG_CLUSTERS.api_version, "kind": "Cluster", "name": meta["name"], "uid": meta["uid"]}
    mounts = {"data": "/fake-data", "app": "/fake-app", "admin": "/fake-admin"}
    secrets = {"app": spec["bootstrap"]["initdb"]["secret"]["name"], "admin": spec["superuserSecret"]["name"]}
    container = {
        "name": "postgres",
        "image": "registry.example/postgres:18.6",
        "command": ["sh", "-c", PRIMARY],
        **CONTAINER,
        "resources": {"requests": {"cpu": "10m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        "ports": [{"name": "postgresql", "containerPort": 5432}],
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
    }
    volumes = [{"name": volume, "secret": {"secretName": secret}} for volume, secret in secrets.items()]
    labels = {"cnpg.io/cluster": meta["name"], "cnpg.io/instanceRole": "primary", **spec["inheritedMetadata"]["labels"]}
    body = {
        "metadata": {
            "name": name,
            "namespace": kube.namespace,
            "labels": labels,
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {
            "nodeName": "node-1",
            "securityContext": pod_security(),
            "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}, *volumes],
        },
    }
    await kube.api.create(PODS, body)
    status = {
        "phase": "Cluster in healthy state",
        "instances": spec["instances"],
        "readyInstances": spec["instances"],
        "currentPrimary": name,
        "timelineID": 1,
        "instanceNames": [f"{meta['name']}-{number + 1}" for number in range(spec["instances"])],
        "instancesStatus": {"healthy": [name]},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    await told(kube, CNPG_CLUSTERS, meta["name"], status)


@contextlib.asynccontextmanager
async def client(kube, secret, pod):
    """As an application: the name of the Service stands for its primary's address."""
    binding = await kube.secret(secret)
    found = await eventually(lambda: kube.get(PODS, pod))
    connection = await asyncpg.connect(
        host=found["status"]["podIP"],
        port=5432,
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
    "storage": {"size": "2Gi"},
    "databases": [{"name": "app", "schemas": ["audit"]}, {"name": "stock"}],
    "roles": [{"name": "reader", "grants": [{"database": "app", "privileges": ["SELECT"]}]}],
    "configuration": {"work_mem": "8MB", "shared_preload_libraries": "pg_stat_statements, auto_explain"},
    "initialization": {"sqlSecrets": [{"name": "scripts", "key": "tables"}]},
    "tls": {"required": True},
    "replication": {"failoverDelay": "30s"},
}


async def test_refused_without_cloudnativepg_and_whole_once_it_is_there(without):
    kube = without
    script = {"metadata": {"name": "scripts", "namespace": kube.namespace}, "stringData": {}}
    await kube.api.apply(SECRETS, {**script, "stringData": {"tables": "CREATE TABLE ships (name text)"}})
    await kube.apply("Database", "app", {**SPEC, "instances": 2})

    async def refused():
        found = await kube.get("Database", "app")
        return "CloudNativePG" in str(found["status"]["conditions"]) and found["status"]

    assert (await eventually(refused))["phase"] != "Ready"
    await install(kube)
    await kube.apply("Database", "app", {**SPEC, "instances": 3})

    async def made_of_three():
        found = await kube.get(CNPG_CLUSTERS, "app-database")  # the first attempt may still have had two
        return found if found and found["spec"]["instances"] == 3 else None

    made = await eventually(made_of_three)
    assert made["spec"]["storage"] == {"size": "2Gi"}
    assert made["spec"]["failoverDelay"] == 30
    assert made["spec"]["postgresql"] == {
        "parameters": {"work_mem": "8MB", "ssl_min_protocol_version": "TLSv1.2"},
        "shared_preload_libraries": ["pg_stat_statements", "auto_explain"],
        "pg_hba": ["hostnossl all all all reject"],
    }
    auth = await kube.get(SECRETS, made["spec"]["bootstrap"]["initdb"]["secret"]["name"])
    assert auth["type"] == "kubernetes.io/basic-auth"

    await play(kube, made)
    seen = await kube.ready("Database", "app")
    assert seen["primary"] == "app-database-1"
    assert seen["version"].startswith("18.")
    assert {item["name"]: item["ready"] for item in seen["databases"]} == {"app": True, "stock": True}
    assert {role["name"] for role in seen["roles"]} == {"reader", "app", "stock"}
    [script] = [c for c in seen["conditions"] if c["type"] == "Initialized"]
    assert script["status"] == "True"
    binding = await kube.secret("app")
    assert binding["host"] == f"app-database-rw.{kube.namespace}.svc"
    assert binding["password"] == (await kube.secret("app-database-auth"))["password"]
    assert binding["uri"].endswith("?sslmode=require")
    async with client(kube, "app", "app-database-1") as app:
        await app.execute("INSERT INTO ships VALUES ('Argo')")
    async with client(kube, "app-role-reader", "app-database-1") as reader:
        assert await reader.fetchval("SELECT name FROM ships") == "Argo"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("INSERT INTO ships VALUES ('Ghost')")
    async with client(kube, "app-role-stock", "app-database-1") as stock:
        assert await stock.fetchval("SELECT current_database()") == "stock"

    # new passwords, where CloudNativePG and clients look for them; how it began is not written anew
    spec = {**SPEC, "instances": 3, "pooler": {"instances": 2, "poolSize": 7}, "exposure": {"type": "NodePort"}}
    await kube.apply("Database", "app", spec, annotations={"chandlery.dev/rotate-requested-at": "now"})

    async def rotated():
        return (await kube.secret("app"))["password"] != binding["password"]

    await eventually(rotated)
    pooler = await eventually(lambda: kube.get(CNPG_POOLERS, "app-database-pooler"))
    assert pooler["spec"]["instances"] == 2
    assert pooler["spec"]["pgbouncer"]["parameters"]["default_pool_size"] == "7"
    await eventually(lambda: _reason(kube, "app", "pooler"))
    await told(kube, CNPG_POOLERS, "app-database-pooler", {"instances": 2})
    assert (await kube.ready("Database", "app"))["poolerReady"] is True
    assert (await kube.secret("app"))["password"] == (await kube.secret("app-database-auth"))["password"]
    service = await kube.get(SERVICES, "app-database")
    assert service["spec"]["selector"] == {"cnpg.io/poolerName": "app-database-pooler"}
    async with client(kube, "app", "app-database-1") as app:
        assert await app.fetchval("SELECT name FROM ships") == "Argo"
    again = await kube.get(CNPG_CLUSTERS, "app-database")
    assert again["spec"]["bootstrap"] == made["spec"]["bootstrap"]

    await kube.api.delete(PODS, kube.namespace, "app-database-1")  # as its end with the Cluster
    await kube.delete("Database", "app")
    assert (await kube.api.list(CNPG_CLUSTERS, kube.namespace)).items == []
    assert (await kube.api.list(CNPG_POOLERS, kube.namespace)).items == []


async def _reason(kube, name, word):
    return word in str((await kube.get("Database", name))["status"]["conditions"])


STORE = {"bucket": "backups", "prefix": "shop/", "endpoint": "https://s3.example.com", "region": "eu-central-1"}
STORE |= {"credentialsSecret": {"name": "keys"}}


async def test_backups_are_handed_over_and_another_cluster_begins_with_them(without):
    kube = without
    await install(kube)
    backup = {"schedule": "30 1 * * *", "destination": {"s3": STORE}, "retention": {"days": 30}}
    spec = {"instances": 2, "storage": {"size": "2Gi"}, "backup": {**backup, "continuousArchiving": True}}
    await kube.apply("Database", "old", spec)
    await eventually(lambda: _reason(kube, "old", "Barman Cloud plugin"))
    for definition in BARMAN_CLOUD:
        await kube.api.apply(CRDS, definition)
    await kube.apply("Database", "old", spec, annotations={"chandlery.dev/backup-requested-at": "now"})
    made = await eventually(lambda: kube.get(CNPG_CLUSTERS, "old-database"))
    [plugin] = made["spec"]["plugins"]
    assert plugin["parameters"] == {"barmanObjectName": "old-database"}
    store = await kube.get(OBJECT_STORES, "old-database")
    assert store["spec"]["configuration"]["destinationPath"] == "s3://backups/shop"
    assert store["spec"]["configuration"]["s3Credentials"]["accessKeyId"] == {"name": "keys", "key": "access-key-id"}
    assert store["spec"]["retentionPolicy"] == "30d"
    schedule = await kube.get(CNPG_SCHEDULES, "old-database")
    assert schedule["spec"]["schedule"] == "0 30 1 * * *"
    await play(kube, made)
    [asked] = await eventually(lambda: _items(kube, CNPG_BACKUPS))
    assert asked["spec"]["pluginConfiguration"] == {"name": "barman-cloud.cloudnative-pg.io"}
    done = {"phase": "completed", "backupId": "20260101T000000", "stoppedAt": "2026-01-01T00:00:09Z"}
    await told(kube, CNPG_BACKUPS, asked["metadata"]["name"], done)
    window = {"lastSuccessfulBackupTime": "2026-01-01T00:00:09Z", "firstRecoverabilityPoint": "2026-01-01T00:00:09Z"}
    await told(kube, OBJECT_STORES, "old-database", {"serverRecoveryWindow": {"old-database": window}})

    async def seen():
        found = (await kube.get("Database", "old"))["status"].get("backup", {})
        return found if found.get("lastSuccessfulTime") and found.get("list") else None

    status = await eventually(seen)
    assert status["list"][0]["name"] == "20260101T000000"
    assert status["list"][0]["phase"] == "Completed"
    assert status["nextScheduledTime"].endswith("T01:30:00Z")
    assert len(await _items(kube, CNPG_BACKUPS)) == 1

    moment = {"objectName": "old", "pointInTime": "2026-01-01T12:00:00Z"}
    await kube.apply("Database", "new", {"instances": 2, "storage": {"size": "2Gi"}, "restoreFrom": moment})
    begun = await eventually(lambda: kube.get(CNPG_CLUSTERS, "new-database"))
    assert begun["spec"]["bootstrap"]["recovery"]["recoveryTarget"] == {"targetTime": "2026-01-01T12:00:00Z"}
    [source] = begun["spec"]["externalClusters"]
    parameters = {"barmanObjectName": "new-database-origin", "serverName": "old-database"}
    assert source["plugin"]["parameters"] == parameters
    assert (await kube.get(OBJECT_STORES, "new-database-origin"))["spec"]["configuration"] == (
        store["spec"]["configuration"]
    )
    # without backups the store goes, and the log is not archived any more
    await kube.apply("Database", "old", {"instances": 2, "storage": {"size": "2Gi"}})

    async def gone():
        return not await kube.get(OBJECT_STORES, "old-database") and not await kube.get(CNPG_SCHEDULES, "old-database")

    await eventually(gone)
    assert "plugins" not in (await kube.get(CNPG_CLUSTERS, "old-database"))["spec"]
    # and what was asked for goes with the object
    await kube.apply("Database", "old", spec)
    await eventually(lambda: kube.get(OBJECT_STORES, "old-database"))
    await kube.api.delete(PODS, kube.namespace, "old-database-1")
    await kube.delete("Database", "new")

    # with Snapshot not before a last backup is whole, and another cluster begins with what the store holds
    await kube.apply("Database", "old", {**spec, "deletionPolicy": "Snapshot"})
    await eventually(lambda: _settled(kube, "old"))
    before = {one["metadata"]["name"] for one in await _items(kube, CNPG_BACKUPS)}
    await kube.api.delete(TYPES["Database"], kube.namespace, "old")

    async def last():
        return [one for one in await _items(kube, CNPG_BACKUPS) if one["metadata"]["name"] not in before]

    [asked] = await eventually(last)
    await told(kube, CNPG_BACKUPS, asked["metadata"]["name"], {"phase": "failed", "error": "no space left"})
    await eventually(lambda: _reason(kube, "old", "the last backup failed: no space left"))
    assert await kube.get(CNPG_CLUSTERS, "old-database")
    await told(kube, CNPG_BACKUPS, asked["metadata"]["name"], done)
    await kube.apply("Database", "old", {**spec, "deletionPolicy": "Snapshot"}, annotations={"wake": "up"})

    async def over():
        return await kube.get("Database", "old") is None

    await eventually(over, 90)
    assert await _items(kube, CNPG_BACKUPS) == []
    place = {"s3": {**STORE, "prefix": "shop/old-database"}}
    again = {"instances": 2, "storage": {"size": "2Gi"}, "restoreFrom": {"destination": place}}
    await kube.apply("Database", "again", again)
    begun = await eventually(lambda: kube.get(CNPG_CLUSTERS, "again-database"))
    [source] = begun["spec"]["externalClusters"]
    assert source["plugin"]["parameters"] == {"barmanObjectName": "again-database-origin", "serverName": "old-database"}
    origin = (await kube.get(OBJECT_STORES, "again-database-origin"))["spec"]["configuration"]
    assert origin == store["spec"]["configuration"]
    await kube.delete("Database", "again")


async def _settled(kube, name):
    found = await kube.get("Database", name)
    return found["status"].get("observedGeneration") == found["metadata"]["generation"]


async def test_volumes_of_several_instances_of_mariadb_stay_by_policy(kube):
    await kube.api.apply(CRDS, MARIADB_OPERATOR)
    try:
        await eventually(lambda: kube.api.list(MARIADBS))
        spec = {"engine": "mariadb", "instances": 2, "storage": {"size": "1Gi"}}
        await kube.apply("Database", "many", spec)
        made = await eventually(lambda: kube.get(MARIADBS, "many-database"))
        assert made["spec"]["storage"]["pvcRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Delete"}
        await kube.apply("Database", "many", {**spec, "deletionPolicy": "Retain"})

        async def retained():
            found = await kube.get(MARIADBS, "many-database")
            return found["spec"]["storage"]["pvcRetentionPolicy"]["whenDeleted"] == "Retain"

        await eventually(retained)
        # its StatefulSet doesn't know of that yet: nothing goes before it does
        labels = {"app.kubernetes.io/instance": "many-database"}
        rules = {"whenDeleted": "Delete", "whenScaled": "Delete"}
        pods = {"containers": [{"name": "mariadb", "image": "registry.example/mariadb:11.8"}]}
        stateful = {
            "metadata": {"name": "many-database", "namespace": kube.namespace},
            "spec": {
                "replicas": 0,
                "serviceName": "many-database",
                "selector": {"matchLabels": labels},
                "persistentVolumeClaimRetentionPolicy": rules,
                "template": {"metadata": {"labels": labels}, "spec": pods},
            },
        }
        await kube.api.create(STATEFUL_SETS, stateful)
        await kube.api.delete(TYPES["Database"], kube.namespace, "many")
        await eventually(lambda: _finalizing(kube, "many"))
        assert await kube.get(MARIADBS, "many-database")
        rules["whenDeleted"] = "Retain"
        await kube.api.apply(STATEFUL_SETS, stateful)

        async def over():
            return await kube.get("Database", "many") is None

        await eventually(over, 90)
        assert await _items(kube, MARIADBS) == []
        kept = {o["metadata"]["name"]: o["metadata"] for o in await _items(kube, SECRETS)}
        assert {name for name in kept if name.startswith("many-")} == {"many-database-auth", "many-database-admin"}
        assert not [meta for name, meta in kept.items() if name.startswith("many-") and meta.get("ownerReferences")]
        await kube.api.delete(STATEFUL_SETS, kube.namespace, "many-database")
    finally:
        await kube.api.delete(CRDS, "", MARIADB_OPERATOR["metadata"]["name"])


async def _finalizing(kube, name):
    return "Is being deleted" in str((await kube.get("Database", name))["status"]["conditions"])


async def _items(kube, kind):
    return (await kube.api.list(kind, kube.namespace)).items
