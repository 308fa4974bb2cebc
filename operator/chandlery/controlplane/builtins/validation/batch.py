"""Rules of Jobs, CronJobs and HorizontalPodAutoscalers.

Source: the field descriptions of batch/v1 and autoscaling/v2, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import re
import zoneinfo
from typing import Any

from chandlery.controlplane.builtins.convert import autoscaler_to_v2
from chandlery.controlplane.builtins.validation import cron, pods
from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    Errors,
    amount,
    each,
    forbidden,
    immutable,
    immutable_selector,
    invalid,
    invalid_struct,
    label_selector,
    non_negative,
    one_of,
    required,
)
from chandlery.controlplane.builtins.validation.workloads import selected
from chandlery.controlplane.metadata import path_segment_errors
from chandlery.controlplane.types import Obj, RequestContext

_TEMPLATE = "io.k8s.api.core.v1.PodTemplateSpec"


def _job_spec(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    for name in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        errors += non_negative(f"{path}.{name}", spec.get(name))
    for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
        errors += non_negative(f"{path}.{name}", spec.get(name))
    mode = spec.get("completionMode")
    if mode is not None:
        errors += one_of(f"{path}.completionMode", mode, ("NonIndexed", "Indexed"))
    if mode == "Indexed":
        if spec.get("completions") is None:
            errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
        if (spec.get("parallelism") or 0) > 100000:
            text = "must be less than or equal to 100000 when completion mode is Indexed"
            errors.append(invalid(f"{path}.parallelism", spec["parallelism"], text))
    elif spec.get("backoffLimitPerIndex") is not None:
        text = "requires indexed completion mode"
        errors.append(invalid(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], text))
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.get("podReplacementPolicy") is not None:
        policy = spec["podReplacementPolicy"]
        if spec.get("podFailurePolicy") is not None:
            errors += one_of(f"{path}.podReplacementPolicy", policy, ("Failed",))
        else:
            errors += one_of(f"{path}.podReplacementPolicy", policy, ("Failed", "TerminatingOrFailed"))
    template = spec.get("template") or {}
    errors += pods.template(template, f"{path}.template")
    restart = (template.get("spec") or {}).get("restartPolicy", "")
    if restart == "Always" or not restart:
        text = 'valid values: "OnFailure", "Never"'
        errors.append(required(f"{path}.template.spec.restartPolicy", text))
    if spec.get("podFailurePolicy") is not None:
        if restart != "Never":
            text = 'only "Never" is supported when podFailurePolicy is specified'
            errors.append(invalid(f"{path}.template.spec.restartPolicy", restart, text))
        errors += _failure_policy(spec["podFailurePolicy"], template, f"{path}.podFailurePolicy")
    if spec.get("managedBy") is not None:
        if "/" not in spec["managedBy"]:
            text = 'must be a domain-prefixed path (such as "acme.io/foo")'
            errors.append(invalid(f"{path}.managedBy", spec["managedBy"], text))
    return errors


def _failure_policy(policy: Obj, template: Obj, path: str) -> Errors:
    errors: Errors = []
    names = {c.get("name") for c in (template.get("spec") or {}).get("containers") or ()}
    rules = policy.get("rules") or ()
    for index, rule in enumerate(rules):
        here = f"{path}.rules[{index}]"
        action = rule.get("action", "")
        actions = ("Count", "FailIndex", "FailJob", "Ignore")
        if not action:
            errors.append(required(f"{here}.action", 'valid values: "Count", "FailIndex", "FailJob", "Ignore"'))
        else:
            errors += one_of(f"{here}.action", action, actions)
        codes = rule.get("onExitCodes")
        conditions = rule.get("onPodConditions") or ()
        if codes is not None:
            errors += _exit_codes(codes, names, f"{here}.onExitCodes")
            if conditions:
                text = "specifying both OnExitCodes and OnPodConditions is not supported"
                errors.append(invalid(here, None, text))
        elif not conditions:
            text = "specifying one of OnExitCodes and OnPodConditions is required"
            errors.append(invalid(here, None, text))
        for number, pattern in enumerate(conditions):
            errors += one_of(
                f"{here}.onPodConditions[{number}].status", pattern.get("status", ""), ("False", "True", "Unknown")
            )
    return errors


def _exit_codes(codes: Obj, names: set[Any], path: str) -> Errors:
    errors: Errors = []
    if not codes.get("operator"):
        errors.append(required(f"{path}.operator", 'valid values: "In", "NotIn"'))
    else:
        errors += one_of(f"{path}.operator", codes["operator"], ("In", "NotIn"))
    name = codes.get("containerName")
    if name is not None and name not in names:
        errors.append(
            invalid(
                f"{path}.containerName", name, "must be one of the container or initContainer names in the pod template"
            )
        )
    values = codes.get("values") or []
    if not values:
        errors.append(invalid(f"{path}.values", values, "at least one value is required"))
    if values != sorted(values):
        errors.append(invalid(f"{path}.values", values, "must be ordered"))
    for number, value in enumerate(values):
        if codes.get("operator") == "In" and value == 0:
            errors.append(invalid(f"{path}.values[{number}]", value, "must not be 0 for the In operator"))
    return errors


def job(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _job_spec(spec, "spec")
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
        return errors
    errors += label_selector(selector, "spec.selector")
    errors += selected(selector, spec.get("template"), "spec.template")
    return errors


_SCHEDULING = ("nodeSelector", "affinity", "tolerations", "schedulingGates")


def _template_changed(spec: Obj, before: Obj) -> bool:
    """Scheduling directives of a suspended Job that never ran may change."""
    new, old = spec.get("template") or {}, before.get("template") or {}
    if new == old:
        return False
    if not before.get("suspend"):
        return True

    def rest(template: Obj) -> Obj:
        meta = {k: v for k, v in (template.get("metadata") or {}).items() if k not in ("labels", "annotations")}
        inner = {k: v for k, v in (template.get("spec") or {}).items() if k not in _SCHEDULING}
        return {"metadata": meta, "spec": inner}

    return rest(new) != rest(old)


def job_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return []
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = _job_spec(spec, "spec")
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if not elastic:
        errors += immutable("spec.completions", spec.get("completions"), before.get("completions"))
    errors += immutable_selector("spec.selector", spec.get("selector"), before.get("selector"))
    if _template_changed(spec, before):
        errors.append(invalid_struct("spec.template", _TEMPLATE, spec.get("template"), IMMUTABLE))
    for field in ("completionMode", "backoffLimitPerIndex", "managedBy"):
        errors += immutable(f"spec.{field}", spec.get(field), before.get(field))
    for field, kind in (("podFailurePolicy", "PodFailurePolicy"), ("successPolicy", "SuccessPolicy")):
        if spec.get(field) != before.get(field):
            errors.append(invalid_struct(f"spec.{field}", f"io.k8s.api.batch.v1.{kind}", spec.get(field), IMMUTABLE))
    return errors


def _cron_spec(obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors: Errors = []
    schedule = spec.get("schedule", "")
    if not schedule:
        errors.append(required("spec.schedule"))
    elif "TZ" in schedule:
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid("spec.schedule", schedule, text))
    else:
        try:
            cron.check(schedule)
        except cron.CronError as error:
            errors.append(invalid("spec.schedule", schedule, str(error)))
    errors += _time_zone(spec.get("timeZone"))
    for name in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += non_negative(f"spec.{name}", spec.get(name))
    policies = ("Allow", "Forbid", "Replace")
    errors += one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy", ""), policies, need=True)
    job_spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    return errors + _job_spec(job_spec, "spec.jobTemplate.spec")


def _time_zone(name: str | None) -> Errors:
    if name is None:
        return []
    if not name:
        return [invalid("spec.timeZone", name, "timeZone must be nil or non-empty string")]
    for part in name.split("/"):
        if not re.fullmatch(r"[A-Za-z0-9._+-]{1,}", part) or part in (".", "..") or part.startswith("-"):
            return [invalid("spec.timeZone", name, f"unknown time zone {name}")]
    if name.lower() == "local":
        return [
            invalid(
                "spec.timeZone",
                name,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            )
        ]
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [invalid("spec.timeZone", name, f"unknown time zone {name}")]
    return []


def cron_job(_: RequestContext, obj: Obj) -> Errors:
    errors = _cron_spec(obj)
    name = obj["metadata"].get("name") or ""
    if len(name) > 52:
        errors.append(invalid("metadata.name", name, "must be no more than 52 characters"))
    return errors


def cron_job_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return [] if ctx.subresource == "status" else _cron_spec(obj)


_SOURCES = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}
_TARGETS = ("Utilization", "Value", "AverageValue")


def _target(target: Obj, path: str) -> Errors:
    errors: Errors = []
    kind = target.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    elif kind not in _TARGETS:
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
    return each(f"{path}.name", name, path_segment_errors(name)) + label_selector(
        metric.get("selector"), f"{path}.selector"
    )


def _metric(metric: Obj, path: str) -> Errors:
    kind = metric.get("type", "")
    if not kind:
        return [required(f"{path}.type", "must specify a metric source type")]
    if kind not in _SOURCES:
        return one_of(f"{path}.type", kind, sorted(_SOURCES))
    field = _SOURCES[kind]
    errors: Errors = []
    if metric.get(field) is None:
        text = "must populate information for the given metric source"
        errors.append(required(f"{path}.{field}", text))
    for other in _SOURCES.values():
        if other in metric and other != field:
            errors.append(forbidden(f"{path}.{other}", "must populate the given metric source only"))
    source = metric.get(field)
    if source is None:
        return errors
    here = f"{path}.{field}"
    target = source.get("target") or {}
    if kind in ("Resource", "ContainerResource"):
        if not source.get("name"):
            errors.append(required(f"{here}.name", "must specify a resource name"))
        if kind == "ContainerResource" and not source.get("container"):
            errors.append(required(f"{here}.container", "must specify a container"))
        errors += _target(target, f"{here}.target")
        raw, percent = target.get("averageValue"), target.get("averageUtilization")
        if raw is None and percent is None:
            text = "must set either a target raw value or a target utilization"
            errors.append(required(f"{here}.target.averageUtilization", text))
        elif raw is not None and percent is not None:
            text = "may not set both a target raw value and a target utilization"
            errors.append(forbidden(f"{here}.target.averageValue", text))
        return errors
    errors += _identifier(source.get("metric") or {}, f"{here}.metric")
    errors += _target(target, f"{here}.target")
    if kind == "Pods":
        if target.get("averageValue") is None or amount(target["averageValue"]) <= 0:
            errors.append(required(f"{here}.target.averageValue", "must specify a positive target averageValue"))
        return errors
    if kind == "Object":
        errors += _reference(source.get("describedObject") or {}, f"{here}.describedObject")
    value, average = target.get("value"), target.get("averageValue")
    if value is None and average is None:
        text = "must set either a target value for metric or a per-pod target"
        errors.append(required(f"{here}.target.averageValue", text))
    elif value is not None and average is not None and kind == "External":
        text = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden(f"{here}.target.value", text))
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
