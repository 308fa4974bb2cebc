"""Filling in a schema's defaults, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chandlery.controlplane.schema.node import MISSING, Node

Filler = Callable[[Any], None]


def copy_json(value: Any) -> Any:
    """A deep copy of JSON data."""
    if type(value) is dict:
        return {name: copy_json(member) for name, member in value.items()}
    if type(value) is list:
        return [copy_json(member) for member in value]
    return value


def compile_defaults(node: Node) -> Filler | None:
    """A function that defaults a value of this schema in place; None when there is nothing to default.

    A default replaces an absent field and a null that the schema doesn't allow. A null item or map value without
    nullable takes the item schema's default (null when that has none).
    """
    if not node.has_defaults():
        return None
    plain = [(name, sub.default, sub.nullable) for name, sub in node.properties.items() if sub.default is not MISSING]
    fillers = {name: filler for name, sub in node.properties.items() if (filler := compile_defaults(sub)) is not None}
    additional = node.additional
    fill_additional = compile_defaults(additional) if additional is not None else None
    items = node.items
    fill_items = compile_defaults(items) if items is not None else None

    def fill(value: Any) -> None:
        if type(value) is dict:
            for name, default, nullable in plain:
                if name not in value or (value[name] is None and not nullable):
                    value[name] = copy_json(default)
            if fillers:
                for name, filler in fillers.items():
                    if name in value:
                        filler(value[name])
            if additional is not None and fill_additional is not None:
                for name, member in value.items():
                    if name in node.properties:
                        continue
                    if member is None and not additional.nullable and additional.default is not MISSING:
                        value[name] = copy_json(additional.default)
                    fill_additional(value[name])
        elif type(value) is list and items is not None and fill_items is not None:
            for position, member in enumerate(value):
                if member is None and not items.nullable and items.default is not MISSING:
                    value[position] = copy_json(items.default)
                fill_items(value[position])

    return fill
