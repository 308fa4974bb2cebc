"""JSON patch: the operations, what is refused, and that documents are never changed in place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane.patch import json_patch
from chandlery.controlplane.patch.json_patch import MAX_OPERATIONS
from chandlery.controlplane.types import ApiError, Obj

DOC: Obj = {"spec": {"a": {"b": 1}, "l": ["x", "y"], "n": None, "w/s": {"t~u": 0}}}


def patched(*ops: Any) -> Any:
    doc = copy.deepcopy(DOC)
    out = json_patch(doc, list(ops))
    assert doc == DOC
    return out


@pytest.mark.parametrize(
    ("op", "spec"),
    [
        ({"op": "add", "path": "/spec/new", "value": [1]}, {"new": [1]}),
        ({"op": "add", "path": "/spec/a", "value": 2}, {"a": 2}),
        ({"op": "add", "path": "/spec/l/0", "value": "w"}, {"l": ["w", "x", "y"]}),
        ({"op": "add", "path": "/spec/l/2", "value": "z"}, {"l": ["x", "y", "z"]}),
        ({"op": "add", "path": "/spec/l/-", "value": "z"}, {"l": ["x", "y", "z"]}),
        ({"op": "add", "path": "/spec/l/-1", "value": "z"}, {"l": ["x", "y", "z"]}),
        ({"op": "add", "path": "/spec/a/c"}, {"a": {"b": 1, "c": None}}),
        ({"op": "add", "path": "ignored/spec/new", "value": 1}, {"new": 1}),
        ({"op": "remove", "path": "/spec/l/-1"}, {"l": ["x"]}),
        ({"op": "remove", "path": "/spec/l/0"}, {"l": ["y"]}),
        ({"op": "replace", "path": "/spec/a/b", "value": {}}, {"a": {"b": {}}}),
        ({"op": "replace", "path": "/spec/absent", "value": 1}, {"absent": 1}),
        ({"op": "replace", "path": "/spec/w~1s/t~0u", "value": 1}, {"w/s": {"t~u": 1}}),
        ({"op": "move", "from": "/spec/l/0", "path": "/spec/l/1"}, {"l": ["y", "x"]}),
        ({"op": "copy", "from": "/spec/a", "path": "/spec/c"}, {"c": {"b": 1}}),
        ({"op": "test", "path": "/spec/a", "value": {"b": 1}}, {}),
        ({"op": "test", "path": "/spec/absent", "value": None}, {}),
        ({"op": "test", "path": "/spec/n", "value": None}, {}),
    ],
)
def test_operations(op: Obj, spec: Obj) -> None:
    assert patched(op) == {"spec": {**DOC["spec"], **spec}}


@pytest.mark.parametrize(
    "op",
    [
        {"op": "add", "path": "", "value": {}},
        {"op": "add", "path": "/none/x", "value": 1},
        {"op": "add", "path": "/spec/l/3", "value": 1},
        {"op": "add", "path": "/spec/l/-4", "value": 1},
        {"op": "add", "path": "/spec/l/x", "value": 1},
        {"op": "add", "path": "/spec/a/b/c", "value": 1},
        {"op": "add"},
        {"op": "remove", "path": "/spec/absent"},
        {"op": "remove", "path": "/spec/l/2"},
        {"op": "replace", "path": "/spec/l/5", "value": 1},
        {"op": "replace", "path": "", "value": 5},
        {"op": "move", "from": "/spec/absent", "path": "/spec/x"},
        {"op": "copy", "from": "/none/absent", "path": "/spec/x"},
        {"op": "test", "path": "/spec/a/b", "value": 1.0},
        {"op": "test", "path": "/spec/a/b", "value": True},
        {"op": "test", "path": "/spec/a/b"},
        {"op": "jump", "path": "/spec"},
        {},
        None,
    ],
)
def test_what_can_not_be_applied_is_refused_without_a_reason(op: Any) -> None:
    with pytest.raises(ApiError) as caught:
        patched(op)
    error = caught.value
    assert (error.code, error.reason, error.details) == (422, "Invalid", {})
    assert error.message == "the server rejected our request due to an error in our request"


def test_a_copy_is_a_copy() -> None:
    out = patched(
        {"op": "copy", "from": "/spec/a", "path": "/spec/c"}, {"op": "replace", "path": "/spec/c/b", "value": 2}
    )
    assert (out["spec"]["a"], out["spec"]["c"]) == ({"b": 1}, {"b": 2})


def test_a_whole_document_may_be_replaced_by_another() -> None:
    assert patched({"op": "replace", "path": "", "value": {"x": 1}}) == {"x": 1}


def test_limits() -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({}, [{"op": "test", "path": "/x", "value": None}] * (MAX_OPERATIONS + 1))
    assert caught.value.code == 413
    doubling = [{"op": "copy", "from": "/l", "path": "/l/-"}] * 40
    with pytest.raises(ApiError) as caught:
        json_patch({"l": ["x" * 100]}, doubling)
    assert caught.value.code == 422


KEYS = st.sampled_from(["a", "b", "0", "-", "1"])
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(0, 2)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(KEYS, inner, max_size=2)),
    max_leaves=6,
)
POINTERS = st.lists(KEYS, min_size=1, max_size=3).map(lambda parts: "".join("/" + part for part in parts))
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from("add remove replace move copy test".split()), "path": POINTERS},
        optional={"value": VALUES, "from": POINTERS},
    ),
    max_size=4,
)


@given(st.dictionaries(KEYS, VALUES, max_size=3), OPERATIONS)
def test_no_patch_changes_its_document_or_itself(doc: Obj, ops: list[Any]) -> None:
    before = copy.deepcopy((doc, ops))
    try:
        json_patch(doc, ops)
    except ApiError as error:
        if error.code != 422:
            raise
    assert (doc, ops) == before


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), POINTERS, VALUES)
def test_what_was_added_is_there_and_can_be_taken_away(doc: Obj, path: str, value: Any) -> None:
    try:
        added = json_patch(doc, [{"op": "add", "path": path, "value": value}])
    except ApiError:
        return
    if not path.endswith("/-"):
        assert json_patch(added, [{"op": "test", "path": path, "value": value}]) == added
        assert json_patch(added, [{"op": "remove", "path": path}]) is not added


def test_what_is_moved_may_be_tidied_where_it_came_to() -> None:
    doc = {"metadata": {"name": "x", "labels": {"a": "b"}}, "list": [{"k": 1}]}
    made = json_patch(doc, [{"op": "move", "from": "/metadata", "path": "/spec"}])
    made["spec"]["labels"].clear()
    del made["spec"]["name"]
    made = json_patch(doc, [{"op": "move", "from": "/list", "path": "/other"}])
    made["other"][0].clear()
    assert doc == {"metadata": {"name": "x", "labels": {"a": "b"}}, "list": [{"k": 1}]}
