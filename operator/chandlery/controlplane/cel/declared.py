"""What expressions see of a schema: types, how large values can get, and JSON as expression values.

Source: "Common Expression Language in Kubernetes", the mapping of OpenAPI v3 types to CEL types, and how names are
escaped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chandlery.controlplane.cel.checker import RESERVED_FIELDS
from chandlery.controlplane.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
)  # fmt: skip
from chandlery.controlplane.cel.values import Duration, MapList, SetList, Timestamp
from chandlery.controlplane.schema.goduration import parse_spoken_duration
from chandlery.controlplane.schema.node import MISSING, Node

REQUEST_BYTES = 3 * 1024 * 1024
_NAME_LIMIT = 253
_RESERVED = RESERVED_FIELDS | {"true", "false", "null", "in"}
_NAME = re.compile(r"[a-zA-Z_./-][a-zA-Z0-9_./-]*")


@dataclass(slots=True, eq=False)
class Declared:
    """A type with its size: at most `most` elements (characters, items, entries), at least `least` bytes of JSON."""

    type: Type
    most: int = 0
    least: int = 2
    item: Declared | None = None
    key: Declared | None = None
    fields: dict[str, Declared] = field(default_factory=dict)
    """By escaped name."""


def escape(name: str) -> str | None:
    """A property's name in expressions; None when expressions can't name it."""
    if name in _RESERVED:
        return f"__{name}__"
    if _NAME.fullmatch(name) is None:
        return None
    return (
        name.replace("__", "__underscores__").replace(".", "__dot__").replace("-", "__dash__").replace("/", "__slash__")
    )


def declare(node: Node, *, resource: bool, name: str = "selfType") -> Declared | None:
    """The declaration of a schema; None when expressions don't see its values. `resource` adds type and object meta."""
    if node.int_or_string:
        most = max(node.max_length, 0) * 4 if node.max_length is not None else REQUEST_BYTES - 2
        return Declared(DYN, most, 1)
    if node.type == "array":
        return _array(node, name)
    if node.type == "object":
        return _object(node, resource, name)
    if node.type == "string":
        return _string(node)
    return {
        "boolean": Declared(BOOL, 0, 4), "number": Declared(DOUBLE, 0, 1), "integer": Declared(INT, 0, 1),
    }.get(node.type)  # fmt: skip


def _array(node: Node, name: str) -> Declared | None:
    if node.items is None:
        return None
    item = declare(node.items, resource=node.items.embedded, name=f"{name}.@idx")
    if item is None:
        return None
    most = max(node.max_items, 0) if node.max_items is not None else (REQUEST_BYTES - 2) // (item.least + 1)
    return Declared(list_of(item.type), most, 2, item=item)


def _object(node: Node, resource: bool, name: str) -> Declared | None:
    if node.additional is not None and not resource:
        value = declare(node.additional, resource=node.additional.embedded, name=f"{name}.@elem")
        if value is None:
            return None
        limit = node.max_properties
        most = max(limit, 0) if limit is not None else (REQUEST_BYTES - 2) // (value.least + 6)
        return Declared(map_of(STRING, value.type), most, 2, item=value, key=Declared(STRING, 0, 2))
    fields: dict[str, Declared] = {}
    least = 2
    for property_name, sub in node.properties.items():
        if resource and property_name in ("kind", "apiVersion", "metadata"):
            continue
        escaped = escape(property_name)
        found = declare(sub, resource=sub.embedded, name=f"{name}.{escaped}")
        if found is None:
            continue
        if escaped is not None:
            fields[escaped] = found
        if property_name in node.required and sub.default is MISSING:
            least += len(property_name) + found.least + 4
    if resource:
        fields.update(_resource_fields(node, name))
    kind = Type("object", name, fields={escaped: found.type for escaped, found in fields.items()})
    return Declared(kind, 0, least, fields=fields)


def _resource_fields(node: Node, name: str) -> dict[str, Declared]:
    unlimited = Declared(STRING, REQUEST_BYTES - 2, 2)
    own = node.properties.get("metadata")
    meta = {
        field_name: Declared(STRING, min(limit, _own_limit(own, field_name, limit)) * 4, 2)
        for field_name, limit in (("name", _NAME_LIMIT), ("generateName", _NAME_LIMIT - 1))
    }
    if own is not None and _names_itself(node, own):
        whole = declare(own, resource=False, name=f"{name}.metadata")
        meta = {**(whole.fields if whole is not None else {}), **meta}
    kind = Type("object", f"{name}.metadata", fields={field: found.type for field, found in meta.items()})
    return {"kind": unlimited, "apiVersion": unlimited, "metadata": Declared(kind, 0, 2, fields=meta)}


