"""Dropping what a schema doesn't name, and nulls that it doesn't allow.

`prune` works in place and returns the paths of the dropped fields, as strict field validation lists them.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.schema.node import MISSING, Node

META = frozenset(("apiVersion", "kind", "metadata"))


def prune(value: Any, node: Node | None, *, resource_root: bool = False) -> list[str]:
    """Remove unknown fields in place; `resource_root` spares apiVersion, kind and metadata at the top."""
    unknown: list[str] = []
    _prune(value, node, "", resource_root or (node is not None and node.embedded), unknown)
    unknown.sort()
    return unknown


def _prune(value: Any, node: Node | None, path: str, resource: bool, unknown: list[str]) -> None:
    if node is not None and node.preserve:
        _skip(value, node, path, resource, unknown)
        return
    if isinstance(value, dict):
        if node is None:
            unknown.extend(_join(path, name) for name in value)
            value.clear()
            return
        properties, additional = node.properties, node.additional
        open_ended = node.additional_allowed is not None
        dropped: list[str] = []
        for name, member in value.items():
            if resource and name in META:
                continue
            sub = properties.get(name)
            if sub is None:
                if not open_ended:
                    dropped.append(name)
                    continue
                sub = additional
            if type(member) is dict or type(member) is list:
                _prune(member, sub, _join(path, name), sub is not None and sub.embedded, unknown)
        for name in dropped:
            del value[name]
            if path or name not in META:
                unknown.append(_join(path, name))
    elif isinstance(value, list):
        items = node.items if node is not None else None
        for position, member in enumerate(value):
            if type(member) is dict or type(member) is list:
                _prune(member, items, f"{path}[{position}]", items is not None and items.embedded, unknown)


def _skip(value: Any, node: Node | None, path: str, resource: bool, unknown: list[str]) -> None:
    """Inside x-kubernetes-preserve-unknown-fields: only what the schema names is looked into."""
    if node is None:
        return
    if isinstance(value, dict):
        open_ended = node.additional_allowed is not None
        for name, member in value.items():
            if resource and name in META:
                continue
            sub = node.properties.get(name)
            if sub is None:
                if not open_ended:
                    continue
                sub = node.additional
            if type(member) is dict or type(member) is list:
                _prune(member, sub, _join(path, name), sub is not None and sub.embedded, unknown)
    elif isinstance(value, list):
        items = node.items
        for position, member in enumerate(value):
            _skip(member, items, f"{path}[{position}]", items is not None and items.embedded, unknown)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def drop_nulls(value: Any, node: Node | None) -> None:
    """Remove fields that are null where the schema allows neither null nor has a default, in place."""
    if isinstance(value, dict):
        dropped: list[str] = []
        for name, member in value.items():
            sub = node.field(name) if node is not None else None
            if member is None:
                if sub is not None and not sub.nullable and sub.default is MISSING:
                    dropped.append(name)
            elif sub is not None and (type(member) is dict or type(member) is list):
                drop_nulls(member, sub)
        for name in dropped:
            del value[name]
    elif isinstance(value, list):
        items = node.items if node is not None else None
        if items is not None:
            for member in value:
                if type(member) is dict or type(member) is list:
                    drop_nulls(member, items)
