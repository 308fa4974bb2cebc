"""What a JSONSchemaProps in a CRD may say: OpenAPI v3 as far as custom resources support it, and Kubernetes' own marks.

Source: the API documentation of JSONSchemaProps. CEL rules are checked last and only where the schema around
them is sound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from chandlery.controlplane.crd.cel_rules import CelContext, check_rules
from chandlery.controlplane.crd.structural import structural_problem
from chandlery.controlplane.schema import errors
from chandlery.controlplane.schema.fieldpath import FieldPathError, valid_field_path
from chandlery.controlplane.types import FieldError, Obj

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_META = frozenset(("metadata", "kind", "apiVersion"))
_LINE_BREAK = re.compile(r"[\n\r]")


@dataclass(frozen=True, slots=True)
class Tightness:
    """Rules that an update need not meet when the old object didn't: stored CRDs must stay changeable."""

    open_api_schema: bool = True
    valid_types: bool = True
    structural: bool = True
    pruned_defaults: bool = True
    atomic_sets: bool = True
    map_keys: bool = True
    recognized_reviews: bool = True
    old_rules: frozenset[str] = frozenset()
    same_versions: frozenset[str] = frozenset()
    """Versions whose schema is what it was."""
    expression_cost: bool = True

    def of_version(self, name: str) -> Tightness:
        """The same for one version's schema: what was stored may go on costing what it costs."""
        return replace(self, expression_cost=False) if name in self.same_versions else self


@dataclass(frozen=True, slots=True)
class _Place:
    """What holds for a subtree."""

    defaults_forbidden: str | None = None
    in_meta: bool = False
    uncorrelatable: str = ""


