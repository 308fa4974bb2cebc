"""YAML bodies in Go's dialect, and YAML answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane.codec import decode_body, encode_yaml
from chandlery.controlplane.codec.yamlbody import YamlError, loads
from chandlery.controlplane.types import ApiError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: yes\nb: off\nn: y", {"a": True, "b": False, "false": True}),
        ("a: 0x10\nb: 017\nc: 0o17\nd: 0b11\ne: 1_000\nf: -5", {"a": 16, "b": 15, "c": 15, "d": 3, "e": 1000, "f": -5}),
        ("a: 1.5\nb: 1e3\nc: 1e+3\nd: .5\ne: 2.0", {"a": 1.5, "b": "1e3", "c": 1000, "d": 0.5, "e": 2}),
        ("a: ~\nb:\nc: null\nd: 'null'", {"a": None, "b": None, "c": None, "d": "null"}),
        ("a: 2020-01-02\nb: 12:30\nc: 1.2.3", {"a": "2020-01-02", "b": "12:30", "c": "1.2.3"}),
        ("1: a\n1.5: b\ntrue: c\n~: d", {"1": "a", "1.5": "b", "true": "c", "null": "d"}),
        ("a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  b: 2", {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 2}}),
        ("a: !!str 5\nb: !!float 1", {"a": "5", "b": 1.0}),
        ("k: |\n  two\n  lines\n", {"k": "two\nlines\n"}),
        ('{"a": [1, "x"], "b": {}}', {"a": [1, "x"], "b": {}}),
        ("", None),
        ("---\n- 1\n- a", [1, "a"]),
        ("a: 9223372036854775808", {"a": 9223372036854775808.0}),
        ("a: 1e+999\nb: " + "9" * 400 + "\nc: 0x" + "f" * 90, {"a": "1e+999", "b": "9" * 400, "c": "0x" + "f" * 90}),
    ],
)
def test_values(text: str, value: Any) -> None:
    found, twice = loads(text.encode())
    assert found == value
    assert twice == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "yaml: line 1: did not find expected node content"),
        ("a: b: c", "yaml: mapping values are not allowed in this context"),
        ("a:\n\t- b", "yaml: line 2: found character that cannot start any token"),
        ("a: *q", "yaml: unknown anchor 'q' referenced"),
        ("a: .nan", "json: unsupported value: NaN"),
        ("a: -.inf", "json: unsupported value: -Inf"),
        ("a: &x [*x]", "yaml: anchor 'x' value contains itself"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        loads(text.encode())
    assert str(caught.value) == message


def test_keys_set_twice() -> None:
    text = b"spec:\n  a: one\n  b:\n  - {c: 1, c: 2}\n  a: two\n"
    assert loads(text) == (
        {"spec": {"a": "two", "b": [{"c": 2}]}},
        ['line 4: key "c" already set in map', 'line 5: key "a" already set in map'],
    )
    assert decode_body(text, "application/yaml", strict=True)[1] == [
        'yaml: unmarshal errors:\n  line 4: key "c" already set in map\n  line 5: key "a" already set in map'
    ]
    assert decode_body(text, "application/yaml", strict=False)[1] == []


def test_aliases_can_not_make_a_bomb() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(ApiError) as caught:
        decode_body("\n".join(lines).encode(), "application/yaml", strict=True, kind="Form")
    assert "excessive aliasing" in caught.value.message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": ["x", {"a": 1}], "a": {}}, "a: {}\nb:\n- x\n- a: 1\n"),
        ({"t": "yes", "u": "12", "e": "", "n": None, "y": "y"}, 'e: ""\n"n": null\nt: "yes"\nu: "12"\n"y": "y"\n'),
        ({"time": "2026-11-22T08:20:19Z", "k": "two\nlines\n"}, 'k: |\n  two\n  lines\ntime: "2026-11-22T08:20:19Z"\n'),
        ({"m": "#x", "c": "a:b", "w": "a: b", "f": 1.5}, "c: a:b\nf: 1.5\nm: '#x'\nw: 'a: b'\n"),
    ],
)
def test_writing(value: Any, text: str) -> None:
    assert encode_yaml(value).decode() == text


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6),
        st.sampled_from(
            [
                "yes",
                "no",
                "1",
                "0x1",
                "1e3",
                "1.5",
                "~",
                "null",
                "<<",
                "2020-01-01",
                "1:30",
                "a: b",
                "- x",
                "#c",
                "a\nb",
                "a\n",
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text("abyn10~-:# ", max_size=4), st.sampled_from(["yes", "null"])), inner, max_size=3
        ),
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3))
def test_what_is_written_reads_the_same(value: Any) -> None:
    assert loads(encode_yaml(value))[0] == value
