"""`metadata.managedFields`: decoding, encoding, order, and which fields never have an owner.

Source: Kubernetes API reference, ManagedFieldsEntry; server-side apply documentation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from chandlery.controlplane.fields.sets import Node, in_order, normalise, union
from chandlery.controlplane.types import Obj, Resource

ANCIENT: Final = "ancient-changes"
MAX_UPDATE_MANAGERS: Final = 10
STRIPPED: Final = frozenset(
    {
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    }
)
"""Keys of metadata that are never owned; apiVersion, kind and metadata itself are not owned either."""
STRIPPED_SET: Final[Node] = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {".": {}} | {f"f:{key}": {} for key in STRIPPED},
}

_WHOLE_METADATA: Final = frozenset({"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"})
"""Groups whose /status endpoints take nothing of metadata."""

Identity = tuple[str, str, str, str]
"""(manager, operation, apiVersion, subresource); an applier is the same one whatever version it used last."""


@dataclass(slots=True)
class Entry:
    """One manager's set of fields. Never changed after it was made (frozen dataclasses cost three times as much)."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    """RFC 3339, or "" when the entry never changed the object."""
    fields: Node

    @property
    def identity(self) -> Identity:
        return (
            self.manager,
            self.operation,
            "" if self.operation == "Apply" else self.api_version,
            self.subresource,
        )

    @property
    def sort_key(self) -> str:
        """What the real server sorts managers by where times don't decide: its text form of the identity."""
        parts = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": "" if self.applied else self.api_version,
            "subresource": self.subresource,
        }
        return json.dumps({name: part for name, part in parts.items() if part}, separators=(",", ":"))

    @property
    def applied(self) -> bool:
        return self.operation == "Apply"

    def with_fields(self, fields: Node) -> Entry:
        return Entry(self.manager, self.operation, self.api_version, self.subresource, self.time, fields)


Managed = dict[Identity, Entry]


def decode(entries: Any, *, trusted: bool) -> Managed:
    """Read managedFields; `trusted` ones were written by `encode`. Raises ValueError on entries that can't be."""
    out: Managed = {}
    if entries is None:
        return out
    if not isinstance(entries, list):
        raise ValueError("managedFields is not a list")  # noqa: TRY004
    for index, entry in enumerate(entries):
        operation = entry.get("operation", "")
        if operation not in ("Apply", "Update"):
            raise ValueError("operation must be `Apply` or `Update`")
        if not entry.get("apiVersion"):
            raise ValueError("apiVersion must not be empty")
        kind = entry.get("fieldsType", "")
        if kind != "FieldsV1":
            if not kind:
                raise ValueError(f"missing fieldsType in managed fields entry {index}")
            raise ValueError(f'invalid fieldsType "{kind}" in managed fields entry {index}')
        fields = entry.get("fieldsV1") or {}
        found = Entry(
            entry.get("manager") or "",
            operation,
            entry["apiVersion"],
            entry.get("subresource") or "",
            entry.get("time") or "",
            fields if trusted else normalise(fields),
        )
        out[found.identity] = found
    return out


def encode(entries: list[Entry], known: set[int]) -> list[Obj]:
    """Write managedFields in their order: appliers first, then by time, manager, version, subresource.

    `known` has the ids of field sets that are in canonical order already.
    """
    entries.sort(key=lambda e: (e.operation, e.time, e.manager, e.api_version, e.subresource))
    out = []
    for entry in entries:
        item: Obj = {}
        if entry.manager:
            item["manager"] = entry.manager
        item["operation"] = entry.operation
        item["apiVersion"] = entry.api_version
        if entry.time:
            item["time"] = entry.time
        item["fieldsType"] = "FieldsV1"
        item["fieldsV1"] = entry.fields if id(entry.fields) in known else in_order(entry.fields)
        if entry.subresource:
            item["subresource"] = entry.subresource
        out.append(item)
    return out


def in_line(items: list[Obj]) -> list[Obj]:
    """Items of managedFields as they are written, in the order of `encode`; sorts in place."""
    if len(items) > 1:
        items.sort(
            key=lambda e: (
                e["operation"],
                e.get("time") or "",
                e.get("manager") or "",
                e["apiVersion"],
                e.get("subresource") or "",
            )
        )
    return items


def cap_update_managers(managed: Managed) -> None:
    """Merge the oldest Update entries into `ancient-changes` (one per version) until ten are left, in place."""
    updaters = [entry for entry in managed.values() if not entry.applied]
    count = len(updaters)
    if count <= MAX_UPDATE_MANAGERS:
        return
    updaters.sort(key=lambda e: (e.time, e.sort_key))
    first: dict[str, Entry] = {}
    for entry in updaters:
        if count <= MAX_UPDATE_MANAGERS:
            return
        version = entry.api_version
        bucket = (ANCIENT, "Update", version, "")
        before = first.get(version)
        if before is None:
            first[version] = entry
            continue
        if bucket not in managed:
            del managed[before.identity]
            managed[bucket] = Entry(ANCIENT, "Update", version, "", before.time, before.fields)
        fields = union(entry.fields, managed[bucket].fields)
        managed.pop(entry.identity, None)
        managed[bucket] = Entry(ANCIENT, "Update", version, "", entry.time, fields)
        count -= 1


def reset_fields(resource: Resource, subresource: str) -> Node:
    """The fields that a write through this endpoint can't change and therefore never owns, with all below them."""
    if not subresource:
        return {"f:status": {}} if "status" in resource.subresources else {}
    if subresource == "status":
        if not resource.builtin or resource.group in _WHOLE_METADATA:
            return {"f:metadata": {}, "f:spec": {}}
        if resource.group == "apps" and resource.plural == "deployments":
            return {"f:spec": {}, "f:metadata": {"f:labels": {}}}
        if resource.group == "" and resource.plural == "pods":
            return {"f:spec": {}, "f:metadata": {"f:deletionTimestamp": {}, "f:ownerReferences": {}}}
        return {"f:spec": {}}
    if subresource in ("ephemeralcontainers", "resize"):
        changeable = (
            ("ephemeralContainers",) if subresource == "ephemeralcontainers" else ("containers", "initContainers")
        )
        definition = resource.definitions.get("io.k8s.api.core.v1.PodSpec") or {}
        others: Node = {f"f:{name}": {} for name in definition.get("properties") or () if name not in changeable}
        return {"f:metadata": {}, "f:status": {}, "f:spec": others}
    if subresource == "finalize":
        return {"f:status": {}}
    return {}
