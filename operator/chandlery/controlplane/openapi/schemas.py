"""Schemas as OpenAPI documents show them: built-in definitions and custom resources, for v3 and v2.

Source: OpenAPI documents of kube-apiserver 1.36; the OpenAPI v3 specification.
"""

from __future__ import annotations

import re
from typing import Any

from chandlery.controlplane.builtins.data import definitions, go_structs
from chandlery.controlplane.types import Obj

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
REF3 = "#/components/schemas/"
REF2 = "#/definitions/"

_CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
API_VERSION = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
    f"schemas to the latest internal value, and may reject unrecognized values. More info: {_CONVENTIONS}#resources"
)
KIND = (
    "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
    f"endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: {_CONVENTIONS}#types-kinds"
)
METADATA = f"Standard object's metadata. More info: {_CONVENTIONS}#metadata"
_EMBEDDED_VERSION = (
    f"apiVersion defines the versioned schema of this representation of an object. More info: {_CONVENTIONS}#resources"
)
_EMBEDDED_KIND = (
    f"kind is a string value representing the type of this object. In CamelCase. More info: {_CONVENTIONS}#types-kinds"
)

_OWN_SHAPE: dict[str, tuple[Obj, Obj]] = {
    # definition -> (v3, v2)
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": (
        {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
        {"type": "string", "format": "int-or-string"},
    ),
    "io.k8s.apimachinery.pkg.api.resource.Quantity": (
        {"oneOf": [{"type": "string"}, {"type": "number"}]},
        {"type": "string"},
    ),
    META + "Patch": ({"type": "object"}, {"type": "object"}),
}
_TEXTS = {
    META + "Patch": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": (
        "IntOrString is a type that can hold an int32 or a string.  When used in JSON or YAML marshalling and "
        "unmarshalling, it produces or consumes the inner type.  This allows you to have, for example, a JSON field "
        "that can accept a name or number."
    ),
}
_SCALARS = ("Time", "MicroTime", "Duration", "Quantity", "IntOrString", "RawExtension", "FieldsV1", "Patch", "JSON")


def ref(name: str, *, v3: bool) -> Obj:
    return {"$ref": (REF3 if v3 else REF2) + name}


def refs_in(schema: Any) -> set[str]:
    """The definitions that a schema refers to."""
    found: set[str] = set()
    todo = [schema]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            target = one.get("$ref")
            if isinstance(target, str):
                found.add(target.rsplit("/", 1)[1])
            todo += one.values()
        elif isinstance(one, list):
            todo += one
    return found


def _zero(schema: Obj, kind: str, flags: str) -> Any:
    """The `default` of a field that is always there: Go's zero value; None for none."""
    if kind.startswith(("*", "[", "map[")):
        return None
    target = schema.get("$ref")
    if target:
        name = target.rsplit(".", 1)[1]
        return None if name in _SCALARS or name.startswith("JSONSchemaPropsOr") else {}
    if "o" in flags or "z" in flags:
        return None
    return {"string": "", "boolean": False, "integer": 0, "number": 0}.get(schema.get("type", ""))


