"""A CRD in the form that its rules are written for: what all versions share stands at the top.

The reference server validates an internal form in which a schema (or subresources, columns, selectable fields) that is
the same in all versions is lifted to `spec.validation` (`spec.subresources` and so on). The paths and values in its
error texts come from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chandlery.controlplane.schema.gotext import json_text
from chandlery.controlplane.types import Obj

_SCHEMA_FIELDS: tuple[tuple[str, str, Any], ...] = (
    ("id", "ID", ""), ("$schema", "Schema", ""), ("$ref", "Ref", None), ("description", "Description", ""),
    ("type", "Type", ""), ("nullable", "Nullable", False), ("format", "Format", ""), ("title", "Title", ""),
    ("default", "Default", None), ("maximum", "Maximum", None), ("exclusiveMaximum", "ExclusiveMaximum", False),
    ("minimum", "Minimum", None), ("exclusiveMinimum", "ExclusiveMinimum", False), ("maxLength", "MaxLength", None),
    ("minLength", "MinLength", None), ("pattern", "Pattern", ""), ("maxItems", "MaxItems", None),
    ("minItems", "MinItems", None), ("uniqueItems", "UniqueItems", False), ("multipleOf", "MultipleOf", None),
    ("enum", "Enum", None), ("maxProperties", "MaxProperties", None), ("minProperties", "MinProperties", None),
    ("required", "Required", None), ("items", "Items", None), ("allOf", "AllOf", None), ("oneOf", "OneOf", None),
    ("anyOf", "AnyOf", None), ("not", "Not", None), ("properties", "Properties", None),
    ("additionalProperties", "AdditionalProperties", None), ("patternProperties", "PatternProperties", None),
    ("dependencies", "Dependencies", None), ("additionalItems", "AdditionalItems", None),
    ("definitions", "Definitions", None), ("externalDocs", "ExternalDocs", None), ("example", "Example", None),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields", None),
    ("x-kubernetes-embedded-resource", "XEmbeddedResource", False),
    ("x-kubernetes-int-or-string", "XIntOrString", False), ("x-kubernetes-list-map-keys", "XListMapKeys", None),
    ("x-kubernetes-list-type", "XListType", None), ("x-kubernetes-map-type", "XMapType", None),
    ("x-kubernetes-validations", "XValidations", None),
)  # fmt: skip
FIELD_NAMES = {name: go for name, go, _ in _SCHEMA_FIELDS}
_PART = {
    "Schema": ("schema", "validation"), "Subresources": ("subresources", "subresources"),
    "AdditionalPrinterColumns": ("additionalPrinterColumns", "additionalPrinterColumns"),
    "SelectableFields": ("selectableFields", "selectableFields"),
}  # fmt: skip


@dataclass(slots=True)
class InternalSpec:
    """`parts[n]` holds what version n has of its own; `shared` what all versions have alike."""

    spec: Obj
    versions: list[Obj]
    parts: list[Obj]
    shared: Obj

    def versions_text(self) -> str:
        """`spec.versions` as error texts print it."""
        out = []
        for version, part in zip(self.versions, self.parts, strict=True):
            shown = {
                "Name": version.get("name") or "",
                "Served": bool(version.get("served")),
                "Storage": bool(version.get("storage")),
                "Deprecated": bool(version.get("deprecated")),
                "DeprecationWarning": version.get("deprecationWarning"),
            }
            pieces = [f"{json_text(name)}:{json_text(value)}" for name, value in shown.items()]
            schema = (part.get("schema") or {}).get("openAPIV3Schema") if part.get("schema") else None
            pieces.append(
                f'"Schema":{{"OpenAPIV3Schema":{schema_text(schema)}}}' if part.get("schema") else '"Schema":null'
            )
            pieces.append(f'"Subresources":{_subresources_text(part.get("subresources"))}')
            pieces.append(f'"AdditionalPrinterColumns":{_columns_text(part.get("additionalPrinterColumns"))}')
            pieces.append(f'"SelectableFields":{_selectable_text(part.get("selectableFields"))}')
            out.append("{" + ",".join(pieces) + "}")
        return "[" + ",".join(out) + "]"


def internal_spec(crd: Obj) -> InternalSpec:
    spec: Obj = crd.get("spec") or {}
    versions: list[Obj] = spec.get("versions") or []
    parts: list[Obj] = [{own: version.get(own) for own, _ in _PART.values()} for version in versions]
    shared: Obj = {}
    for own, lifted in _PART.values():
        values = [part[own] or None for part in parts]
        if values and all(value == values[0] for value in values):
            shared[lifted] = values[0]
            for part in parts:
                part[own] = None
    return InternalSpec(spec, versions, parts, shared)


def schema_text(schema: Obj | None) -> str:
    """A JSONSchemaProps in its internal printed form: every field, capitalised."""
    if schema is None:
        return "null"
    pieces = []
    for name, go, empty in _SCHEMA_FIELDS:
        pieces.append(f'"{go}":{_schema_field(name, schema.get(name), empty)}')
    return "{" + ",".join(pieces) + "}"


def _schema_field(name: str, value: Any, empty: Any) -> str:
    if value is None or value in ([], ""):
        return json_text(empty)
    if name == "not":
        return schema_text(value)
    if name == "items":
        if isinstance(value, list):
            return f'{{"Schema":null,"JSONSchemas":[{",".join(map(schema_text, value))}]}}'
        return f'{{"Schema":{schema_text(value)},"JSONSchemas":null}}'
    if name in ("additionalProperties", "additionalItems"):
        if isinstance(value, bool):
            return f'{{"Allows":{json_text(value)},"Schema":null}}'
        return f'{{"Allows":true,"Schema":{schema_text(value)}}}'
    if name in ("allOf", "anyOf", "oneOf"):
        return "[" + ",".join(map(schema_text, value)) + "]"
    if name in ("properties", "patternProperties", "definitions"):
        return "{" + ",".join(f"{json_text(key)}:{schema_text(value[key])}" for key in sorted(value)) + "}"
    if name == "externalDocs":
        return (
            f'{{"Description":{json_text(value.get("description") or "")},"URL":{json_text(value.get("url") or "")}}}'
        )
    if name == "x-kubernetes-validations":
        return "[" + ",".join(map(rule_text, value)) + "]"
    return json_text(value)


def rule_text(rule: Obj) -> str:
    """A validation rule in its internal printed form."""
    shown = {
        "Rule": rule.get("rule") or "",
        "Message": rule.get("message") or "",
        "MessageExpression": rule.get("messageExpression") or "",
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath") or "",
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }
    return json_text(shown, sort=False)


def _subresources_text(value: Obj | None) -> str:
    if not value:
        return "null"
    scale = value.get("scale")
    if isinstance(scale, dict):
        shown: Any = {
            "SpecReplicasPath": scale.get("specReplicasPath") or "",
            "StatusReplicasPath": scale.get("statusReplicasPath") or "",
            "LabelSelectorPath": scale.get("labelSelectorPath"),
        }
    else:
        shown = None
    status = "{}" if isinstance(value.get("status"), dict) else "null"
    return f'{{"Status":{status},"Scale":{json_text(shown, sort=False)}}}'


def _columns_text(columns: list[Obj] | None) -> str:
    if not columns:
        return "null"
    out = []
    for column in columns:
        shown = {
            "Name": column.get("name") or "",
            "Type": column.get("type") or "",
            "Format": column.get("format") or "",
            "Description": column.get("description") or "",
            "Priority": column.get("priority") or 0,
            "JSONPath": column.get("jsonPath") or "",
        }
        out.append(json_text(shown, sort=False))
    return "[" + ",".join(out) + "]"


def _selectable_text(selectable: list[Obj] | None) -> str:
    if not selectable:
        return "null"
    return "[" + ",".join(json_text({"JSONPath": field.get("jsonPath") or ""}) for field in selectable) + "]"
