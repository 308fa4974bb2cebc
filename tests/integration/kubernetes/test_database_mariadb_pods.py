"""A single MariaDB in a StatefulSet: the real server in its pod, what clients see, what the API server holds."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import aiomysql
import pymysql
import pytest
from foreign_crds import MARIADB_OPERATOR
from kubernetes_cluster import CONTAINERS, CRDS, eventually
from mariadb_programs import needed, programs

from chandlery.providers.kubernetes.pods import CONTAINER, pod_security
from chandlery.providers.kubernetes.types import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    MARIADBS,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
)

pytestmark = [*needed, pytest.mark.timeout(400)]


@pytest.fixture
async def maria(kube):
    if not CONTAINERS:  # there the image has them
        kube.workloads.programs.insert(0, str(await programs(kube.workloads.folder / "programs")))
    return kube


@contextlib.asynccontextmanager
async def client(kube, secret, service, **options):
    """What an application in the cluster gets with the binding, through the Service."""
    binding = await kube.secret(secret)
    [(host, port)] = await eventually(lambda: kube.workloads.behind(kube.namespace, service))
    connection = await aiomysql.connect(
        host=host,
        port=port,
        user=binding["username"],
        password=binding["password"],
        db=binding["database"],
        autocommit=True,
        connect_timeout=10,
        **options,
    )
    try:
        yield connection
    finally:
        connection.close()


async def run(connection, sql):
    async with connection.cursor() as cursor:
        await cursor.execute(sql)
        return [row[0] for row in await cursor.fetchall()]


SPEC = {
    "engine": "mariadb",
    "storage": {"size": "1Gi"},
    "databases": [{"name": "app"}],
    "roles": [{"name": "reader", "grants": [{"database": "app", "privileges": ["SELECT"]}]}],
}


async def test_life_of_a_single_mariadb(maria):
    kube = maria
    await kube.apply("Database", "one", SPEC)
    status = await kube.ready("Database", "one")
    assert status["endpoint"] == {"host": f"one-database.{kube.namespace}.svc", "port": 3306}
    assert status["engine"] == "mariadb"
    assert status["version"].startswith("10.11.")
    pod = await kube.get(PODS, "one-database-0")
    [container] = pod["spec"]["containers"]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert kube.workloads.execute("one-database-0", container[probe]["exec"]["command"], "database") == 0
    async with client(kube, "one", "one-database") as app:
        await run(app, "CREATE TABLE ships (name text)")
        await run(app, "INSERT INTO ships VALUES ('Argo')")
        identity = await run(app, "SELECT CONNECTION_ID()")
        # settings that need no start are set while clients work
        await kube.apply("Database", "one", {**SPEC, "configuration": {"max_allowed_packet": "32M"}})
        await kube.ready("Database", "one")
        assert await run(app, "SELECT @@GLOBAL.max_allowed_packet") == [32 << 20]
        assert await run(app, "SELECT CONNECTION_ID()") == identity
    async with client(kube, "one-role-reader", "one-database") as reader:
        assert await run(reader, "SELECT name FROM ships") == ["Argo"]
        with pytest.raises(pymysql.err.OperationalError):
            await run(reader, "INSERT INTO ships VALUES ('Ghost')")
    # what the engine refuses is told with its field, and isn't in the file
    wrong = {"max_allowed_packet": "32M", "init_connect": "SET NAMES nonsense", "time_zone": "Nowhere/City"}
    await kube.apply("Database", "one", {**SPEC, "configuration": wrong})
    await eventually(lambda: _told(kube, "one", "spec.configuration[time_zone]"))
    assert "Nowhere" not in str((await kube.get(CONFIG_MAPS, "one-database-config"))["data"])
    # one that needs a start replaces the pod, whose data and live settings stay
    more = {"max_allowed_packet": "32M", "back_log": "70"}
    await kube.apply("Database", "one", {**SPEC, "configuration": more})
    await kube.ready("Database", "one")
    again = await kube.get(PODS, "one-database-0")
    assert again["metadata"]["uid"] != pod["metadata"]["uid"]
    async with client(kube, "one", "one-database") as app:
        assert await run(app, "SELECT @@GLOBAL.back_log") == [70]
        assert await run(app, "SELECT @@GLOBAL.max_allowed_packet") == [32 << 20]
        assert await run(app, "SELECT name FROM ships") == ["Argo"]
    await kube.delete("Database", "one")
    left = [
        o["metadata"]["name"]
        for kind in (STATEFUL_SETS, SERVICES, PODS, CLAIMS, CONFIG_MAPS, SECRETS)
        for o in (await kube.api.list(kind, kube.namespace)).items
        if o["metadata"]["name"] != "kube-root-ca.crt"
    ]
    assert left == []


async def _told(kube, name, *words):
    conditions = str((await kube.get("Database", name))["status"]["conditions"])
    return all(word in conditions for word in words)


async def test_days_of_a_mariadb(maria):
    """Begun where it was cut short; grown; killed; rotated; a restart that waits; kept when it is deleted."""
    kube = maria
    half = kube.workloads.folder / "claims" / kube.namespace / "data-two-database-0" / "mariadb-0"
    half.mkdir(parents=True)
    (half / "ibdata1").write_text("half")
    kube.workloads.folder.chmod(0o755)
    half.chmod(0o777)
    half.parent.chmod(0o777)
    spec = {**SPEC, "deletionPolicy": "Retain"}
    await kube.apply("Database", "two", spec)
    await kube.ready("Database", "two")
    spec["storage"] = {"size": "3Gi"}
    await kube.apply("Database", "two", spec)

    async def grown():
        claim = await kube.get(CLAIMS, "data-two-database-0")
        return claim["spec"]["resources"]["requests"]["storage"] == "3Gi"

    await eventually(grown)
    binding = await kube.secret("two")
    async with client(kube, "two", "two-database") as app:
        await run(app, "CREATE TABLE kept (n int)")
        await run(app, "SET PASSWORD = PASSWORD('another')")
    kube.workloads.kill("two-database-0")

    async def logs_in():
        async with client(kube, "two", "two-database") as app:
            return await run(app, "SELECT count(*) FROM kept") == [0]

    await eventually(logs_in)
    assert await kube.secret("two") == binding
    await kube.apply("Database", "two", spec, annotations={"chandlery.dev/rotate-requested-at": "now"})

    async def rotated():
        return (await kube.secret("two"))["password"] != binding["password"]

    await eventually(rotated)
    await kube.ready("Database", "two")
    assert await eventually(logs_in)
    pod = (await kube.get(PODS, "two-database-0"))["metadata"]["uid"]
    opens = (datetime.now(UTC) + timedelta(hours=12)).strftime("%H:%M")
    waits = {"maintenanceWindow": {"start": opens, "duration": "1h"}, "configuration": {"back_log": "70"}}
    await kube.apply("Database", "two", {**spec, **waits})

    async def held():
        return "back_log" in str((await kube.get("Database", "two"))["status"].get("drift"))

    await eventually(held)
    assert (await kube.get(PODS, "two-database-0"))["metadata"]["uid"] == pod
    await kube.delete("Database", "two")
    left = [
        o["metadata"]["name"]
        for kind in (STATEFUL_SETS, SERVICES, PODS, CLAIMS, CONFIG_MAPS, SECRETS)
        for o in (await kube.api.list(kind, kube.namespace, labels="chandlery.dev/owner-uid")).items
    ]
    assert left == ["data-two-database-0", "two-database-auth"]


async def test_a_backup_is_made_last_and_another_database_begins_with_it(maria):
    kube = maria
    await kube.claim("safe")
    backups = {"destination": {"volume": {"claimName": "safe", "path": "ships"}}, "schedule": "0 3 * * *"}
    await kube.apply("Database", "old", {**SPEC, "backup": backups, "deletionPolicy": "Snapshot"})
    await kube.ready("Database", "old")
    async with client(kube, "old", "old-database") as app:
        await run(app, "CREATE TABLE ships (name text)")
        await run(app, "INSERT INTO ships VALUES ('Argo')")
    before = await kube.secret("old")
    await kube.delete("Database", "old", 180)
    assert (await kube.api.list(JOBS, kube.namespace)).items == []
    await kube.apply("Database", "new", {**SPEC, "restoreFrom": {"destination": backups["destination"]}})
    await kube.ready("Database", "new")
    async with client(kube, "new", "new-database") as app:
        assert await run(app, "SELECT name FROM ships") == ["Argo"]
    assert (await kube.secret("new"))["password"] != before["password"]


# What mariadb-operator does, as far as it can be seen from outside: root with its password, in the primary.
PRIMARY = """set -eu
PATH=$PATH:/usr/sbin
read -r root < /fake-admin/password || :
if [ ! -e /fake-data/maria ]; then
  mariadb-install-db --no-defaults --datadir=/fake-data/maria --tmpdir=/fake-data --force --skip-name-resolve \\
    --skip-test-db --auth-root-authentication-method=normal
  echo "DELETE FROM mysql.global_priv WHERE User = 'root';" > /fake-data/first.sql
  printf "FLUSH PRIVILEGES;\\nCREATE USER root@'%%' IDENTIFIED BY '%s';\\n" "$root" >> /fake-data/first.sql
  echo "GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION;" >> /fake-data/first.sql
  mariadbd --no-defaults --bootstrap --datadir=/fake-data/maria --tmpdir=/fake-data < /fake-data/first.sql
