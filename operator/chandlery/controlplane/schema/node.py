"""A custom resource schema, compiled once: the tree that pruning, defaulting and validation walk.

Input is a JSONSchemaProps object of `apiextensions.k8s.io/v1` that passed the CRD's own validation (see
`chandlery.controlplane.crd.validation`); the compiler trusts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chandlery.controlplane.schema.formats import effective_format, string_format
from chandlery.controlplane.schema.regex import RegexError, compile_re2
from chandlery.controlplane.types import Obj

MISSING: Any = object()
"""Absence, where None would be a JSON null."""


class Node:
    """One level of a schema. Everything that is looked at for every value is an attribute here."""

    __slots__ = (
        "additional", "additional_allowed", "all_of", "any_of", "default", "embedded", "enum", "exclusive_maximum",
        "exclusive_minimum", "format", "format_check", "int_or_string", "items", "list_keys", "list_type", "lists",
        "map_type", "max_items", "max_length", "max_properties", "maximum", "min_items", "min_length", "min_properties",
        "minimum", "multiple_of", "negated", "nullable", "one_of", "pattern", "pattern_search", "preserve",
        "properties", "raw", "required", "rules", "trivial", "type", "types", "unique",
    )  # fmt: skip

    def __init__(self, raw: Obj) -> None:
        self.raw = raw
        self.type: str = raw.get("type") or ""
        self.int_or_string = bool(raw.get("x-kubernetes-int-or-string"))
        self.types: tuple[str, ...] = ("integer", "string") if self.int_or_string else (self.type,) if self.type else ()
        self.nullable = bool(raw.get("nullable"))
        self.default: Any = raw["default"] if raw.get("default") is not None else MISSING
        self.preserve = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(raw.get("x-kubernetes-embedded-resource"))
        self.list_type: str = raw.get("x-kubernetes-list-type") or ""
        self.list_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str = raw.get("x-kubernetes-map-type") or ""
        self.rules: list[Obj] = raw.get("x-kubernetes-validations") or []
        self.properties: dict[str, Node] = {name: Node(sub) for name, sub in (raw.get("properties") or {}).items()}
        additional = raw.get("additionalProperties")
        self.additional: Node | None = Node(additional) if isinstance(additional, dict) else None
        self.additional_allowed: bool | None = (
            None if additional is None else bool(additional) if not isinstance(additional, dict) else True
        )
        items = raw.get("items")
        self.items: Node | None = Node(items) if isinstance(items, dict) else None
        below = [*self.properties.values(), *(n for n in (self.additional, self.items) if n is not None)]
        self.lists: bool = self.list_type in ("set", "map") or any(node.lists for node in below)
        """Whether a list whose items must be unique stands here or below."""
        self._compile_constraints(raw)
        self.trivial = self._is_trivial()

    def _compile_constraints(self, raw: Obj) -> None:
        self.format = effective_format(self.types[0] if len(self.types) == 1 else "", raw.get("format") or "")
        self.format_check: Callable[[str], bool] | None = string_format(self.format) if self.format else None
        self.enum: list[Any] = raw.get("enum") or []
        self.maximum: float | None = raw.get("maximum")
        self.minimum: float | None = raw.get("minimum")
        self.exclusive_maximum = bool(raw.get("exclusiveMaximum"))
        self.exclusive_minimum = bool(raw.get("exclusiveMinimum"))
        self.multiple_of: float | None = raw.get("multipleOf")
        self.max_length: int | None = raw.get("maxLength")
        self.min_length: int | None = raw.get("minLength")
        self.pattern: str = raw.get("pattern") or ""
        self.pattern_search: Callable[[str], Any] | None = None
        if self.pattern:
            try:
                self.pattern_search = compile_re2(self.pattern).search
            except RegexError:
                self.pattern_search = lambda _text: None
        self.max_items: int | None = raw.get("maxItems")
        self.min_items: int | None = raw.get("minItems")
        self.unique = bool(raw.get("uniqueItems"))
        self.max_properties: int | None = raw.get("maxProperties")
        self.min_properties: int | None = raw.get("minProperties")
        self.required: tuple[str, ...] = tuple(raw.get("required") or ())
        self.all_of = [Node(sub) for sub in raw.get("allOf") or ()]
        self.any_of = [Node(sub) for sub in raw.get("anyOf") or ()]
        self.one_of = [Node(sub) for sub in raw.get("oneOf") or ()]
        self.negated: Node | None = Node(raw["not"]) if isinstance(raw.get("not"), dict) else None

    def _is_trivial(self) -> bool:
        """Whether no value can break a rule here or below, so that validation may skip the subtree."""
        if self.types or self.format or self.enum or self.pattern or self.required or self.unique:
            return False
        if self.all_of or self.any_of or self.one_of or self.negated is not None:
            return False
        bounds = (
            self.maximum, self.minimum, self.multiple_of, self.max_length, self.min_length, self.max_items,
            self.min_items, self.max_properties, self.min_properties,
        )  # fmt: skip
        if any(bound is not None for bound in bounds) or self.additional_allowed is False:
            return False
        children = [*self.properties.values(), *(n for n in (self.additional, self.items) if n is not None)]
        return all(child.trivial for child in children)

    def field(self, name: str) -> Node | None:
        """The schema of a field: a declared property, else additionalProperties."""
        return self.properties.get(name, self.additional)

    def has_rules(self) -> bool:
        """Whether CEL rules stand here or below."""
        if self.rules:
            return True
        children = [*self.properties.values(), *(n for n in (self.additional, self.items) if n is not None)]
        return any(child.has_rules() for child in children)

    def has_defaults(self) -> bool:
        if self.default is not MISSING:
            return True
        children = [*self.properties.values(), *(n for n in (self.additional, self.items) if n is not None)]
        return any(child.has_defaults() for child in children)