class OpenApiRules:
    """One schema's check: errors of the schema, and errors of its CEL rules."""

    def __init__(self, tightness: Tightness) -> None:
        self.tightness = tightness
        self.found: list[FieldError] = []
        self.cel: list[FieldError] = []

    def check(self, schema: Obj, path: str, context: CelContext | None) -> None:
        self._check(schema, path, _Place(), context, root=True)

    def _check(
        self, schema: Obj | None, path: str, place: _Place, context: CelContext | None, *, root: bool = False
    ) -> None:
        if not isinstance(schema, dict):
            return
        before = len(self.found)
        self._keywords(schema, path, place)
        if schema.get("uniqueItems"):
            detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
            self.found.append(errors.forbidden(errors.child(path, "uniqueItems"), detail))
        self._children(schema, path, place, context, root=root)
        self._marks(schema, path)
        rules = schema.get("x-kubernetes-validations") or []
        for position, rule in enumerate(rules):
            at = errors.index(errors.child(path, "x-kubernetes-validations"), position)
            self._rule_form(schema, rule, at, sound=context is not None)
        if rules and context is not None and len(self.found) == before:
            self.cel += check_rules(schema, path, context, place.uncorrelatable, self.tightness.expression_cost)

    def _keywords(self, schema: Obj, path: str, place: _Place) -> None:
        add = self.found.append
        kind = schema.get("type") or ""
        if self.tightness.valid_types and kind and kind not in _TYPES:
            add(errors.not_supported(errors.child(path, "type"), kind, _TYPES))
        if schema.get("default") is not None and place.defaults_forbidden is not None:
            detail = f"must not be set {place.defaults_forbidden}"
            add(errors.forbidden(errors.child(path, "default"), detail))
        for name in ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"):
            if schema.get(name) not in (None, "") and (name == "dependencies" or schema[name] != {}):
                add(errors.forbidden(errors.child(path, name), f"{name} is not supported"))
        if kind == "null":
            detail = "type cannot be set to null, use nullable as an alternative"
            add(errors.forbidden(errors.child(path, "type"), detail))
        if isinstance(schema.get("items"), list) and schema["items"]:
            add(errors.forbidden(errors.child(path, "items"), "items must be a schema object and not an array"))
        if place.in_meta and schema.get("x-kubernetes-embedded-resource"):
            at = errors.child(path, "x-kubernetes-embedded-resource")
            add(errors.forbidden(at, "must not be used inside of resource meta"))

    def _children(self, schema: Obj, path: str, place: _Place, context: CelContext | None, *, root: bool) -> None:
        additional = schema.get("additionalProperties")
        properties: dict[str, Obj] = schema.get("properties") or {}
        if additional is not None:
            at = errors.child(path, "additionalProperties")
            if properties and additional is not True:
                self.found.append(errors.forbidden(at, "additionalProperties and properties are mutual exclusive"))
            sub_place = place
            if place.in_meta:
                reason = "inside additionalProperties applying to object metadata"
                sub_place = replace(place, defaults_forbidden=reason)
            if isinstance(additional, dict):
                below = context.additional(additional) if context is not None else None
                self._check(additional, at, sub_place, below)
        for name, sub in properties.items():
            sub_place = place
            if schema.get("x-kubernetes-map-type") not in (None, "granular", "atomic") and not place.uncorrelatable:
                sub_place = replace(sub_place, uncorrelatable=path)
            if (root or schema.get("x-kubernetes-embedded-resource")) and name in _META:
                sub_place = replace(sub_place, in_meta=True)
                if root:
                    sub_place = replace(sub_place, defaults_forbidden=f"in top-level {name}")
            below = context.property(name, sub) if context is not None else None
            self._check(sub, errors.key(errors.child(path, "properties"), name), sub_place, below)
        self._check(schema.get("not"), errors.child(path, "not"), place, None)
        for clause in ("allOf", "oneOf", "anyOf"):
            for position, sub in enumerate(schema.get(clause) or ()):
                self._check(sub, errors.index(errors.child(path, clause), position), place, None)
        for name, sub in (schema.get("definitions") or {}).items():
            self._check(sub, errors.key(errors.child(path, "definitions"), name), place, None)
        items = schema.get("items")
        if items is not None:
            if schema.get("x-kubernetes-list-type") != "map" and not place.uncorrelatable:
                place = replace(place, uncorrelatable=path)
            at = errors.child(path, "items")
            if isinstance(items, dict):
                self._check(items, at, place, context.items(items) if context is not None else None)
            else:
                for position, sub in enumerate(items):
                    self._check(sub, errors.index(at, position), place, None)
        for name, sub in (schema.get("dependencies") or {}).items():
            self._check(sub, errors.key(errors.child(path, "dependencies"), name), place, None)

    def _marks(self, schema: Obj, path: str) -> None:
        """The x-kubernetes extensions."""
        add = self.found.append
        kind = schema.get("type") or ""
        if schema.get("x-kubernetes-preserve-unknown-fields") is False:
            at = errors.child(path, "x-kubernetes-preserve-unknown-fields")
            add(errors.invalid(at, False, "must be true or undefined"))
        for mark, wanted, accepted in (
            ("x-kubernetes-map-type", "object", ("atomic", "granular")),
            ("x-kubernetes-list-type", "array", ("atomic", "set", "map")),
        ):
            value = schema.get(mark)
            if value is None:
                continue
            if kind != wanted:
                at, detail = errors.child(path, "type"), f"must be {wanted} if {mark} is specified"
                add(errors.invalid(at, kind, detail) if kind else errors.required(at, detail))
            elif value == "set" and self.tightness.atomic_sets and isinstance(schema.get("items"), dict):
                self.set_items(schema["items"], path)
            if value not in accepted:
                add(errors.not_supported(errors.child(path, mark), value, accepted))
        self._list_map(schema, path)
        if self.tightness.map_keys:
            self.found.extend(list_key_rules(schema, path))

    def set_items(self, items: Obj, path: str) -> None:
        """Items of a set must compare as a whole."""
        detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
        kind = items.get("type")
        shown = items.get("x-kubernetes-list-type")
        if kind == "array" and shown not in (None, "atomic"):
            at = errors.child(errors.child(path, "items"), "x-kubernetes-list-type")
            self.found.append(errors.invalid(at, shown, detail))
        elif kind == "object" and items.get("x-kubernetes-map-type") != "atomic":
            at = errors.child(errors.child(path, "items"), "x-kubernetes-map-type")
            self.found.append(errors.invalid(at, shown, detail))

    def _list_map(self, schema: Obj, path: str) -> None:
        add = self.found.append
        keys = schema.get("x-kubernetes-list-map-keys") or []
        list_type = schema.get("x-kubernetes-list-type")
        keys_at = errors.child(path, "x-kubernetes-list-map-keys")
        if keys and list_type != "map":
            at = errors.child(path, "x-kubernetes-list-type")
            detail = "must be map if x-kubernetes-list-map-keys is non-empty"
            add(errors.required(at, detail) if list_type is None else errors.invalid(at, list_type, detail))
        if list_type != "map":
            return
        items = schema.get("items")
        items_at = errors.child(path, "items")
        if not keys:
            add(errors.required(keys_at, "must not be empty if x-kubernetes-list-type is map"))
        if items is None:
            add(errors.required(items_at, "must have a schema if x-kubernetes-list-type is map"))
        elif not isinstance(items, dict):
            add(errors.invalid(items_at, items, "must only have a single schema if x-kubernetes-list-type is map"))
        elif items.get("type") != "object":
            detail = "must be object if parent array's x-kubernetes-list-type is map"
            add(errors.invalid(errors.child(items_at, "type"), items.get("type") or "", detail))
        else:
            properties: dict[str, Obj] = items.get("properties") or {}
            seen: set[str] = set()
            for name in keys:
                if name not in properties:
                    add(errors.invalid(keys_at, keys, "entries must all be names of item properties"))
                elif properties[name].get("type") in ("array", "object"):
                    at = errors.child(errors.key(errors.child(items_at, "properties"), name), "type")
                    detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
                    add(errors.invalid(at, items["type"], detail))
                if name in seen:
                    add(errors.invalid(keys_at, keys, "must not contain duplicate entries"))
                seen.add(name)

    def _rule_form(self, schema: Obj, rule: Obj, at: str, *, sound: bool) -> None:
        """A rule's fields without its expressions; `sound` when the schema is known to be structural."""
        add = self.found.append
        text, message, expression = (rule.get(name) or "" for name in ("rule", "message", "messageExpression"))
        if not text.strip():
            add(errors.required(errors.child(at, "rule"), "rule is not specified"))
        elif message and not message.strip():
            add(errors.invalid(errors.child(at, "message"), message, "must be non-empty if specified"))
        elif _LINE_BREAK.search(message.strip()):
            add(errors.invalid(errors.child(at, "message"), message, "must not contain line breaks"))
        elif _LINE_BREAK.search(text.strip()) and not message.strip():
            add(errors.required(errors.child(at, "message"), "message must be specified if rule contains line breaks"))
        if expression and not expression.strip():
            detail = "messageExpression must be non-empty if specified"
            add(errors.required(errors.child(at, "messageExpression"), detail))
        reason = rule.get("reason")
        if reason is not None and reason not in _REASONS:
            add(errors.not_supported(errors.child(at, "reason"), reason, _REASONS))
        field_path = rule.get("fieldPath") or ""
        path_at = errors.child(at, "fieldPath")
        if field_path and not field_path.strip():
            add(errors.invalid(path_at, field_path, "must be non-empty if specified"))
        if _LINE_BREAK.search(field_path):
            add(errors.invalid(path_at, field_path, "must not contain line breaks"))
        if field_path and (sound or not structural_problem(schema)):
            try:
                valid_field_path(field_path, schema)
            except FieldPathError:
                add(errors.invalid(path_at, field_path, "must be a valid path"))


