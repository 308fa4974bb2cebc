"""Rules of HorizontalPodAutoscalers.

Source: the field descriptions of autoscaling/v2, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins.convert import autoscaler_to_v2
from chandlery.controlplane.builtins.validation.common import (
    Errors,
    amount,
    each,
    forbidden,
    invalid,
    non_negative,
    non_negative_quantity,
    one_of,
    required,
    unsupported,
)
from chandlery.controlplane.metadata import path_segment_errors
from chandlery.controlplane.types import Obj, RequestContext

_SOURCES = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}
_TARGETS = ("Utilization", "Value", "AverageValue")


_KINDS = tuple(sorted(_SOURCES))


def _target(target: Obj, path: str) -> Errors:
    errors: Errors = []
    kind = target.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    if kind not in _TARGETS:
        errors.append(invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue"))
    for name in ("value", "averageValue"):
        if target.get(name) is not None and amount(target[name]) <= 0:
            errors.append(invalid(f"{path}.{name}", target[name], "must be positive"))
    percent = target.get("averageUtilization")
    if percent is not None and percent < 1:
        errors.append(invalid(f"{path}.averageUtilization", percent, "must be greater than 0"))
    return errors


def _identifier(metric: Obj, path: str) -> Errors:
    name = metric.get("name", "")
    if not name:
        return [required(f"{path}.name", "must specify a metric name")]
    return each(f"{path}.name", name, path_segment_errors(name))


def _object(source: Obj, path: str) -> Errors:
    target = source.get("target") or {}
    errors = _reference(source.get("describedObject") or {}, f"{path}.describedObject")
    errors += _identifier(source.get("metric") or {}, f"{path}.metric") + _target(target, f"{path}.target")
    if target.get("value") is None and target.get("averageValue") is None:
        text = "must set either a target value or averageValue"
        errors.append(required(f"{path}.target.averageValue", text))
    return errors


def _external(source: Obj, path: str) -> Errors:
    target = source.get("target") or {}
    errors = _identifier(source.get("metric") or {}, f"{path}.metric") + _target(target, f"{path}.target")
    value, average = target.get("value"), target.get("averageValue")
    if value is None and average is None:
        text = "must set either a target value for metric or a per-pod target"
        errors.append(required(f"{path}.target.averageValue", text))
    elif value is not None and average is not None:
        text = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden(f"{path}.target.value", text))
    return errors


def _pods(source: Obj, path: str) -> Errors:
    target = source.get("target") or {}
    errors = _identifier(source.get("metric") or {}, f"{path}.metric") + _target(target, f"{path}.target")
    if target.get("averageValue") is None:
        errors.append(required(f"{path}.target.averageValue", "must specify a positive target averageValue"))
    return errors


def _resource(source: Obj, path: str) -> Errors:
    errors: Errors = []
    if not source.get("name"):
        errors.append(required(f"{path}.name", "must specify a resource name"))
    target = source.get("target") or {}
    errors += _target(target, f"{path}.target")
    raw, percent = target.get("averageValue"), target.get("averageUtilization")
    if raw is None and percent is None:
        text = "must set either a target raw value or a target utilization"
        errors.append(required(f"{path}.target.averageUtilization", text))
    elif raw is not None and percent is not None:
        text = "may not set both a target raw value and a target utilization"
        errors.append(forbidden(f"{path}.target.averageValue", text))
    return errors


def _container_resource(source: Obj, path: str) -> Errors:
    errors: Errors = []
    for name, text in (("name", "must specify a resource name"), ("container", "must specify a container")):
        if not source.get(name):
            errors.append(required(f"{path}.{name}", text))
    return errors + [e for e in _resource(source, path) if e.path != f"{path}.name"]


_CHECKS = {
    "object": _object,
    "external": _external,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container_resource,
}
"""In the order in which the API looks for them; only the first given source is checked."""


def _metric(metric: Obj, path: str) -> Errors:
    errors: Errors = []
    kind = metric.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
    if kind not in _SOURCES:
        errors.append(unsupported(f"{path}.type", kind, _KINDS))
    given = [name for name in _CHECKS if metric.get(name) is not None]
    if given:
        errors += _CHECKS[given[0]](metric[given[0]], f"{path}.{given[0]}")
    expected = _SOURCES.get(kind, "")
    if expected and expected not in given:
        text = "must populate information for the given metric source"
        errors.append(required(f"{path}.{expected}", text))
    elif not expected:
        errors.append(unsupported(f"{path}.type", kind, _KINDS))
    if len(given) != 1:
        for name in given:
            if name != expected:
                errors.append(forbidden(f"{path}.{name}", "must populate the given metric source only"))
    return errors


def _reference(found: Obj, path: str) -> Errors:
    errors: Errors = []
    for field in ("kind", "name"):
        text = found.get(field, "")
        errors += each(f"{path}.{field}", text, path_segment_errors(text)) if text else [required(f"{path}.{field}")]
    version = found.get("apiVersion", "")
    if version.count("/") > 1:
        errors.append(invalid(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}"))
    elif "/" not in version and found.get("kind") != "ReplicationController" and "describedObject" not in path:
        errors.append(invalid(f"{path}.apiVersion", version, "apiVersion must specify API group"))
    return errors


def _rules(found: Any, path: str) -> Errors:
    if not found:
        return []
    errors: Errors = []
    window = found.get("stabilizationWindowSeconds")
    if window is not None:
        if window < 0:
            errors.append(
                invalid(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero")
            )
        elif window > 3600:
            errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, "must be less than or equal to 3600"))
    if found.get("selectPolicy") is not None:
        errors += one_of(f"{path}.selectPolicy", found["selectPolicy"], ("Disabled", "Max", "Min"))
    if not found.get("policies"):
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(found.get("policies") or ()):
        here = f"{path}.policies[{index}]"
        errors += one_of(f"{here}.type", policy.get("type", ""), ("Percent", "Pods"))
        if policy.get("value", 0) <= 0:
            errors.append(invalid(f"{here}.value", policy.get("value", 0), "must be greater than zero"))
        period = policy.get("periodSeconds", 0)
        if period <= 0:
            errors.append(invalid(f"{here}.periodSeconds", period, "must be greater than zero"))
        elif period > 1800:
            errors.append(invalid(f"{here}.periodSeconds", period, "must be less than or equal to 1800"))
    if found.get("tolerance") is not None:
        errors += non_negative_quantity(f"{path}.tolerance", found["tolerance"])
    return errors


def autoscaler(ctx: RequestContext, obj: Obj) -> Errors:
    spec = (autoscaler_to_v2(obj) if ctx.resource.version == "v1" else obj).get("spec") or {}
    errors: Errors = []
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        errors.append(invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most == 0:
        errors.append(required("spec.maxReplicas", "must be set and greater than 0"))
    elif most < 1:
        errors.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        errors.append(invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    errors += _reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")
    for index, metric in enumerate(spec.get("metrics") or ()):
        errors += _metric(metric, f"spec.metrics[{index}]")
    behavior = spec.get("behavior") or {}
    for direction in ("scaleUp", "scaleDown"):
        errors += _rules(behavior.get(direction), f"spec.behavior.{direction}")
    return errors


def autoscaler_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    if ctx.subresource == "status":
        status = obj.get("status") or {}
        return non_negative("status.currentReplicas", status.get("currentReplicas")) + non_negative(
            "status.desiredReplicas", status.get("desiredReplicas")
        )
    return autoscaler(ctx, obj)
