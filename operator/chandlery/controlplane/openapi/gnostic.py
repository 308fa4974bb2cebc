"""OpenAPI v2 as the protobuf that Go clients ask for (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).

kubectl falls back to it for kinds that can't be patched, and Argo CD reads its schemas from it.
Source of the field numbers: google/gnostic `openapiv2/OpenAPIv2.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from chandlery.controlplane.types import Obj

MEDIA = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""The type of the answer; clients ask for it with an @ before the version, which no header may hold."""

Encoder = Callable[[Any], bytes]
Fields = Mapping[str, tuple[int, Encoder | str]]
"""JSON key -> (field number, kind): s string, b bool, i integer, d double, S and A lists of strings and values, or the
encoder of a message."""


def varint(number: int) -> bytes:
    if number < 0:
        number += 1 << 64
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def block(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def text(number: int, value: str) -> bytes:
    return block(number, value.encode())


def anything(value: Any) -> bytes:
    """`Any`: the value as YAML, which JSON is."""
    return block(2, orjson.dumps(value))


def message(value: Obj, fields: Fields, extensions: int) -> bytes:
    """A message by its table; keys that begin with x- are vendor extensions."""
    out: list[bytes] = []
    for key, member in value.items():
        known = fields.get(key)
        if known is None:
            if key.startswith("x-") and extensions:
                out.append(block(extensions, text(1, key) + block(2, anything(member))))
            continue
        number, kind = known
        if kind == "s":
            out.append(text(number, member))
        elif kind == "b":
            out.append(varint(number << 3) + varint(int(bool(member))))
        elif kind == "i":
            out.append(varint(number << 3) + varint(int(member)))
        elif kind == "d":
            out.append(varint(number << 3 | 1) + struct.pack("<d", member))
        elif kind == "S":
            out += [text(number, item) for item in member]
        elif kind == "A":
            out += [block(number, anything(item)) for item in member]
        elif not isinstance(kind, str):
            out.append(block(number, kind(member)))
    return b"".join(out)


def _named(members: Obj, encode: Encoder, number: int = 1) -> bytes:
    return b"".join(block(number, text(1, name) + block(2, encode(member))) for name, member in members.items())


def schema(value: Obj) -> bytes:
    return message(value, _SCHEMA, 31)


def _properties(value: Obj) -> bytes:
    return _named(value, schema)


def _additional(value: Any) -> bytes:
    return varint(2 << 3) + varint(int(value)) if isinstance(value, bool) else block(1, schema(value))


def _type(value: Any) -> bytes:
    return b"".join(text(1, item) for item in ([value] if isinstance(value, str) else value))


def _items(value: Obj) -> bytes:
    return block(1, schema(value))


_SCHEMA: Fields = {
    "$ref": (1, "s"),
    "format": (2, "s"),
    "title": (3, "s"),
    "description": (4, "s"),
    "default": (5, anything),
    "multipleOf": (6, "d"),
    "maximum": (7, "d"),
    "exclusiveMaximum": (8, "b"),
    "minimum": (9, "d"),
    "exclusiveMinimum": (10, "b"),
    "maxLength": (11, "i"),
    "minLength": (12, "i"),
    "pattern": (13, "s"),
    "maxItems": (14, "i"),
    "minItems": (15, "i"),
    "uniqueItems": (16, "b"),
    "maxProperties": (17, "i"),
    "minProperties": (18, "i"),
    "required": (19, "S"),
    "enum": (20, "A"),
    "additionalProperties": (21, _additional),
    "type": (22, _type),
    "items": (23, _items),
    "properties": (25, _properties),
    "readOnly": (27, "b"),
    "example": (30, anything),
}


def _parameter(value: Obj) -> bytes:
    if "$ref" in value:
        return block(2, text(1, value["$ref"]))
    if value.get("in") == "body":
        return block(1, block(1, message(value, _BODY, 6)))
    where, fields, extensions = (3, _QUERY, 23) if value.get("in") == "query" else (4, _PATH, 22)
    return block(1, block(2, block(where, message(value, fields, extensions))))


_BODY: Fields = {
    "description": (1, "s"),
    "name": (2, "s"),
    "in": (3, "s"),
    "required": (4, "b"),
    "schema": (5, schema),
}
_QUERY: Fields = {
    "required": (1, "b"),
    "in": (2, "s"),
    "description": (3, "s"),
    "name": (4, "s"),
    "type": (6, "s"),
    "format": (7, "s"),
    "uniqueItems": (20, "b"),
}
_PATH: Fields = {
    "required": (1, "b"),
    "in": (2, "s"),
    "description": (3, "s"),
    "name": (4, "s"),
    "type": (5, "s"),
    "format": (6, "s"),
    "uniqueItems": (19, "b"),
}


def _response(value: Obj) -> bytes:
    out = text(1, value.get("description") or "")
    if "schema" in value:
        out += block(2, block(1, schema(value["schema"])))
    return block(1, out)


def _responses(value: Obj) -> bytes:
    return _named(value, _response)


def _operation(value: Obj) -> bytes:
    parameters = b"".join(block(8, _parameter(item)) for item in value.get("parameters") or ())
    return message(value, _OPERATION, 13) + parameters


_OPERATION: Fields = {
    "tags": (1, "S"),
    "summary": (2, "s"),
    "description": (3, "s"),
    "operationId": (5, "s"),
    "produces": (6, "S"),
    "consumes": (7, "S"),
    "responses": (9, _responses),
    "schemes": (10, "S"),
    "deprecated": (11, "b"),
}
_PATH_ITEM: Fields = {
    "get": (2, _operation),
    "put": (3, _operation),
    "post": (4, _operation),
    "delete": (5, _operation),
    "options": (6, _operation),
    "head": (7, _operation),
    "patch": (8, _operation),
}


def _path(value: Obj) -> bytes:
    parameters = b"".join(block(9, _parameter(item)) for item in value.get("parameters") or ())
    return message(value, _PATH_ITEM, 10) + parameters


def _paths(value: Obj) -> bytes:
    return _named(value, _path, 2)


def _info(value: Obj) -> bytes:
    return message(value, {"title": (1, "s"), "version": (2, "s"), "description": (3, "s")}, 7)


def encode(document: Obj) -> bytes:
    """An OpenAPI v2 document as protobuf."""
    fields: Fields = {
        "swagger": (1, "s"),
        "info": (2, _info),
        "paths": (8, _paths),
        "definitions": (9, _properties),
    }
    return message(document, fields, 16)
