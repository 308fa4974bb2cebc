"""Resource requirements of containers and pods.

Source: Kubernetes documentation, "Resource Management for Pods and Containers"; observed error texts.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.builtins.podusage import pod_resources
from chandlery.controlplane.builtins.validation.common import (
    Errors,
    amount,
    dns_label,
    duplicate,
    forbidden,
    invalid,
    non_negative_quantity,
    required,
)
from chandlery.controlplane.metadata import qualified_name_errors
from chandlery.controlplane.types import FieldError, Obj

_STANDARD = frozenset(
    "cpu memory ephemeral-storage requests.cpu requests.memory requests.ephemeral-storage limits.cpu limits.memory "
    "limits.ephemeral-storage pods resourcequotas services replicationcontrollers secrets configmaps "
    "persistentvolumeclaims storage requests.storage services.nodeports services.loadbalancers".split()
)
_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
_INTEGER = frozenset(
    "pods resourcequotas services replicationcontrollers secrets configmaps persistentvolumeclaims services.nodeports "
    "services.loadbalancers".split()
)
NOT_STANDARD = "must be a standard resource type or fully qualified"


def is_hugepage(name: str) -> bool:
    return name.startswith("hugepages-")


def is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name.partition("/")[0] + "/"


def is_extended(name: str) -> bool:
    """A resource that a device plugin or node owner advertises: `vendor.example/gpu`."""
    return not is_native(name) and not name.startswith("requests.") and not qualified_name_errors(f"requests.{name}")


def resource_name(name: str, path: str) -> Errors:
    errors = [invalid(path, name, problem) for problem in qualified_name_errors(name)]
    if errors:
        return errors
    if "/" not in name and name not in _STANDARD and not is_hugepage(name):
        return [invalid(path, name, NOT_STANDARD)]
    return []


def container_resource_name(name: str, path: str) -> Errors:
    errors = resource_name(name, path)
    if "/" not in name:
        if name not in _CONTAINER and not is_hugepage(name):
            errors.append(invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(invalid(path, name, "doesn't follow extended resource name standard"))
    return errors


def resource_quantity(name: str, text: str, path: str) -> Errors:
    errors = non_negative_quantity(path, text)
    if (name in _INTEGER or is_extended(name)) and amount(text).denominator != 1:
        errors.append(invalid(path, text, "must be an integer"))
    return errors


def _one_list(found: Obj, path: str, *, whole_pod: bool) -> Errors:
    errors: Errors = []
    for name, text in found.items():
        here = f"{path}[{name}]"
        if whole_pod and name not in ("cpu", "memory") and not is_hugepage(name):
            listed = "cpu, hugepages, memory"
            errors.append(
                FieldError(
                    here,
                    "FieldValueNotSupported",
                    f'Unsupported value: "{name}": supported values: '
                    + ", ".join(f'"{one}"' for one in listed.split(", ")),
                )
            )
        elif not whole_pod:
            errors += container_resource_name(name, here)
        errors += resource_quantity(name, text, here)
        if is_hugepage(name):
            size = name.removeprefix("hugepages-")
            try:
                page = amount(size)
                if page and amount(text) % page:
                    errors.append(invalid(path, text, f"{text} is not positive integer multiple of {size}"))
            except ValueError:
                pass
    return errors


def requirements(found: Any, claims: set[str], path: str, *, whole_pod: bool = False) -> Errors:
    """`resources` of a container, or of a pod."""
    if not found:
        return []
    limits, requests = found.get("limits") or {}, found.get("requests") or {}
    errors = _one_list(limits, f"{path}.limits", whole_pod=whole_pod)
    huge = any(is_hugepage(name) for name in limits)
    basic = any(name in ("cpu", "memory") for name in (*limits, *requests))
    for name, text in requests.items():
        here = f"{path}.requests"
        limit = limits.get(name)
        errors += _one_list({name: text}, here, whole_pod=whole_pod)
        if limit is not None:
            if amount(text) != amount(limit) and (is_hugepage(name) or is_extended(name)):
                errors.append(invalid(here, text, f"must be equal to {name} limit of {limit}"))
            elif amount(text) > amount(limit):
                errors.append(invalid(here, text, f"must be less than or equal to {name} limit of {limit}"))
        elif is_hugepage(name) or is_extended(name):
            errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
        huge = huge or is_hugepage(name)
    if huge and not basic:
        errors.append(forbidden(path, "HugePages require cpu or memory"))
    errors += _claims(found.get("claims"), claims, f"{path}.claims")
    return errors


def _claims(found: Any, known: set[str], path: str) -> Errors:
    errors: Errors = []
    seen: set[tuple[str, str]] = set()
    for index, claim in enumerate(found or ()):
        here = f"{path}[{index}]"
        name, request = claim.get("name", ""), claim.get("request", "")
        if not name:
            errors.append(required(f"{here}.name"))
            continue
        if (name, request) in seen or (name, "") in seen:
            errors.append(duplicate(here if request else f"{here}.name", name))
        seen.add((name, request))
        if request:
            errors += dns_label(f"{here}.request", request)
        if name not in known:
            errors.append(FieldError(f"{here}.name", "FieldValueNotFound", f'Not found: "{name}"'))
    return errors


def whole_pod(spec: Obj, path: str) -> Errors:
    """A pod's own requests cover those of its containers; no container's limit is above the pod's."""
    found = spec.get("resources")
    if not found:
        return []
    errors: Errors = []
    if found.get("claims") is not None:
        errors.append(forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level"))
    plain: Obj = {key: spec[key] for key in ("containers", "initContainers") if key in spec}
    for name, (total, style) in pod_resources(plain, "requests").items():
        own = (found.get("requests") or {}).get(name)
        if own is not None and total > amount(own):
            shown = quantity.write(total, style)
            text = f"must be greater than or equal to aggregate container requests of {shown}"
            errors.append(invalid(f"{path}.requests[{name}]", own, text))
    for name, (total, style) in pod_resources(plain, "limits").items():
        own = (found.get("limits") or {}).get(name)
        if is_hugepage(name) and own is not None and total > amount(own):
            text = f"must be greater than or equal to aggregate container limits of {quantity.write(total, style)}"
            errors.append(invalid(f"{path}.limits[{name}]", own, text))
    for index, one in enumerate(spec.get("containers") or ()):
        for name, limit in ((one.get("resources") or {}).get("limits") or {}).items():
            most = (found.get("limits") or {}).get(name)
            if most is not None and amount(limit) > amount(most):
                text = f"must be less than or equal to pod limits of {most}"
                errors.append(invalid(f"{path}.containers[{index}][{name}].limits", limit, text))
    return errors
