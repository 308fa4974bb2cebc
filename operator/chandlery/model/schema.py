"""From a model to the structural schema of a CRD (apiextensions/v1).

pydantic writes JSON Schema with $ref, anyOf-null and titles; a CRD wants one tree, each node with a type, lists with
their list type, no null. What the models mark with `x-kubernetes-...` is kept.

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions", structural schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.model.base import AnyResource, Model

_KEPT = (
    "description", "type", "format", "enum", "default", "pattern", "minimum", "maximum", "multipleOf", "minLength",
    "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "required",
)  # fmt: skip
_IGNORED = {"title", "$ref", "$defs", "anyOf", "allOf", "properties", "items", "additionalProperties", "const"} | {
    "propertyNames"
}
_VALIDATIONS = "x-kubernetes-validations"


class SchemaError(TypeError):
    """A model uses something that a structural schema can't express; names the path."""


def structural_schema(model: type[AnyResource]) -> dict[str, Any]:
    """The `openAPIV3Schema` of a kind: description, spec and status; metadata as the API server wants it.

    Raises:
        SchemaError: a field has a type that CRDs don't know (a union, a tuple of fixed length, ...).
    """
    found = model.model_json_schema(by_alias=True, mode="validation")
    defs = found.get("$defs", {})
    spec = _convert(found["properties"]["spec"], defs, "spec")
    status = _convert(found["properties"]["status"], defs, "status")
    _unset(status)
    if "phase" in status.get("properties", {}):
        # what a new object says of itself until the first pass: kstatus takes an object without status for finished
        status["default"] = {"observedGeneration": -1, "phase": "Pending"}
    rules = found.get(_VALIDATIONS)
    return {
        "type": "object",
        "description": _sentence(model.__doc__ or ""),
        **({_VALIDATIONS: rules} if rules else {}),
        "required": ["spec"],
        "properties": {
            "apiVersion": {
                "type": "string",
                "description": "Version of this object's schema.",
            },
            "kind": {"type": "string", "description": "Type of this object."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }


def part_schema(model: type[Model]) -> dict[str, Any]:
    """The schema of a model that is no kind: what a driver declares.

    Raises:
        SchemaError: as `structural_schema`.
    """
    found = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(found, found.get("$defs", {}), model.__name__)


def _sentence(text: str) -> str:
    """A docstring as one paragraph."""
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Keys beside a $ref or an anyOf win over those of the type, but rules add up."""
    rules = [*base.get(_VALIDATIONS, ()), *over.get(_VALIDATIONS, ())]
    out = {**base, **{k: v for k, v in over.items() if k not in {"$ref", "anyOf", "allOf"}}}
    if rules:
        out[_VALIDATIONS] = rules
    return out


def _resolve(node: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Follow $ref and take the null out of anyOf, until the node has a type of its own."""
    out = dict(node)
    while True:
        if "$ref" in out:
            out = _merge(defs[str(out["$ref"]).removeprefix("#/$defs/")], out)
        elif "anyOf" in out:
            options = [o for o in out["anyOf"] if o.get("type") != "null"]
            if len(options) != 1:
                raise SchemaError(f"{path}: a union of {len(options)} types has no structural schema")
            out = _merge(options[0], {k: v for k, v in out.items() if k != "anyOf"})
        elif "allOf" in out and len(out["allOf"]) == 1:
            out = _merge(out["allOf"][0], {k: v for k, v in out.items() if k != "allOf"})
        else:
            return out


def _convert(raw: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> dict[str, Any]:
    node = _resolve(raw, defs, path)
    out: dict[str, Any] = {}
    if "const" in node:
        node.setdefault("enum", [node["const"]])
    kind = node.get("type")
    if kind is None and not node.get("x-kubernetes-int-or-string"):
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            raise SchemaError(f"{path}: has no type")
        node["type"] = "object"
    for key in _KEPT:
        if key in node:
            out[key] = node[key]
    if "description" in out:
        out["description"] = _sentence(out["description"])
    if "default" in out:
        out["default"] = _plain(out["default"])
        if out["default"] in (None, {}, [], ""):
            del out["default"]
    if kind == "integer":
        out["format"] = (
            "int32" if node.get("minimum", 0) >= -(2**31) and node.get("maximum", 2**31) < 2**31 else "int64"
        )
    unknown = {k for k in node if not k.startswith("x-kubernetes-")} - set(_KEPT) - _IGNORED
    if unknown:
        raise SchemaError(f"{path}: {', '.join(sorted(unknown))} can't be in a structural schema")
    if kind == "object" and "properties" in node:
        out["properties"] = {k: _convert(v, defs, f"{path}.{k}") for k, v in node["properties"].items()}
    elif kind == "object" and isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _convert(node["additionalProperties"], defs, f"{path}.*")
    elif kind == "array":
        out["items"] = _convert(node["items"], defs, f"{path}[]")
    out.update({k: v for k, v in node.items() if k.startswith("x-kubernetes-")})
    if kind == "array":
        out.setdefault("x-kubernetes-list-type", "atomic")
    return out


def _plain(value: Any) -> Any:
    """A default without nulls and without empty texts, lists and maps: nothing is stored that says nothing."""
    if isinstance(value, dict):
        return {k: p for k, v in value.items() if (p := _plain(v)) not in (None, {}, [], "")}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _unset(node: dict[str, Any]) -> None:
    """A status is what was found: no field has a default, and nothing is required but the keys of lists."""
    node.pop("default", None)
    for child in node.get("properties", {}).values():
        _unset(child)
    if isinstance(node.get("items"), dict):
        _unset(node["items"])
