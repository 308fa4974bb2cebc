"""What is written out as Python says yes only where the walkers find nothing to do and nothing wrong."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chandlery.controlplane.crd.strategy import whole_numbers
from chandlery.controlplane.schema import Node, Validator, drop_nulls, prune, validate_lists
from chandlery.controlplane.schema.generated import predicates

NAMES = ["a", "b", "it's", 'q"', "class", "x.y"]
SCALARS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "maxLength": st.integers(0, 4), "minLength": st.integers(0, 2), "pattern": st.sampled_from(["^a", "b$"]),
            "enum": st.just(["a", "b"]), "format": st.sampled_from(["date", "byte", "ipv4"]), "nullable": st.booleans(),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("integer")},
        optional={
            "minimum": st.integers(-3, 3), "maximum": st.integers(-3, 9), "exclusiveMinimum": st.booleans(),
            "exclusiveMaximum": st.booleans(), "format": st.sampled_from(["int32", "int64"]), "enum": st.just([1, 2]),
            "multipleOf": st.just(2),
        },
    ),
    st.just({"type": "boolean"}),
    st.just({"type": "number", "maximum": 2.5}),
    st.just({"x-kubernetes-int-or-string": True}),
    st.just({"x-kubernetes-preserve-unknown-fields": True}),
)  # fmt: skip


def nest(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from(NAMES), below, max_size=3)},
            optional={
                "required": st.lists(st.sampled_from(NAMES), max_size=1),
                "maxProperties": st.integers(0, 3), "x-kubernetes-preserve-unknown-fields": st.just(True),
            },
        ),
        st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": below | st.booleans()}),
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": below},
            optional={
                "maxItems": st.integers(0, 3), "uniqueItems": st.booleans(),
                "x-kubernetes-list-type": st.sampled_from(["set", "atomic"]),
            },
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("array"), "x-kubernetes-list-type": st.just("map"),
                "x-kubernetes-list-map-keys": st.just(["a"]),
                "items": st.fixed_dictionaries(
                    {"type": st.just("object"), "properties": st.fixed_dictionaries({"a": below, "b": below})}
                ),
            }
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("object"), "anyOf": st.just([{"required": ["a"]}]),
                "properties": st.fixed_dictionaries({"a": below}),
            }
        ),
    )  # fmt: skip


SCHEMAS = st.recursive(SCALARS, nest, max_leaves=8)
ROOTS = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from(NAMES), SCHEMAS, max_size=4)}
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-4, 9), st.just(1 << 63), st.sampled_from([1.0, 2.5]),
        st.sampled_from(["", "a", "b", "ab", "2020-01-01", "abcde"]),
    ),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(NAMES), below, max_size=4),
    max_leaves=8,
)  # fmt: skip


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that more often than not have the schema's shape, for a yes is what must be right."""
    kind = schema.get("type")
    if kind == "object" and isinstance(schema.get("properties"), dict):
        known = {name: fitting(sub) for name, sub in schema["properties"].items() if isinstance(sub, dict)}
        return st.fixed_dictionaries({}, optional=known) | VALUES
    if schema.get("additionalProperties") is True:
        return st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3)
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return st.dictionaries(st.sampled_from(NAMES), fitting(schema["additionalProperties"]), max_size=3) | VALUES
    if kind == "array":
        return st.lists(fitting(schema["items"]), max_size=3) | VALUES
    return VALUES


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_yes_means_that_the_walkers_agree(data):
    raw = data.draw(ROOTS)
    node = Node(raw)
    tidy, valid = predicates(node)
    value = data.draw(fitting(raw))
    if tidy is not None and tidy(value):
        after = copy.deepcopy(value)
        whole_numbers(after)
        assert prune(after, node, resource_root=True) == []
        drop_nulls(after, node)
        assert (after, str(after)) == (value, str(value))
    if valid is not None and valid(value):
        assert Validator(node).errors(value) == []
        assert validate_lists(value, node) == []


def test_an_ordinary_object_gets_a_yes():
    node = Node(
        {
            "type": "object",
            "properties": {
                "metadata": {"type": "object"},
                "spec": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "maxLength": 5, "pattern": "^[a-z]+$"},
                        "count": {"type": "integer", "minimum": 1, "maximum": 3},
                        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                        "ports": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "properties": {"name": {"type": "string"}}},
                        },
                    },
                },
            },
        }
    )
    tidy, valid = predicates(node)
    assert tidy is not None
    assert valid is not None
    spec: dict[str, Any] = {"name": "abc", "count": 2, "tags": {"a": "b"}, "ports": [{"name": "x"}, {"name": "y"}]}
    obj = {"apiVersion": "g/v1", "kind": "K", "metadata": {"creationTimestamp": None}, "spec": spec}
    assert tidy(obj)
    assert valid(obj)
    for change in ({"count": 4}, {"name": "ABC"}, {"name": "abcdef"}, {"ports": [{"name": "x"}] * 2}, {"count": 1.0}):
        assert not valid({**obj, "spec": {**spec, **change}}), change
    for change in ({"other": 1}, {"count": None}, {"count": 2.0}, {"ports": [{"name": "x", "z": 1}]}, {"tags": []}):
        assert not tidy({**obj, "spec": {**spec, **change}}), change
