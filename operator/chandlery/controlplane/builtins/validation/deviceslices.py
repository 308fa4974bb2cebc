"""ResourceSlices: which devices a driver has, and where.

Source: the kind's API documentation (resource.k8s.io/v1), texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import re
from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_label,
    dns_subdomain,
    forbidden,
    immutable,
    invalid,
    invalid_struct,
    one_of,
    qualified_name,
    required,
    too_long,
)
from chandlery.controlplane.builtins.validation.devices import (
    EFFECTS,
    binding_conditions,
    device_name,
    label_value,
    listed,
    pool_name,
    unique,
)
from chandlery.controlplane.builtins.validation.volumes import csi_driver_name
from chandlery.controlplane.types import Obj, RequestContext

_MOST_DEVICES, _MOST_ADVANCED = 128, 64
_MOST_TOLD, _LONGEST_VALUE, _MOST_TAINTS = 32, 64, 16
_MOST_SETS, _MOST_CONSUMED = 8, 2
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
_ATTRIBUTE = "io.k8s.api.resource.v1.DeviceAttribute"
_PLACES = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_EACH_PLACE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true "
    "in the ResourceSlice spec"
)
_NO_PLACE = (
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
    "ResourceSlice spec"
)


def _place(found: Obj, path: str, *, empty: str) -> tuple[list[str], Errors]:
    """(the fields that say where, errors)."""
    from chandlery.controlplane.builtins.validation.pods import node_selector

    fields: list[str] = []
    errors: Errors = []
    name, selector, everywhere = (found.get(field) for field in ("nodeName", "nodeSelector", "allNodes"))
    if name:
        fields.append("`nodeName`")
        errors += dns_subdomain(f"{path}.nodeName", name)
    elif name is not None:
        errors.append(invalid(f"{path}.nodeName", name, empty))
    if selector is not None:
        fields.append("`nodeSelector`")
        errors += node_selector(selector, f"{path}.nodeSelector")
    if everywhere:
        fields.append("`allNodes`")
    elif everywhere is not None:
        errors.append(invalid(f"{path}.allNodes", everywhere, "must be either unset or set to true"))
    return fields, errors


def _attribute(found: Obj, path: str) -> Errors:
    kinds = [kind for kind in ("int", "bool", "string", "version") if found.get(kind) is not None]
    errors: Errors = []
    for kind in ("string", "version"):
        value = found.get(kind)
        if value is None:
            continue
        if kind == "version" and not _SEMVER.fullmatch(value):
            text = "must be a string compatible with semver.org spec 2.0.0"
            errors.append(invalid(f"{path}.version", value, text))
        if len(value.encode()) > _LONGEST_VALUE:
            errors.append(too_long(f"{path}.{kind}", _LONGEST_VALUE))
    if not kinds:
        errors.append(required(path, "exactly one value must be specified"))
    elif len(kinds) > 1:
        errors.append(invalid_struct(path, _ATTRIBUTE, found, "exactly one value must be specified"))
    return errors


def _taint(found: Obj, path: str) -> Errors:
    errors = qualified_name(f"{path}.key", found.get("key", ""))
    errors += label_value(found.get("value", ""), f"{path}.value")
    return errors + one_of(f"{path}.effect", found.get("effect", ""), EFFECTS, need=True)


def _counters(found: Any, path: str) -> Errors:
    if not found:
        return [required(path)]
    return [error for name in found for error in dns_label(f"{path}[{name}]", name)]


def _counter_set(found: Obj, path: str) -> Errors:
    name = found.get("name", "")
    errors = dns_label(f"{path}.name", name) if name else [required(f"{path}.name")]
    return errors + _counters(found.get("counters"), f"{path}.counters")


def _consumes(found: Obj, path: str) -> Errors:
    errors = [] if found.get("counterSet") else [required(f"{path}.counterSet")]
    return errors + _counters(found.get("counters"), f"{path}.counters")


def _device(found: Obj, path: str, *, placed: bool) -> Errors:
    errors = dns_label(f"{path}.name", found.get("name", ""))
    attributes, capacity = found.get("attributes") or {}, found.get("capacity") or {}
    total = len(attributes) + len(capacity)
    if total > _MOST_TOLD:
        text = f"the total number of attributes and capacities must not exceed {_MOST_TOLD}"
        errors.append(invalid(path, total, text))
    for name, value in attributes.items():
        here = f"{path}.attributes[{name}]"
        errors += device_name(name, here) + _attribute(value, here)
    for name, value in capacity.items():
        here = f"{path}.capacity[{name}]"
        errors += device_name(name, here)
        if value.get("requestPolicy") is not None and not found.get("allowMultipleAllocations"):
            errors.append(forbidden(f"{here}.requestPolicy", "allowMultipleAllocations must be true"))
    errors += listed(found.get("taints"), _MOST_TAINTS, _taint, f"{path}.taints")
    consumed, here = found.get("consumesCounters"), f"{path}.consumesCounters"
    errors += listed(consumed, _MOST_CONSUMED, _consumes, here) + unique(consumed, "counterSet", here)
    fields, wrong = _place(found, path, empty="must not be empty")
    if placed:
        errors += wrong
        if not fields:
            errors.append(required(path, _EACH_PLACE))
        elif len(fields) > 1:
            errors.append(invalid(path, "{" + ", ".join(fields) + "}", _EACH_PLACE))
    elif any(found.get(field) is not None for field in ("nodeName", "nodeSelector", "allNodes")):
        errors.append(invalid(path, None, _NO_PLACE))
    return errors + binding_conditions(found, path)


def resource_slice(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    pool, devices = spec.get("pool") or {}, spec.get("devices") or ()
    errors = csi_driver_name(spec.get("driver", ""), "spec.driver") + pool_name(pool.get("name", ""), "spec.pool.name")
    count, number = pool.get("resourceSliceCount", 0), pool.get("generation", 0)
    if count <= 0:
        errors.append(invalid("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if number < 0:
        errors.append(invalid("spec.pool.generation", number, "must be greater than or equal to zero"))
    fields, wrong = _place(spec, "spec", empty="must be either unset or set to a non-empty string")
    errors += wrong
    each = spec.get("perDeviceNodeSelection")
    if each:
        fields.append("`perDeviceNodeSelection`")
    elif each is not None:
        errors.append(invalid("spec.perDeviceNodeSelection", each, "must be either unset or set to true"))
    if not fields:
        errors.append(required("spec", _PLACES))
    elif len(fields) > 1:
        errors.append(invalid("spec", "{" + ", ".join(fields) + "}", f"{_PLACES}, but multiple fields are set"))
    advanced = any(one.get("taints") or one.get("consumesCounters") for one in devices)
    most = _MOST_ADVANCED if advanced else _MOST_DEVICES
    errors += listed(devices, most, lambda one, path: _device(one, path, placed=bool(each)), "spec.devices")
    errors += unique(devices, "name", "spec.devices")
    sets = spec.get("sharedCounters")
    errors += listed(sets, _MOST_SETS, _counter_set, "spec.sharedCounters")
    return errors + unique(sets, "name", "spec.sharedCounters")


def resource_slice_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = resource_slice(ctx, obj)
    names = ((side.get("pool") or {}).get("name", "") for side in (spec, before))
    errors += immutable("spec.pool.name", *names)
    for field in ("driver", "nodeName"):
        errors += immutable(f"spec.{field}", spec.get(field), before.get(field))
    return errors
