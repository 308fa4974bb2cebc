"""Rules of Secrets, ConfigMaps, ServiceAccounts, namespaces, nodes, quotas, limits, events, leases and priorities.

Source: the field descriptions of these kinds and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from chandlery.controlplane.builtins import gotime
from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    NON_NEGATIVE,
    Errors,
    amount,
    config_key_errors,
    dns_subdomain,
    duplicate,
    each,
    forbidden,
    immutable,
    invalid,
    ip_address,
    non_negative_quantity,
    one_of,
    parse_cidr,
    required,
    too_long,
)
from chandlery.controlplane.builtins.validation.resources import (
    NOT_STANDARD,
    container_resource_name,
    is_extended,
    resource_name,
    resource_quantity,
)
from chandlery.controlplane.metadata import label_value_errors, qualified_name_errors
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_MEGABYTE = 1024 * 1024
_FROZEN = "field is immutable when `immutable` is set"
_NEEDED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _bytes(text: str | None) -> int:
    return len(text or "") * 3 // 4 - (text or "").count("=", -2) if text else 0


def secret(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    data = obj.get("data") or {}
    size = 0
    for key, value in data.items():
        errors += each(f"data[{key}]", key, config_key_errors(key))
        size += _bytes(value)
    if size > _MEGABYTE:
        errors.append(too_long("data", _MEGABYTE))
    kind = obj.get("type", "")
    if kind == "kubernetes.io/service-account-token":
        name = (obj["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name")
        if not name:
            errors.append(required("metadata.annotations[kubernetes.io/service-account.name]"))
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            errors += [required("data[username]"), required("data[password]")]
    for key in _NEEDED.get(kind, ()):
        if key not in data:
            errors.append(required(f"data[{key}]"))
        elif kind.startswith("kubernetes.io/docker"):
            errors += _docker(data[key], f"data[{key}]")
    return errors


def _docker(text: str | None, path: str) -> Errors:
    try:
        found = json.loads(base64.b64decode(text or ""))
    except ValueError as error:
        return [
            FieldError(
                path, "FieldValueInvalid", f'Invalid value: "<secret contents redacted>": {_go_json(error, text)}'
            )
        ]
    if not isinstance(found, dict):
        what = {list: "array", str: "string", bool: "bool", type(None): "null"}.get(type(found), "number")
        if what == "null":
            return []
        detail = f"json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"
        return [FieldError(path, "FieldValueInvalid", f'Invalid value: "<secret contents redacted>": {detail}')]
    return []


def _go_json(error: Exception, text: str | None) -> str:
    raw = base64.b64decode(text or "").decode("utf-8", "replace").lstrip()
    if not raw:
        return "unexpected end of JSON input"
    if isinstance(error, json.JSONDecodeError) and error.pos >= len(raw):
        return "unexpected end of JSON input"
    return f"invalid character '{raw[0]}' looking for beginning of value"


def secret_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = immutable("type", obj.get("type", ""), old.get("type", ""))
    if old.get("immutable"):
        if not obj.get("immutable"):
            errors.append(forbidden("immutable", _FROZEN))
        if (obj.get("data") or {}) != (old.get("data") or {}):
            errors.append(forbidden("data", _FROZEN))
    return errors + secret(ctx, obj)


def config_map(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        errors += each(f"data[{key}]", key, config_key_errors(key))
        if key in binary:
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value.encode())
    for key, value in binary.items():
        errors += each(f"binaryData[{key}]", key, config_key_errors(key))
        size += _bytes(value)
    if size > _MEGABYTE:
        errors.append(too_long("", _MEGABYTE))
    return errors


def config_map_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors: Errors = []
    if old.get("immutable"):
        if not obj.get("immutable"):
            errors.append(forbidden("immutable", _FROZEN))
        for field in ("data", "binaryData"):
            if (obj.get(field) or {}) != (old.get(field) or {}):
                errors.append(forbidden(field, _FROZEN))
    return errors + config_map(ctx, obj)


def namespace(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    for name in (obj.get("spec") or {}).get("finalizers") or ():
        problems = qualified_name_errors(name)
        errors += each("spec.finalizers", name, problems)
        if not problems and "/" not in name and name != "kubernetes":
            text = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid("spec.finalizers", name, text))
    return errors


def namespace_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    if ctx.subresource == "status":
        phase = (obj.get("status") or {}).get("phase")
        deleted = bool(obj["metadata"].get("deletionTimestamp"))
        if deleted and phase != "Terminating":
            text = "may only be 'Terminating' if `deletionTimestamp` is not empty"
            return [invalid("status.Phase", phase, text)]
        if not deleted and phase != "Active":
            text = "may only be 'Active' if `deletionTimestamp` is empty"
            return [invalid("status.Phase", phase, text)]
        return []
    return namespace(ctx, obj)


def node(_: RequestContext, obj: Obj) -> Errors:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    errors: Errors = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(spec.get("taints") or ()):
        here = f"spec.taints[{index}]"
        key, value, effect = taint.get("key", ""), taint.get("value", ""), taint.get("effect", "")
        errors += each(f"{here}.key", key, qualified_name_errors(key))
        errors += each(f"{here}.value", value, label_value_errors(value))
        errors += one_of(f"{here}.effect", effect, ("NoSchedule", "PreferNoSchedule", "NoExecute"), need=True)
        if (key, effect) in seen:
            text = 'Duplicate value: {"key":' + json.dumps(key) + ',"effect":' + json.dumps(effect) + "}"
            errors.append(
                FieldError(here, "FieldValueDuplicate", f"{text}: taints must be unique by key and effect pair")
            )
        seen.add((key, effect))
    cidrs = spec.get("podCIDRs") or []
    for index, text in enumerate(cidrs):
        if parse_cidr(text) is None:
            detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            errors.append(invalid(f"spec.podCIDRs[{index}]", text, detail))
    for field in ("capacity", "allocatable"):
        for name, text in (status.get(field) or {}).items():
            here = f"status.{field}[{name}]"
            errors += resource_quantity(name, text, here)
    for index, address in enumerate(status.get("addresses") or ()):
        if address in (status["addresses"])[:index]:
            errors.append(duplicate(f"status.addresses[{index}]", address))
    return errors


def node_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = node(ctx, obj)
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
        errors.append(forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'))
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        errors.append(forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid'))
    return errors


_QUOTA_NAMES = frozenset(
    "cpu memory ephemeral-storage requests.cpu requests.memory requests.storage requests.ephemeral-storage limits.cpu "
    "limits.memory limits.ephemeral-storage pods resourcequotas services replicationcontrollers secrets "
    "persistentvolumeclaims configmaps services.nodeports services.loadbalancers".split()
)
_INTEGER_COUNTS = frozenset(
    "pods resourcequotas services replicationcontrollers secrets persistentvolumeclaims configmaps services.nodeports "
    "services.loadbalancers".split()
)
_SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
)
_OPERATORS = ("DoesNotExist", "Exists", "In", "NotIn")


def _quota_name(name: str, path: str) -> Errors:
    errors = each(path, name, qualified_name_errors(name))
    if errors:
        return errors
    if "/" not in name and name not in _QUOTA_NAMES and not name.startswith(("hugepages-", "requests.hugepages-")):
        return [invalid(path, name, NOT_STANDARD.replace("standard resource type", "standard resource for quota"))]
    return []


def _quota_value(name: str, text: str, path: str) -> Errors:
    errors = non_negative_quantity(path, text)
    whole = name in _INTEGER_COUNTS or name.startswith("count/") or is_extended(name.removeprefix("requests."))
    if whole and amount(text).denominator != 1:
        errors.append(invalid(path, text, "must be an integer"))
    return errors


def _quantities(found: Any, path: str) -> Errors:
    errors: Errors = []
    for name, text in (found or {}).items():
        here = f"{path}[{name}]"
        errors += _quota_name(name, here) + _quota_value(name, text, here)
    return errors


def resource_quota(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _quantities(spec.get("hard"), "spec.hard")
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(invalid("spec.scopes", scopes, "unsupported scope"))
    for pair in (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")):
        if all(one in scopes for one in pair):
            errors.append(invalid("spec.scopes", scopes, "conflicting scopes"))
    for index, rule in enumerate((spec.get("scopeSelector") or {}).get("matchExpressions") or ()):
        here = "spec.scopeSelector.matchExpressions"
        name, operator, values = rule.get("scopeName", ""), rule.get("operator", ""), rule.get("values") or []
        if name not in _SCOPES:
            errors.append(invalid(f"{here}.scopeName", name, "unsupported scope"))
        if operator in ("In", "NotIn") and not values:
            text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            errors.append(required(f"{here}.values", text))
        elif operator in ("Exists", "DoesNotExist") and values:
            text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            errors.append(invalid(f"{here}.values", values, text))
        elif operator not in _OPERATORS:
            errors.append(invalid(f"{here}.operator", operator, "not a valid selector operator"))
        del index
    return errors


def resource_quota_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        status = obj.get("status") or {}
        return _quantities(status.get("hard"), "status.hard") + _quantities(status.get("used"), "status.used")
    errors = resource_quota(ctx, obj)
    new, before = ((o.get("spec") or {}).get("scopes") or [] for o in (obj, old))
    if sorted(new) != sorted(before):
        errors.append(invalid("spec.scopes", new, IMMUTABLE))
    return errors


def limit_range(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
        here = f"spec.limits[{index}]"
        kind = item.get("type", "")
        if kind not in ("Pod", "Container", "PersistentVolumeClaim"):
            errors.append(invalid(f"{here}.type", kind, "must be a standard limit type or fully qualified"))
        if kind in seen:
            errors.append(duplicate(f"{here}.type", kind))
        seen.add(kind)
        errors += _limits(item, kind, here)
    return errors


_BOUNDS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def _limits(item: Obj, kind: str, path: str) -> Errors:
    errors: Errors = []
    found = {name: item.get(name) or {} for name in _BOUNDS}
    for name in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        for key in found[name]:
            check = container_resource_name if kind == "Container" else resource_name
            errors += check(key, f"{path}.{name}[{key}]")
    if kind == "Pod":
        for name in ("default", "defaultRequest"):
            if item.get(name):
                text = "may not be specified when `type` is 'Pod'"
                errors.append(forbidden(f"{path}.{name}", text))
    if kind == "PersistentVolumeClaim" and "storage" not in found["min"] and "storage" not in found["max"]:
        errors.append(
            required(f"{path}.limits", "either minimum or maximum storage value is required, but neither was provided")
        )
    for key in {k for name in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio") for k in found[name]}:
        errors += _ordered(found, key, path)
    return errors


def _ordered(found: dict[str, Any], key: str, path: str) -> Errors:
    errors: Errors = []
    value = {name: found[name].get(key) for name in _BOUNDS}

    def greater(a: str, b: str) -> bool:
        return value[a] is not None and value[b] is not None and amount(value[a]) > amount(value[b])

    def say(name: str, a: str, b: str, words: str) -> None:
        errors.append(invalid(f"{path}.{name}[{key}]", value[a], f"{words} {value[b]}"))

    if greater("min", "max"):
        say("min", "min", "max", f"min value {value['min']} is greater than max value")
    if greater("min", "defaultRequest"):
        say(
            "defaultRequest",
            "defaultRequest",
            "defaultRequest",
            f"min value {value['min']} is greater than default request value",
        )
    if greater("defaultRequest", "max"):
        say(
            "defaultRequest",
            "defaultRequest",
            "max",
            f"default request value {value['defaultRequest']} is greater than max value",
        )
    if greater("defaultRequest", "default"):
        say(
            "defaultRequest",
            "defaultRequest",
            "default",
            f"default request value {value['defaultRequest']} is greater than default limit value",
        )
    if greater("min", "default"):
        say("default", "min", "default", f"min value {value['min']} is greater than default value")
    if greater("default", "max"):
        say("default", "default", "max", f"default value {value['default']} is greater than max value")
    ratio = value["maxLimitRequestRatio"]
    if ratio is not None and amount(ratio) < 1:
        errors.append(invalid(f"{path}.maxLimitRequestRatio[{key}]", ratio, f"ratio {ratio} is less than 1"))
    return errors


def limit_range_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return limit_range(ctx, obj)


_EVENT_TEXT = "does not match event.namespace"


def event(ctx: RequestContext, obj: Obj) -> Errors:
    """Paths are those of core/v1, whichever API the event came by."""
    new = ctx.resource.group == "events.k8s.io"
    about = obj.get("regarding" if new else "involvedObject") or {}
    namespace_name = obj["metadata"].get("namespace") or ""
    errors: Errors = []
    there = about.get("namespace", "")
    if (not there and namespace_name != "default") or (there and there != namespace_name):
        errors.append(invalid("involvedObject.namespace", there, _EVENT_TEXT))
    if not obj.get("eventTime"):
        if new:
            errors.append(required("eventTime"))
        return errors
    controller = obj.get("reportingController" if new else "reportingComponent", "")
    if not controller:
        errors.append(required("reportingController"))
    else:
        errors += each("reportingController", controller, qualified_name_errors(controller))
    instance = obj.get("reportingInstance", "")
    if not instance:
        errors.append(required("reportingInstance"))
    elif len(instance) > 128:
        errors.append(invalid("reportingInstance", "", "can have at most 128 characters"))
    for field, limit in (("action", 128), ("reason", 128)):
        if not obj.get(field):
            errors.append(required(field))
        elif len(obj[field]) > limit:
            errors.append(invalid(field, "", f"can have at most {limit} characters"))
    message = obj.get("note" if new else "message", "")
    if len(message) > 1024:
        errors.append(invalid("message", "", "can have at most 1024 characters"))
    if new and obj.get("type") not in ("Normal", "Warning"):
        errors.append(invalid("type", "", "has invalid value: " + str(obj.get("type", ""))))
    return errors


def event_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = event(ctx, obj)
    if ctx.resource.group == "events.k8s.io":
        for field, shown in (
            ("regarding", "involvedObject"),
            ("reason", "reason"),
            ("note", "message"),
            ("action", "action"),
        ):
            if obj.get(field) != old.get(field):
                errors.append(invalid(shown, obj.get(field), IMMUTABLE))
    return errors


def lease(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors: Errors = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(invalid("spec.leaseTransitions", transitions, NON_NEGATIVE))
    if spec.get("strategy") is not None:
        errors += each("spec.strategy", spec["strategy"], qualified_name_errors(spec["strategy"]))
    if spec.get("preferredHolder") and not spec.get("strategy"):
        text = "may only be specified if `strategy` is defined"
        errors.append(forbidden("spec.preferredHolder", text))
    return errors


def lease_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return lease(ctx, obj)


_SYSTEM = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
_HIGHEST = 1000000000


def priority_class(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    name, value = obj["metadata"].get("name") or "", obj.get("value", 0)
    if name.startswith("system-"):
        if name not in _SYSTEM:
            text = (
                "priority class names with 'system-' prefix are reserved for system use only. error: "
                f"{name} is not a known system priority class"
            )
            errors.append(forbidden("metadata.name", text))
    elif value > _HIGHEST:
        text = f"maximum allowed value of a user defined priority is {_HIGHEST}"
        errors.append(forbidden("value", text))
    if obj.get("preemptionPolicy") is not None:
        policies = ("PreemptLowerPriority", "Never")
        errors += one_of("preemptionPolicy", obj["preemptionPolicy"], policies, need=True)
    return errors


def priority_class_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors: Errors = []
    if obj.get("value", 0) != old.get("value", 0):
        errors.append(forbidden("value", "may not be changed in an update."))
    if obj.get("preemptionPolicy") != old.get("preemptionPolicy"):
        errors.append(invalid("preemptionPolicy", obj.get("preemptionPolicy"), IMMUTABLE))
    return errors


def service_account(_: RequestContext, obj: Obj) -> Errors:
    del obj
    return []


__all__ = ["UTC", "datetime", "dns_subdomain", "gotime", "ip_address", "timedelta"]
