"""When a schema is structural: every field has one type, and logic only restricts what is declared outside of it.

Source: "Specifying a structural schema" in the Kubernetes documentation of CustomResourceDefinitions.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.schema import errors
from chandlery.controlplane.schema.regex import RegexError, compile_re2
from chandlery.controlplane.types import FieldError, Obj

_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_UNSUPPORTED = (
    ("id", "id"), ("$schema", "schema"), ("$ref", "$ref"), ("patternProperties", "patternProperties"),
    ("dependencies", "dependencies"), ("additionalItems", "additionalItems"), ("definitions", "definitions"),
)  # fmt: skip
_EMPTY_LEVELS = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}


def structural_problem(schema: Obj | None) -> str:
    """Why a schema can't even be read as a structural one; "" when it can."""
    if not isinstance(schema, dict):
        return ""
    for name, shown in _UNSUPPORTED:
        if schema.get(name) not in (None, "", {}):
            return f"OpenAPIV3Schema '{shown}' is not supported"
    for clause in ("not", "allOf", "anyOf", "oneOf"):
        subs = schema.get(clause) or []
        for sub in [subs] if isinstance(subs, dict) else subs:
            if problem := structural_problem(sub):
                return problem
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        return "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined"
    if isinstance(schema.get("items"), list):
        return "OpenAPIV3Schema 'items' must be a schema, but is an array"
    children = [schema.get("items"), *(schema.get("properties") or {}).values(), schema.get("additionalProperties")]
    for child in children:
        if isinstance(child, dict) and (problem := structural_problem(child)):
            return problem
    return ""


def validate_structural(schema: Obj, path: str) -> list[FieldError]:
    """Everything that keeps a schema from being structural, sorted by text."""
    found: list[FieldError] = []
    _invariants(schema, "root", path, found)
    _completeness_of(schema, path, found)
    found.sort(key=lambda error: (error.path, error.detail))
    return found


def _flag(schema: Obj, name: str) -> bool:
    return bool(schema.get(name))


def _invariants(schema: Obj, level: str, path: str, found: list[FieldError]) -> None:
    kind: str = schema.get("type") or ""
    properties: dict[str, Obj] = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    embedded = _flag(schema, "x-kubernetes-embedded-resource")
    int_or_string = _flag(schema, "x-kubernetes-int-or-string")
    preserve = _flag(schema, "x-kubernetes-preserve-unknown-fields")
    items = schema.get("items")
    if kind == "array" and not isinstance(items, dict):
        found.append(errors.required(errors.child(path, "items"), "must be specified"))
    if isinstance(items, dict):
        _invariants(items, "item", errors.child(path, "items"), found)
    for name, sub in properties.items():
        _invariants(sub, "field", errors.key(errors.child(path, "properties"), name), found)
    if additional is not None:
        at = errors.child(path, "additionalProperties")
        if level == "root":
            found.append(errors.forbidden(at, "must not be used at the root"))
        if isinstance(additional, dict):
            _invariants(additional, "field", at, found)
    _extensions(int_or_string, preserve, embedded, path, found)
    _value_rules(schema, path, found, skip_any_of=_is_int_or_string(schema.get("anyOf")), first_all_of=True)
    _type_rules(kind, level, path, found, embedded=embedded, free=int_or_string or preserve)
    if embedded and additional is not None:
        at = errors.child(path, "additionalProperties")
        found.append(errors.forbidden(at, "must not be used if x-kubernetes-embedded-resource is set"))
    if level == "root" and kind and kind != "object":
        found.append(errors.invalid(errors.child(path, "type"), kind, "must be object at the root"))
    _metadata_rules(properties, level, path, found, checked=level == "root" or embedded)
    if embedded and not preserve and not properties:
        detail = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        found.append(errors.required(errors.child(path, "properties"), detail))


def _extensions(int_or_string: bool, preserve: bool, embedded: bool, path: str, found: list[FieldError]) -> None:
    detail = "must be false if x-kubernetes-int-or-string is true"
    if int_or_string and preserve:
        found.append(errors.invalid(errors.child(path, "x-kubernetes-preserve-unknown-fields"), True, detail))
    if int_or_string and embedded:
        found.append(errors.invalid(errors.child(path, "x-kubernetes-embedded-resource"), True, detail))


def _type_rules(kind: str, level: str, path: str, found: list[FieldError], *, embedded: bool, free: bool) -> None:
    at = errors.child(path, "type")
    if embedded and kind != "object":
        detail = "must be object if x-kubernetes-embedded-resource is true"
        found.append(errors.invalid(at, kind, detail) if kind else errors.required(at, detail))
    elif not kind and not free:
        found.append(errors.required(at, _EMPTY_LEVELS[level]))


