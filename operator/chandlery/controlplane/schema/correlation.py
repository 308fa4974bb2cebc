"""Which part of an old object a part of the new one corresponds to.

Validation tolerates what was there before (ratcheting), and transition rules see the old value: both need this.
Maps correlate by key, lists of type "map" by their keys, other lists not at all.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.schema.gotext import json_text
from chandlery.controlplane.schema.node import Node


def list_key(item: Any, keys: tuple[str, ...]) -> str | None:
    """An item's identity in a list of type "map"; None when a key field is absent or not a scalar."""
    if not isinstance(item, dict):
        return None
    identity: list[Any] = []
    for name in keys:
        value = item.get(name)
        if value is None or isinstance(value, dict | list):
            return None
        identity.append(value)
    return json_text(identity)


class Correlation:
    """A new value and the old one that it corresponds to."""

    __slots__ = ("_equal", "_old_items", "new", "node", "old")

    def __init__(self, new: Any, old: Any, node: Node | None) -> None:
        self.new = new
        self.old = old
        self.node = node
        self._equal: bool | None = None
        self._old_items: dict[str | None, Any] | None = None

    def unchanged(self) -> bool:
        if self._equal is None:
            self._equal = same(self.new, self.old)
        return self._equal

    def field(self, name: str) -> Correlation | None:
        node = self.node
        if node is None or not isinstance(self.old, dict) or not isinstance(self.new, dict):
            return None
        if name not in self.old or name not in self.new:
            return None
        sub = node.field(name)
        return Correlation(self.new[name], self.old[name], sub) if sub is not None else None

    def item(self, position: int) -> Correlation | None:
        node = self.node
        if node is None or node.items is None or not isinstance(self.new, list):
            return None
        old = self.old_item(self.new[position])
        return None if old is None else Correlation(self.new[position], old, node.items)

    def old_item(self, item: Any) -> Any:
        """The old item with the same keys; None when the list isn't of type "map" or there is none."""
        node = self.node
        if node is None or node.list_type != "map" or not isinstance(self.old, list):
            return None
        if self._old_items is None:
            self._old_items = {}
            for old in self.old:
                self._old_items.setdefault(list_key(old, node.list_keys), old)
        identity = list_key(item, node.list_keys)
        return None if identity is None else self._old_items.get(identity)


def same(left: Any, right: Any) -> bool:
    """Equality of JSON data that tells true from 1 and 1 from 1.0."""
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    if type(left) is dict:
        return left.keys() == right.keys() and all(same(member, right[name]) for name, member in left.items())
    if type(left) is list:
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
