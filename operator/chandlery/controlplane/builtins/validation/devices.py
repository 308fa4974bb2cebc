"""Claims on devices, their templates, and classes of devices.

Source: the kinds' API documentation (resource.k8s.io/v1), texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    Errors,
    dns_label,
    dns_subdomain,
    duplicate,
    each,
    forbidden,
    invalid,
    invalid_struct,
    one_of,
    qualified_name,
    required,
    template_metadata,
    too_long,
    too_many,
)
from chandlery.controlplane.builtins.validation.resources import is_extended
from chandlery.controlplane.builtins.validation.volumes import csi_driver_name
from chandlery.controlplane.metadata import label_value_errors
from chandlery.controlplane.types import Obj, RequestContext

_REQUESTS, _CONSTRAINTS, _CONFIGS, _SELECTORS, _CHOICES, _TOLERATIONS = 32, 32, 32, 32, 8, 16
_LONGEST_EXPRESSION = _LONGEST_PARAMETERS = 10 * 1024
_MOST_RESERVED, _MOST_RESULTS, _MOST_CONDITIONS = 256, 32, 8
_LONGEST_POOL, _LONGEST_ID = 253, 32
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IDENTIFIER_TEXT = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters "
    "or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"
)
EFFECTS = ("NoExecute", "NoSchedule", "None")
_MODES = ("All", "ExactCount")
_REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
_ONE_KIND = "exactly one of `exactly` or `firstAvailable` is required"
_SPEC = "io.k8s.api.resource.v1."

Check = Callable[[Any, str], Errors]


def listed(found: Any, most: int, check: Check, path: str) -> Errors:
    """Every item, and how many there may be."""
    items: Sequence[Any] = found or ()
    errors = [error for index, item in enumerate(items) for error in check(item, f"{path}[{index}]")]
    return [*errors, too_many(path, len(items), most)] if 0 <= most < len(items) else errors


def unique(found: Any, field: str, path: str) -> Errors:
    """No two items with the same key."""
    errors: Errors = []
    seen: set[Any] = set()
    for index, item in enumerate(found or ()):
        key = item.get(field, "") if field else item
        if key in seen:
            errors.append(duplicate(f"{path}[{index}]{'.' + field if field else ''}", key))
        seen.add(key)
    return errors


def label_value(value: str, path: str) -> Errors:
    return each(path, value, label_value_errors(value))


def identifier(name: str, path: str) -> Errors:
    errors = [too_long(path, _LONGEST_ID)] if len(name.encode()) > _LONGEST_ID else []
    return errors if _IDENTIFIER.fullmatch(name) else [*errors, invalid(path, name, _IDENTIFIER_TEXT)]


def device_name(name: str, path: str) -> Errors:
    """`NAME` or `DOMAIN/NAME` of an attribute or a capacity."""
    if not name:
        return [required(path, "name required")]
    parts = name.split("/")
    if len(parts) == 1:
        return identifier(name, path)
    if len(parts) > 2:
        return []
    errors = csi_driver_name(parts[0], path) if parts[0] else [required(path, "the domain must not be empty")]
    return errors + (identifier(parts[1], path) if parts[1] else [required(path, "the name must not be empty")])


def _full_name(name: str, path: str) -> Errors:
    errors = device_name(name, path)
    return [*errors, invalid(path, name, "must include a domain")] if name and "/" not in name else errors


def pool_name(name: str, path: str) -> Errors:
    if not name:
        return [required(path)]
    errors = [too_long(path, _LONGEST_POOL)] if len(name.encode()) > _LONGEST_POOL else []
    return errors + [error for part in name.split("/") for error in dns_subdomain(path, part)]


# --- requests


def _selector(found: Obj, path: str) -> Errors:
    cel = found.get("cel")
    if cel is None:
        return [required(f"{path}.cel")]
    expression, here = cel.get("expression", ""), f"{path}.cel.expression"
    if len(expression.encode()) > _LONGEST_EXPRESSION:
        return [too_long(here, _LONGEST_EXPRESSION)]
    problem = _expression(expression)
    return [invalid(here, expression, problem)] if problem else []


def _expression(source: str) -> str:
    """What is wrong with an expression that selects devices."""
    from chandlery.controlplane.cel import BOOL, DYN, STRING, CompileError, Type, compile_expression
    from chandlery.controlplane.cel.types import QUANTITY, map_of

    fields = {
        "driver": STRING,
        "attributes": map_of(STRING, map_of(STRING, DYN)),
        "capacity": map_of(STRING, map_of(STRING, QUANTITY)),
        "allowMultipleAllocations": BOOL,
    }
    try:
        program = compile_expression(source, {"device": Type("object", "kubernetes.DRADevice", fields=fields)})
    except CompileError as error:
        return f"compilation failed: {error}"
    if program.type in (BOOL, DYN):
        return ""
    return f"must evaluate to bool or the unknown type, not {program.type}"


def _selectors(found: Any, path: str) -> Errors:
    return listed(found, _SELECTORS, _selector, path)


def _toleration(found: Obj, path: str) -> Errors:
    key, operator, value = (found.get(field, "") for field in ("key", "operator", "value"))
    errors = qualified_name(f"{path}.key", key) if key else []
    errors += one_of(f"{path}.operator", operator, ("Equal", "Exists"), need=True)
    if operator == "Exists" and value:
        errors.append(invalid(f"{path}.value", value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        errors += label_value(value, f"{path}.value")
    return errors + (one_of(f"{path}.effect", found["effect"], EFFECTS) if found.get("effect") else [])


def _wanted(found: Obj, path: str) -> Errors:
    """Which devices, and how many of them."""
    name, mode, count = found.get("deviceClassName", ""), found.get("allocationMode", ""), found.get("count", 0)
    here = f"{path}.deviceClassName"
    errors = dns_subdomain(here, name) if name else [required(here)]
    errors += _selectors(found.get("selectors"), f"{path}.selectors")
    errors += one_of(f"{path}.allocationMode", mode, _MODES)
    if mode == "All" and count:
        errors.append(invalid(f"{path}.count", count, "must not be specified when allocationMode is 'All'"))
    elif mode == "ExactCount" and count <= 0:
        errors.append(invalid(f"{path}.count", count, "must be greater than zero"))
    return errors + listed(found.get("tolerations"), _TOLERATIONS, _toleration, f"{path}.tolerations")


def _choice(found: Obj, path: str) -> Errors:
    return dns_label(f"{path}.name", found.get("name", "")) + _wanted(found, path)


def _request(found: Obj, path: str) -> Errors:
    errors = dns_label(f"{path}.name", found.get("name", ""))
    choices, exactly = found.get("firstAvailable"), found.get("exactly")
    here = f"{path}.firstAvailable"
    errors += listed(choices, _CHOICES, _choice, here) + unique(choices, "name", here)
    if exactly is not None:
        errors += _wanted(exactly, f"{path}.exactly")
    if not choices and exactly is None:
        errors.append(required(path, _ONE_KIND))
    elif choices and exactly is not None:
        errors.append(invalid(path, None, f"{_ONE_KIND}, but multiple fields are set"))
    return errors


def _names(spec: Obj) -> set[str]:
    """How requests of a claim can be referred to."""
    names: set[str] = set()
    for one in (spec.get("devices") or {}).get("requests") or ():
        name = one.get("name", "")
        names |= {name, *(f"{name}/{choice.get('name', '')}" for choice in one.get("firstAvailable") or ())}
    return names


def _reference(names: set[str]) -> Check:
    def check(name: str, path: str) -> Errors:
        parts = name.split("/")
        if len(parts) > 2:
            return [invalid(path, name, _REFERENCE)]
        errors = [error for part in parts for error in dns_label(path, part)]
        return errors if name in names else [*errors, invalid(path, name, _REFERENCE)]

    return check


def _references(found: Any, names: set[str], path: str) -> Errors:
    return listed(found, _REQUESTS, _reference(names), path) + unique(found, "", path)


def _configuration(found: Obj, path: str) -> Errors:
    opaque = found.get("opaque")
    if opaque is None:
        return [required(f"{path}.opaque")]
    here = f"{path}.opaque"
    return csi_driver_name(opaque.get("driver", ""), f"{here}.driver") + raw_object(
        opaque.get("parameters"), f"{here}.parameters"
    )


def raw_object(found: Any, path: str) -> Errors:
    if found is None:
        return [required(path)]
    if len(json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()) > _LONGEST_PARAMETERS:
        return [too_long(path, _LONGEST_PARAMETERS)]
    return [] if isinstance(found, dict) else [invalid(path, "<value omitted>", "must be a valid JSON object")]


def _claim_spec(spec: Obj, path: str) -> Errors:
    names, devices, here = _names(spec), spec.get("devices") or {}, f"{path}.devices"
    requests = devices.get("requests")
    errors = listed(requests, _REQUESTS, _request, f"{here}.requests")
    errors += unique(requests, "name", f"{here}.requests")

    def constraint(found: Obj, path: str) -> Errors:
        errors = _references(found.get("requests"), names, f"{path}.requests")
        for field in ("matchAttribute", "distinctAttribute"):
            if found.get(field) is not None:
                return errors + _full_name(found[field], f"{path}.{field}")
        text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
        return [*errors, required(path, text)]

    def config(found: Obj, path: str) -> Errors:
        return _references(found.get("requests"), names, f"{path}.requests") + _configuration(found, path)

    errors += listed(devices.get("constraints"), _CONSTRAINTS, constraint, f"{here}.constraints")
    return errors + listed(devices.get("config"), _CONFIGS, config, f"{here}.config")


def claim(_: RequestContext, obj: Obj) -> Errors:
    return _claim_spec(obj.get("spec") or {}, "spec")


def claim_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return _claim_status(obj, old)
    spec = obj.get("spec") or {}
    return [] if spec == old.get("spec") else [invalid_struct("spec", f"{_SPEC}ResourceClaimSpec", spec, IMMUTABLE)]


# --- what became of a claim


def _device(found: Obj) -> str:
    share = found.get("shareID")
    return "/".join(found.get(field, "") for field in ("driver", "pool", "device")) + (f"/{share}" if share else "")


def _claim_status(obj: Obj, old: Obj) -> Errors:
    status, before, names = obj.get("status") or {}, old.get("status") or {}, _names(obj.get("spec") or {})
    given, was = status.get("allocation"), before.get("allocation")
    reserved, _earlier = status.get("reservedFor") or [], before.get("reservedFor") or ()

    def user(found: Obj, path: str) -> Errors:
        return [required(f"{path}.{field}") for field in ("resource", "name", "uid") if not found.get(field)]

    errors = listed(reserved, _MOST_RESERVED, user, "status.reservedFor")
    errors += unique(reserved, "uid", "status.reservedFor")
    results = ((given or {}).get("devices") or {}).get("results") or ()
    known = {_device(one) for one in results}

    def told(found: Obj, path: str) -> Errors:
        errors = _placed(found, path)
        if _device(found) not in known:
            errors.append(invalid(path, _device(found), "must be an allocated device in the claim"))
        conditions = found.get("conditions") or ()
        if len(conditions) > _MOST_CONDITIONS:
            errors.append(too_many(f"{path}.conditions", len(conditions), _MOST_CONDITIONS))
        data = found.get("data")
        return errors if data is None else errors + raw_object(data, f"{path}.data")

    errors += listed(status.get("devices"), -1, told, "status.devices")
    seen: set[str] = set()
    for index, one in enumerate(status.get("devices") or ()):
        if _device(one) in seen:
            errors.append(duplicate(f"status.devices[{index}].deviceID", _device(one)))
        seen.add(_device(one))
    if reserved and given is None:
        errors.append(forbidden("status.reservedFor", "may not be specified when `allocated` is not set"))
    elif obj["metadata"].get("deletionTimestamp") and any(
        one not in (before.get("reservedFor") or ()) for one in reserved
    ):
        text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        errors.append(forbidden("status.reservedFor", text))
    if was is not None and given is not None and was != given:
        errors.append(invalid_struct("status.allocation", f"{_SPEC}AllocationResult", given, IMMUTABLE))
    elif given is not None and was is None:
        errors += _allocation(given, names, "status.allocation")
    return errors


def _placed(found: Obj, path: str) -> Errors:
    """Which device: its driver, pool and name."""
    errors = csi_driver_name(found.get("driver", ""), f"{path}.driver")
    errors += pool_name(found.get("pool", ""), f"{path}.pool")
    return errors + dns_label(f"{path}.device", found.get("device", ""))


def _allocation(found: Obj, names: set[str], path: str) -> Errors:
    from chandlery.controlplane.builtins.validation.pods import node_selector

    devices, here, refers = found.get("devices") or {}, f"{path}.devices", _reference(names)

    def result(one: Obj, path: str) -> Errors:
        return refers(one.get("request", ""), f"{path}.request") + _placed(one, path) + binding_conditions(one, path)

    def config(one: Obj, path: str) -> Errors:
        errors = one_of(f"{path}.source", one.get("source", ""), ("FromClaim", "FromClass"), need=True)
        return errors + _references(one.get("requests"), names, f"{path}.requests") + _configuration(one, path)

    errors = listed(devices.get("results"), _MOST_RESULTS, result, f"{here}.results")
    errors += listed(devices.get("config"), 2 * _CONFIGS, config, f"{here}.config")
    selector = found.get("nodeSelector")
    return errors if selector is None else errors + node_selector(selector, f"{path}.nodeSelector")


def binding_conditions(found: Obj, path: str) -> Errors:
    """Conditions that let, or keep, a pod from being bound to a device's node."""
    good, bad = found.get("bindingConditions") or [], found.get("bindingFailureConditions") or []
    errors: Errors = []
    for field, names in (("bindingConditions", good), ("bindingFailureConditions", bad)):
        here = f"{path}.{field}"
        errors += listed(names, 4, lambda name, where: qualified_name(where, name), here) + unique(names, "", here)
    for index, name in enumerate(bad):
        if name in good:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            errors.append(invalid(f"{path}.bindingFailureConditions[{index}]", name, text))
    for field, own, other, names in (
        ("bindingConditions", good, bad, "bindingFailureConditions"),
        ("bindingFailureConditions", bad, good, "bindingConditions"),
    ):
        if other and not own:
            errors.append(invalid(f"{path}.{field}", own or None, f"{field} are required to use {names}"))
    return errors


# --- templates and classes


def template(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    meta = spec.get("metadata") or {}
    errors = template_metadata(meta, "spec.metadata")
    errors += [
        forbidden(f"spec.metadata.{field}", "cannot be set")
        for field, value in meta.items()
        if field not in ("annotations", "labels") and value
    ]
    return errors + _claim_spec(spec.get("spec") or {}, "spec.spec")


def template_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    spec = obj.get("spec") or {}
    if spec == old.get("spec"):
        return []
    return [invalid_struct("spec", f"{_SPEC}ResourceClaimTemplateSpec", spec, IMMUTABLE)]


def device_class(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _selectors(spec.get("selectors"), "spec.selectors")
    errors += listed(spec.get("config"), _CONFIGS, _configuration, "spec.config")
    name = spec.get("extendedResourceName")
    if name is not None and not is_extended(name):
        errors.append(invalid("spec.extendedResourceName", name, "must be a valid extended resource name"))
    return errors


def device_class_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return device_class(ctx, obj)
