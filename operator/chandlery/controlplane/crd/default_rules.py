"""Defaults in a schema must themselves be valid and hold nothing that the schema doesn't know."""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.schema import Node, Validator, copy_json, errors, prune
from chandlery.controlplane.schema.embedded import MetadataError, coerce, validate_embedded
from chandlery.controlplane.schema.node import MISSING
from chandlery.controlplane.schema.rules import Rules
from chandlery.controlplane.types import FieldError, Obj

_META = ("metadata", "apiVersion", "kind")


def validate_defaults(schema: Obj, path: str, *, pruned: bool) -> list[FieldError]:
    """Errors of all defaults; `pruned` demands that they have no unknown fields."""
    found: list[FieldError] = []
    root = Node(schema)
    _walk(root, path, found, resource=True, in_meta=False, pruned=pruned)
    return found


def has_unpruned_defaults(schema: Obj) -> bool:
    found: list[FieldError] = []

    def walk(node: Node) -> None:
        if node.default is not MISSING and isinstance(node.default, dict | list):
            copy = copy_json(node.default)
            prune(copy, node)
            if copy != node.default:
                found.append(errors.forbidden("", ""))
        for child in (*node.properties.values(), node.items, node.additional):
            if child is not None:
                walk(child)

    walk(Node(schema))
    return bool(found)


def _walk(node: Node, path: str, found: list[FieldError], *, resource: bool, in_meta: bool, pruned: bool) -> None:
    if resource:
        in_meta = False
    if node.default is not MISSING:
        found.extend(_default(node, node.default, f"{path}.default", in_meta=in_meta, pruned=pruned))
    if node.items is not None:
        _walk(node.items, f"{path}.items", found, resource=node.items.embedded, in_meta=in_meta, pruned=pruned)
    for name, sub in node.properties.items():
        inside = in_meta or (resource and name in _META)
        at = errors.key(f"{path}.properties", name)
        _walk(sub, at, found, resource=sub.embedded, in_meta=inside, pruned=pruned)


def _default(node: Node, value: Any, path: str, *, in_meta: bool, pruned: bool) -> list[FieldError]:
    found: list[FieldError] = []
    value = copy_json(value)
    if not in_meta:
        if pruned:
            copy = copy_json(value)
            prune(copy, node, resource_root=node.embedded)
            if copy != value:
                found.append(errors.invalid(path, value, "must not have unknown fields"))
        try:
            coerce(value, node, path)
        except MetadataError as error:
            place, _, detail = str(error).partition(": ")
            return [*found, FieldError(place, "FieldValueInvalid", detail)]
        if problems := validate_embedded(value, node, path):
            return found + problems
    if problems := Validator(node).errors(value, path):
        return found + problems
    if node.has_rules():
        rules = Rules.compile(node)
        if rules is not None:
            found += rules.validate_default(value, path)
    return found