def _names_itself(node: Node, metadata: Node) -> bool:
    """Whether a schema declares kind, apiVersion, name and generateName: then all its metadata can be seen."""
    places = ((node, "kind"), (node, "apiVersion"), (metadata, "name"), (metadata, "generateName"))
    return metadata.type == "object" and all(
        name in where.properties and where.properties[name].type == "string" for where, name in places
    )


def _own_limit(metadata: Node | None, name: str, limit: int) -> int:
    sub = metadata.properties.get(name) if metadata is not None else None
    return sub.max_length if sub is not None and sub.max_length is not None else limit


def _string(node: Node) -> Declared:
    form = node.raw.get("format") or ""
    if form == "byte":
        return Declared(BYTES, max(node.max_length, 0) if node.max_length is not None else REQUEST_BYTES - 2, 2)
    if form == "duration":
        return Declared(DURATION, 32, 3)
    if form == "date":
        return Declared(TIMESTAMP, 12, 12)
    if form == "date-time":
        return Declared(TIMESTAMP, 32, 21)
    if node.max_length is not None:
        return Declared(STRING, max(node.max_length, 0) * 4, 2)
    if node.enum:
        return Declared(STRING, max(len(v.encode()) if isinstance(v, str) else 0 for v in node.enum), 2)
    return Declared(STRING, REQUEST_BYTES - 2, 2)


# -- values

Convert = Callable[[Any], Any]


def converter(node: Node, fields: frozenset[str] | None = None) -> Convert | None:
    """JSON of this schema as an expression value; None when it is one already.

    `fields`: the only properties that anybody looks at, under their names in expressions.
    """
    if node.int_or_string:
        return None
    if node.type == "number":
        return lambda value: float(value) if type(value) is int else value
    if node.type == "string":
        return _STRINGS.get(node.raw.get("format") or "")
    if node.type == "array" and node.items is not None:
        return _array_converter(node, node.items)
    if node.type == "object":
        return _object_converter(node, fields)
    return None


def _date(value: Any) -> Any:
    found = Timestamp.parse(f"{value}T00:00:00Z") if isinstance(value, str) else None
    return found if found is not None else value


def _date_time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return Timestamp.parse(value) or Timestamp.parse(f"{value}Z") or value


def _duration(value: Any) -> Any:
    nanos = parse_spoken_duration(value) if isinstance(value, str) else None
    return Duration(nanos) if nanos is not None else value


def _bytes(value: Any) -> Any:
    try:
        return base64.b64decode(value) if isinstance(value, str) else value
    except ValueError:
        return value


_STRINGS: dict[str, Convert] = {"date": _date, "date-time": _date_time, "duration": _duration, "byte": _bytes}


def _array_converter(node: Node, items: Node) -> Convert | None:
    each = converter(items)
    if node.list_type == "set":
        return lambda value: SetList(map(each, value) if each else value) if isinstance(value, list) else value
    if node.list_type == "map":
        keys = tuple(escape(name) or name for name in node.list_keys)
        return lambda value: (
            MapList(list(map(each, value)) if each else value, keys) if isinstance(value, list) else value
        )
    if each is None:
        return None
    convert = each
    return lambda value: list(map(convert, value)) if isinstance(value, list) else value


def _object_converter(node: Node, fields: frozenset[str] | None) -> Convert | None:
    if node.properties or node.embedded:
        renamed = {name: escape(name) for name in node.properties}
        if fields is not None:
            renamed = {name: new for name, new in renamed.items() if new in fields}
        changes = {name: change for name in renamed if (change := converter(node.properties[name])) is not None}
        names = {name: new for name, new in renamed.items() if new != name and new is not None}
        if not changes and not names:
            return None

        def convert(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            out = {}
            for name, member in value.items():
                change = changes.get(name)
                out[names.get(name, name)] = change(member) if change is not None and member is not None else member
            return out

        return convert
    if node.additional is not None and (each := converter(node.additional)) is not None:
        change = each
        return lambda value: (
            {name: change(member) for name, member in value.items()} if isinstance(value, dict) else value
        )
    return None
