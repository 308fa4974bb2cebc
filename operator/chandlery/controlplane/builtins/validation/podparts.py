"""Parts of a pod that have endpoints of their own: ephemeral containers, and what containers may use.

Source: the field descriptions of core/v1 and of the endpoints `ephemeralcontainers` and `resize`.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins import internal, quantity
from chandlery.controlplane.builtins.qos import qos_class
from chandlery.controlplane.builtins.validation.common import (
    Errors,
    duplicate,
    forbidden,
    invalid,
    one_of,
    required,
    too_many,
)
from chandlery.controlplane.builtins.validation.podos import all_containers
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


def resize_update(obj: Obj, old: Obj) -> Errors:
    """Processor and memory may change, within the same class of quality and without taking a bound away."""
    spec, before, told = obj["spec"], old["spec"], old.get("status") or {}
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return [forbidden("", "static pods cannot be resized")]
    if (before.get("os") or {}).get("name") == "windows":
        return [forbidden("", "windows pods cannot be resized")]
    errors: Errors = []
    was = told.get("qosClass") or qos_class(before)
    if qos_class(spec) != was:
        errors.append(invalid("spec", was, "Pod QOS Class may not change as a result of resizing"))
    running = [one for one in told.get("containerStatuses") or () if "running" in one.get("state", {})]
    if running and "resources" not in running[0]:
        errors.append(forbidden("spec", "Pod running on node without support for resize"))
    errors += _whole_pod_resize(spec.get("resources"), before.get("resources"))
    moved = _moved(spec, before)
    if moved:
        return errors + moved
    for group in ("initContainers", "containers"):
        for index, (one, earlier) in enumerate(zip(spec.get(group) or (), before.get(group) or (), strict=True)):
            if group == "containers" or earlier.get("restartPolicy") == "Always":
                errors += _removed(one.get("resources"), earlier.get("resources"), f"spec.{group}[{index}].resources")
            if group == "initContainers" and one.get("restartPolicy") != "Always":
                if one != earlier:
                    errors.append(forbidden("spec", "resources for non-sidecar init containers are immutable"))
            elif _others(one) != _others(earlier):
                which = "" if group == "containers" else " for sidecar containers"
                errors.append(forbidden("spec", f"only cpu and memory resources{which} are mutable"))
    return errors


def _moved(spec: Obj, before: Obj) -> Errors:
    """Containers keep their places at a resize."""
    errors: Errors = []
    for group in ("containers", "initContainers"):
        new, known = spec.get(group) or [], before.get(group) or []
        if len(new) != len(known):
            errors.append(forbidden(f"spec.{group}", f"{group} may not be added or removed on resize"))
            continue
        for index, (one, earlier) in enumerate(zip(new, known, strict=True)):
            if one.get("name") != earlier.get("name"):
                text = f"{group} may not be renamed or reordered on resize"
                errors.append(forbidden(f"spec.{group}[{index}].name", text))
    return errors


def _whole_pod_resize(new: Any, old: Any) -> Errors:
    """The pod's own requests and limits at a resize."""
    if old is not None and new is None:
        return [forbidden("spec.resources", "pod-level resources cannot be removed")]
    if not new:
        return []
    errors = _removed(new, old, "spec.resources", "pod-level resource")
    if _others({"resources": new}) != _others({"resources": old}):
        errors.append(forbidden("spec", "only cpu and memory resources are mutable at pod-level"))
    return errors


def _removed(new: Any, old: Any, path: str, what: str = "resource") -> Errors:
    errors: Errors = []
    for kind in ("requests", "limits"):
        now, known = ((each or {}).get(kind) or {} for each in (new, old))
        if any(name not in now for name in known):
            errors.append(forbidden(f"{path}.{kind}", f"{what} {kind} cannot be removed"))
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


_RULES = 20
_CODES = 255
_RESTARTS = ("Always", "Never", "OnFailure")
_ACTIONS = ("Restart", "RestartAllContainers")


def restart_rules(container: Obj, path: str) -> Errors:
    """`restartPolicy` and `restartPolicyRules` of one container."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    errors: Errors = []
    if policy is not None:
        errors += one_of(f"{path}.restartPolicy", policy, _RESTARTS)
    elif rules:
        errors.append(required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    if len(rules) > _RULES:
        errors.append(too_many(f"{path}.restartPolicyRules", len(rules), _RULES))
    for index, rule in enumerate(rules):
        here, codes = f"{path}.restartPolicyRules[{index}]", rule.get("exitCodes")
        errors += one_of(f"{here}.action", rule.get("action", ""), _ACTIONS)
        if codes is None:
            errors.append(required(f"{here}.exitCodes", "must be specified"))
            continue
        errors += one_of(f"{here}.exitCodes.operator", codes.get("operator", ""), ("In", "NotIn"))
        values = codes.get("values") or ()
        if len(values) > _CODES:
            errors.append(too_many(f"{here}.exitCodes.values", len(values), _CODES))
    return errors


def init_restart_rules(container: Obj, path: str) -> Errors:
    """The same of an init container; `Always` makes it a sidecar, which has no rules."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules")
    if policy is None:
        return []
    if policy != "Always":
        return restart_rules(container, path)
    if not rules:
        return []
    text = "restartPolicyRules are not allowed for init containers with restart policy Always"
    return [forbidden(f"{path}.restartPolicyRules", text)]


def file_key_volumes(spec: Obj, path: str) -> Errors:
    """Environment variables that are read from a file: the file is in a volume of the pod's own."""
    errors: Errors = []
    volumes = {volume.get("name", ""): volume for volume in spec.get("volumes") or ()}
    for one, where in all_containers(spec, path):
        for index, variable in enumerate(one.get("env") or ()):
            source = (variable.get("valueFrom") or {}).get("fileKeyRef")
            if source is None:
                continue
            name = source.get("volumeName", "")
            here = f"{where}.env[{index}].valueFrom.fileKeyRef.volumeName"
            if name not in volumes:
                errors.append(FieldError(here, "FieldValueNotFound", f"Not found: {quoted(name)}"))
            elif "emptyDir" not in volumes[name]:
                errors.append(invalid(here, name, "referenced volume must be of type emptyDir"))
    return errors
