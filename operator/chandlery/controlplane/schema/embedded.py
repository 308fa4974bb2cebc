"""Embedded resources (x-kubernetes-embedded-resource): their apiVersion, kind and metadata."""

from __future__ import annotations

import re
from typing import Any

from chandlery.controlplane.builtins.decode import DecodeError, Where, struct
from chandlery.controlplane.metadata import (
    label_errors,
    path_segment_errors,
    validate_annotations,
    validate_finalizers,
    validate_labels,
    validate_owners,
)  # fmt: skip
from chandlery.controlplane.schema import errors
from chandlery.controlplane.schema.names import dns1035_errors
from chandlery.controlplane.schema.node import Node
from chandlery.controlplane.types import FieldError, Obj

_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


class MetadataError(ValueError):
    """Metadata that can't be read; the message names the place and the value."""


def decode_object_meta(value: Any) -> tuple[Obj, list[str]]:
    """Metadata in its typed form and the paths of unknown fields below it. Raises DecodeError."""
    if type(value) is dict and _typed_already(value):
        return value, []
    where = Where()
    decoded = struct(_OBJECT_META).decode(value, where)
    if decoded.get("creationTimestamp") is None:
        decoded.pop("creationTimestamp", None)
    return decoded, [text.removeprefix('unknown field "').removesuffix('"') for text in where.unknown]


_TEXTS = frozenset({"name", "namespace", "generateName"})
_MAPS = frozenset({"labels", "annotations"})


def _typed_already(meta: Obj) -> bool:
    """Whether metadata holds nothing but what most bodies have, and that as it should be."""
    for name, value in meta.items():
        if name in _TEXTS:
            if type(value) is not str or not value:
                return False
        elif name in _MAPS:
            if type(value) is not dict or not value:
                return False
            for text in value.values():
                if type(text) is not str:
                    return False
        else:
            return False
    return True


def has_embedded(node: Node) -> bool:
    if node.embedded:
        return True
    children = [*node.properties.values(), *(n for n in (node.additional, node.items) if n is not None)]
    return any(has_embedded(child) for child in children)


def coerce(value: Any, node: Node | None, path: str = "", *, root: bool = False) -> list[str]:
    """Bring embedded metadata into its typed form, in place; returns unknown metadata fields, sorted.

    Raises MetadataError for a value that ObjectMeta can't hold.
    """
    unknown: list[str] = []
    _coerce(value, node, path, root or (node is not None and node.embedded), unknown)
    unknown.sort()
    return unknown


def _coerce(value: Any, node: Node | None, path: str, resource: bool, unknown: list[str]) -> None:
    if node is None:
        return
    if isinstance(value, dict):
        if resource:
            for name in ("apiVersion", "kind"):
                if name in value and not isinstance(value[name], str):
                    raise MetadataError(
                        _text(errors.invalid(errors.child(path, name), value[name], "must be a string"))
                    )
            if "metadata" in value:
                at = errors.child(path, "metadata")
                original = value["metadata"]
                try:
                    value["metadata"], extra = decode_object_meta(original)
                except DecodeError as error:
                    raise MetadataError(_text(errors.invalid(at, original, str(error)))) from error
                unknown.extend(f"{at}.{name}" for name in extra)
        for name, member in value.items():
            if type(member) is not dict and type(member) is not list:
                continue
            sub = node.properties.get(name)
            if sub is not None:
                _coerce(member, sub, errors.child(path, name), sub.embedded, unknown)
            elif node.additional is not None:
                _coerce(member, node.additional, errors.key(path, name), node.additional.embedded, unknown)
    elif isinstance(value, list) and node.items is not None:
        for position, member in enumerate(value):
            _coerce(member, node.items, errors.index(path, position), node.items.embedded, unknown)


def _text(error: FieldError) -> str:
    return f"{error.path}: {error.detail}"


def validate_embedded(value: Any, node: Node | None, path: str = "", *, root: bool = False) -> list[FieldError]:
    """Type and metadata rules of every embedded resource."""
    found: list[FieldError] = []
    if node is not None:
        _validate(value, node, path, root or node.embedded, found)
    return found


def _validate(value: Any, node: Node, path: str, resource: bool, found: list[FieldError]) -> None:
    if isinstance(value, dict):
        if resource:
            _validate_resource(value, path, found)
        for name, member in value.items():
            if type(member) is not dict and type(member) is not list:
                continue
            sub = node.properties.get(name)
            if sub is not None:
                _validate(member, sub, errors.child(path, name), sub.embedded, found)
            elif node.additional is not None:
                _validate(member, node.additional, errors.key(path, name), node.additional.embedded, found)
    elif isinstance(value, list) and node.items is not None:
        for position, member in enumerate(value):
            _validate(member, node.items, errors.index(path, position), node.items.embedded, found)


def _validate_resource(value: Obj, path: str, found: list[FieldError]) -> None:
    for name in ("apiVersion", "kind"):
        at = errors.child(path, name)
        if name not in value:
            found.append(errors.required(at))
            continue
        text = value[name]
        if not isinstance(text, str):
            found.append(errors.invalid(at, text, "must be a string"))
        elif not text:
            found.append(errors.invalid(at, text, "must not be empty"))
        elif name == "apiVersion":
            if text.count("/") > 1:
                found.append(errors.invalid(at, text, f"unexpected GroupVersion string: {text}"))
        elif problems := dns1035_errors(text.lower()):
            detail = "may have mixed case, but should otherwise match: " + ",".join(problems)
            found.append(errors.invalid(at, text, detail))
    if isinstance(value.get("metadata"), dict):
        _validate_meta(value["metadata"], errors.child(path, "metadata"), found)


def _validate_meta(meta: Obj, path: str, found: list[FieldError]) -> None:
    try:
        meta, _ = decode_object_meta(meta)
    except DecodeError as error:
        found.append(errors.invalid(path, meta, str(error)))
        return
    if generate := meta.get("generateName"):
        for problem in path_segment_errors(generate):
            found.append(errors.invalid(f"{path}.generateName", generate, problem))
    for problem in path_segment_errors(meta.get("name") or "fakename"):
        found.append(errors.invalid(f"{path}.name", meta["name"], problem))
    if namespace := meta.get("namespace"):
        for problem in label_errors(namespace):
            found.append(errors.invalid(f"{path}.namespace", namespace, problem))
    found.extend(validate_labels(meta.get("labels") or {}, f"{path}.labels"))
    found.extend(validate_annotations(meta.get("annotations") or {}, f"{path}.annotations"))
    found.extend(validate_owners(meta.get("ownerReferences") or [], f"{path}.ownerReferences"))
    found.extend(validate_finalizers(meta.get("finalizers") or [], f"{path}.finalizers", custom=True))


_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key that puts the most stable, newest API version first (v2 > v1 > v1beta2 > v1alpha1 > others by name)."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (stage, -int(match[1]), -int(match[3] or 0), "")
