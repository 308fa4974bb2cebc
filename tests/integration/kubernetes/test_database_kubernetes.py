"""Databases handed over to CloudNativePG: refused without it, made with it, its status told as ours."""

import pytest
from kubernetes_cluster import CRDS, eventually

from chandlery.providers.kubernetes.types import CNPG_CLUSTERS, SECRETS

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clusters.postgresql.cnpg.io"},
    "spec": {
        "group": "postgresql.cnpg.io",
        "scope": "Namespaced",
        "names": {"kind": "Cluster", "plural": "clusters", "singular": "cluster", "listKind": "ClusterList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}


@pytest.fixture
async def without(kube):
    yield kube
    await kube.api.delete(CRDS, "", CRD["metadata"]["name"])


async def test_refused_without_cloudnativepg_and_made_once_it_is_there(without):
    kube = without
    await kube.apply("Database", "app", {"instances": 2, "storage": {"size": "2Gi"}})

    async def refused():
        found = await kube.get("Database", "app")
        return "CloudNativePG" in str(found["status"]["conditions"]) and found["status"]

    assert (await eventually(refused))["phase"] != "Ready"
    await kube.api.apply(CRDS, CRD)
    await kube.apply("Database", "app", {"instances": 3, "storage": {"size": "2Gi"}})

    async def made_of_three():
        found = await kube.get(CNPG_CLUSTERS, "app-database")  # the first attempt may still have had two
        return found if found and found["spec"]["instances"] == 3 else None

    made = await eventually(made_of_three, 40)
    assert made["spec"]["storage"] == {"size": "2Gi"}
    auth = await kube.get(SECRETS, made["spec"]["bootstrap"]["initdb"]["secret"]["name"])
    assert auth["type"] == "kubernetes.io/basic-auth"

    status = {
        "phase": "Cluster in healthy state",
        "instances": 3,
        "readyInstances": 3,
        "currentPrimary": "app-database-1",
        "instanceNames": ["app-database-1", "app-database-2", "app-database-3"],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    await kube.workloads._status(CNPG_CLUSTERS, made, status)
    seen = await kube.ready("Database", "app")
    assert seen["primary"] == "app-database-1"
    binding = await kube.secret("app")
    assert binding["host"] == f"app-database-rw.{kube.namespace}.svc"
    assert binding["password"] == (await kube.secret("app-database-auth"))["password"]
    await kube.delete("Database", "app")
    assert (await kube.api.list(CNPG_CLUSTERS, kube.namespace)).items == []