def _nested(schema: Any, *, v3: bool) -> Any:
    if isinstance(schema, list):
        return [_nested(one, v3=v3) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return ref(schema["$ref"].rsplit("/", 1)[1], v3=v3)
    return {key: _nested(value, v3=v3) for key, value in schema.items()}


def _property(schema: Obj, text: str | None, fact: list[Any] | None, *, v3: bool) -> Obj:
    out: Obj = {}
    if text:
        out["description"] = text
    if fact is not None and v3:
        default = fact[4] if len(fact) > 4 else _zero(schema, fact[2], fact[3])
        if default is not None:
            out["default"] = default
    for key, value in schema.items():
        if key == "$ref":
            target = ref(value.rsplit("/", 1)[1], v3=v3)
            if not v3:
                out.update(target)
            elif len(schema) == 1 and not out:
                return target
            else:
                out["allOf"] = [target]
        else:
            out[key] = _nested(value, v3=v3)
    return out


def known(name: str) -> bool:
    """Whether `builtin` can make this definition."""
    return name in _OWN_SHAPE or name in definitions()


def builtin(name: str, texts: dict[str, dict[str, str]], *, v3: bool = True) -> Obj:
    """One built-in definition; `texts` are all descriptions."""
    own = texts.get(name, {})
    out: Obj = {}
    text = own.get("") or _TEXTS.get(name)
    if text:
        out["description"] = text
    if name in _OWN_SHAPE:
        return {**out, **_OWN_SHAPE[name][0 if v3 else 1]}
    facts = {fact[0]: fact for fact in go_structs().get(name, ())}
    for key, value in definitions()[name].items():
        if key == "properties":
            out[key] = {
                prop: _property(schema, own.get(prop), facts.get(prop), v3=v3) for prop, schema in value.items()
            }
        else:
            out[key] = _nested(value, v3=v3)
    return out


def definition_name(group: str, version: str, kind: str) -> str:
    """A custom kind's definition: the group backwards, `example.fid.v1.Kind`."""
    return ".".join([*reversed(group.split(".")), version, kind])


def _metadata(*, v3: bool) -> Obj:
    target = ref(META + "ObjectMeta", v3=v3)
    return {"description": METADATA, "allOf": [target]} if v3 else {"description": METADATA, **target}


def _schema3(schema: Any) -> Any:
    """A structural schema for v3: int-or-string spelt out, embedded objects with their type and metadata."""
    if isinstance(schema, list):
        return [_schema3(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = dict(schema)
    for key in ("properties", "patternProperties"):
        if isinstance(out.get(key), dict):
            out[key] = {name: _schema3(one) for name, one in out[key].items()}
    for key in ("items", "additionalProperties", "allOf", "anyOf", "oneOf", "not"):
        if isinstance(out.get(key), (dict, list)):
            out[key] = _schema3(out[key])
    if out.get("x-kubernetes-int-or-string") and "anyOf" not in out and "allOf" not in out:
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if out.get("x-kubernetes-embedded-resource"):
        properties = dict(out.get("properties") or {})
        properties["apiVersion"] = {"description": _EMBEDDED_VERSION, "type": "string"}
        properties["kind"] = {"description": _EMBEDDED_KIND, "type": "string"}
        properties["metadata"] = _metadata(v3=True)
        out["properties"] = properties
        given = out.get("required") or []
        out["required"] = [*given, *(name for name in ("kind", "apiVersion") if name not in given)]
    return out


_V2_DROPPED = ("default", "nullable", "anyOf", "oneOf", "allOf", "not", "example", "externalDocs")


def _schema2(schema: Any) -> Any:
    """A structural schema for v2: what OpenAPI v2 and its clients don't understand is left out."""
    if not isinstance(schema, dict):
        return schema
    out = {key: value for key, value in schema.items() if key not in _V2_DROPPED}
    if schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("nullable"):
        out.pop("type", None)
        out.pop("items", None)
        out.pop("properties", None)
        out.pop("required", None)
        return out
    if isinstance(out.get("properties"), dict):
        out["properties"] = {name: _schema2(one) for name, one in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = _schema2(out[key])
    return out


def custom(schema: Obj, group: str, version: str, kind: str, *, v3: bool = True) -> Obj:
    """The definition of a custom kind from its structural schema."""
    gvk = [{"group": group, "kind": kind, "version": version}]
    if not v3 and schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"type": "object", "x-kubernetes-group-version-kind": gvk}
    bare = dict(schema.get("properties") or {})
    for name in ("apiVersion", "kind", "metadata"):
        bare.pop(name, None)
    convert = _schema3 if v3 else _schema2
    out: Obj = convert({**schema, "properties": bare})
    out["properties"] = {
        "apiVersion": {"description": API_VERSION, "type": "string"},
        "kind": {"description": KIND, "type": "string"},
        "metadata": _metadata(v3=v3),
        **(out.get("properties") or {}),
    }
    out["x-kubernetes-group-version-kind"] = gvk
    return out


def custom_list(group: str, version: str, kind: str, list_kind: str, plural: str, *, v3: bool = True) -> Obj:
    """The definition of a custom kind's list."""
    meta = ref(META + "ListMeta", v3=v3)
    text = f"Standard list metadata. More info: {_CONVENTIONS}#types-kinds"
    return {
        "description": f"{list_kind} is a list of {kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": API_VERSION, "type": "string"},
            "items": {
                "description": f"List of {plural}. More info: {_CONVENTIONS}",
                "type": "array",
                "items": ref(definition_name(group, version, kind), v3=v3),
            },
            "kind": {"description": KIND, "type": "string"},
            "metadata": {"description": text, "allOf": [meta]} if v3 else {"description": text, **meta},
        },
        "x-kubernetes-group-version-kind": [{"group": group, "kind": list_kind, "version": version}],
    }


def camel(group: str) -> str:
    """A group as operation ids write it: `RbacAuthorization`, `OpenapiVFidExample`; the core group is `Core`."""
    words = re.split(r"[^A-Za-z0-9]+", group.removesuffix(".k8s.io") or "core")
    return "".join(word[:1].upper() + word[1:] for word in words)
