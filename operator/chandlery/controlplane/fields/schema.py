"""The merge type of every value: compiled once from a resource's OpenAPI schema.

A `Type` says how a value is owned and merged: as one piece (atomic), key by key (granular map), or element by element
(sets, and lists of maps with keys). Sources: the marks x-kubernetes-list-type, -list-map-keys, -map-type and the older
-patch-strategy / -patch-merge-key; kube-openapi's rules for schemas that have none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chandlery.controlplane.types import Obj, Resource

ATOMIC: Final = 0
SET: Final = 1
KEYED: Final = 2

_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_RAW_EXTENSION = "io.k8s.apimachinery.pkg.runtime.RawExtension"


class Type:
    """How values of one schema are owned and merged. Several of scalar, list and map at once: decided by the value."""

    __slots__ = (
        "applied",
        "created",
        "defaults",
        "elem",
        "elements",
        "fields",
        "folds",
        "is_list",
        "is_map",
        "item",
        "keys",
        "list_kind",
        "map_atomic",
        "scalar",
    )

    def __init__(self) -> None:
        self.scalar: str = ""
        """"", "numeric", "string", "boolean" or "untyped"."""
        self.is_map = False
        self.map_atomic = False
        self.fields: dict[str, Type] = {}
        self.elem: Type | None = None
        """The type of keys that are not in `fields`; None: there may be none."""
        self.is_list = False
        self.list_kind: int = ATOMIC
        self.item: Type = self
        self.keys: tuple[str, ...] = ()
        """The keys of a KEYED list's elements, sorted."""
        self.defaults: dict[str, Any] = {}
        """Default values of those keys."""
        self.elements: dict[str, str] = {}
        """Path elements of this list's elements by their only key, as far as they were asked for."""
        self.folds: bool | None = None
        """Whether a change of the schema could have made something here or below atomic; worked out when asked for."""
        self.created: dict[tuple[object, ...], dict[str, Any]] = {}
        """Of a whole object's type: what creating an object of a shape makes its creator own (see `shapes`)."""
        self.applied: dict[tuple[object, ...], tuple[dict[str, Any], dict[str, Any], bool]] = {}
        """Of a whole object's type: what an apply patch of a shape sets, and what of that its manager owns."""


def _untyped_atomic() -> Type:
    out = Type()
    out.scalar = "untyped"
    out.is_list = out.is_map = out.map_atomic = True
    out.elem = out
    return out


UNTYPED: Final = _untyped_atomic()


def _deduced() -> Type:
    out = Type()
    out.scalar = "untyped"
    out.is_list = out.is_map = True
    out.item = UNTYPED
    out.elem = out
    return out


DEDUCED: Final = _deduced()
"""For values without a schema: maps key by key, lists as one piece."""


def _scalar(kind: str) -> Type:
    out = Type()
    out.scalar = kind
    return out


STRING: Final = _scalar("string")
NUMERIC: Final = _scalar("numeric")
BOOLEAN: Final = _scalar("boolean")
ANY_SCALAR: Final = _scalar("untyped")


def _struct(fields: dict[str, Type], *, atomic: bool = False) -> Type:
    out = Type()
    out.is_map = True
    out.map_atomic = atomic
    out.fields = fields
    return out


def _map_of(elem: Type) -> Type:
    out = _struct({})
    out.elem = elem
    return out


def _list_of(item: Type, kind: int, *keys: str) -> Type:
    out = Type()
    out.is_list = True
    out.list_kind = kind
    out.item = item
    out.keys = tuple(sorted(keys))
    return out


OBJECT_META: Final = _struct(
    {
        "annotations": _map_of(STRING),
        "creationTimestamp": ANY_SCALAR,
        "deletionGracePeriodSeconds": NUMERIC,
        "deletionTimestamp": ANY_SCALAR,
        "finalizers": _list_of(STRING, SET),
        "generateName": STRING,
        "generation": NUMERIC,
        "labels": _map_of(STRING),
        "managedFields": _list_of(DEDUCED, ATOMIC),
        "name": STRING,
        "namespace": STRING,
        "ownerReferences": _list_of(
            _struct(
                {
                    "apiVersion": STRING,
                    "blockOwnerDeletion": BOOLEAN,
                    "controller": BOOLEAN,
                    "kind": STRING,
                    "name": STRING,
                    "uid": STRING,
                },
                atomic=True,
            ),
            KEYED,
            "uid",
        ),
        "resourceVersion": STRING,
        "selfLink": STRING,
        "uid": STRING,
    }
)


