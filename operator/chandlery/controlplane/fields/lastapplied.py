"""The annotation that client-side `kubectl apply` left behind, when the same user goes over to server-side apply.

What the annotation says and the live object still has was that user's: taking it over is no conflict, and
the annotation is kept up to date so that going back works. Only for the manager named `kubectl`.
Source: Kubernetes documentation, Server-Side Apply, "Upgrading from client-side apply".
"""

from __future__ import annotations

import json
from typing import Any, Final

from chandlery.controlplane.fields.fit import validate
from chandlery.controlplane.fields.schema import Type
from chandlery.controlplane.fields.sets import Node, difference
from chandlery.controlplane.fields.walk import TypedError, compare, field_set
from chandlery.controlplane.types import Obj

ANNOTATION: Final = "kubectl.kubernetes.io/last-applied-configuration"
_MAX_ANNOTATIONS: Final = 256 * 1024


def _annotation(obj: Obj) -> str:
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    value = annotations.get(ANNOTATION)
    return value if isinstance(value, str) else ""


def allowed_conflicts(t: Type, live: Obj, api_version: str) -> Node | None:
    """The fields that were applied client-side and are still as they were applied; None without the annotation."""
    text = _annotation(live)
    if not text:
        return None
    try:
        applied: Any = json.loads(text)
        if not isinstance(applied, dict) or applied.get("apiVersion") != api_version:
            return None
        validate(t, live)
        validate(t, applied)
        found = field_set(t, applied)
        changes = compare(t, applied, live)
    except (ValueError, TypedError):
        return None
    return difference(difference(difference(found, changes.modified), changes.added), changes.removed)


def annotate(obj: Obj, patch: Obj) -> None:
    """Write the applied configuration into the annotation when the object has one, in place."""
    if not _annotation(obj):
        return
    meta = obj["metadata"]
    annotations = meta["annotations"] = dict(meta["annotations"])
    annotations[ANNOTATION] = _encode(patch)
    if sum(len(key.encode()) + len(str(value).encode()) for key, value in annotations.items()) > _MAX_ANNOTATIONS:
        del annotations[ANNOTATION]


def _encode(patch: Obj) -> str:
    meta = patch.get("metadata")
    if isinstance(meta, dict) and isinstance(meta.get("annotations"), dict):
        annotations = {key: value for key, value in meta["annotations"].items() if key != ANNOTATION}
        patch = {**patch, "metadata": {**meta, "annotations": annotations}}
    text = json.dumps(patch, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text + "\n"
