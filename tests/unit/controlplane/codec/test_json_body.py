"""JSON bodies: Go's messages, duplicate fields, order of strict errors, patches."""
# ruff: noqa: E501 - tables read best with one case a line

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane.codec import decode_body, in_document_order, read_patch, warning_texts
from chandlery.controlplane.codec.gojson import JsonError, duplicates, loads
from chandlery.controlplane.codec.gotext import go_float, go_literal, go_quote, go_value
from chandlery.controlplane.types import ApiError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unexpected end of JSON input"),
        ('{"a":', "unexpected end of JSON input"),
        ("[1,2", "unexpected end of JSON input"),
        ('"abc', "unexpected end of JSON input"),
        ("not json", "invalid character 'o' in literal null (expecting 'u')"),
        ("trux", "invalid character 'x' in literal true (expecting 'e')"),
        ("{}x", "invalid character 'x' after top-level value"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("a: b", "invalid character 'a' looking for beginning of value"),
        ("'a'", "invalid character '\\'' looking for beginning of value"),
        ('"\\q"', "invalid character 'q' in string escape code"),
        ('"\\u12x4"', "invalid character 'x' in \\u hexadecimal character escape"),
        ('"a\nb"', "invalid character '\\n' in string literal"),
        ("-x", "invalid character 'x' in numeric literal"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1ex", "invalid character 'x' in exponent of numeric literal"),
        ("01", "invalid character '1' after top-level value"),
        ("NaN", "invalid character 'N' looking for beginning of value"),
        ("\ufeff{}", "invalid character 'ï' looking for beginning of value"),
    ],
)
def test_syntax_errors_are_gos(text: str, message: str) -> None:
    with pytest.raises(JsonError) as caught:
        loads(text.encode())
    assert str(caught.value) == message


def test_depth_has_a_limit() -> None:
    deep = b'{"a":' * 150 + b"1" + b"}" * 150
    assert isinstance(loads(deep), dict)
    for raw in (b"[" * 300 + b"]" * 300, b'{"a":' * 5000 + b"1" + b"}" * 5000, b"[" * 2_000_000):
        with pytest.raises(JsonError):
            loads(raw)


def test_numbers_that_no_64_bits_hold() -> None:
    assert loads(b'["\xff", 18446744073709551616, -9223372036854775808]') == ["\ufffd", 2.0**64, -(2**63)]
    for raw in (b"1e400", b'{"a": ' + b"9" * 5000 + b"}"):
        with pytest.raises(JsonError, match="into Go value of type float64"):
            loads(raw)


def test_what_go_forgives() -> None:
    assert loads(b'{"a":"\xff"}') == {"a": "\ufffd"}
    assert loads(b'"\\ud800"') == "\ufffd"
    assert loads(b'{"n":1.0,"big":123}') == {"n": 1.0, "big": 123}


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=10,
)


@given(VALUES, st.booleans())
def test_valid_json_has_no_duplicates(value: Any, spaces: bool) -> None:
    raw = json.dumps(value, indent=1 if spaces else None).encode()
    assert loads(raw) == value
    assert duplicates(raw, value) == []


@given(VALUES)
def test_cut_json_is_refused_in_words(value: Any) -> None:
    raw = json.dumps({"k": value}).encode()
    for end in range(len(raw)):
        with pytest.raises(JsonError):
            loads(raw[:end])


def test_duplicates_are_found_however_they_are_written() -> None:
    for text in ('{"a":1,"a":2}', '{"a" : 1, "a"\n:2}', '{"a":"x:y","\\u0061":2}', '{"a":"\\u003a","a":1}'):
        raw = text.encode()
        assert duplicates(raw, loads(raw)) == ['duplicate field "a"']
    raw = b'{"spec":{"l":[{"x":1,"x":2,"x":3}]},"spec":{"b":1,"b":2}}'
    assert duplicates(raw, loads(raw)) == [
        'duplicate field "spec.l[0].x"',
        'duplicate field "spec"',
        'duplicate field "spec.b"',
    ]


def test_strict_errors_of_typed_objects_stand_in_the_documents_order() -> None:
    raw = b'{"metadata":{"who":{"x":1,"x":2}},"data":{"k":"1","k":"2"},"extra":{}}'
    found = [*duplicates(raw, loads(raw)), 'unknown field "extra"', 'unknown field "metadata.who"']
    assert in_document_order(raw, found) == [
        'unknown field "metadata.who"',
        'duplicate field "data.k"',
        'unknown field "extra"',
    ]