def _metadata_rules(
    properties: dict[str, Obj], level: str, path: str, found: list[FieldError], *, checked: bool
) -> None:
    at = errors.child(path, "properties")
    for name in ("kind", "apiVersion"):
        if checked and name in properties and properties[name].get("type") != "string":
            where = errors.child(errors.key(at, name), "type")
            found.append(errors.invalid(where, properties[name].get("type") or "", "must be string"))
    if "metadata" not in properties:
        return
    metadata = properties["metadata"]
    where = errors.key(at, "metadata")
    if checked and metadata.get("type") != "object":
        found.append(errors.invalid(errors.child(where, "type"), metadata.get("type") or "", "must be object"))
    if level == "root":
        more = {name: value for name, value in metadata.items() if value not in (None, False, "", [], {})}
        more.pop("type", None)
        more.pop("default", None)
        if set(more.get("properties") or {}) <= {"name", "generateName"}:
            more.pop("properties", None)
        if more:
            detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            found.append(errors.forbidden(where, detail))


def _is_int_or_string(clauses: Any) -> bool:
    return isinstance(clauses, list) and clauses == _INT_OR_STRING


def _value_rules(schema: Obj, path: str, found: list[FieldError], *, skip_any_of: bool, first_all_of: bool) -> None:
    """Rules inside allOf, anyOf, oneOf and not, and the pattern's syntax."""
    if not skip_any_of:
        for position, sub in enumerate(schema.get("anyOf") or ()):
            _nested(sub, errors.index(errors.child(path, "anyOf"), position), found)
    for position, sub in enumerate(schema.get("allOf") or ()):
        skip = first_all_of and position == 0 and _is_int_or_string(sub.get("anyOf"))
        _nested(sub, errors.index(errors.child(path, "allOf"), position), found, skip_any_of=skip)
    for position, sub in enumerate(schema.get("oneOf") or ()):
        _nested(sub, errors.index(errors.child(path, "oneOf"), position), found)
    if isinstance(schema.get("not"), dict):
        _nested(schema["not"], errors.child(path, "not"), found)
    if pattern := schema.get("pattern"):
        try:
            compile_re2(pattern)
        except RegexError as error:
            detail = f"must be a valid regular expression, but isn't: error parsing regexp: {error}"
            found.append(errors.invalid(errors.child(path, "pattern"), pattern, detail))


_FORBIDDEN_NESTED = (
    ("type", "must be empty to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
)


def _nested(schema: Obj, path: str, found: list[FieldError], *, skip_any_of: bool = False) -> None:
    _value_rules(schema, path, found, skip_any_of=skip_any_of, first_all_of=False)
    if isinstance(schema.get("items"), dict):
        _nested(schema["items"], errors.child(path, "items"), found)
    properties: dict[str, Obj] = schema.get("properties") or {}
    for name, sub in properties.items():
        _nested(sub, errors.key(errors.child(path, "properties"), name), found)
    for name, detail in _FORBIDDEN_NESTED:
        present = schema.get(name) is not None if name == "default" else bool(schema.get(name))
        if present:
            found.append(errors.forbidden(errors.child(path, name), detail))
    if schema.get("additionalProperties") not in (None, False):
        at = errors.child(path, "additionalProperties")
        found.append(errors.forbidden(at, "must be undefined to be structural"))
    if "metadata" in properties:
        at = errors.key(errors.child(path, "properties"), "metadata")
        found.append(errors.forbidden(at, "must not be specified in a nested context"))


def _completeness_of(schema: Obj, path: str, found: list[FieldError]) -> None:
    """Fields that the root's logic speaks of must be declared outside of it (below the root nobody looks)."""
    for clause in ("allOf", "anyOf", "oneOf"):
        for position, sub in enumerate(schema.get(clause) or ()):
            _completeness(sub, schema, errors.index(errors.child(path, clause), position), path, found)
    if isinstance(schema.get("not"), dict):
        _completeness(schema["not"], schema, errors.child(path, "not"), path, found)


def _completeness(clause: Obj, declared: Obj | None, path: str, declared_path: str, found: list[FieldError]) -> None:
    if declared is None:
        return
    for name in ("allOf", "anyOf", "oneOf"):
        for position, sub in enumerate(clause.get(name) or ()):
            _completeness(sub, declared, errors.index(errors.child(path, name), position), declared_path, found)
    if isinstance(clause.get("not"), dict):
        _completeness(clause["not"], declared, errors.child(path, "not"), declared_path, found)
    properties: dict[str, Obj] = declared.get("properties") or {}
    for name, sub in (clause.get("properties") or {}).items():
        at = errors.key(errors.child(declared_path, "properties"), name)
        if name in properties:
            _completeness(sub, properties[name], errors.key(errors.child(path, "properties"), name), at, found)
        else:
            found.append(
                errors.required(at, f"because it is defined in {errors.key(errors.child(path, 'properties'), name)}")
            )
    if isinstance(clause.get("items"), dict):
        at = errors.child(declared_path, "items")
        if isinstance(declared.get("items"), dict):
            _completeness(clause["items"], declared["items"], errors.child(path, "items"), at, found)
        else:
            found.append(errors.required(at, f"because it is defined in {errors.child(path, 'items')}"))