def list_key_rules(schema: Obj, path: str) -> list[FieldError]:
    """Items of sets and maps are never null, and the key fields of maps always there."""
    items = schema.get("items")
    list_type = schema.get("x-kubernetes-list-type")
    if not isinstance(items, dict) or list_type not in ("set", "map"):
        return []
    found = []
    items_at = errors.child(path, "items")
    if items.get("nullable"):
        detail = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        found.append(errors.forbidden(errors.child(items_at, "nullable"), detail))
    if list_type == "map":
        required = items.get("required") or []
        properties: dict[str, Obj] = items.get("properties") or {}
        for name in schema.get("x-kubernetes-list-map-keys") or ():
            sub = properties.get(name)
            if sub is None:
                continue
            at = errors.key(errors.child(items_at, "properties"), name)
            if name not in required and sub.get("default") is None:
                detail = (
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required "
                    "property"
                )
                found.append(errors.required(errors.child(at, "default"), detail))
            if sub.get("nullable"):
                detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
                found.append(errors.forbidden(errors.child(at, "nullable"), detail))
    return found


def all_schemas(schema: Obj | None) -> Iterator[Obj]:
    """A schema and everything below it."""
    if not isinstance(schema, dict):
        return
    yield schema
    children = [
        schema.get("items"),
        schema.get("not"),
        schema.get("additionalProperties"),
        schema.get("additionalItems"),
    ]
    for clause in ("allOf", "anyOf", "oneOf"):
        children.extend(schema.get(clause) or ())
    for group in ("properties", "patternProperties", "definitions", "dependencies"):
        children.extend((schema.get(group) or {}).values())
    for child in children:
        for one in child if isinstance(child, list) else [child]:
            yield from all_schemas(one)
