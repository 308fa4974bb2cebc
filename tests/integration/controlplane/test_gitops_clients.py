"""What Flux, Argo CD and k9s send, by their sources: dry-run applies with force, metadata only, tables, protobuf."""

from __future__ import annotations

import os
import ssl
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., tuple[int, Any]]
APPLY, JSON_PATCH = "application/apply-patch+yaml", "application/json-patch+json"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
FLUX = "fieldManager=kustomize-controller&force=true"
_PARTIAL = "as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
METADATA_ONLY = ",".join(f"{media};{_PARTIAL}" for media in ("application/vnd.kubernetes.protobuf", "application/json"))
TABLE = ",".join(f"application/json;as=Table;v={version};g=meta.k8s.io" for version in ("v1", "v1beta1"))
CLIENTS = os.environ.get("CHANDLERY_CLIENTS_PYTHON", "")


@pytest.fixture
def ask(api: Ask) -> Ask:
    return api


def deployment(**labels: str) -> Any:
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": pod}
    meta = {"name": "flux", "namespace": "default", "labels": {"kustomize.toolkit.fluxcd.io/name": "x", **labels}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def test_flux_looks_before_it_applies(ask):
    where = f"{DEPLOYMENTS}/flux?{FLUX}"
    status, planned = ask("PATCH", f"{where}&dryRun=All", deployment(), APPLY)
    assert (status, planned["spec"]["progressDeadlineSeconds"]) == (201, 600)
    assert ask("GET", f"{DEPLOYMENTS}/flux")[0] == 404
    status, made = ask("PATCH", where, deployment(), APPLY)
    assert status == 201
    # Nothing to do: the same object comes back, whatever it was planned with.
    assert ask("PATCH", f"{where}&dryRun=All", deployment(), APPLY)[1] == made
    # Somebody else's field is taken over, and one that is given up goes.
    ask("PATCH", f"{DEPLOYMENTS}/flux", {"spec": {"replicas": 3}}, "application/merge-patch+json")
    assert ask("PATCH", where, deployment(extra="y"), APPLY)[1]["spec"]["replicas"] == 1
    again = ask("PATCH", where, deployment(), APPLY)[1]
    assert "extra" not in again["metadata"]["labels"]
    # Ownership of an earlier tool is taken away by a patch that names the version it saw.
    version = again["metadata"]["resourceVersion"]
    patch = [
        {"op": "replace", "path": "/metadata/managedFields", "value": [{}]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
    ]
    assert "managedFields" not in ask("PATCH", f"{DEPLOYMENTS}/flux?{FLUX[:34]}", patch, JSON_PATCH)[1]["metadata"]
    assert ask("PATCH", f"{DEPLOYMENTS}/flux?{FLUX[:34]}", patch, JSON_PATCH)[0] == 409


def test_metadata_is_enough_for_lists_and_watches(ask):
    status, found = ask(
        "GET", "/api/v1/namespaces/kube-system/configmaps", headers={"Accept": METADATA_ONLY.format("List", "List")}
    )
    assert (status, found["kind"]) == (200, "PartialObjectMetadataList")
    path = "/api/v1/namespaces?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Ddefault"
    status, event = ask("GET", path, headers={"Accept": METADATA_ONLY.format("", "")})
    assert (event["type"], event["object"]["kind"]) == ("ADDED", "PartialObjectMetadata")


def test_everything_that_can_be_listed_can_be_listed_as_a_table(ask):
    groups = [group["preferredVersion"]["groupVersion"] for group in ask("GET", "/apis")[1]["groups"]]
    seen = 0
    for base in ("/api/v1", *(f"/apis/{name}" for name in groups)):
        for resource in ask("GET", base)[1]["resources"]:
            if "list" not in resource["verbs"]:
                continue
            status, table = ask("GET", f"{base}/{resource['name']}?limit=500", headers={"Accept": TABLE})
            assert (status, table["kind"]) == (200, "Table"), resource["name"]
            width = len(table["columnDefinitions"])
            assert all(len(row["cells"]) == width for row in table["rows"]), resource["name"]
            seen += 1
    assert seen > 50


def test_argo_reads_the_old_openapi_document_in_protobuf(ask):
    server, context = ask.server, ask.context  # type: ignore[attr-defined]
    assert isinstance(context, ssl.SSLContext)
    media = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    request = urllib.request.Request(f"{server}/openapi/v2", headers={"Accept": media})
    with urllib.request.urlopen(request, context=context, timeout=60) as answer:
        assert answer.headers["Content-Type"] == media.replace("@", ".")
        assert b"io.k8s.api.flowcontrol.v1.FlowSchema" in answer.read()
    document = ask("GET", "/openapi/v2")[1]
    known = {f"#/definitions/{name}" for name in document["definitions"]}

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(one) for one in node.values()))
        return set().union(*(references(one) for one in node)) if isinstance(node, list) else set()

    assert references(document) <= known


@pytest.mark.skipif(not CLIENTS, reason="CHANDLERY_CLIENTS_PYTHON: a Python that has kr8s, lightkube and pykube-ng")
def test_other_libraries_work_as_they_are(plane):
    script = Path(__file__).with_name("other_clients.py")
    done = subprocess.run(
        [CLIENTS, str(script), str(plane.kubeconfig)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["kr8s", "lightkube", "pykube"]
