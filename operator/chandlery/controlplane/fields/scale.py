"""Ownership through the scale subresource.

A Scale is a view of another object: of its managers only those of the replicas are seen, under the Scale's own
path and version, and what a write changes there is mapped back. Source: apimachinery, ScaleHandler (semantics).
"""

from __future__ import annotations

from typing import Any, Final

from chandlery.controlplane.fields.managed import Entry, Identity, Managed
from chandlery.controlplane.fields.sets import Node, difference, has, intersection
from chandlery.controlplane.types import Obj, Resource

SCALE_VERSION: Final = "autoscaling/v1"
_SCALE_PATH: Final[Node] = {"f:spec": {"f:replicas": {}}}


class ScaleView:
    """The managers of one object as its Scale shows them."""

    def __init__(self, resource: Resource, managed: Managed) -> None:
        subresource = resource.subresources.get("scale") or {}
        self.resource = resource
        self.managed = managed
        self.names = [part for part in subresource.get("specReplicasPath", ".spec.replicas").split(".") if part]
        self.path: Node = {}
        for name in reversed(self.names):
            self.path = {f"f:{name}": self.path}

    def managers(self) -> Managed:
        """The managers of the Scale: those who own the replicas."""
        out: Managed = {}
        for entry in self.managed.values():
            if has(entry.fields, *(f"f:{name}" for name in self.names)):
                shown = Entry(entry.manager, entry.operation, SCALE_VERSION, entry.subresource, entry.time, _SCALE_PATH)
                out[shown.identity] = shown
        return out

    def to_parent(self, scale: Managed) -> list[Entry]:
        """The object's managers after a write that left the Scale with these."""
        left: dict[Identity, Entry] = dict(scale)
        out: list[Entry] = []
        for identity, entry in self.managed.items():
            if not intersection(entry.fields, self.path):
                out.append(entry)
            elif identity in left:
                del left[identity]
                out.append(entry)
            else:  # taken away, or known to the Scale under its own version: then it comes back below
                rest = difference(entry.fields, self.path)
                if rest:
                    out.append(entry.with_fields(rest))
        for entry in left.values():
            if has(entry.fields, "f:spec", "f:replicas"):
                time = self.managed[entry.identity].time if entry.identity in self.managed else ""
                out.append(
                    Entry(
                        entry.manager,
                        entry.operation,
                        self.resource.api_version,
                        entry.subresource,
                        time,
                        self.path,
                    )
                )
        return out

    def replicas(self, obj: Any) -> Any:
        """The wanted replicas; None when there are none, or zero: a Scale doesn't show that."""
        for name in self.names:
            if not isinstance(obj, dict):
                return None
            obj = obj.get(name)
        return obj or None


def after_scaling(resource: Resource, managed: Managed, live: Obj, new: Obj, manager: str) -> list[Entry] | None:
    """The managers after a plain write through /scale; None when nobody owns the replicas: nothing is tracked."""
    view = ScaleView(resource, managed)
    scale = view.managers()
    if not scale:
        return None
    after = view.replicas(new)
    if view.replicas(live) != after:
        scale = {}
        if after is not None:
            own = Entry(manager or "unknown", "Update", SCALE_VERSION, "scale", "", _SCALE_PATH)
            scale[own.identity] = own
    return view.to_parent(scale)
