"""Cells of kinds that belong to the whole cluster."""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins.tables import text
from chandlery.controlplane.types import Obj


def _name(obj: Obj) -> str:
    name: str = obj["metadata"]["name"]
    return name


def runtime_class(obj: Obj) -> list[Any]:
    return [_name(obj), obj.get("handler", ""), text.age(obj)]


def ip_address(obj: Obj) -> list[Any]:
    """The parent as a path: `services/default/kubernetes`."""
    parent = obj["spec"].get("parentRef")
    if parent is None:
        return [_name(obj), "", text.age(obj)]
    parts = (parent.get("group", ""), parent.get("resource", ""), parent.get("namespace", ""), parent.get("name", ""))
    return [_name(obj), "/".join(part for part in parts if part), text.age(obj)]


def service_cidr(obj: Obj) -> list[Any]:
    return [_name(obj), ",".join(obj["spec"].get("cidrs") or ()), text.age(obj)]


def driver(obj: Obj) -> list[Any]:
    spec = obj["spec"]
    tokens = spec.get("tokenRequests")
    return [
        _name(obj),
        spec.get("attachRequired", True),
        spec.get("podInfoOnMount", False),
        spec.get("storageCapacity", False),
        "<unset>" if tokens is None else ",".join(token.get("audience", "") for token in tokens),
        spec.get("requiresRepublish", False),
        ",".join(spec.get("volumeLifecycleModes") or ()) or text.NONE,
        text.age(obj),
    ]


def driver_node(obj: Obj) -> list[Any]:
    return [_name(obj), len(obj["spec"].get("drivers") or ()), text.age(obj)]


def attachment(obj: Obj) -> list[Any]:
    spec = obj["spec"]
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = (obj.get("status") or {}).get("attached", False)
    return [_name(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, text.age(obj)]


def attributes_class(obj: Obj) -> list[Any]:
    return [_name(obj), obj.get("driverName", ""), text.age(obj)]


def signing_request(obj: Obj) -> list[Any]:
    spec, status = obj["spec"], obj.get("status") or {}
    kinds = [one.get("type") for one in status.get("conditions") or ()]
    told = [kind for kind in ("Approved", "Denied", "Failed") if kind in kinds]
    state = ",".join(told[:1] + [kind for kind in told[1:] if kind == "Failed"]) or "Pending"
    if status.get("certificate"):
        state += ",Issued"
    seconds = spec.get("expirationSeconds")
    asked = text.NONE if seconds is None else text.duration(seconds)
    return [_name(obj), text.age(obj), spec.get("signerName") or text.NONE, spec.get("username", ""), asked, state]


def flow_schema(obj: Obj) -> list[Any]:
    spec = obj["spec"]
    conditions = (obj.get("status") or {}).get("conditions") or ()
    dangling = next((one.get("status", "") for one in conditions if one.get("type") == "Dangling"), "?")
    return [
        _name(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        spec.get("matchingPrecedence", 0),
        (spec.get("distinguisherMethod") or {}).get("type") or text.NONE,
        text.age(obj),
        dangling,
    ]


def priority_level(obj: Obj) -> list[Any]:
    spec = obj["spec"]
    limited = spec.get("limited") or {}
    shares = (limited or spec.get("exempt") or {}).get("nominalConcurrencyShares", text.NONE)
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    sizes = [queuing.get(field, text.NONE) for field in ("queues", "handSize", "queueLengthLimit")]
    return [_name(obj), spec.get("type", ""), shares, *sizes, text.age(obj)]


def named(obj: Obj) -> list[Any]:
    return [_name(obj), text.age(obj)]


def resource_claim(obj: Obj) -> list[Any]:
    status = obj.get("status") or {}
    states = ["deleted"] if obj["metadata"].get("deletionTimestamp") else []
    if status.get("allocation") is not None:
        states += ["allocated", "reserved"] if status.get("reservedFor") else ["allocated"]
    elif not states:
        states = ["pending"]
    return [_name(obj), ",".join(states), text.age(obj)]


def resource_slice(obj: Obj) -> list[Any]:
    spec = obj["spec"]
    pool = (spec.get("pool") or {}).get("name", "")
    return [_name(obj), spec.get("nodeName") or "", spec.get("driver", ""), pool, text.age(obj)]
