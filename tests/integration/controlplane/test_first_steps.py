"""The slice that everything else stands on: a CRD, an object of it, changes, watches, the end."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "boats.test.example"},
    "spec": {
        "group": "test.example",
        "scope": "Namespaced",
        "names": {"kind": "Boat", "plural": "boats", "shortNames": ["bo"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Length", "type": "integer", "jsonPath": ".spec.length"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"length": {"type": "integer", "default": 7}, "name": {"type": "string"}},
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}
BOAT = {"apiVersion": "test.example/v1", "kind": "Boat", "metadata": {"name": "b"}, "spec": {"name": "x"}}
BOATS = "/apis/test.example/v1/namespaces/default/boats"


def test_custom_resource_from_creation_to_deletion(kubectl, api):
    kubectl("apply", "-f", "-", stdin=json.dumps(CRD))
    kubectl("wait", "--for=condition=Established", "crd/boats.test.example", "--timeout=10s")
    kubectl("apply", "-f", "-", stdin=json.dumps(BOAT))
    assert "LENGTH" in kubectl("get", "bo")
    assert kubectl("get", "bo", "b", "-o", "jsonpath={.spec.length}") == "7"

    seen: list[str] = []
    watcher = threading.Thread(
        target=lambda: seen.append(kubectl("get", "bo", "-w", "--request-timeout=3s", check=False))
    )
    watcher.start()
    kubectl("patch", "bo", "b", "--type=merge", "-p", '{"spec":{"length":9}}')
    kubectl("wait", "bo/b", "--for=jsonpath={.spec.length}=9", "--timeout=5s")
    kubectl("delete", "bo", "b", "--wait=true")
    watcher.join(30)
    status, _ = api("GET", f"{BOATS}/b")
    assert status == 404
    kubectl("delete", "crd", "boats.test.example")
    status, _ = api("GET", BOATS)
    assert status == 404


def test_writes_are_told_apart_by_their_revision(api):
    path = "/api/v1/namespaces/default/configmaps"
    status, made = api("POST", path, {"metadata": {"name": "rev"}, "data": {"a": "1"}})
    assert status == 201
    status, again = api("PUT", f"{path}/rev", made | {"data": {"a": "2"}})
    assert status == 200
    assert int(again["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    status, refused = api("PUT", f"{path}/rev", made | {"data": {"a": "3"}})
    assert (status, refused["reason"]) == (409, "Conflict")


def test_unknown_paths_and_methods(api):
    assert api("GET", "/nosuch")[0] == 404
    assert api("GET", "/api/v1/nosuch")[1]["reason"] == "NotFound"
    assert api("POST", "/api/v1/configmaps", {})[0] == 405


def test_the_servers_own_service_comes_back(api):
    path = "/api/v1/namespaces/default/services/kubernetes"
    status, before = api("GET", path)
    assert status == 200
    assert api("DELETE", path)[0] == 200
    deadline = time.monotonic() + 30
    while (found := api("GET", path))[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found[1]["spec"]["clusterIP"] == before["spec"]["clusterIP"]
    assert found[1]["metadata"]["uid"] != before["metadata"]["uid"]


def test_what_a_deleted_service_had_can_be_had_again_at_once(api):
    path = "/api/v1/namespaces/default/services"
    spec = {"type": "NodePort", "clusterIP": "10.96.0.77", "ports": [{"port": 80, "nodePort": 30777}]}
    for _ in range(3):
        status, found = api("POST", path, {"metadata": {"name": "again"}, "spec": spec})
        assert status == 201, found
        assert api("DELETE", f"{path}/again")[0] == 200