class _Compiler:
    def __init__(self, definitions: Mapping[str, Obj]) -> None:
        self.definitions = definitions
        self.named: dict[str, Type] = {_QUANTITY: ANY_SCALAR, _RAW_EXTENSION: UNTYPED}

    def ref(self, schema: Obj, preserve: bool) -> Type:
        """The type of a field, a list's element or a map's value."""
        target = schema.get("$ref")
        if target is None:
            all_of = schema.get("allOf")
            if all_of and len(all_of) == 1:
                target = all_of[0].get("$ref")
        if target is None:
            return self.inline(schema, preserve)
        name = target.rsplit("/", 1)[-1]
        found = self.named.get(name)
        if found is None:
            definition = self.definitions.get(name)
            if definition is None:
                return DEDUCED
            found = self.named[name] = Type()  # entered before it is filled: definitions may be recursive
            self.fill(found, definition, False)
        map_type = schema.get("x-kubernetes-map-type")
        if map_type and found.is_map and found.map_atomic != (map_type == "atomic"):
            special = Type()
            for slot in Type.__slots__:
                setattr(special, slot, getattr(found, slot))
            special.map_atomic = map_type == "atomic"
            return special
        return found

    def inline(self, schema: Obj, preserve: bool) -> Type:
        out = Type()
        self.fill(out, schema, preserve)
        return out

    def fill(self, out: Type, schema: Obj, preserve: bool) -> None:
        preserve = preserve or schema.get("x-kubernetes-preserve-unknown-fields") is True
        kind = schema.get("type") or ""
        if isinstance(kind, list):
            kind = next((k for k in kind if k != "null"), "")
        match kind:
            case "object":
                self.object(out, schema, preserve)
            case "array":
                self.array(out, schema, preserve)
            case "integer" | "number":
                out.scalar = "numeric"
            case "boolean":
                out.scalar = "boolean"
            case "string":
                out.scalar = "string" if schema.get("format", "") in ("", "byte") else "untyped"
            case _:
                out.scalar = "untyped"
                self.array(out, schema, preserve)
                self.object(out, schema, preserve)

    def object(self, out: Type, schema: Obj, preserve: bool) -> None:
        out.is_map = True
        out.map_atomic = schema.get("x-kubernetes-map-type") == "atomic"
        properties: Obj = schema.get("properties") or {}
        out.fields = {name: self.ref(member, preserve) for name, member in properties.items()}
        extra = schema.get("additionalProperties")
        if extra is None:
            out.elem = DEDUCED if preserve or not properties else None
        elif isinstance(extra, dict):
            out.elem = self.ref(extra, preserve)
        else:
            out.elem = DEDUCED if extra else None
        if schema.get("x-kubernetes-embedded-resource") is True:
            out.fields |= {"apiVersion": STRING, "kind": STRING, "metadata": OBJECT_META}

    def array(self, out: Type, schema: Obj, preserve: bool) -> None:
        out.is_list = True
        items = schema.get("items")
        out.item = self.ref(items, preserve) if items else UNTYPED
        list_type = schema.get("x-kubernetes-list-type")
        keys: list[str] = []
        if list_type is None:
            strategy = schema.get("x-kubernetes-patch-strategy", "")
            if "merge" in strategy.split(","):
                merge_key = schema.get("x-kubernetes-patch-merge-key")
                list_type = "map" if merge_key else "set"
                keys = [merge_key] if merge_key else []
        elif list_type == "map":
            keys = schema.get("x-kubernetes-list-map-keys") or []
        out.list_kind = KEYED if list_type == "map" and keys else SET if list_type == "set" else ATOMIC
        if out.list_kind == KEYED:
            out.keys = tuple(sorted(keys))
            target = _target(items or {})
            element = self.definitions.get(target, {}) if target else items or {}
            properties = element.get("properties") or {}
            for key in keys:
                default = (properties.get(key) or {}).get("default")
                if default is None and target:
                    default = _go_default(target, key)
                if default is not None:
                    out.defaults[key] = default


def _target(schema: Obj) -> str:
    """The name of the definition that a schema refers to, "" when it is none."""
    target = schema.get("$ref") or next((s["$ref"] for s in schema.get("allOf") or () if "$ref" in s), "")
    return str(target).rsplit("/", 1)[-1]


def _go_default(definition: str, key: str) -> Any:
    """The default of a built-in type's field: marked in its Go type, or the zero value that is always written."""
    from chandlery.controlplane.builtins.data import go_aliases, go_structs

    for name, _, go_type, flags, *default in go_structs().get(definition, ()):
        if name == key:
            if default:
                return default[0]
            plain = go_aliases().get(go_type, go_type)
            if not flags:
                return {"string": "", "int32": 0, "int64": 0}.get(plain)
    return None


def compile_type(schema: Obj, definitions: Mapping[str, Obj]) -> Type:
    """The type of a whole object: always a map with apiVersion, kind and the standard metadata."""
    compiler = _Compiler(definitions)
    found = compiler.ref(schema, False)
    out = Type()
    for slot in Type.__slots__:
        setattr(out, slot, getattr(found, slot))
    out.is_map = True
    out.fields = {**out.fields, "apiVersion": STRING, "kind": STRING, "metadata": OBJECT_META}
    out.created, out.applied = {}, {}
    return out


_cache: dict[int, tuple[Resource, Type]] = {}


def type_of(resource: Resource) -> Type:
    """The type of a resource's objects, compiled at first use."""
    found = _cache.get(id(resource))
    if found is not None:
        return found[1]
    if len(_cache) > 1000:  # resources of deleted CRDs: they are kept alive here so that their ids stay theirs
        _cache.clear()
    out = compile_type(resource.schema, resource.definitions)
    _cache[id(resource)] = (resource, out)
    return out
