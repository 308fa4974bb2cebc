"""Label and field selectors: what they match, and how what can't be read is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane.selectors import parse_fields, parse_labels
from chandlery.controlplane.types import ApiError


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("!a", {"a": "1"}, False),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a!=1", {}, True),
        ("a!=1", {"a": "1"}, False),
        ("a in (1,2)", {"a": "2"}, True),
        ("a in (1,2)", {}, False),
        ("a notin (1)", {}, True),
        ("a notin (1)", {"a": "1"}, False),
        ("a in ()", {"a": ""}, True),
        ("a>3", {"a": "4"}, True),
        ("a>3", {"a": "3"}, False),
        ("a<3", {"a": "2"}, True),
        ("a<3", {"a": "x"}, False),
        ("a = 1 , b", {"a": "1", "b": ""}, True),
        ("a=", {"a": ""}, True),
        ("x.y/z=1", {"x.y/z": "1"}, True),
        ("in=notin", {"in": "notin"}, True),
    ],
)
def test_label_selectors_match(text, labels, matches):
    assert parse_labels(text).matches(labels) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a>b", "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators"),
        ("-a=1", 'unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of'),
    ],
)
def test_label_selectors_that_can_t_be_read(text, message):
    with pytest.raises(ApiError) as refused:
        parse_labels(text)
    assert refused.value.code == 400
    assert refused.value.message.startswith(message)


@given(st.text(alphabet="ab=!,()<> in", max_size=20))
def test_any_text_is_read_or_refused(text):
    refused = None
    try:
        assert parse_labels(text).matches({"a": "b"}) in (True, False)
    except ApiError as error:
        refused = error
    assert refused is None or refused.code == 400


@pytest.mark.parametrize(
    ("text", "fields", "matches"),
    [
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a!=1", {"a": "2"}, True),
        ("a=1,b!=2", {"a": "1", "b": "3"}, True),
        (r"a=1\,2", {"a": "1,2"}, True),
        ("a=", {}, True),
    ],
)
def test_field_selectors_match(text, fields, matches):
    assert parse_fields(text).matches(fields) is matches


def test_a_field_selector_tells_the_value_it_pins():
    selector = parse_fields("metadata.name=x,spec.a!=y")
    assert selector.exact("metadata.name") == "x"
    assert selector.exact("spec.a") is None


@pytest.mark.parametrize("text", ["a", "a in (b)", "a>2"])
def test_field_selectors_that_can_t_be_read(text):
    with pytest.raises(ApiError, match="can't understand"):
        parse_fields(text)
