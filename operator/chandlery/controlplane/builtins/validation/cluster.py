"""Rules of namespaces, nodes, quotas and limits.

Source: the field descriptions of core/v1 and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins import internal
from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    Errors,
    amount,
    cidr,
    duplicate,
    each,
    forbidden,
    invalid,
    non_negative_quantity,
    one_of,
    required,
)
from chandlery.controlplane.builtins.validation.resources import (
    container_resource_name,
    is_extended,
    is_hugepage,
    resource_name,
    resource_quantity,
)
from chandlery.controlplane.metadata import label_value_errors, qualified_name_errors
from chandlery.controlplane.types import FieldError, Obj, RequestContext


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
    if ctx.subresource == "finalize":
        return [
            FieldError(error.path + f"[{index}]", error.type, error.detail)
            for index, name in enumerate((obj.get("spec") or {}).get("finalizers") or ())
            for error in namespace(ctx, {"spec": {"finalizers": [name]}})
        ]
    return namespace(ctx, obj)


_TAINT = "io.k8s.api.core.v1.Taint"


def _taints(taints: Any, path: str) -> Errors:
    errors: Errors = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints or ()):
        here = f"{path}[{index}]"
        key, value, effect = taint.get("key", ""), taint.get("value", ""), taint.get("effect", "")
        errors += each(f"{here}.key", key, qualified_name_errors(key))
        problems = label_value_errors(value)
        if problems:
            errors.append(invalid(f"{here}.value", value, ";".join(problems)))
        errors += one_of(f"{here}.effect", effect, ("NoSchedule", "PreferNoSchedule", "NoExecute"), need=True)
        if (key, effect) in seen:
            text = f"Duplicate value: {internal.shown(_TAINT, taint)}: taints must be unique by key and effect pair"
            errors.append(FieldError(here, "FieldValueDuplicate", text))
        seen.add((key, effect))
    return errors


def _node_resources(obj: Obj) -> Errors:
    errors: Errors = []
    for field in ("capacity", "allocatable"):
        for name, text in ((obj.get("status") or {}).get(field) or {}).items():
            errors += resource_quantity(name, text, f"status.{field}.{name}")
    return errors


def node(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _taints(spec.get("taints"), "metadata.taints") + _node_resources(obj)
    cidrs = spec.get("podCIDRs") or []
    for index, text in enumerate(cidrs):
        errors += cidr(f"spec.podCIDRs[{index}]", text)
    versions = {":" in text for text in cidrs}
    if len(cidrs) > 2 or (len(cidrs) == 2 and len(versions) == 1):
        text = "may specify no more than one CIDR for each IP family"
        errors.append(invalid("spec.podCIDRs", cidrs, text))
    for index, text in enumerate(cidrs):
        if text in cidrs[:index]:
            errors.append(duplicate(f"spec.podCIDRs[{index}]", text))
    return errors


_ADDRESS = "io.k8s.api.core.v1.NodeAddress"


def node_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = node(ctx, obj) + _node_resources(obj)
    addresses = (obj.get("status") or {}).get("addresses") or []
    for index, address in enumerate(addresses):
        if address in addresses[:index]:
            text = f"Duplicate value: {internal.shown(_ADDRESS, address)}"
            errors.append(FieldError(f"status.addresses[{index}]", "FieldValueDuplicate", text))
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    cidrs, cidrs_before = spec.get("podCIDRs") or [], before.get("podCIDRs") or []
    if cidrs_before and cidrs != cidrs_before:
        errors.append(forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'))
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        errors.append(forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid'))
    errors += _taints(spec.get("taints"), "metadata.taints")
    if spec.get("externalID") != before.get("externalID"):
        errors.append(forbidden("spec.externalID", "may not be updated"))
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


def _quota_name(name: str, path: str) -> Errors:
    errors = resource_name(name, path)
    if "/" not in name and name not in _QUOTA_NAMES and not name.startswith(("hugepages-", "requests.hugepages-")):
        errors.append(invalid(path, name, "must be a standard resource for quota"))
    return errors


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


_COMPUTE = frozenset(("pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"))
_COUNTED = {
    "BestEffort": frozenset(("pods",)),
    "VolumeAttributesClass": frozenset(("persistentvolumeclaims",)),
} | dict.fromkeys(
    ("Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"), _COMPUTE
)
"""Which resources a scope can narrow; a storage request is narrowed by its class too."""
_ONLY_EXISTS = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)
_SELECTOR = "io.k8s.api.core.v1.ScopeSelector"


def _narrowed(scope: str, hard: Any) -> int:
    """How many of these resources the scope can't narrow."""
    counted = _COUNTED.get(scope)
    if counted is None:
        return 0
    if scope == "VolumeAttributesClass":
        counted |= {"requests.storage"}
    return sum(name in _QUOTA_NAMES and name not in counted for name in hard)


def _conflicts(scopes: Any, shown: Any) -> Errors:
    pairs = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
    conflict = [pair for pair in pairs if all(one in scopes for one in pair)]
    return [invalid("spec.scopes", shown, "conflicting scopes")] * len(conflict)


