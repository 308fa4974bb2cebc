"""Uniqueness in lists of type "set" and "map"."""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.schema import errors
from chandlery.controlplane.schema.gotext import json_text
from chandlery.controlplane.schema.node import Node
from chandlery.controlplane.types import FieldError


def has_list_types(node: Node) -> bool:
    """Whether a check of `validate_lists` could find anything here or below."""
    return node.lists


def validate_lists(value: Any, node: Node | None, path: str = "") -> list[FieldError]:
    """Duplicates in sets and maps anywhere in `value`; each repeated item is reported at its second place."""
    found: list[FieldError] = []
    if node is not None:
        _walk(value, node, path, found)
    return found


def _walk(value: Any, node: Node, path: str, found: list[FieldError]) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            if type(member) is not dict and type(member) is not list:
                continue
            sub = node.properties.get(name)
            if sub is not None:
                if sub.lists:
                    _walk(member, sub, errors.child(path, name), found)
            elif node.additional is not None and node.additional.lists:
                _walk(member, node.additional, errors.key(path, name), found)
    elif isinstance(value, list):
        if node.list_type == "set":
            found.extend(
                errors.duplicate(errors.index(path, position), value[position]) for position in _repeated(value)
            )
        elif node.list_type == "map":
            found.extend(_map(value, node, path))
        if node.items is not None and node.items.lists:
            for position, member in enumerate(value):
                if type(member) is dict or type(member) is list:
                    _walk(member, node.items, errors.index(path, position), found)


def _repeated(values: list[Any]) -> list[int]:
    """Positions where a value stands for the second time."""
    if len(values) < 2:
        return []
    times: dict[Any, int] = {}
    positions = []
    for position, value in enumerate(values):
        identity = (type(value), json_text(value) if isinstance(value, dict | list) else value)
        count = times[identity] = times.get(identity, 0) + 1
        if count == 2:
            positions.append(position)
    return positions


def plainly_unique(value: list[Any], names: tuple[str, ...]) -> bool:
    """The common case, quickly: every item has all keys as strings or numbers, and no two are the same."""
    seen: set[Any] = set()
    for member in value:
        if type(member) is not dict:
            return False
        for name in names:
            key = member.get(name)
            if type(key) is not str and type(key) is not int:
                return False
        seen.add(member[names[0]] if len(names) == 1 else tuple(member[name] for name in names))
    return len(seen) == len(value)


def _map(value: list[Any], node: Node, path: str) -> list[FieldError]:
    if node.list_keys and plainly_unique(value, node.list_keys):
        return []
    for position, member in enumerate(value):
        if member is not None and not isinstance(member, dict):
            detail = "must be an object for an array of list-type map"
            return [errors.invalid(errors.index(path, position), member, detail)]
    keys = [
        {name: member[name] for name in node.list_keys if name in member} if member is not None else {}
        for member in value
    ]
    return [errors.duplicate(errors.index(path, position), keys[position]) for position in _repeated(keys)]
