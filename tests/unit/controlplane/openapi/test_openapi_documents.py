"""OpenAPI documents: what is in them, under which address, and when it changes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.crd import custom_resources, default_crd
from chandlery.controlplane.crdstrategy import install
from chandlery.controlplane.openapi import OpenAPI
from chandlery.controlplane.registry import Registry
from chandlery.controlplane.types import Obj


def crd(kind: str = "Gadget", field: str = "size") -> Obj:
    plural = kind.lower() + "s"
    made: Obj = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.x.example"},
        "spec": {
            "group": "x.example",
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "A thing with a size.",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "required": [field],
                                    "properties": {field: {"type": "integer", "minimum": 1, "description": "How big."}},
                                },
                            },
                        }
                    },
                }
            ],
        },
    }
    default_crd(made)
    return made


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add_builtin(install(builtin_resources()))
    return made


def read(openapi: OpenAPI, path: str) -> Any:
    document = openapi.document(path)
    assert document is not None, path
    return orjson.loads(document.body)


def addresses(openapi: OpenAPI) -> dict[str, str]:
    return {name: entry["serverRelativeURL"] for name, entry in read(openapi, "/openapi/v3")["paths"].items()}


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()


def test_every_group_and_version_has_a_document_whose_references_lead_somewhere(registry: Registry) -> None:
    openapi = OpenAPI(registry)
    found = addresses(openapi)
    assert {"api/v1", "apis/apps/v1", "apis/autoscaling/v1", "apis/autoscaling/v2"} <= set(found)
    for name in found:
        if name in ("version", "api", "apis"):
            continue
        document = read(openapi, f"/openapi/v3/{name}")
        known = {f"#/components/schemas/{schema}" for schema in document["components"]["schemas"]}
        assert references(document) <= known, name


def test_a_document_keeps_forever_only_under_its_hash(registry: Registry) -> None:
    openapi = OpenAPI(registry)
    address = addresses(openapi)["apis/apps/v1"]
    path, _, digest = address.partition("?hash=")
    right, wrong = openapi.document(path, digest), openapi.document(path, "0" * 10)
    assert right is not None
    assert wrong is not None
    assert right.body == wrong.body
    assert right.headers["Cache-Control"] == "public, immutable"
    assert "Cache-Control" not in wrong.headers
    assert right.headers["ETag"] == wrong.headers["ETag"]


def test_operations_say_which_kind_they_are_about(registry: Registry) -> None:
    document = read(OpenAPI(registry), "/openapi/v3/apis/apps/v1")
    one = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    kind = {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert one["get"]["x-kubernetes-group-version-kind"] == kind
    assert one["patch"]["x-kubernetes-action"] == "patch"
    assert set(one["patch"]["requestBody"]["content"]) >= {
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    }
    names = {parameter["name"] for parameter in one["patch"]["parameters"]}
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} <= names
    schema = document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]
    assert kind in schema["x-kubernetes-group-version-kind"]
    assert schema["properties"]["spec"]["description"]


def test_a_custom_kind_has_its_schema_with_the_fields_every_object_has(registry: Registry) -> None:
    registry.set_crd("gadgets.x.example", custom_resources(crd()))
    document = read(OpenAPI(registry), "/openapi/v3/apis/x.example/v1")
    schema = document["components"]["schemas"]["example.x.v1.Gadget"]
    assert schema["x-kubernetes-group-version-kind"] == [{"group": "x.example", "version": "v1", "kind": "Gadget"}]
    assert set(schema["properties"]) >= {"apiVersion", "kind", "metadata", "spec"}
    assert schema["properties"]["spec"]["properties"]["size"] == {
        "type": "integer",
        "minimum": 1,
        "description": "How big.",
    }
    assert "/apis/x.example/v1/namespaces/{namespace}/gadgets/{name}/status" in document["paths"]
    assert "example.x.v1.GadgetList" in document["components"]["schemas"]


def test_a_changed_schema_changes_its_documents_address_and_no_others(registry: Registry) -> None:
    openapi = OpenAPI(registry)
    registry.set_crd("gadgets.x.example", custom_resources(crd()))
    before = addresses(openapi)
    registry.set_crd("gadgets.x.example", custom_resources(crd(field="weight")))
    after = addresses(openapi)
    assert {name for name in after if after[name] != before[name]} == {"apis/x.example/v1"}
    spec = read(openapi, "/openapi/v3/apis/x.example/v1")["components"]["schemas"]["example.x.v1.Gadget"]
    assert list(spec["properties"]["spec"]["properties"]) == ["weight"]


def test_unknown_groups_have_no_document(registry: Registry) -> None:
    assert OpenAPI(registry).document("/openapi/v3/apis/no.example/v1") is None


def test_the_whole_document_has_every_kind(registry: Registry) -> None:
    registry.set_crd("gadgets.x.example", custom_resources(crd()))
    document = read(OpenAPI(registry), "/openapi/v2")
    assert document["swagger"] == "2.0"
    assert {"io.k8s.api.core.v1.Pod", "example.x.v1.Gadget"} <= set(document["definitions"])
    known = {f"#/definitions/{name}" for name in document["definitions"]}
    assert references(document) <= known
    assert "/api/v1/namespaces/{namespace}/pods" in document["paths"]
