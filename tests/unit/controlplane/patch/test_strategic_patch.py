"""Strategic merge patch with a pod-like schema: lists by key, sets, directives, errors."""
# ruff: noqa: E501 - tables read best with one case a line

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane.patch import strategic_merge_patch
from chandlery.controlplane.patch.restore import restore_error
from chandlery.controlplane.types import ApiError, Obj

MERGE = "x-kubernetes-patch-strategy"
KEY = "x-kubernetes-patch-merge-key"
DEFINITIONS: dict[str, Obj] = {
    "Container": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "image": {"type": "string"},
            "args": {"type": "array", "items": {"type": "string"}},
            "env": {"type": "array", "items": {"$ref": "#/d/Env"}, MERGE: "merge", KEY: "name"},
        },
    },
    "Env": {"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "string"}}},
    "Volume": {"type": "object", "properties": {"name": {"type": "string"}, "emptyDir": {"type": "object"}}},
}
SCHEMA: Obj = {
    "type": "object",
    "properties": {
        "finalizers": {"type": "array", "items": {"type": "string"}, MERGE: "merge"},
        "containers": {"type": "array", "items": {"$ref": "#/d/Container"}, MERGE: "merge", KEY: "name"},
        "volumes": {"type": "array", "items": {"$ref": "#/d/Volume"}, MERGE: "merge,retainKeys", KEY: "name"},
        "strategy": {"type": "object", MERGE: "retainKeys"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "replicas": {"type": "integer", "format": "int32"},
        "keyless": {"type": "array", "items": {"$ref": "#/d/Env"}, MERGE: "merge"},
    },
}


def patched(doc: Obj, patch: Any) -> Obj:
    before = copy.deepcopy((doc, patch))
    out = strategic_merge_patch(doc, patch, SCHEMA, DEFINITIONS)
    assert (doc, patch) == before
    return out


def named(*names: str, **more: Any) -> list[Obj]:
    return [{"name": name, **more} for name in names]


@pytest.mark.parametrize(
    ("doc", "patch", "result"),
    [
        ({"containers": named("a", "b")}, {"containers": named("a", image="i")}, {"containers": [{"name": "a", "image": "i"}, {"name": "b"}]}),
        ({"containers": named("a")}, {"containers": named("b")}, {"containers": named("b", "a")}),
        ({"containers": named("a", "b")}, {"containers": [{"name": "b", "$patch": "delete"}]}, {"containers": named("a")}),
        ({"containers": named("a")}, {"containers": [{"$patch": "replace"}, {"name": "z"}]}, {"containers": named("z")}),
        ({"containers": named("a")}, {"containers": [{"name": "q", "$patch": "delete"}]}, {"containers": named("a")}),
        ({"containers": named("a", args=["1"])}, {"containers": named("a", args=["2"])}, {"containers": named("a", args=["2"])}),
        ({"finalizers": ["a", "b"]}, {"finalizers": ["b", "c"]}, {"finalizers": ["a", "b", "c"]}),
        ({"finalizers": ["a", "b"]}, {"$deleteFromPrimitiveList/finalizers": ["a"]}, {"finalizers": ["b"]}),
        ({"finalizers": ["a", "b"]}, {"$setElementOrder/finalizers": ["b", "a"]}, {"finalizers": ["b", "a"]}),
        ({"finalizers": ["a"]}, {"finalizers": None}, {}),
        ({"labels": {"a": "1"}}, {"labels": {"b": "2", "c": None}}, {"labels": {"a": "1", "b": "2"}}),
        ({"labels": {"a": "1"}}, {"labels": {"$patch": "replace", "b": "2"}}, {"labels": {"b": "2"}}),
        ({"labels": {"a": "1"}}, {"labels": {"$patch": "delete"}}, {"labels": {}}),
        ({}, {"labels": {"$patch": "replace", "b": "2"}}, {}),
        ({}, {"labels": {"a": None, "b": "2"}}, {"labels": {"b": "2"}}),
        ({"strategy": {"type": "R", "rolling": {}}}, {"strategy": {"$retainKeys": ["type"], "type": "D"}}, {"strategy": {"type": "D"}}),
        (
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            {"volumes": [{"name": "v", "$retainKeys": ["name", "x"], "x": 1}]},
            {"volumes": [{"name": "v", "x": 1}]},
        ),
        (
            {"containers": named("a", "b", "c")},
            {"$setElementOrder/containers": named("c", "a"), "containers": named("a", image="i")},
            {"containers": [{"name": "b"}, {"name": "c"}, {"name": "a", "image": "i"}]},
        ),
        ({"replicas": 1}, {"replicas": 2}, {"replicas": 2}),
        ({"replicas": 1}, {}, {"replicas": 1}),
    ],
)  # fmt: skip
def test_examples(doc: Obj, patch: Obj, result: Obj) -> None:
    assert patched(doc, patch) == result


@pytest.mark.parametrize(
    ("doc", "patch", "code", "message"),
    [
        ({"labels": {"a": "1"}}, {"labels": {"$patch": "odd"}}, 500, "unknown patch type: odd in map: map[$patch:odd]"),
        ({}, [], 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ({"containers": named("a")}, {"containers": [{"image": "i"}]}, 500, "map: map[image:i] does not contain declared merge key: name"),
        ({"keyless": named("a")}, {"keyless": named("b")}, 500, "cannot merge lists without merge key for Env"),
        (
            {"finalizers": ["a"]},
            {"finalizers": [{"$patch": "replace"}, "b"]},
            500,
            "list element types are not identical: [[a] [map[$patch:replace] b]]",
        ),
        ({"strategy": {}}, {"strategy": {"$retainKeys": ["a"], "b": 1}}, 400, "invalid patch format of retainKeys"),
        ({"strategy": {}}, {"strategy": {"$retainKeys": "a"}}, 400, "invalid patch format of retainKeys"),
        ({"finalizers": ["a"]}, {"$setElementOrder/finalizers": 5}, 500, "expected a []interface {}, but received a int64"),
        (
            {"finalizers": []},
            {"$setElementOrder/finalizers": ["a", "b"], "finalizers": ["b", "a"]},
            500,
            "The order in patch list:\n[b a]\n doesn't match $setElementOrder list:\n[a b]\n",
        ),
    ],
)  # fmt: skip
def test_errors(doc: Obj, patch: Any, code: int, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        patched(doc, patch)
    assert (caught.value.code, caught.value.message) == (code, message)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"labels": "x"}, "cannot restore map from string"),
        ({"containers": {"a": 1}}, "cannot restore slice from map"),
        ({"containers": [5]}, "cannot restore struct from: int64"),
        ({"replicas": "x"}, "unrecognized type: int32"),
        ({"labels": {"a": 5}}, "cannot convert int64 to string"),
        ({"labels": {"a": True}}, "unrecognized type: string"),
        ({"labels": {"a": "b"}, "replicas": 3, "containers": None}, None),
    ],
)
def test_what_does_not_fit_the_type(value: Obj, text: str | None) -> None:
    assert restore_error(value, SCHEMA, DEFINITIONS) == text


NAMES = st.lists(st.sampled_from("abcde"), unique=True, max_size=4)


@given(NAMES, NAMES)
def test_lists_by_key_lose_nothing_and_gain_what_is_named(old: list[str], new: list[str]) -> None:
    out = patched({"containers": named(*old)}, {"containers": named(*new, image="i")})
    found = {item["name"]: item.get("image") for item in out["containers"]}
    assert found.keys() == {*old, *new}
    assert {name for name, image in found.items() if image} == set(new)
    order = [item["name"] for item in out["containers"]]
    assert [name for name in order if name in new] == new
    others = [name for name in old if name not in new]
    assert [name for name in order if name not in new] == others


@given(NAMES, NAMES)
def test_set_element_order_is_obeyed(old: list[str], order: list[str]) -> None:
    out = patched({"containers": named(*old)}, {"$setElementOrder/containers": named(*order)}) if old else {}
    names = [item["name"] for item in out.get("containers", [])]
    assert sorted(names) == sorted(old)
    assert [name for name in names if name in order] == [name for name in order if name in old]
