"""Defaults in a schema must themselves be valid and hold nothing that the schema doesn't know."""

from __future__ import annotations

from dataclasses import dataclass
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
    _walk(root, path, found, _Inside(root), pruned=pruned)
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


@dataclass(frozen=True, slots=True)
class _Inside:
    """Where a schema stands in the resource around it."""

    resource: Node
    names: tuple[str | None, ...] = ()
    """Fields from the resource down, None for the items of a list."""
    in_meta: bool = False

    def below(self, name: str | None, node: Node) -> _Inside:
        if node.embedded:
            return _Inside(node)
        in_meta = self.in_meta or (not self.names and name in _META)
        return _Inside(self.resource, (*self.names, name), in_meta)

    def object(self, value: Any) -> Obj:
        """The smallest resource that holds a value here."""
        for name in reversed(self.names):
            value = [value] if name is None else {name: value}
        return {"kind": "Validation", "apiVersion": "validation/v1", **value}


def _walk(node: Node, path: str, found: list[FieldError], inside: _Inside, *, pruned: bool) -> None:
    if node.default is not MISSING:
        found.extend(_default(node, node.default, f"{path}.default", inside, pruned=pruned))
    if node.items is not None:
        _walk(node.items, f"{path}.items", found, inside.below(None, node.items), pruned=pruned)
    for name, sub in node.properties.items():
        _walk(sub, errors.key(f"{path}.properties", name), found, inside.below(name, sub), pruned=pruned)


def _default(node: Node, value: Any, path: str, inside: _Inside, *, pruned: bool) -> list[FieldError]:
    found: list[FieldError] = []
    value = copy_json(value)
    if inside.in_meta:
        if problem := _metadata_problem(inside, value):
            return [errors.invalid(path, value, f"must result in valid metadata: {problem}")]
    else:
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


def _metadata_problem(inside: _Inside, value: Any) -> str:
    """What is wrong with a resource that has this default in its metadata, apiVersion or kind."""
    obj = inside.object(copy_json(value))
    try:
        coerce(obj, inside.resource, root=True)
    except MetadataError as error:
        return str(error)
    texts = list(dict.fromkeys(f"{e.path}: {e.detail}" for e in validate_embedded(obj, inside.resource, root=True)))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""
