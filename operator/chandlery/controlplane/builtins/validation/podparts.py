"""Parts of a pod that have endpoints of their own: ephemeral containers, and what containers may use.

Source: the field descriptions of core/v1 and of the endpoints `ephemeralcontainers` and `resize`.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins import internal, quantity
from chandlery.controlplane.builtins.qos import qos_class
from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_subdomain,
    duplicate,
    forbidden,
    immutable,
    invalid,
    ip_address,
    qualified_name,
)
from chandlery.controlplane.metadata import quoted
from chandlery.controlplane.types import FieldError, Obj

_MIRROR = "kubernetes.io/config.mirror"
_NEVER = ("ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy")
_NOT_EPHEMERAL = "cannot be set for an Ephemeral Container"
_EPHEMERAL = "io.k8s.api.core.v1.EphemeralContainer"
_RESIZABLE = ("cpu", "memory")


def ephemeral(container: Obj, others: set[str], seen: set[str], path: str) -> Errors:
    """What holds for an ephemeral container alone; `seen` are the names of those before it."""
    errors: Errors = []
    name = container.get("name", "")
    image = container.get("image", "")
    if image != image.strip():
        errors.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    if name in others or name in seen:
        errors.append(duplicate(f"{path}.name", name))
    seen.add(name)
    target = container.get("targetContainerName")
    if target and target not in others:
        errors.append(FieldError(f"{path}.targetContainerName", "FieldValueNotFound", f"Not found: {quoted(target)}"))
    errors += [forbidden(f"{path}.{field}", _NOT_EPHEMERAL) for field in _NEVER if container.get(field)]
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        for field in ("subPath", "subPathExpr"):
            if mount.get(field):
                errors.append(forbidden(f"{path}.volumeMounts[{index}].{field}", _NOT_EPHEMERAL))
    return errors


def ephemeral_update(obj: Obj, old: Obj) -> Errors:
    """Ephemeral containers are added; those that are there stay as they are."""
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return [forbidden("", "static pods do not support ephemeral containers")]
    errors: Errors = []
    found = {one.get("name"): one for one in obj["spec"].get("ephemeralContainers") or ()}
    for before in old["spec"].get("ephemeralContainers") or ():
        name = before.get("name", "")
        if name not in found:
            text = f'existing ephemeral containers "{name}" may not be removed\n'
            errors.append(forbidden("spec.ephemeralContainers", text))
        elif found[name] != before:
            change = internal.difference(_EPHEMERAL, before, found[name])
            text = f'existing ephemeral containers "{name}" may not be changed\n{change}'
            errors.append(forbidden("spec.ephemeralContainers", text))
    return errors


_READY_CONDITIONS = ("PodScheduled", "Ready", "Initialized")


def status_update(obj: Obj, old: Obj) -> Errors:
    """The status that a kubelet writes: its addresses, and containers that don't come back from the end."""
    status, before = obj.get("status") or {}, old.get("status") or {}
    errors: Errors = []
    for index, condition in enumerate(status.get("conditions") or ()):
        kind = condition.get("type", "")
        if kind not in _READY_CONDITIONS:
            errors += qualified_name(f"metadata.conditions[{index}].Type", kind)
    name = status.get("nominatedNodeName", "")
    if name and name != before.get("nominatedNodeName"):
        errors += dns_subdomain("status.nominatedNodeName", name)
    errors += immutable("status.qosClass", status.get("qosClass", ""), before.get("qosClass", ""))
    policy = (old.get("spec") or {}).get("restartPolicy", "")
    sidecars = {
        one.get("name")
        for one in (old.get("spec") or {}).get("initContainers") or ()
        if one.get("restartPolicy") == "Always"
    }
    errors += _transitions(status, before, "containerStatuses", policy, set())
    errors += _transitions(status, before, "initContainerStatuses", policy, sidecars)
    errors += _transitions(status, before, "ephemeralContainerStatuses", "Never", set())
    errors += _addresses(status, "podIPs")
    if status.get("hostIPs"):
        first = status["hostIPs"][0].get("ip", "")
        if status.get("hostIP", "") != first:
            errors.append(invalid("status.hostIPs[0].ip", first, "must be equal to `hostIP`"))
        errors += _addresses(status, "hostIPs")
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
    if len(found) > 1 and not errors:
        if len(found) > 2 or len({":" in text for text in found}) < 2:
            shown = [{"IP": text} for text in found]
            errors.append(invalid(f"status.{field}", shown, "may specify no more than one IP for each IP family"))
        for index, text in enumerate(found):
            if text in found[:index]:
                errors.append(duplicate(f"status.{field}[{index}]", {"IP": text}))
    return errors


def resize_update(obj: Obj, old: Obj) -> Errors:
    """Processor and memory may change, within the same class of quality and without taking a bound away."""
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return [forbidden("", "static pods cannot be resized")]
    spec, before = obj["spec"], old["spec"]
    errors: Errors = []
    running = [
        one for one in (old.get("status") or {}).get("containerStatuses") or () if "running" in one.get("state", {})
    ]
    if running and "resources" not in running[0]:
        errors.append(forbidden("", "Pod running on node without support for resize"))
    was = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos_class(spec) != was:
        errors.append(invalid("spec", was, "Pod QOS Class may not change as a result of resizing"))
    for group in ("containers", "initContainers"):
        new, known = spec.get(group) or [], before.get(group) or []
        if len(new) != len(known):
            text = "containers may not be added or removed on resize"
            return [*errors, forbidden(f"spec.{group}", text)]
        for index, (one, earlier) in enumerate(zip(new, known, strict=True)):
            path = f"spec.{group}[{index}]"
            if one.get("name") != earlier.get("name"):
                errors.append(forbidden(f"{path}.name", "containers may not be renamed or reordered on resize"))
                continue
            errors += _removed(one, earlier, path)
            if group == "initContainers" and earlier.get("restartPolicy") != "Always" and one != earlier:
                errors.append(forbidden(path, "resizing of non-sidecar init containers is not supported"))
            elif _others(one) != _others(earlier):
                errors.append(forbidden("spec", "only cpu and memory resources are mutable"))
    return errors


def _removed(one: Obj, earlier: Obj, path: str) -> Errors:
    errors: Errors = []
    for kind in ("limits", "requests"):
        new, known = ((each.get("resources") or {}).get(kind) or {} for each in (one, earlier))
        if any(name in known and name not in new for name in _RESIZABLE):
            errors.append(forbidden(f"{path}.resources.{kind}", f"resource {kind} cannot be removed"))
    return errors


def _others(container: Obj) -> Any:
    """A container without what a resize may change; amounts by their value."""
    out = {key: value for key, value in container.items() if key not in ("resources", "resizePolicy")}
    resources = container.get("resources") or {}
    for kind in ("limits", "requests"):
        amounts = {name: text for name, text in (resources.get(kind) or {}).items() if name not in _RESIZABLE}
        out[kind] = {name: quantity.parse(text)[0] for name, text in amounts.items()}
    out["claims"] = resources.get("claims") or []
    return out
