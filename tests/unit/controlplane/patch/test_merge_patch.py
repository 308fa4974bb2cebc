"""Merge patch, checked against RFC 7386's examples and by round trips."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane.patch import merge_patch
from chandlery.controlplane.types import ApiError, Obj


@pytest.mark.parametrize(
    ("doc", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": 1}, {"a": {"b": None, "c": 2}}, {"a": {"c": 2}}),
        ({}, {"a": [None, {"b": None}]}, {"a": [None, {}]}),
    ],
)
def test_examples(doc: Obj, patch: Obj, result: Obj) -> None:
    before = copy.deepcopy((doc, patch))
    assert merge_patch(doc, patch) == result
    assert (doc, patch) == before


@pytest.mark.parametrize("patch", [None, [], "x", 5, True])
def test_only_objects_are_patches(patch: Any) -> None:
    with pytest.raises(ApiError) as caught:
        merge_patch({}, patch)
    assert (caught.value.code, caught.value.message) == (400, "Invalid JSON Patch")


VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(0, 2), st.sampled_from("ab")),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
DOCS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def difference(old: Obj, new: Obj) -> Obj:
    """The merge patch that makes `new` of `old`."""
    patch: Obj = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            patch[key] = difference(before, value)
        elif key not in old or before != value or type(before) is not type(value):
            patch[key] = value
    return patch


@given(DOCS, DOCS)
def test_a_difference_makes_one_document_of_another(old: Obj, new: Obj) -> None:
    assert merge_patch(old, difference(old, new)) == new


@given(DOCS, DOCS)
def test_applying_twice_is_applying_once(doc: Obj, patch: Obj) -> None:
    once = merge_patch(doc, patch)
    assert merge_patch(once, patch) == once