def resource_quota(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    hard = spec.get("hard") or {}
    errors = _quantities(hard, "spec.hard")
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(invalid("spec.scopes", scopes, "unsupported scope"))
        text = "unsupported scope applied to resource"
        errors += [invalid("spec.scopes", scopes, text)] * _narrowed(scope, hard)
    errors += _conflicts(scopes, scopes)
    selector = spec.get("scopeSelector") or {}
    here = "spec.scopeSelector.matchExpressions"
    for rule in selector.get("matchExpressions") or ():
        name, operator, values = rule.get("scopeName", ""), rule.get("operator", ""), rule.get("values") or []
        if name not in _SCOPES:
            errors.append(invalid(f"{here}.scopeName", name, "unsupported scope"))
        text = f"Invalid value: {internal.shown(_SELECTOR, selector)}: unsupported scope applied to resource"
        errors += [FieldError(here, "FieldValueInvalid", text)] * _narrowed(name, hard)
        if name in _SCOPES and name not in ("PriorityClass", "VolumeAttributesClass") and operator != "Exists":
            errors.append(invalid(f"{here}.operator", operator, _ONLY_EXISTS))
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required(f"{here}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errors.append(invalid(f"{here}.values", values, text))
        else:
            errors.append(invalid(f"{here}.operator", operator, "not a valid selector operator"))
    found = [rule.get("scopeName") for rule in selector.get("matchExpressions") or ()]
    return errors + _conflicts(found, spec.get("scopes"))


def resource_quota_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        status = obj.get("status") or {}
        return _quantities(status.get("hard"), "status.hard") + _quantities(status.get("used"), "status.used")
    errors = resource_quota(ctx, obj)
    new, before = ((o.get("spec") or {}).get("scopes") or [] for o in (obj, old))
    if sorted(new) != sorted(before):
        errors.append(invalid("spec.scopes", new, IMMUTABLE))
    return errors


_BOUNDS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_LIMIT_TYPES = ("Pod", "Container", "PersistentVolumeClaim")


def limit_range(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
        here = f"spec.limits[{index}]"
        kind = item.get("type", "")
        problems = each(f"{here}.type", kind, qualified_name_errors(kind))
        if not problems and "/" not in kind and kind not in _LIMIT_TYPES:
            problems.append(invalid(f"{here}.type", kind, "must be a standard limit type or fully qualified"))
        errors += problems
        if kind in seen:
            errors.append(duplicate(f"{here}.type", kind))
        seen.add(kind)
        errors += _limits(item, kind, here)
    return errors


def _limits(item: Obj, kind: str, path: str) -> Errors:
    errors: Errors = []
    found = {name: item.get(name) or {} for name in _BOUNDS}
    check = container_resource_name if kind in ("Pod", "Container") else resource_name

    def names(*fields: str) -> None:
        for field in fields:
            for key in found[field]:
                errors.extend(check(key, f"{path}.{field}[{key}]"))

    names("max", "min")
    if kind == "Pod":
        for name in ("default", "defaultRequest"):
            if found[name]:
                text = "may not be specified when `type` is 'Pod'"
                errors.append(forbidden(f"{path}.{name}", text))
                found[name] = {}
    names("default", "defaultRequest")
    if kind == "PersistentVolumeClaim" and "storage" not in found["min"] and "storage" not in found["max"]:
        text = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required(f"{path}.limits", text))
    names("maxLimitRequestRatio")
    for key in dict.fromkeys(key for name in _BOUNDS for key in found[name]):
        errors += _ordered({name: found[name].get(key) for name in _BOUNDS}, key, path)
    return errors


_ORDER = (
    ("min", "max", "min", "min", "min value {0} is greater than max value {1}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {0} is greater than default request value {1}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {0} is greater than max value {1}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {0} is greater than default limit value {1}",
    ),
    ("min", "default", "default", "min", "min value {0} is greater than default value {1}"),
    ("default", "max", "default", "max", "default value {0} is greater than max value {1}"),
)
"""(smaller, larger, the field to name, the value to show, the words)."""


def _ordered(value: dict[str, Any], key: str, path: str) -> Errors:
    errors: Errors = []
    for small, large, field, shown, words in _ORDER:
        a, b = value[small], value[large]
        if a is not None and b is not None and amount(a) > amount(b):
            errors.append(invalid(f"{path}.{field}[{key}]", value[shown], words.format(a, b)))
    ratio, least, most = value["maxLimitRequestRatio"], value["min"], value["max"]
    here = f"{path}.maxLimitRequestRatio[{key}]"
    if ratio is not None and amount(ratio) < 1:
        errors.append(invalid(here, ratio, f"ratio {ratio} is less than 1"))
    if ratio is not None and least is not None and most is not None and amount(least):
        limit = amount(most) / amount(least)
        if amount(ratio) > limit:
            errors.append(invalid(here, ratio, f"ratio {ratio} is greater than max/min = {float(limit):.6f}"))
    fixed = is_hugepage(key) or is_extended(key)
    usual, asked = value["default"], value["defaultRequest"]
    if fixed and usual is not None and asked is not None and amount(usual) != amount(asked):
        text = f"default value {usual} must equal to defaultRequest value {asked} in {key}"
        errors.append(invalid(f"{path}.defaultRequest[{key}]", asked, text))
    return errors


def limit_range_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return limit_range(ctx, obj)
