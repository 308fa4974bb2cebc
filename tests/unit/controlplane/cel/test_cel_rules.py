"""Rules of schemas: where they look, what they say, when they are let pass; and what rules may cost."""

from typing import Any

import pytest

from chandlery.controlplane.cel.cost import estimate
from chandlery.controlplane.cel.declared import declare, escape
from chandlery.controlplane.schema import Correlation, Node
from chandlery.controlplane.schema.rules import Rules, check_rule, schema_key

Schema = dict[str, Any]


def broken(schema: Schema, value: Any, old: Any = None, *, resource: bool = False) -> list[str]:
    node = Node(schema)
    rules = Rules.compile(node, resource=resource)
    assert rules is not None
    correlation = Correlation(value, old, node) if old is not None else None
    return [f"{e.path}: {e.detail}" for e in rules.validate(value, old, correlation)]


def obj(rules: list[Schema], **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "x-kubernetes-validations": rules}


INTEGER: Schema = {"type": "integer"}


def test_a_rule_sees_values_by_their_schema() -> None:
    schema = obj(
        [
            {
                "rule": "self.ratio / 2.0 == 1.5 && self.wait > duration('30s') && self.__in__"
                " && self.__dash__x__dot__y == 1"
            }
        ],
        ratio={"type": "number"},
        wait={"type": "string", "format": "duration"},
        **{"-x.y": INTEGER, "in": {"type": "boolean"}},
    )
    assert broken(schema, {"ratio": 3, "wait": "1m", "-x.y": 1, "in": True}) == []
    assert broken(schema, {"ratio": 3, "wait": "2 days 3 hours", "-x.y": 1, "in": True}) == []
    assert broken(schema, {"ratio": 4, "wait": "1m", "-x.y": 1, "in": True}) != []


def test_null_counts_as_absent_and_sets_compare_without_order() -> None:
    sets = {"type": "array", "items": INTEGER, "x-kubernetes-list-type": "set"}
    schema = obj([{"rule": "!has(self.n) && self.a == self.b"}], n={"type": "string", "nullable": True}, a=sets, b=sets)
    assert broken(schema, {"n": None, "a": [1, 2], "b": [2, 1]}) == []


@pytest.mark.parametrize(
    ("rule", "message", "converts"),
    [
        ("self.n == oldSelf.n", "", False),
        ("has(self.n) && self.n > 0", "'n is ' + string(self.n)", False),
        ("self.n == 0", "'a has ' + string(self.a.size())", True),
        ("self.a == oldSelf.a", "", True),
        ("self == oldSelf", "", True),
        ("[self].all(x, x.a == oldSelf.a)", "", True),
        ("dyn(self).a == oldSelf.a || true", "", True),
        ("oldSelf.?a.orValue([]) == self.a", "", True),
        ("self.__in__ >= 1.0", "", True),
        ("self.n in [1, 2].map(self, self + 1) || self.n == 5", "", False),
    ],
)
def test_only_what_rules_look_at_is_made_a_value(rule: str, message: str, converts: bool) -> None:
    raw: Schema = {"rule": rule, "messageExpression": message} if message else {"rule": rule}
    sets = {"type": "array", "items": INTEGER, "x-kubernetes-list-type": "set"}
    schema = obj([raw], n=INTEGER, a=sets, **{"in": {"type": "number"}})
    rules = Rules.compile(Node(schema))
    assert rules is not None
    assert not rules._root.rules[0].problem
    assert (rules._root.convert is not None) is converts
    assert broken(schema, {"n": 5, "a": [1, 2], "in": 1}, {"n": 5, "a": [2, 1], "in": 1}) == (
        ["<nil>: Invalid value: a has 2"] if rule == "self.n == 0" else []
    )