fi
exec mariadbd --no-defaults --datadir=/fake-data/maria --bind-address=0.0.0.0 --socket=/fake-data/sock \\
  --pid-file=/fake-data/pid --tmpdir=/fake-data --skip-name-resolve
"""


async def play(kube, made):
    """The primary of a MariaDB object, and its status."""
    meta, spec = made["metadata"], made["spec"]
    name = f"{meta['name']}-0"
    owner = {"apiVersion": MARIADBS.api_version, "kind": "MariaDB", "name": meta["name"], "uid": meta["uid"]}
    container = {
        "name": "mariadb",
        "image": spec["image"],
        "command": ["sh", "-c", PRIMARY],
        **CONTAINER,
        "resources": {"requests": {"cpu": "10m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        "ports": [{"name": "mariadb", "containerPort": 3306}],
        "volumeMounts": [{"name": volume, "mountPath": f"/fake-{volume}"} for volume in ("data", "admin")],
    }
    secret = spec["rootPasswordSecretKeyRef"]["name"]
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "admin", "secret": {"secretName": secret}}]
    security = pod_security()
    reference = [{**owner, "controller": True}]
    where = {"name": name, "namespace": kube.namespace, "ownerReferences": reference}
    body = {
        "metadata": {**where, "labels": spec["inheritMetadata"]["labels"]},
        "spec": {"nodeName": "node-1", "securityContext": security, "containers": [container], "volumes": volumes},
    }
    await kube.api.create(PODS, body)
    status = {"currentPrimary": name, "conditions": [{"type": "Ready", "status": "True", "message": "Running"}]}
    where = {"name": meta["name"], "namespace": kube.namespace}
    await kube.api.apply(MARIADBS, {"metadata": where, "status": status}, manager="other", subresource="status")


async def test_several_instances_are_handed_over_to_mariadb_operator(maria):
    kube = maria
    spec = {**SPEC, "instances": 2, "configuration": {"max_connections": "77"}}
    await kube.apply("Database", "many", spec)
    await eventually(lambda: _told(kube, "many", "mariadb-operator", "not installed"))
    await kube.api.apply(CRDS, MARIADB_OPERATOR)
    try:
        await kube.apply("Database", "many", {**spec, "replication": {"mode": "synchronous"}})

        async def synchronous():
            found = await kube.get(MARIADBS, "many-database")
            return found if found and found["spec"]["replication"]["semiSyncEnabled"] else None

        made = await eventually(synchronous)
        assert made["spec"]["replicas"] == 2
        assert 'max_connections = "77"' in made["spec"]["myCnf"]
        await play(kube, made)
        seen = await kube.ready("Database", "many")
        assert seen["primary"] == "many-database-0"
        assert seen["version"].startswith("10.11.")
        assert seen["endpoint"]["readHost"] == f"many-database-secondary.{kube.namespace}.svc"
        binding = await kube.secret("many")
        assert binding["host"] == f"many-database-primary.{kube.namespace}.svc"
        pod = await kube.get(PODS, "many-database-0")
        connection = await aiomysql.connect(
            host=pod["status"]["podIP"], user="app", password=binding["password"], db="app", connect_timeout=10
        )
        assert await run(connection, "SELECT 1") == [1]
        connection.close()
        await kube.api.delete(PODS, kube.namespace, "many-database-0")  # as its end with the other object
        await kube.delete("Database", "many")
        assert (await kube.api.list(MARIADBS, kube.namespace)).items == []
    finally:
        await kube.api.delete(CRDS, "", MARIADB_OPERATOR["metadata"]["name"])
