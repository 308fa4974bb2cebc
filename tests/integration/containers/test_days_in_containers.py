"""What only a kubelet and its helpers bring: schedules, drains, claims that are missing, nodes that are lost."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from kubernetes_cluster import CONTAINERS, eventually

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.kubernetes.types import CLAIMS, PODS

pytestmark = [
    pytest.mark.skipif(not CONTAINERS, reason="runs containers: CHANDLERY_CONTAINERS=1"),
    pytest.mark.engine,
    pytest.mark.timeout(900),
]
BACKUP = {"destination": {"volume": {"claimName": "safe"}}, "schedule": "* * * * *", "retention": {"count": 1}}
ASKED = "chandlery.dev/backup-requested-at"


async def conditions(kube, kind, name):
    found = await kube.get(kind, name)
    return {c["type"]: c for c in (found.get("status") or {}).get("conditions", ())}


async def evicted(kube, name):
    """As `kubectl drain` does: again and again while the budget doesn't let it."""
    before = (await kube.get(PODS, name))["metadata"]["uid"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": kube.namespace}}

    async def asked():
        try:
            await kube.api._ask("create", "POST", PODS, PODS.path(kube.namespace, name, "eviction"), body)
        except ChandleryError as error:
            if "disruption budget" in error.message:
                return False
            raise
        return True

    await eventually(asked, 180)

    async def another():
        found = await kube.get(PODS, name)
        return found is not None and found["metadata"]["uid"] != before

    await eventually(another, 180)


async def test_backups_are_made_at_the_minute_that_the_schedule_says(kube):
    """By pods of CronJobs, which nobody asks for; the claim gets its volume with the first of them."""
    await kube.claim("safe")
    assert (await kube.get(CLAIMS, "safe"))["status"]["phase"] == "Pending"
    storage = {"storage": {"size": "1Gi"}}
    things = {
        ("Cache", "a"): {"memory": "32Mi", "backup": BACKUP},
        ("Queue", "b"): {**storage, "backup": BACKUP},
        ("Database", "c"): {**storage, "backup": {**BACKUP, "method": "physical"}},
        ("Database", "d"): {**storage, "engine": "mariadb", "backup": {**BACKUP, "method": "physical"}},
    }
    for (kind, name), spec in things.items():
        await kube.apply(kind, name, spec)
    for kind, name in things:
        await kube.ready(kind, name, 240)
    for kind, name in things:

        async def made(kind=kind, name=name):
            backup = (await kube.get(kind, name))["status"]["backup"]
            good = [entry for entry in backup["list"] if entry["phase"] == "Completed"]
            return good and backup.get("lastSuccessfulTime")

        try:
            await eventually(made, 240)
        except AssertionError as error:
            raise AssertionError(json.dumps((await kube.get(kind, name))["status"], indent=1)) from error
        assert (await conditions(kube, kind, name))["BackedUp"]["status"] == "True"
    for kind, name in things:
        await kube.delete(kind, name, 180)
    assert (await kube.api.list(PODS, kube.namespace)).items == []


async def test_a_claim_that_is_not_there_is_told_and_waited_for(kube):
    spec = {"memory": "32Mi", "backup": {"destination": {"volume": {"claimName": "later"}}}}
    await kube.apply("Cache", "one", spec, annotations={ASKED: "now"})
    await kube.ready("Cache", "one")

    async def told():
        found = (await conditions(kube, "Cache", "one"))["BackedUp"]
        return 'persistentvolumeclaim "later" not found' in found.get("message", "")

    await eventually(told)
    await kube.claim("later")

    async def made():
        return (await conditions(kube, "Cache", "one"))["BackedUp"]["status"] == "True"

    await eventually(made)


async def test_a_node_is_drained_of_everything(kube):
    """One pod after the other, as their budgets let them go; clients are served again after each."""
    await kube.apply("Cache", "c", {"memory": "32Mi", "mode": "replicated", "replicas": 1})
    await kube.apply("Queue", "q", {"replicas": 3, "storage": {"size": "64Mi"}})
    await kube.apply("Database", "d", {"storage": {"size": "1Gi"}})
    listener = {"name": "web", "protocol": "HTTP", "port": 80, "pool": "app"}
    balancer = {"listeners": [listener], "pools": [{"name": "app"}], "replicas": 2}
    await kube.apply("LoadBalancer", "b", balancer)
    things = (("Cache", "c"), ("Queue", "q"), ("Database", "d"), ("LoadBalancer", "b"))
    for kind, name in things:
        await kube.ready(kind, name, 240)
    lasting = ["c-cache-0", "c-cache-1", "q-queue-0", "q-queue-1", "q-queue-2", "d-database-0"]
    await asyncio.gather(*(evicted(kube, name) for name in lasting))
    for kind, name in things:
        await kube.ready(kind, name, 240)


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
async def test_exporters_of_databases_tell_of_a_server_that_is_up(kube, engine):
    """By the exporters' own logins: a password in a file, an option file from the init container."""
    await kube.apply("Database", "seen", {"engine": engine, "storage": {"size": "1Gi"}, "metrics": {"enabled": True}})
    status = await kube.ready("Database", "seen", 240)
    word = "pg_up 1" if engine == "postgres" else "mysql_up 1"

    async def up():
        [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, "seen-database-metrics"))
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/metrics") as response:
            return word in await response.text()

    await eventually(up)
    assert "MetricsAvailable" not in {c["type"] for c in status["conditions"]}


async def test_a_node_that_is_lost_is_told_and_its_volume_taken_up_again(kube):
    """Its pod stays: nobody can say whether it still runs. Once a person says so there is another one."""
    await kube.apply("Database", "far", {"storage": {"size": "1Gi"}})
    await kube.ready("Database", "far", 240)
    kube.workloads.lose("far-database-0")
    await kube.api.delete(PODS, kube.namespace, "far-database-0")  # as whoever looks after nodes does in the end

    async def told():
        found = (await conditions(kube, "Database", "far"))["Ready"]
        return found["status"] == "False" and "--force" in found["message"]

    await eventually(told, 180)
    before = (await kube.get(PODS, "far-database-0"))["metadata"]["uid"]
    await kube.workloads.remove(await kube.get(PODS, "far-database-0"))  # kubectl delete pod --force

    async def another():
        found = await kube.get(PODS, "far-database-0")
        return found is not None and found["metadata"]["uid"] != before

    await eventually(another, 180)
    await kube.ready("Database", "far", 240)