def refused(raw: bytes, content_type: str = "application/json") -> ApiError:
    with pytest.raises(ApiError) as caught:
        decode_body(raw, content_type, strict=True, kind="ConfigMap")
    return caught.value


def test_bodies_that_are_no_objects() -> None:
    prefix = (
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: "
    )
    assert refused(b"").message == prefix + "unexpected end of JSON input (<empty>)"
    assert refused(b'{"apiVersion":').message == prefix + 'unexpected end of JSON input ({"apiVersion":)'
    assert refused(b'"x"').message == (
        prefix + "json: cannot unmarshal string into Go value of type struct "
        '{ APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" } (227822)'
    )
    assert refused(b'{"kind":5}').message == (
        prefix + 'json: cannot unmarshal number into Go struct field .kind of type string ({"kind":5})'
    )
    long = b"[" + b"1," * 40 + b"1]"
    assert refused(long).message.endswith(f"({long[:30].hex()} ...)")


def test_content_types() -> None:
    assert decode_body(b"{}", "", strict=True) == ({}, [])
    assert decode_body(b"{}", "application/json; charset=utf-8", strict=True) == ({}, [])
    assert decode_body(b"null", "application/json", strict=True) == ({}, [])
    error = refused(b"{}", "application/xml")
    assert (error.code, error.reason) == (415, "UnsupportedMediaType")
    assert error.message == (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )


JSON_PATCH, MERGE, STRATEGIC, APPLY = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


@pytest.mark.parametrize(
    ("raw", "kind", "strict", "message"),
    [
        (b'{"op":"add"}', JSON_PATCH, True, "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        (b'{"op":"add"}', JSON_PATCH, False, "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
        (b'[{"op":5}]', JSON_PATCH, True, "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string"),
        (b"[5]", JSON_PATCH, True, "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
        (b"nope", JSON_PATCH, True, "error decoding patch: invalid character 'o' in literal null (expecting 'u')"),
        (b'"x"', MERGE, True, "error decoding patch: json: cannot unmarshal string into Go value of type map[string]interface {}"),
        (b"{", MERGE, False, "Invalid JSON Patch"),
        (b"[]", STRATEGIC, True, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        (b'"x"', APPLY, True, "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go value of type map[string]interface {}"),
        (b"a: [", APPLY, True, "error decoding YAML: error converting YAML to JSON: yaml: line 1: did not find expected node content"),
    ],
)  # fmt: skip
def test_patches_that_can_not_be_read(raw: bytes, kind: str, strict: bool, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_patch(raw, kind, strict=strict)
    assert (caught.value.code, caught.value.message) == (400, message)


def test_strictness_of_patches() -> None:
    raw = b'[{"op":"add","path":"/a","zz":1},{"op":"add","path":"/a","value":1,"value":2}]'
    value, errors = read_patch(raw, JSON_PATCH, strict=True)
    assert value[1]["value"] == 2
    assert errors == ['json patch unknown field "[0].zz"', 'json patch duplicate field "[1].value"']
    assert read_patch(raw, JSON_PATCH, strict=False)[1] == []
    assert read_patch(b'{"a":{"b":1,"b":2}}', MERGE, strict=True) == ({"a": {"b": 2}}, ['duplicate field "a.b"'])
    value, errors = read_patch(b'{"a":1,\n"a":2}', APPLY, strict=True)
    assert value == {"a": 2}
    assert warning_texts(errors) == ['line 2: key "a" already set in map']
    assert read_patch(b'{"size":2.0}', APPLY, strict=True)[0] == {"size": 2}
    assert type(read_patch(b'{"size":2.0}', APPLY, strict=True)[0]["size"]) is int


def test_go_texts() -> None:
    assert go_value({"b": [1, None, True], "a": {"x": "y z"}}) == "map[a:map[x:y z] b:[1 <nil> true]]"
    assert go_literal({"a": [1.5, "q"]}) == 'map[string]interface {}{"a":[]interface {}{1.5, "q"}}'
    assert [go_float(x) for x in (1.0, 0.1, 1e20, 1e21, 1.5e-7, -2.5)] == ["1", "0.1", "100000000000000000000", "1e+21", "1.5e-07", "-2.5"]  # fmt: skip
    assert go_quote('a"\n\x01é\u200b') == '"a\\"\\n\\x01é\\u200b"'
