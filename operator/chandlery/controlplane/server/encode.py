"""Objects, lists, tables and watch lines as bytes."""

from __future__ import annotations

from typing import Any

import orjson

from chandlery.controlplane.builtins.resources import package_of
from chandlery.controlplane.cache import Entry
from chandlery.controlplane.codec import encode_yaml
from chandlery.controlplane.codec.body import PROTOBUF
from chandlery.controlplane.codec.protobuf import encode_status
from chandlery.controlplane.core import Core, untyped
from chandlery.controlplane.server.negotiate import YAML, Form
from chandlery.controlplane.types import ApiError, Obj, Resource
from chandlery.controlplane.verbs.read import Listing
from chandlery.controlplane.verbs.watch import Line


def render(body: bytes, form: Form, *, pretty: bool) -> bytes:
    """JSON bytes in the form's media type."""
    if form.media == YAML:
        return encode_yaml(orjson.loads(body))
    if form.media == PROTOBUF:  # errors only: everything else is offered as JSON and YAML
        return encode_status(orjson.loads(body))
    if pretty:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return body


def _field(number: int, payload: bytes) -> bytes:
    """One length-delimited protobuf field."""
    size, out = len(payload), bytearray([number << 3 | 2])
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out) + payload


def protobuf_status(status: Obj) -> bytes:
    """A `metav1.Status` as Kubernetes protobuf, for clients that take nothing else.

    Source: apimachinery `pkg/runtime/generated.proto` (Unknown) and `pkg/apis/meta/v1/generated.proto` (Status).
    """
    code, encoded = int(status["code"]), bytearray()
    while code > 0x7F:
        encoded.append(code & 0x7F | 0x80)
        code >>= 7
    encoded.append(code)
    raw = _field(1, b"") + _field(2, status["status"].encode()) + _field(3, status["message"].encode())
    raw += _field(4, str(status.get("reason", "")).encode()) + bytes([6 << 3]) + bytes(encoded)
    kind = _field(1, b"v1") + _field(2, b"Status")
    return b"k8s\x00" + _field(1, kind) + _field(2, raw)


def list_meta(resource: Resource, listing: Listing, *, plain: bool = True) -> Obj:
    meta: Obj = {"resourceVersion": str(listing.revision)} if listing.revision else {}
    if listing.continue_:
        meta["continue"] = listing.continue_
    elif plain and not resource.builtin:
        meta["continue"] = ""  # lists of custom resources always have it
    if listing.remaining:
        meta["remainingItemCount"] = listing.remaining
    return meta


async def encode_list(core: Core, resource: Resource, listing: Listing) -> bytes:
    """The list in the resource's own kind."""
    head = orjson.dumps(
        {
            "kind": resource.list_kind,
            "apiVersion": resource.api_version,
            "metadata": list_meta(resource, listing),
        }
    )
    await core.prepare(resource, listing.entries)
    served = core.served
    items = [entry.raw if entry.maker is resource else await served(resource, entry) for entry in listing.entries]
    if resource.builtin:
        items = [untyped(item) for item in items]
    return b"".join((head[:-1], b',"items":[', b",".join(items), b"]}"))


_SERVED_ONLY = "deprecated.daemonset.template.generation"


def partial(obj: Obj, version: str = "v1") -> Obj:
    """`PartialObjectMetadata` of an object."""
    meta = obj["metadata"]
    if _SERVED_ONLY in (meta.get("annotations") or {}):  # an annotation of the served form, not of the object
        kept = {key: value for key, value in meta["annotations"].items() if key != _SERVED_ONLY}
        meta = {key: value for key, value in meta.items() if key != "annotations"}
        if kept:
            meta["annotations"] = kept
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": meta}


def _row(resource: Resource, obj: Obj, include: str, version: str) -> Obj:
    # A bookmark has no name; it is printed all the same.
    named = obj if "name" in obj["metadata"] else obj | {"metadata": {"name": "", **obj["metadata"]}}
    row: Obj = {"cells": resource.strategy.table_cells(named)}
    conditions = getattr(resource.strategy, "table_conditions", None)
    if conditions is not None and (found := conditions(obj)):
        row["conditions"] = found
    if include == "Object":
        row["object"] = obj
    else:
        row["object"] = None if include == "None" else partial(obj, version)
    return row


def _columns(resource: Resource) -> list[Obj]:
    return [
        {
            "name": column["name"],
            "type": column.get("type", "string"),
            "format": column.get("format", ""),
            "description": column.get("description", ""),
            "priority": column.get("priority", 0),
        }
        for column in resource.strategy.table_columns()
    ]


