"""The algebra of field sets, checked against plain sets of paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane.fields import sets
from chandlery.controlplane.fields.sets import Node

PATHS = st.lists(st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"']), min_size=1, max_size=4).map(tuple)
PATH_SETS = st.frozensets(PATHS, max_size=8)


def node_of(paths: frozenset[tuple[str, ...]]) -> Node:
    """A set built from its paths, one after another."""
    out: Node = {}
    for path in paths:
        single: Node = {}
        for element in reversed(path):
            single = {element: single}
        out = sets.union(out, single)
    return out


def paths_of(node: Node) -> frozenset[tuple[str, ...]]:
    return frozenset(sets.paths(node))


@given(PATH_SETS)
def test_a_set_has_the_paths_it_was_built_from(paths: frozenset[tuple[str, ...]]) -> None:
    node = node_of(paths)
    assert paths_of(node) == paths
    assert all(sets.has(node, *path) for path in paths)
    assert sets.normalise(node) == node
    assert sets.in_order(node) == node


@given(PATH_SETS, PATH_SETS)
def test_operations_are_those_of_sets_of_paths(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> None:
    left, right = node_of(a), node_of(b)
    assert paths_of(sets.union(left, right)) == a | b
    assert paths_of(sets.intersection(left, right)) == a & b
    assert paths_of(sets.difference(left, right)) == a - b
    below = frozenset(path for path in a if not any(path[:n] in b for n in range(1, len(path) + 1)))
    assert paths_of(sets.recursive_difference(left, right)) == below


@given(PATH_SETS, PATH_SETS)
def test_operations_leave_their_arguments_alone(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> None:
    left, right = node_of(a), node_of(b)
    for operation in (sets.union, sets.intersection, sets.difference, sets.recursive_difference):
        operation(left, right)
    assert (paths_of(left), paths_of(right)) == (a, b)


@given(PATH_SETS, PATH_SETS)
def test_results_are_canonical(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> None:
    left, right = node_of(a), node_of(b)
    for operation in (sets.union, sets.intersection, sets.difference, sets.recursive_difference):
        found = operation(left, right)
        assert sets.normalise(found) == found


def test_path_texts() -> None:
    assert (
        sets.path_text(("f:spec", "f:users", 'k:{"age":3,"name":"a"}', "f:role")) == '.spec.users[age=3,name="a"].role'
    )
    assert sets.path_text(("f:tags", 'v:"q"')) == '.tags[="q"]'
    assert sets.path_text(("f:flags", "v:true", "i:4")) == ".flags[=true][4]"


def test_elements_from_clients_are_written_anew() -> None:
    assert sets.normalise({'k:{"b": 1, "a": "<"}': {".": {}}}) == {'k:{"a":"\\u003c","b":1}': {}}
    assert sets.normalise({"x:unknown": {}, "f:a": {"f:b": {}, ".": {}}}) == {"f:a": {".": {}, "f:b": {}}}


@pytest.mark.parametrize("bad", [[], "x", {"nokind": {}}, {"k:notjson": {}}, {"i:x": {}}, {"f:a": 1}])
def test_what_is_no_set_is_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        sets.normalise(bad)
