"""Field paths of `fieldPath` in rules and of selectable fields: `.spec.x`, `.spec['a.b']`, checked against a schema."""

from __future__ import annotations

import re

from chandlery.controlplane.schema import errors
from chandlery.controlplane.types import Obj

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[.\[\]]|[^.\[\]]+", re.DOTALL)


class FieldPathError(ValueError):
    """A path that can't be read or names no field."""


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        char = match.group()[1]
        if char not in _ESCAPES:
            raise FieldPathError(f"invalid string literal: invalid escape char {match.group()}")
        return _ESCAPES[char]

    return re.sub(r"\\.", one, text)


def valid_field_path(text: str, schema: Obj, *, brackets: bool = True) -> tuple[str, Obj]:
    """The normalised path (`spec.x`, `spec[a]`) and the schema of the field that it names. Raises FieldPathError."""
    tokens = iter(_TOKEN.findall(text))
    path = ""
    for part in tokens:
        if part == "[":
            if not brackets:
                raise FieldPathError("array notation is not allowed")
            name = _next(tokens)
            if len(name) < 2 or name[0] != "'" or name[-1] != "'":
                raise FieldPathError(f"expected single quoted string but got {name}")
            path, schema = _step(path, schema, _unescape(name[1:-1]))
            closing = _next(tokens)
            if closing != "]":
                raise FieldPathError(f"expected ] but got {closing}")
        elif part == ".":
            path, schema = _step(path, schema, _next(tokens))
        else:
            raise FieldPathError(f"expected [ or . but got: {part}")
    return path, schema


def _next(tokens: object) -> str:
    for token in tokens:  # type: ignore[attr-defined]
        return str(token)
    raise FieldPathError("unexpected end of JSON path")


def _step(path: str, schema: Obj, name: str) -> tuple[str, Obj]:
    properties = schema.get("properties")
    if properties:
        if name not in properties:
            raise FieldPathError("does not refer to a valid field")
        return errors.child(path, name), properties[name]
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        return errors.key(path, name), additional
    raise FieldPathError("does not refer to a valid field")
