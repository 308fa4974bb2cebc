"""The quality-of-service class of a pod. Source: Kubernetes documentation, "Pod Quality of Service Classes"."""

from __future__ import annotations

from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.types import Obj

_NAMES = ("cpu", "memory")


def qos_class(spec: Obj) -> str:
    """Guaranteed, Burstable or BestEffort."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    whole = spec.get("resources") or {}
    if whole.get("requests") or whole.get("limits"):
        containers = [{"resources": whole}]
    requests: dict[str, object] = {}
    limits: dict[str, object] = {}
    guaranteed = True
    for one in containers:
        resources = one.get("resources") or {}
        for name in _NAMES:
            request = (resources.get("requests") or {}).get(name)
            limit = (resources.get("limits") or {}).get(name)
            if request and quantity.parse(request)[0] > 0:
                requests[name] = True
            if limit and quantity.parse(limit)[0] > 0:
                limits[name] = True
            else:
                guaranteed = False
            if limit and request and quantity.parse(limit)[0] != quantity.parse(request)[0]:
                guaranteed = False
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
