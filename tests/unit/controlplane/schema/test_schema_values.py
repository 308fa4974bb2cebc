"""What a schema accepts, drops and fills in, and how it says no."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane.schema import (
    Correlation,
    Node,
    Validator,
    compile_defaults,
    copy_json,
    drop_nulls,
    prune,
    validate_lists,
)

Schema = dict[str, Any]


def errors(schema: Schema, value: Any, old: Any = None) -> list[str]:
    node = Node(schema)
    correlation = Correlation(value, old, node) if old is not None else None
    return [f"{e.path}: {e.detail}" for e in Validator(node).errors(value, "", correlation)]


def obj(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        (obj(a=STRING), {"a": "x"}, []),
        (obj(a=STRING), {"a": None}, ['a: Invalid value: "null": a in body must be of type string: "null"']),
        (obj(a={"type": "string", "nullable": True}), {"a": None}, []),
        (obj(a=INTEGER), {"a": 3.0}, []),
        (obj(a={"type": "number"}), {"a": 3}, []),
        (
            obj(a={"type": "boolean"}),
            {"a": 1},
            ['a: Invalid value: "integer": a in body must be of type boolean: "integer"'],
        ),
        (
            obj(a={"type": "integer", "format": "int32"}),
            {"a": 1 << 31},
            ['<nil>: Invalid value: "": Checked value must be of type integer with format int32 in a'],
        ),
        (
            obj(a={"type": "integer", "format": "int64"}),
            {"a": 1 << 63},
            [
                'a: Invalid value: "float64": a in body must be of type int64: "float64"',
                '<nil>: Invalid value: "": Checked value must be of type integer with format int64 in a',
            ],
        ),
        (obj(a=INTEGER), {"a": 2.0**54}, ['a: Invalid value: "number": a in body must be of type integer: "number"']),
        (
            obj(a={"type": "integer", "multipleOf": 3}),
            {"a": 4},
            ["a: Invalid value: 4: a in body should be a multiple of 3"],
        ),
        (
            obj(a={"type": "number", "multipleOf": 0.1}),
            {"a": 0.3},
            [],
        ),
        (
            obj(a={"type": "number", "maximum": 1000000}),
            {"a": 1.5e6},
            ["a: Invalid value: 1.5e+06: a in body should be less than or equal to 1e+06"],
        ),
        (
            {"type": "object", "maxProperties": 1, "additionalProperties": STRING},
            {"a": "1", "b": "2"},
            ["<nil>: Too many: 2: must have at most 1 item"],
        ),
        (
            {"type": "object", "minProperties": 2, "additionalProperties": STRING},
            {"a": "1"},
            ["<nil>: Invalid value: 1:  in body should have at least 2 properties"],
        ),
        (
            obj(a={"type": "array", "items": INTEGER, "maxItems": 1}),
            {"a": [1, 2]},
            ["a: Too many: 2: must have at most 1 item"],
        ),
        (obj(a={"x-kubernetes-int-or-string": True}), {"a": "25%"}, []),
        (obj(a={"type": "string", "format": "no-such-format"}), {"a": "anything"}, []),
        (
            obj(a={"type": "string", "format": "date-time"}),
            {"a": "2020-13-01T00:00:00Z"},
            ['a: Invalid value: "2020-13-01T00:00:00Z": a in body must be of type date-time: "2020-13-01T00:00:00Z"'],
        ),
    ],
)
def test_values_are_held_to_their_schema(schema: Schema, value: Any, said: list[str]) -> None:
    assert errors(schema, value) == said


def test_the_alternative_that_came_closest_explains_an_any_of() -> None:
    schema = obj(
        a={
            "type": "object",
            "properties": {"x": INTEGER, "y": STRING},
            "anyOf": [{"required": ["z"]}, {"required": ["x"], "properties": {"x": {"minimum": 5}}}],
        }
    )
    said = errors(schema, {"a": {"x": 1, "y": "b"}})
    assert said == [
        '<nil>: Invalid value: "": "a" must validate at least one schema (anyOf)',
        "a.x: Invalid value: 1: a.x in body should be greater than or equal to 5",
    ]


def test_unknown_fields_are_dropped_and_named_but_not_inside_preserved_ones() -> None:
    schema = obj(
        spec=obj(
            known=STRING,
            free={
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"inner": obj(a=STRING)},
            },
            list={"type": "array", "items": obj(k=STRING)},
            map={"type": "object", "additionalProperties": obj(k=STRING)},
        )
    )
    value = {
        "kind": "K",
        "metadata": {"name": "n"},
        "extra": 1,
        "spec": {
            "known": "x",
            "odd": 1,
            "free": {"any": {"thing": 1}, "inner": {"a": "1", "b": "2"}},
            "list": [{"k": "1", "z": 2}],
            "map": {"one": {"k": "1", "z": {}}},
        },
    }
    assert prune(value, Node(schema), resource_root=True) == [
        "extra",
        "spec.free.inner.b",
        "spec.list[0].z",
        "spec.map.one.z",
        "spec.odd",
    ]
    assert value == {
        "kind": "K",
        "metadata": {"name": "n"},
        "spec": {
            "known": "x",
            "free": {"any": {"thing": 1}, "inner": {"a": "1"}},
            "list": [{"k": "1"}],
            "map": {"one": {"k": "1"}},
        },
    }


def test_defaults_replace_what_is_absent_or_null_and_are_never_shared() -> None:
    schema = obj(
        tags={"type": "array", "items": STRING, "default": ["a"]},
        kept={"type": "string", "nullable": True, "default": "d"},
        gone=STRING,
        items={"type": "array", "items": obj(port={"type": "integer", "default": 80})},
    )
    fill = compile_defaults(Node(schema))
    assert fill is not None
    first: Schema = {"kept": None, "gone": None, "items": [{}, {"port": 1}]}
    second: Schema = {}
    for value in (first, second):
        drop_nulls(value, Node(schema))
        fill(value)
    first["tags"].append("b")
    assert first == {"tags": ["a", "b"], "kept": None, "items": [{"port": 80}, {"port": 1}]}
    assert second == {"tags": ["a"], "kept": "d"}


def test_what_was_wrong_before_and_did_not_change_is_tolerated() -> None:
    item = {
        "type": "object",
        "properties": {"name": STRING, "size": {"type": "integer", "maximum": 10}},
        "required": ["name"],
    }
    schema = obj(
        a={"type": "integer", "maximum": 10},
        b={"type": "integer", "maximum": 10},
        plain={"type": "array", "items": {"type": "integer", "maximum": 10}},
        keyed={"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    old = {"a": 99, "b": 1, "plain": [99], "keyed": [{"name": "x", "size": 99}]}
    assert errors(schema, {**old, "b": 98}, old) == [
        "b: Invalid value: 98: b in body should be less than or equal to 10"
    ]
    moved = {**old, "keyed": [{"name": "y", "size": 1}, {"name": "x", "size": 99}]}
    assert errors(schema, moved, old) == []
    grown = {**old, "plain": [99, 1]}
    assert errors(schema, grown, old) == [
        "plain[0]: Invalid value: 99: plain[0] in body should be less than or equal to 10"
    ]


def test_sets_and_maps_hold_each_item_once() -> None:
    keyed = {
        "type": "array",
        "items": obj(port=INTEGER, proto=STRING),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port", "proto"],
    }
    node = Node(obj(s={"type": "array", "items": STRING, "x-kubernetes-list-type": "set"}, m=keyed))
    value = {"s": ["a", "b", "a", "a"], "m": [{"port": 1}, {"port": 1, "proto": "UDP"}, {"port": 1}]}
    assert [(e.path, e.detail) for e in validate_lists(value, node)] == [
        ("s[2]", 'Duplicate value: "a"'),
        ("m[2]", 'Duplicate value: {"port":1}'),
    ]


_LEAVES = st.one_of(
    st.builds(dict, type=st.sampled_from(["string", "integer", "number", "boolean"])),
    st.builds(dict, type=st.just("string"), minLength=st.integers(0, 3), maxLength=st.integers(0, 5)),
    st.builds(dict, type=st.just("string"), pattern=st.sampled_from(["^a", "b$", "^[0-9]+$"])),
    st.builds(dict, type=st.just("integer"), minimum=st.integers(-3, 3), exclusiveMinimum=st.booleans()),
    st.builds(dict, type=st.just("number"), maximum=st.floats(-3, 3), multipleOf=st.sampled_from([0.5, 1.0, 2.0])),
    st.builds(dict, type=st.just("string"), enum=st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=2)),
    st.just({"x-kubernetes-int-or-string": True}),
)
_SCHEMAS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(dict, type=st.just("array"), items=inner, maxItems=st.integers(0, 3)),
        st.builds(dict, type=st.just("object"), additionalProperties=inner),
        st.builds(
            dict,
            type=st.just("object"),
            properties=st.dictionaries(st.sampled_from(["a", "b"]), inner),
            required=st.lists(st.sampled_from(["a", "b"]), max_size=1),
            nullable=st.booleans(),
        ),
        st.builds(lambda first, second: {"anyOf": [first, second]}, inner, inner),
        st.builds(lambda first, second: {"oneOf": [first, second]}, inner, inner),
        st.builds(lambda first, second: {"allOf": [first], "not": second}, inner, inner),
    ),
    max_leaves=6,
)
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(-5, 5), st.sampled_from(["", "a", "ab", "12"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner)),
    max_leaves=6,
)


@given(_SCHEMAS, _VALUES)
def test_the_quick_answer_and_the_explanation_agree(schema: Schema, value: Any) -> None:
    """`accepts` says yes exactly when the walk that explains finds nothing."""
    validator = Validator(Node(schema))
    quick = validator.accepts(value)
    validator.accepts = lambda _value: False  # ask the walk alone
    assert quick == (validator.errors(value) == [])


@given(_SCHEMAS, _VALUES)
def test_pruning_and_defaulting_settle_at_once(schema: Schema, value: Any) -> None:
    node = Node(schema)
    prune(value, node)
    drop_nulls(value, node)
    fill = compile_defaults(node)
    if fill is not None:
        fill(value)
    again = copy_json(value)
    assert prune(again, node) == []
    drop_nulls(again, node)
    if fill is not None:
        fill(again)
    assert again == value
