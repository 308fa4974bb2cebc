"""Defaults of CustomResourceDefinition objects, and what the server sets in them itself."""

from __future__ import annotations

from chandlery.controlplane.types import Obj


def default_crd(obj: Obj) -> None:
    """Fill the defaults of `apiextensions.k8s.io/v1` in place: singular, listKind, conversion, the webhook's port."""
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = names.get("kind") or ""
    if not names.get("singular") and kind:
        names["singular"] = kind.lower()
    if not names.get("listKind") and kind:
        names["listKind"] = f"{kind}List"
    conversion = spec.get("conversion")
    if not isinstance(conversion, dict):
        conversion = spec["conversion"] = {"strategy": "None"}
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if isinstance(service, dict) and service.get("port") is None:
        service["port"] = 443


def prepare_crd_create(obj: Obj) -> None:
    """Reset the status as creation does: nothing but the storage version in storedVersions. In place."""
    obj["status"] = {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": None}
    _note_storage_version(obj)


def prepare_crd_update(obj: Obj, old: Obj) -> None:
    """Keep the old status, and remember a new storage version in storedVersions. In place."""
    status = old.get("status")
    if status is None:
        obj.pop("status", None)
    else:
        obj["status"] = dict(status)
    _note_storage_version(obj)


def _note_storage_version(obj: Obj) -> None:
    for version in obj.get("spec", {}).get("versions") or ():
        if version.get("storage"):
            status = obj.setdefault("status", {})
            stored = list(status.get("storedVersions") or ())
            if version["name"] not in stored:
                status["storedVersions"] = [*stored, version["name"]]
            return
