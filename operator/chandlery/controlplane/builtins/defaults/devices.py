"""Defaults of claims on devices, and of devices themselves."""

from __future__ import annotations

from chandlery.controlplane.metadata import now_text
from chandlery.controlplane.types import Obj


def _wanted(found: Obj) -> None:
    if not found.get("allocationMode"):
        found["allocationMode"] = "ExactCount"
    if found["allocationMode"] == "ExactCount" and not found.get("count"):
        found["count"] = 1


def _spec(spec: Obj) -> None:
    for request in (spec.get("devices") or {}).get("requests") or ():
        for one in ([request["exactly"]] if request.get("exactly") else []) + (request.get("firstAvailable") or []):
            _wanted(one)


def claim(obj: Obj) -> None:
    _spec(obj.get("spec") or {})


def claim_template(obj: Obj) -> None:
    _spec((obj.get("spec") or {}).get("spec") or {})


def resource_slice(obj: Obj) -> None:
    for device in (obj.get("spec") or {}).get("devices") or ():
        for taint in device.get("taints") or ():
            if not taint.get("timeAdded"):
                taint["timeAdded"] = now_text()
