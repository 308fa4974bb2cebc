"""Every CRD against the rules of structural schemas, and against the bounds that the cost of CEL asks for."""

from collections.abc import Iterator
from typing import Any

import pytest

from chandlery.gen.crds import crd
from chandlery.gen.outputs import models

CRDS = {m.names.kind: crd(m) for m, _ in models()}
ALLOWED = {
    "type", "format", "description", "default", "properties", "items", "additionalProperties", "required", "enum",
    "pattern", "minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
    "maxProperties", "nullable", "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "number": float}


def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from walk(node["additionalProperties"], f"{path}.*")


def nodes(kind: str, top: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    schema = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    yield from walk(schema["properties"][top], top) if top else walk(schema, "")


@pytest.fixture(name="kind", params=CRDS)
def fixture_kind(request) -> str:
    return request.param


def test_every_node_is_structural(kind: str) -> None:
    for path, node in nodes(kind):
        assert node.keys() <= ALLOWED, path
        assert node["type"] in TYPES, path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert ("items" in node) == (node["type"] == "array"), path
        assert set(node.get("required", ())) <= node.get("properties", {}).keys(), path


def test_every_field_is_described(kind: str) -> None:
    silent = [
        path
        for path, node in nodes(kind)
        if not node.get("description") and not path.endswith(("[]", ".*")) and path not in {"", ".metadata"}
    ]
    assert silent == []


def test_list_types_and_their_keys(kind: str) -> None:
    for path, node in nodes(kind):
        if node["type"] != "array":
            continue
        how = node["x-kubernetes-list-type"]
        assert how in {"map", "set", "atomic"}, path
        if how == "map":
            items = node["items"]
            for key in node["x-kubernetes-list-map-keys"]:
                assert key in items["properties"], path
                assert key in items.get("required", ()) or "default" in items["properties"][key], path
        if how == "set":
            assert node["items"]["type"] in {"string", "integer"}, path


def test_all_of_spec_is_bounded(kind: str) -> None:
    for path, node in nodes(kind, "spec"):
        if node["type"] == "array":
            assert 0 < node["maxItems"] <= 128, path
        if node["type"] == "string" and "enum" not in node:
            assert 0 < node["maxLength"] <= 16384, path
        if "additionalProperties" in node:
            assert 0 < node["maxProperties"] <= 64, path
        if node["type"] == "integer":
            assert "minimum" in node or "enum" in node, path
            assert "maximum" in node, path


def test_defaults_fit_their_schema(kind: str) -> None:
    def fits(value: Any, node: dict[str, Any], path: str) -> None:
        assert isinstance(value, TYPES[node["type"]]), path
        if "enum" in node:
            assert value in node["enum"], path
        if isinstance(value, dict):
            assert value.keys() <= node["properties"].keys(), path
            assert set(node.get("required", ())) <= value.keys(), path
            for key, part in value.items():
                fits(part, node["properties"][key], f"{path}.{key}")
        if isinstance(value, list):
            assert len(value) <= node["maxItems"], path
            for part in value:
                fits(part, node["items"], f"{path}[]")

    for path, node in nodes(kind):
        if "default" in node:
            assert node["default"] not in ({}, [], None, ""), f"{path} stores a default that says nothing"
            fits(node["default"], node, path)


def test_rules_have_messages_that_end_without_a_full_stop(kind: str) -> None:
    for path, node in nodes(kind):
        for rule in node.get("x-kubernetes-validations", ()):
            assert rule.keys() <= {"rule", "message", "messageExpression", "fieldPath", "reason", "optionalOldSelf"}, (
                path
            )
            assert 0 < len(rule["message"]) <= 2048, path
            assert "\n" not in rule["message"] + rule["rule"], path
            assert not rule["message"].endswith("."), f"{path}: {rule['message']}"
            assert rule.get("reason", "FieldValueInvalid") in {"FieldValueInvalid", "FieldValueForbidden"}, path


def test_transition_rules_are_where_old_and_new_can_be_matched(kind: str) -> None:
    """A rule with oldSelf below an atomic or set list has nothing to compare with, and the API server refuses it."""

    def below(node: dict[str, Any], path: str, *, lost: bool) -> None:
        for rule in node.get("x-kubernetes-validations", ()):
            assert not (lost and "oldSelf" in rule["rule"]), path
        for name, child in node.get("properties", {}).items():
            below(child, f"{path}.{name}", lost=lost)
        if "items" in node:
            below(node["items"], f"{path}[]", lost=lost or node["x-kubernetes-list-type"] != "map")
        if "additionalProperties" in node:
            below(node["additionalProperties"], f"{path}.*", lost=lost)

    below(next(iter(nodes(kind)))[1], "", lost=False)


def test_field_paths_of_rules_exist(kind: str) -> None:
    for path, node in nodes(kind):
        for rule in node.get("x-kubernetes-validations", ()):
            at = node
            for step in rule.get("fieldPath", "").split(".")[1:]:
                assert step in at["properties"], f"{path}: {rule['fieldPath']}"
                at = at["properties"][step]


def test_what_every_kind_has(kind: str) -> None:
    spec = CRDS[kind]["spec"]
    version = spec["versions"][0]
    assert version["subresources"]["status"] == {}
    assert spec["names"]["shortNames"]
    names = [c["name"] for c in version["additionalPrinterColumns"]]
    assert "Age" in names
    if kind not in {"ResourceClass", "ProviderConfig"}:
        assert spec["names"]["categories"] == ["chandlery"]
        assert names[:2] == ["Ready", "Phase"]
        assert {"Endpoint", "Class", "Driver", "Message"} <= set(names)


def test_kubectl_apply_keeps_the_whole_crd_in_an_annotation(kind: str) -> None:
    """Client-side apply stores the object as JSON in an annotation, and annotations may have 256 KiB together."""
    import json

    assert len(json.dumps(CRDS[kind], separators=(",", ":"))) < 200 * 1024


@pytest.mark.parametrize("version", ["1.31", "1.34", "1.37"])
def test_they_fit_the_schema_that_kubernetes_has_of_crds(kind: str, version: str) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(CRDS[kind], version, strict=True)