def test_transition_rules_wait_for_an_old_value() -> None:
    schema = obj(
        [], size={"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "only grows"}]}
    )
    assert broken(schema, {"size": 1}) == []
    assert broken(schema, {"size": 1}, {"size": 2}) == ["size: Invalid value: 1: only grows"]
    assert broken(schema, {"size": 1}, {}) == []
    first = obj([{"rule": "oldSelf.hasValue() || self.size == 1", "optionalOldSelf": True}], size=INTEGER)
    assert broken(first, {"size": 2}) != []
    assert broken(first, {"size": 2}, {"size": 1}) == []


def test_items_of_keyed_lists_find_their_old_self() -> None:
    item = obj([{"rule": "self.v >= oldSelf.v"}], name={"type": "string"}, v=INTEGER)
    schema: Schema = {
        "type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
    }  # fmt: skip
    old = [{"name": "a", "v": 1}, {"name": "b", "v": 5}]
    assert broken(schema, [{"name": "b", "v": 4}, {"name": "c", "v": 0}, {"name": "a", "v": 1}], old) == [
        "[0]: Invalid value: failed rule: self.v >= oldSelf.v"
    ]


def test_unchanged_parts_may_stay_broken_and_are_told_apart() -> None:
    schema = obj([], a=obj([{"rule": "self.x > 0"}], x=INTEGER), b=INTEGER)
    node = Node(schema)
    rules = Rules.compile(node)
    assert rules is not None
    old, new = {"a": {"x": 0}, "b": 1}, {"a": {"x": 0}, "b": 2}
    tolerated: list[Any] = []
    assert rules.validate(new, old, Correlation(new, old, node), tolerated=tolerated) == []
    assert [e.path for e in tolerated] == ["a"]


def test_the_message_its_place_and_its_reason_are_the_rules_own() -> None:
    schema = obj(
        [
            {
                "rule": "self.a < 10",
                "messageExpression": "'a is %d'.format([self.a])",
                "fieldPath": ".a",
                "reason": "FieldValueForbidden",
            },
            {"rule": "self.a < 10", "messageExpression": "string(1 / 0)", "message": "plain"},
        ],
        a=INTEGER,
    )
    assert broken(schema, {"a": 11}) == ["a: Forbidden: a is 11", "<nil>: Invalid value: plain"]


def test_a_failing_rule_names_itself() -> None:
    schema = obj([{"rule": "self.a < 10"}], a=INTEGER)
    assert broken(schema, {}) == ['<nil>: Invalid value: "object": no such key: a evaluating rule: self.a < 10']


def test_the_root_of_a_resource_knows_its_name() -> None:
    schema = obj([{"rule": "self.metadata.name.startsWith('a') && self.kind == 'K'"}])
    value = {"kind": "K", "apiVersion": "g/v1", "metadata": {"name": "abc"}}
    assert broken(schema, value, resource=True) == []


@pytest.mark.parametrize(
    "rule", ["self.namespace == self.__namespace__", "has(self.namespace)", "self.?namespace.hasValue()"]
)
def test_reserved_words_are_fields_after_a_dot(rule: str) -> None:
    assert broken(obj([{"rule": rule}], namespace={"type": "string"}), {"namespace": "n"}) == []


def test_embedded_resources_that_declare_their_names_show_all_metadata() -> None:
    text = {"type": "string"}
    metadata = obj([], name=text, generateName=text, namespace=text)
    resource = {
        **obj([{"rule": "self.metadata.namespace == 'n'"}], kind=text, apiVersion=text, metadata=metadata),
        "x-kubernetes-embedded-resource": True,
    }
    assert broken(obj([], inner=resource), {"inner": {"metadata": {"namespace": "n"}}}) == []
    del metadata["properties"]["generateName"]
    [error] = broken(obj([], inner=resource), {"inner": {"metadata": {"namespace": "n"}}})
    assert "undefined field 'namespace'" in error


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("self.a.find('(') == ''", "program instantiation failed: error parsing regexp: missing closing ): `(`"),
        ("int('x') == 1", "program instantiation failed: type conversion error from 'string' to 'int'"),
        (
            "timestamp(-62135596801) == timestamp(0)",
            "compilation failed: ERROR: <input>:1:11: invalid timestamp argument",
        ),
        ("self.a", "cel expression must evaluate to a bool"),
    ],
)
def test_rules_that_never_work_say_why(rule: str, problem: str) -> None:
    [error] = broken(obj([{"rule": rule}], a={"type": "string"}), {"a": "x"})
    assert f"rule compile error: {problem}" in error


@pytest.mark.parametrize(
    ("name", "escaped"),
    [("a", "a"), ("a-b", "a__dash__b"), ("x__y", "x__underscores__y"), ("namespace", "__namespace__"), ("a b", None)],
)
def test_names_are_escaped(name: str, escaped: str | None) -> None:
    assert escape(name) == escaped


def cost(rule: str, schema: Schema) -> int:
    declared = declare(Node(schema), resource=False)
    assert declared is not None
    return estimate(check_rule(schema_key(schema, resource=False), {"rule": rule}, declared).expr, declared)


def test_costs_grow_with_what_the_schema_allows() -> None:
    short: Schema = {"type": "string", "maxLength": 10}
    # one for self, a tenth of the 40 bytes that ten characters may take, times the pattern
    assert cost("self.matches('abcd')", short) == 1 + 5 * 1
    assert cost("self == 'abc'", short) == 1 + 1
    few: Schema = {"type": "array", "items": short, "maxItems": 5}
    # per item: two for the loop's condition, one for the accumulator, the comparison (2) and the variable
    assert cost("self.all(x, x == 'a')", few) == 1 + 1 + 5 * (2 + 1 + 2)
    many: Schema = {"type": "array", "items": {"type": "string"}}
    assert cost("self.all(x, self.all(y, x == y))", many) > 10**15


@pytest.mark.parametrize(
    "rule",
    [
        "(" * 240 + "self.n == 1" + ")" * 240,
        " || ".join(["self.n == 2"] * 700) + " || self.n == 1",
        " && ".join(["self.n == 1"] * 700),
        "+".join(["self.n"] * 240) + " == 240",
        "size(" + "[" * 200 + "1" + "]" * 200 + ") == 1",
        "[1].all(x, " * 100 + "self.n == x100" + ")" * 100,
        "string(" * 200 + "self.n" + ")" * 200 + " == '1'",
    ],
    ids=["parentheses", "or", "and", "plus", "lists", "macros", "calls"],
)
def test_rules_may_be_deep(rule: str) -> None:
    for depth in range(100, 0, -1):
        rule = rule.replace("[1].all(x, ", f"[1].all(x{depth}, ", 1)
    schema = obj([{"rule": rule}], n=INTEGER)
    assert broken(schema, {"n": 1}) == []
    assert cost(rule, schema) >= 0


@pytest.mark.parametrize(
    "rule",
    [
        "(" * 5000 + "true" + ")" * 5000,
        "+".join(["self.n"] * 5000) + " == 5000",
        "size(" + "[" * 5000 + "1" + "]" * 5000 + ") == 1",
        "true ? true : " * 5000 + "true",
        "self" + ".n" * 5000 + " == 1",
        "[1].all(x, " * 2000 + "true" + ")" * 2000,
        "1 < " * 3000 + "1",
        "self" + "[0]" * 3000 + " == 1",
    ],
    ids=["parentheses", "plus", "lists", "conditions", "fields", "macros", "relations", "places"],
)
def test_rules_that_are_too_deep_say_so(rule: str) -> None:
    node = Node(obj([], n=INTEGER))
    with pytest.raises(ValueError, match="expression recursion limit exceeded: 250"):
        check_rule(schema_key(node.raw, resource=False), {"rule": rule}, declare(node, resource=False))
