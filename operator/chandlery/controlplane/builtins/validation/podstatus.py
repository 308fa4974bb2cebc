"""A pod's status, as a kubelet writes it.

Source: the field descriptions of core/v1 and of the endpoint `status`.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_subdomain,
    duplicate,
    forbidden,
    immutable,
    invalid,
    ip_address,
    one_of,
    qualified_name,
)
from chandlery.controlplane.types import Obj

_READY_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
_COUNT = "must be a non-negative integer"


def status_update(obj: Obj, old: Obj) -> Errors:
    """The status that a kubelet writes: its addresses, and containers that don't come back from the end."""
    status, before = obj.get("status") or {}, old.get("status") or {}
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    errors: Errors = []
    for index, condition in enumerate(status.get("conditions") or ()):
        kind, seen = condition.get("type", ""), condition.get("observedGeneration", 0)
        if seen < 0:
            errors.append(invalid(f"status.conditions[{index}].observedGeneration", seen, _COUNT))
        if kind not in _READY_CONDITIONS:
            errors += qualified_name(f"status.conditions[{index}].Type", kind)
    name = status.get("nominatedNodeName", "")
    if name and name != before.get("nominatedNodeName"):
        errors += dns_subdomain("status.nominatedNodeName", name)
        if was.get("nodeName"):
            text = "may not be set on pods that are already bound to a node"
            errors.append(forbidden("status.nominatedNodeName", text))
    if status.get("observedGeneration", 0) < 0:
        errors.append(invalid("status.observedGeneration", status["observedGeneration"], _COUNT))
    errors += immutable("status.qosClass", status.get("qosClass", ""), before.get("qosClass", ""))
    policy = was.get("restartPolicy", "")
    sidecars = {one.get("name") for one in was.get("initContainers") or () if one.get("restartPolicy") == "Always"}
    errors += _transitions(status, before, "containerStatuses", policy, set())
    errors += _transitions(status, before, "initContainerStatuses", policy, sidecars)
    errors += _transitions(status, before, "ephemeralContainerStatuses", "Never", set())
    errors += _claim_statuses(status, spec)
    errors += _addresses(status, "podIPs")
    if status.get("hostIPs"):
        first = status["hostIPs"][0].get("ip", "")
        if status.get("hostIP", "") != first:
            errors.append(invalid("status.hostIPs[0].ip", first, "must be equal to `hostIP`"))
        errors += _addresses(status, "hostIPs")
    return errors + _allocated(status, spec)


def _claim_statuses(status: Obj, spec: Obj) -> Errors:
    """Claims that were made for a pod: each belongs to an entry of its spec."""
    errors: Errors = []
    known = {one.get("name") for one in spec.get("resourceClaims") or ()}
    seen: set[str] = set()
    for index, one in enumerate(status.get("resourceClaimStatuses") or ()):
        here, name, made = (
            f"status.resourceClaimStatuses[{index}].name",
            one.get("name", ""),
            one.get("resourceClaimName"),
        )
        if name not in known:
            errors.append(invalid(here, name, "must match the name of an entry in `spec.resourceClaims`"))
        if name in seen:
            errors.append(duplicate(here, name))
        seen.add(name)
        errors += dns_subdomain(here, made) if made is not None else []
    return errors


_HEALTH = ("Healthy", "Unhealthy", "Unknown")
_CLAIMED = (
    "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or "
    "'claim:<claimName>' if request is empty"
)


def _allocated(status: Obj, spec: Obj) -> Errors:
    """The health of devices that containers were given."""
    errors: Errors = []
    for field, group in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        known = {one.get("name"): one.get("resources") or {} for one in spec.get(group) or ()}
        for index, one in enumerate(status.get(field) or ()):
            for number, part in enumerate(one.get("allocatedResourcesStatus") or ()):
                here = f"status.{field}[{index}].allocatedResourcesStatus[{number}]"
                if one.get("name") in known:
                    errors += _asked_for(part.get("name", ""), known[one.get("name")], f"{here}.name")
                errors += _devices(part.get("resources") or (), f"{here}.resources")
    for index, one in enumerate(status.get("ephemeralContainerStatuses") or ()):
        if one.get("allocatedResourcesStatus"):
            where = f"status.ephemeralContainerStatuses[{index}].allocatedResourcesStatus"
            errors.append(forbidden(where, "must not be specified in container status"))
    return errors


def _asked_for(name: str, asked: Obj, path: str) -> Errors:
    if not name.startswith("claim:"):
        text = "must match one of the container's resource requests"
        return [] if name in (asked.get("requests") or {}) else [invalid(path, name, text)]
    for claim in asked.get("claims") or ():
        request = claim.get("request")
        if name == f"claim:{claim.get('name', '')}" + (f"/{request}" if request else ""):
            return []
    return [invalid(path, name, _CLAIMED)]


def _devices(found: Any, path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, device in enumerate(found):
        errors += one_of(f"{path}[{index}].health", device.get("health", ""), _HEALTH)
        name = device.get("resourceID", "")
        if name in seen:
            errors.append(duplicate(f"{path}[{index}].resourceID", name))
        seen.add(name)
    return errors


def _transitions(status: Obj, before: Obj, field: str, policy: str, skip: set[Any]) -> Errors:
    """A container that ended and will not be restarted stays ended."""
    if policy == "Always":
        return []
    errors: Errors = []
    for index, was in enumerate(before.get(field) or ()):
        ended = (was.get("state") or {}).get("terminated")
        if ended is None or (ended.get("exitCode", 0) != 0 and policy == "OnFailure") or was.get("name") in skip:
            continue
        for now in status.get(field) or ():
            if now.get("name") == was.get("name") and (now.get("state") or {}).get("terminated") is None:
                text = "may not be transitioned to non-terminated state"
                errors.append(forbidden(f"status.{field}[{index}].state", text))
    return errors


def _addresses(status: Obj, field: str) -> Errors:
    errors: Errors = []
    found = [one.get("ip", "") for one in status.get(field) or ()]
    for index, text in enumerate(found):
        errors += ip_address(f"status.{field}[{index}]", text)
    if len(found) > 1 and not errors and (len(found) > 2 or len({":" in text for text in found}) < 2):
        shown = [{"IP": text} for text in found]
        errors.append(invalid(f"status.{field}", shown, "may specify no more than one IP for each IP family"))
    return errors
