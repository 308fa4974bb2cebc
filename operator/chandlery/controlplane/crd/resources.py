"""From an accepted CustomResourceDefinition to the resources that are served for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chandlery.controlplane.crd.conversion import ReviewClient, WebhookConverter
from chandlery.controlplane.crd.strategy import Convert, CustomStrategy
from chandlery.controlplane.schema.defaulting import copy_json
from chandlery.controlplane.types import Obj, Resource

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_STATUS_VERBS = ["get", "patch", "update"]

_string: Obj = {"type": "string"}
_strings: Obj = {"type": "object", "additionalProperties": _string}
_META_SCHEMA: Obj = {
    "type": "object",
    "properties": {
        "annotations": _strings,
        "creationTimestamp": _string,
        "deletionGracePeriodSeconds": {"type": "integer", "format": "int64"},
        "deletionTimestamp": _string,
        "finalizers": {
            "type": "array", "items": _string, "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge",
        },
        "generateName": _string,
        "generation": {"type": "integer", "format": "int64"},
        "labels": _strings,
        "managedFields": {
            "type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "x-kubernetes-list-type": "atomic",
        },
        "name": _string,
        "namespace": _string,
        "ownerReferences": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "apiVersion": _string, "kind": _string, "name": _string, "uid": _string,
                    "controller": {"type": "boolean"}, "blockOwnerDeletion": {"type": "boolean"},
                },
                "x-kubernetes-map-type": "atomic",
            },
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
        },
        "resourceVersion": _string,
        "selfLink": _string,
        "uid": _string,
    },
}  # fmt: skip
"""ObjectMeta's shape: what field ownership and merging need to know of it."""


def custom_resources(
    crd: Obj, *, converter: Convert | None = None, client: Callable[[], ReviewClient | None] = lambda: None
) -> list[Resource]:
    """One `Resource` for each served version, with accepted names where the status has them.

    `client` gives, when it is needed, what calls the conversion webhook; `converter` is used instead of the
    webhook. The CRD is not changed and may be shared.
    """
    spec = crd["spec"]
    names = {**spec["names"], **{k: v for k, v in _accepted(crd).items() if v}}
    versions: Sequence[Obj] = spec.get("versions") or []
    storage = next((version["name"] for version in versions if version.get("storage")), "")
    conversion = spec.get("conversion") or {}
    convert = converter
    if convert is None and conversion.get("strategy") == "Webhook":
        convert = WebhookConverter(conversion.get("webhook") or {}, client)
    return [_resource(crd, version, names, storage, convert) for version in versions if version.get("served")]


def _accepted(crd: Obj) -> Obj:
    accepted = (crd.get("status") or {}).get("acceptedNames") or {}
    return accepted if accepted.get("kind") else {}


def _resource(crd: Obj, version: Obj, names: Obj, storage: str, convert: Convert | None) -> Resource:
    spec = crd["spec"]
    group, name = spec["group"], version["name"]
    raw = (version.get("schema") or {}).get("openAPIV3Schema")
    preserve = bool(spec.get("preserveUnknownFields")) or raw is None
    subresources = version.get("subresources") or {}
    strategy = CustomStrategy(
        group=group,
        version=name,
        kind=names["kind"],
        storage_version=storage,
        raw_schema=raw or {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        subresources=subresources,
        columns=version.get("additionalPrinterColumns"),
        selectable=[field.get("jsonPath") or "" for field in version.get("selectableFields") or ()],
        warnings=(),
        preserve_unknown=preserve,
        convert=convert,
    )
    served: dict[str, Obj] = {}
    if strategy.has_status:
        served["status"] = {"verbs": _STATUS_VERBS, "kind": names["kind"], "group": "", "version": ""}
    if strategy.scale is not None:
        paths = subresources["scale"]
        served["scale"] = {"verbs": _STATUS_VERBS, "kind": "Scale", "group": "autoscaling", "version": "v1", **paths}
    return Resource(
        group=group,
        version=name,
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        kind=names["kind"],
        list_kind=names.get("listKind") or f"{names['kind']}List",
        namespaced=spec.get("scope") != "Cluster",
        strategy=strategy,
        schema=served_schema(raw, preserve=preserve),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=served,
        storage_version=storage,
        has_generation=True,
        deprecation=_deprecation(version, group, names["kind"]),
        crd_uid=(crd.get("metadata") or {}).get("uid") or "",
    )


def _deprecation(version: Obj, group: str, kind: str) -> str:
    if not version.get("deprecated"):
        return ""
    return version.get("deprecationWarning") or f"{group}/{version['name']} {kind} is deprecated"


def served_schema(raw: Obj | None, *, preserve: bool = False) -> Obj:
    """A version's schema with apiVersion, kind and metadata filled in: what ownership and documents look at."""
    schema: Obj = copy_json(raw) if raw else {"type": "object"}
    if preserve:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    properties = schema.setdefault("properties", {})
    properties["apiVersion"] = _string
    properties["kind"] = _string
    properties["metadata"] = _META_SCHEMA
    return schema
