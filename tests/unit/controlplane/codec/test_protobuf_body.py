"""Protobuf bodies: what kubectl and Helm send, special scalars, and bytes that are nothing."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.controlplane.codec import decode_body
from chandlery.controlplane.codec.protobuf import PREFIX, ProtobufError, _tables, decode_object, encode_status
from chandlery.controlplane.types import ApiError, Obj


def field(number: int, value: bytes | str | int) -> bytes:
    """One field as a client writes it."""
    if isinstance(value, int):
        value &= (1 << 64) - 1
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    type_meta = field(1, api_version) + field(2, kind)
    return PREFIX + field(1, type_meta) + field(2, raw) + field(3, "") + field(4, "")


def decoded(api_version: str, kind: str, *fields: bytes) -> Obj:
    return decode_object(body(api_version, kind, b"".join(fields)))


def test_a_config_map() -> None:
    meta = field(1, "lit") + field(8, b"") + field(11, field(1, "k") + field(2, "v"))
    data = field(2, field(1, "a") + field(2, "b")) + field(2, field(1, "empty") + field(2, ""))
    binary = field(3, field(1, "bin") + field(2, b"\x00\xff"))
    assert decoded("v1", "ConfigMap", field(1, meta), data, binary, field(4, 1)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "lit", "creationTimestamp": None, "labels": {"k": "v"}},
        "data": {"a": "b", "empty": ""},
        "binaryData": {"bin": "AP8="},
        "immutable": True,
    }


def test_the_smallest_recorded_body() -> None:
    raw = base64.b64decode("azhzAAoPCgJ2MRIJQ29uZmlnTWFwEgYKBAoCcGI=")
    assert decode_body(raw, "application/vnd.kubernetes.protobuf", strict=True, kind="ConfigMap") == (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pb"}},
        [],
    )


def test_inlined_structs_and_special_scalars() -> None:
    int_or_string = field(1, 0) + field(2, 8080) + field(3, "")
    named_port = field(1, 1) + field(2, 0) + field(3, "http")
    http_get = field(1, "/") + field(2, int_or_string)
    probe = field(1, field(2, http_get)) + field(2, -1)
    quantity = field(1, field(1, "cpu") + field(2, field(1, "100m")))
    container = field(1, "c") + field(8, quantity) + field(10, probe)
    volume = field(1, "v") + field(2, field(19, field(1, field(1, "cm")) + field(3, 420)))
    service_port = field(3, 80) + field(4, named_port)
    time = field(8, field(1, 1_700_000_000) + field(2, 0))
    pod = decoded("v1", "Pod", field(1, time), field(2, field(1, volume) + field(2, container)))
    assert pod["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert pod["spec"] == {
        "volumes": [{"name": "v", "configMap": {"name": "cm", "defaultMode": 420}}],
        "containers": [
            {
                "name": "c",
                "resources": {"limits": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 8080}, "initialDelaySeconds": -1},
            }
        ],
    }
    service = decoded("v1", "Service", field(2, field(1, service_port)))
    assert service["spec"]["ports"] == [{"port": 80, "targetPort": "http"}]
    lease = decoded("coordination.k8s.io/v1", "Lease", field(2, field(3, field(1, 1_700_000_000) + field(2, 5_000))))
    assert lease["spec"] == {"acquireTime": "2023-11-14T22:13:20.000005Z"}


def test_reviews_options_and_lists_of_strings() -> None:
    extra = field(5, field(1, "scopes") + field(2, field(1, "a") + field(1, "b")))
    review = decoded(
        "authorization.k8s.io/v1", "SubjectAccessReview", field(2, field(3, "jane") + field(4, "devs") + extra)
    )
    assert review["spec"] == {"user": "jane", "groups": ["devs"], "extra": {"scopes": ["a", "b"]}}
    options = decoded("policy/v1", "DeleteOptions", field(1, 0), field(4, "Background"))
    assert options == {
        "apiVersion": "policy/v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Background",
    }


def test_schemas_of_custom_resources() -> None:
    props = field(5, "object") + field(29, field(1, "x") + field(2, field(5, "integer") + field(8, field(1, "5"))))
    extra = field(30, field(1, 1) + field(2, field(5, "string")))
    version = field(1, "v1") + field(4, field(1, props + extra))
    crd = decoded("apiextensions.k8s.io/v1", "CustomResourceDefinition", field(2, field(7, version)))
    assert crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] == {
        "type": "object",
        "properties": {"x": {"type": "integer", "default": 5}},
        "additionalProperties": {"type": "string"},
    }


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"nope", "does not appear to be a protobuf message, expected prefix [107 56 115 0] (6e6f7065)"),
        (b"", "empty data (<empty>)"),
        (body("v1", "Nope", b""), 'no kind "Nope" is registered for version "v1"'),
        (body("x.example/v1", "Claim", b""), 'no kind "Claim" is registered for version "x.example/v1"'),
        (body("v1", "ConfigMap", b"\x0a\x7f"), "unexpected EOF"),
        (body("v1", "ConfigMap", b"\x0b"), "illegal wireType 3"),
        (body("v1", "ConfigMap", b"\x08\x01"), "wrong wireType"),
    ],
)
def test_bytes_that_are_no_object(raw: bytes, why: str) -> None:
    with pytest.raises(ApiError) as caught:
        decode_body(raw, "application/vnd.kubernetes.protobuf", strict=True, kind="ConfigMap")
    assert caught.value.code == 400
    assert why in caught.value.message


def test_messages_can_not_nest_without_end() -> None:
    props = b""
    for _ in range(400):
        props = field(27, props)  # not: a schema in a schema
    version = field(1, "v1") + field(4, field(1, props))
    with pytest.raises(ProtobufError):
        decoded("apiextensions.k8s.io/v1", "CustomResourceDefinition", field(2, field(7, version)))


@given(st.sampled_from(["Pod", "Secret", "Service", "Event", "DeleteOptions"]), st.binary(max_size=60))
def test_any_bytes_are_an_object_or_an_error(kind: str, raw: bytes) -> None:
    try:
        assert decode_object(body("v1", kind, raw))["kind"] == kind
    except ProtobufError:
        pass


@given(st.binary(max_size=60))
def test_any_envelope_is_an_object_or_an_error(raw: bytes) -> None:
    try:
        decode_object(PREFIX + raw)
    except ProtobufError:
        pass


def test_every_message_of_the_table_is_complete() -> None:
    groups, messages = _tables()
    assert {"v1", "apps/v1", "rbac.authorization.k8s.io/v1", "meta.k8s.io/v1"} <= groups.keys()
    for name, fields in messages.items():
        for _, kind in fields.values():
            bare = kind.lstrip("*{")
            assert bare in "sbtiud" or bare[1:] in messages, (name, kind)


def test_a_status_for_clients_that_read_nothing_else() -> None:
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "no",
        "reason": "NotAcceptable",
        "details": {"kind": "pods", "causes": [{"field": "f", "message": "m", "reason": "r"}]},
        "code": 406,
    }
    found = decode_object(encode_status(status))
    assert {key: found[key] for key in ("kind", "apiVersion", "status", "message", "reason", "code")} == {
        key: status[key] for key in ("kind", "apiVersion", "status", "message", "reason", "code")
    }
    assert found["details"]["causes"] == [{"reason": "r", "message": "m", "field": "f"}]


def test_fixed_width_fields_are_skipped_when_unknown() -> None:
    unknown = varint(99 << 3 | 1) + struct.pack("<d", 1.5) + varint(98 << 3 | 5) + b"\0\0\0\0"
    assert decoded("v1", "ConfigMap", unknown) == {"apiVersion": "v1", "kind": "ConfigMap"}