def table(
    resource: Resource, objects: list[Obj], meta: Obj, include: str, version: str, *, columns: bool = True
) -> Obj:
    """A `Table` of these objects. Raises ApiError 400 when `include` is no known policy."""
    if include not in ("", "None", "Metadata", "Object"):
        raise ApiError(
            400,
            "BadRequest",
            f"Unable to convert to Table as requested: includeObject: Invalid value: {orjson.dumps(include).decode()}: "
            "must be 'Metadata', 'Object', 'None', or empty",
        )
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": meta,
        "columnDefinitions": _columns(resource) if columns else None,
        "rows": [_row(resource, obj, include, version) for obj in objects],
    }


async def transform_list(core: Core, resource: Resource, listing: Listing, form: Form, include: str) -> bytes:
    """A list as Table or PartialObjectMetadataList. Raises ApiError 406 for a form that is one object's."""
    if form.as_ == "PartialObjectMetadata":
        package = package_of(resource.storage_key[0])
        what = f"*{package}.{resource.list_kind}" if resource.builtin else "*unstructured.UnstructuredList"
        raise ApiError(
            406,
            "NotAcceptable",
            f"you requested PartialObjectMetadata, but the requested object is a list ({what})",
        )
    await core.prepare(resource, listing.entries)
    objects = [await core.object(resource, entry) for entry in listing.entries]
    meta = list_meta(resource, listing, plain=False)
    if form.as_ == "Table":
        body: Any = table(resource, objects, meta, include, form.as_version)
    else:
        body = {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"meta.k8s.io/{form.as_version}",
            "metadata": meta,
            "items": [partial(obj, form.as_version) for obj in objects],
        }
    return orjson.dumps(body)


def transform_object(resource: Resource, obj: Obj, form: Form, include: str) -> bytes:
    """One object as Table or PartialObjectMetadata. Raises ApiError 406, 500 for a form that is a list's."""
    if form.as_ == "PartialObjectMetadataList":
        if not resource.builtin:
            raise ApiError(500, "", "content is not a list")
        what = f"*{package_of(resource.storage_key[0])}.{resource.kind}"
        why = f"you requested PartialObjectMetadataList, but the requested object is not a list ({what})"
        raise ApiError(406, "NotAcceptable", why)
    if form.as_ == "Table":
        version = obj["metadata"].get("resourceVersion")
        meta = {"resourceVersion": version} if version else {}
        return orjson.dumps(table(resource, [obj], meta, include, form.as_version))
    return orjson.dumps(partial(obj, form.as_version))


class WatchEncoder:
    """Encodes the lines of one watch."""

    def __init__(self, core: Core, resource: Resource, form: Form, include: str) -> None:
        self._core, self._resource, self._form, self._include = core, resource, form, include
        self._first = True
        # Tables tell their columns once a stream, so those lines can't be shared between watchers.
        self.key: object = (
            (resource.strategy, resource.version, form, include) if form.as_ != "Table" else (object(), form, include)
        )

    def at_once(self, kind: str, entry: Entry) -> Line | None:
        if self._form.as_ or not self._core.is_plain(self._resource, entry):
            return None
        return b"".join((b'{"type":"', kind.encode(), b'","object":', entry.raw, b"}\n"))

    async def __call__(self, kind: str, entry: Entry, rev: int) -> Line:
        core, resource = self._core, self._resource
        if not self._form.as_:
            raw = entry.raw if entry.maker is resource else await core.served(resource, entry)
            if entry.rev != rev:
                obj = orjson.loads(raw)
                obj["metadata"]["resourceVersion"] = str(rev)
                raw = orjson.dumps(obj)
            return b"".join((b'{"type":"', kind.encode(), b'","object":', raw, b"}\n"))
        obj = await core.object(resource, entry)
        if entry.rev != rev:
            obj = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(rev)}}
        return self._transformed(kind, obj)

    def bookmark(self, obj: Obj) -> Line:
        if self._form.as_:
            return self._transformed("BOOKMARK", obj)
        return orjson.dumps({"type": "BOOKMARK", "object": obj}) + b"\n"

    def _transformed(self, kind: str, obj: Obj) -> Line:
        if self._form.as_ == "Table":
            meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            body = table(self._resource, [obj], meta, self._include, self._form.as_version, columns=self._first)
            self._first = False
        else:
            body = partial(obj, self._form.as_version)
        return orjson.dumps({"type": kind, "object": body}) + b"\n"
