"""What `helm install` gives on a cluster with a real kubelet: the operator and its workloads in containers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from charts import CHART
from helms import Helm, binary
from kubelet.node import Kubelet
from kubernetes_cluster import CONTAINERS, ROOT, eventually, furnish

from chandlery.providers.kubernetes.types import DEPLOYMENTS, PODS, SECRETS
from chandlery.reconcile.api import NAMESPACES, ResourceType
from chandlery.reconcile.client import HttpApi
from chandlery.reconcile.credentials import from_kubeconfig
from chandlery.testing import start_control_plane

pytestmark = [
    pytest.mark.skipif(not CONTAINERS, reason="runs containers: CHANDLERY_CONTAINERS=1"),
    pytest.mark.engine,
    pytest.mark.timeout(1800),
]
SPACE, SHOP = "chandlery-system", "shop"
CACHES = ResourceType("data.chandlery.dev", "v1alpha1", "caches", "Cache")
QUEUES = ResourceType("messaging.chandlery.dev", "v1alpha1", "queues", "Queue")
DATABASES = ResourceType("data.chandlery.dev", "v1alpha1", "databases", "Database")
LEASES = ResourceType("coordination.k8s.io", "v1", "leases", "Lease")
REGISTRATIONS = ResourceType(
    "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False
)
HARD = ("Failed", "StartError", "Evicted", "Defect", "FailedPreStopHook", "FailedCreate", "Killing")
"""Events of a kubelet that no pod of ours may cause."""


class Installed:
    """A cluster with a kubelet, where helm has installed the chart."""

    def __init__(self, api: HttpApi, kubelet: Kubelet, helm: Helm, kubeconfig: Path) -> None:
        self.api = api
        self.kubeconfig = kubeconfig
        self.kubelet = kubelet
        self._helm = helm

    async def end_to_end(self, folder: Path) -> tuple[int, str]:
        """The suite that people run against their clusters: its exit code and what it said."""
        env = {**os.environ, "CHANDLERY_E2E_KUBECONFIG": str(self.kubeconfig), "CHANDLERY_E2E_SECONDS": "240"}
        words = [sys.executable, "-m", "pytest", "tests/e2e", "-q", "-rs", "-p", "no:cacheprovider"]
        words += [f"--basetemp={folder / 'e2e'}"]
        done = await asyncio.to_thread(
            subprocess.run, words, cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    async def helm(self, *args: str) -> str:
        return await asyncio.to_thread(self._helm, *args)

    async def apply(self, kind: ResourceType, name: str, spec: dict[str, Any]) -> None:
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, "namespace": SHOP}}
        await self.api.apply(kind, {**body, "spec": spec}, manager="tester")

    async def ready(self, kind: ResourceType, name: str, seconds: float = 180) -> dict[str, Any]:
        async def check() -> Any:
            found = await self.api.get(kind, SHOP, name)
            status = found["status"]
            truths = {c["type"]: c["status"] for c in status["conditions"]}
            current = status["observedGeneration"] == found["metadata"]["generation"]
            return status if truths["Ready"] == "True" and current else None

        try:
            return await eventually(check, seconds)
        except AssertionError as error:
            found = await self.api.get(kind, SHOP, name)
            raise AssertionError(json.dumps((found or {}).get("status"), indent=1)) from error

    async def operators(self) -> list[str]:
        pods = (await self.api.list(PODS, SPACE, labels="app.kubernetes.io/component=operator")).items
        return [p["metadata"]["name"] for p in pods if not p["metadata"].get("deletionTimestamp")]

    async def served(self) -> bool:
        found = await self.api.get(DEPLOYMENTS, SPACE, "chandlery")
        return (found.get("status") or {}).get("readyReplicas", 0) == found["spec"]["replicas"]

    async def leader(self) -> str:
        for lease in (await self.api.list(LEASES, SPACE)).items:
            holder = str(lease["spec"].get("holderIdentity") or "")
            for name in await self.operators():
                if name in holder:
                    return name
        return ""

    def hard_events(self) -> list[str]:
        found = [event for event in self.kubelet.events if event.split(": ")[1] in HARD]
        # its hook waits for HAProxy's end, and ends with it: which of both is told first is chance
        return [event for event in found if "FailedPreStopHook: haproxy: exit code 137" not in event]


@pytest.fixture
async def installed(network, images, tmp_path):
    helm_path = binary("4")
    folder = Path(tempfile.mkdtemp(prefix="k-"))
    with network.entered(), start_control_plane(tmp_path / "plane") as plane:
        helm = Helm(helm_path, tmp_path / "helm", plane.env)
        async with HttpApi(from_kubeconfig(plane.kubeconfig)) as api:
            await furnish(api)
            for name in (SPACE, SHOP):
                labels = {"pod-security.kubernetes.io/enforce": "restricted"}
                await api.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
            async with Kubelet(api, folder, network, images, int(plane.url.rpartition(":")[2])) as kubelet:
                made = Installed(api, kubelet, helm, plane.kubeconfig)
                try:
                    yield made
                finally:
                    print(kubelet.describe())
    shutil.rmtree(folder, ignore_errors=True)


async def test_the_chart_gives_an_operator_that_makes_services(installed):
    values = ("--set", "webhook.failurePolicy=Fail", "--set", "leaseSeconds=5")
    await installed.helm("install", "chandlery", str(CHART), "-n", SPACE, *values)
    await eventually(installed.served, 600)
    assert len(await installed.operators()) == 2

    # admission: who can't be asked refuses all, so what is taken was asked
    async def registered() -> bool:
        found = await installed.api.get(REGISTRATIONS, "", "chandlery-system-chandlery")
        return bool(found["webhooks"][0]["clientConfig"].get("caBundle"))

    await eventually(registered)
    await installed.apply(CACHES, "one", {"memory": "32Mi", "metrics": {"enabled": True}})
    await installed.apply(QUEUES, "jobs", {"storage": {"size": "1Gi"}})
    await installed.apply(DATABASES, "main", {"storage": {"size": "1Gi"}})
    status = await installed.ready(CACHES, "one")
    await installed.ready(QUEUES, "jobs")
    await installed.ready(DATABASES, "main")

    # an application of the cluster: by the binding's names, through Services
    secret = await installed.api.get(SECRETS, SHOP, status["binding"]["name"])
    binding = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    words = ["valkey-cli", "-h", binding["host"], "-p", binding["port"], "-e", "--no-auth-warning"]
    words += ["--user", binding["username"], "--pass", binding["password"]]
    code, said = await asyncio.to_thread(
        installed.kubelet.container("one-cache-0", "cache").execute, [*words, "set", "greeting", "ahoy"]
    )
    assert (code, said) == (0, "OK")

    # the one that leads is lost without a word: the other goes on
    first = await eventually(installed.leader)
    installed.kubelet.kill(first)

    async def another() -> bool:
        return (await installed.leader()) not in ("", first)

    await eventually(another)
    await installed.apply(CACHES, "two", {"memory": "32Mi"})
    await installed.ready(CACHES, "two")
    await eventually(installed.served, 600)
    assert installed.hard_events() == []

    await installed.helm("test", "chandlery", "-n", SPACE)

    # and all of it ends when it is told to
    await installed.api.delete(CACHES, SHOP, "two")

    async def gone() -> bool:
        return await installed.api.get(CACHES, SHOP, "two") is None

    await eventually(gone)
    await installed.helm("uninstall", "chandlery", "-n", SPACE)

    async def ended() -> bool:
        return not (await installed.api.list(PODS, SPACE)).items

    await eventually(ended)
    assert installed.hard_events() == []


async def test_the_suite_that_runs_against_any_cluster(installed, tmp_path):
    await installed.helm("install", "chandlery", str(CHART), "-n", SPACE)
    await eventually(installed.served, 600)
    code, said = await installed.end_to_end(tmp_path)
    assert code == 0, said
    assert "KubeVirt is not installed" in said
    assert "5 passed, 1 skipped" in said
    assert installed.hard_events() == []


async def test_operators_in_shards_and_the_guard_of_definitions(installed):
    values = ("sharding.enabled=true", "crds.keep=false", "leaseSeconds=5", "runAsUser=4711")
    flags = [word for value in values for word in ("--set", value)]
    await installed.helm("install", "chandlery", str(CHART), "-n", SPACE, *flags)
    await eventually(installed.served, 600)
    names = ("one", "two", "three")
    for name in names:
        await installed.apply(CACHES, name, {"memory": "32Mi"})
    for name in names:
        await installed.ready(CACHES, name)

    # a share of a replica that is lost is taken over, and given back
    lost, _ = await installed.operators()
    installed.kubelet.kill(lost)
    for name in names:
        await installed.apply(CACHES, name, {"memory": "48Mi"})
    for name in names:
        await installed.ready(CACHES, name)
    await eventually(installed.served, 600)

    # the definitions don't go while there is something of them: a Job of the same image looks
    with pytest.raises(AssertionError):
        await installed.helm("uninstall", "chandlery", "-n", SPACE, "--timeout", "60s")
    assert len((await installed.api.list(CACHES, SHOP)).items) == 3
    for name in names:
        await installed.api.delete(CACHES, SHOP, name)

    async def gone() -> bool:
        return not (await installed.api.list(CACHES, SHOP)).items

    await eventually(gone)
    await installed.helm("uninstall", "chandlery", "-n", SPACE, "--timeout", "60s")
    assert installed.hard_events() == []
