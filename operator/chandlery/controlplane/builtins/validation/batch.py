"""Rules of Jobs and CronJobs.

Source: the field descriptions of batch/v1, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import re
import zoneinfo
from typing import Any

from chandlery.controlplane.builtins.validation import cron, pods
from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    Errors,
    duplicate,
    immutable,
    immutable_selector,
    invalid,
    invalid_struct,
    label_errors_plain,
    label_selector,
    non_negative,
    one_of,
    qualified_name,
    quote,
    required,
    selector_matches,
    selector_shown,
    too_long,
    too_many,
    unsupported,
)
from chandlery.controlplane.builtins.validation.jobstatus import IndexListError, count_indexes, job_status
from chandlery.controlplane.builtins.validation.network import domain_prefixed
from chandlery.controlplane.builtins.validation.workloads import selected
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_TEMPLATE = "io.k8s.api.core.v1.PodTemplateSpec"
_BATCH = "io.k8s.api.batch.v1."


_MOST_INDEXED = 100_000
_MANY = 100_000
_MOST_FOR_MANY = 10_000
_MOST_RULES = 20
_MOST_CODES = 255
_LONGEST_INDEXES = 64 * 1024


def _job_spec(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    for name in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        errors += non_negative(f"{path}.{name}", spec.get(name))
    for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
        errors += non_negative(f"{path}.{name}", spec.get(name))
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.get("managedBy") is not None:
        errors += domain_prefixed(f"{path}.managedBy", spec["managedBy"])
        if len(spec["managedBy"].encode()) > 63:
            errors.append(too_long(f"{path}.managedBy", 63))
    mode = spec.get("completionMode")
    if mode is not None:
        errors += one_of(f"{path}.completionMode", mode, ("NonIndexed", "Indexed"))
    if mode == "Indexed":
        errors += _indexed(spec, path)
    elif mode is None or mode == "NonIndexed":
        for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(name) is not None:
                errors.append(invalid(f"{path}.{name}", spec[name], "requires indexed completion mode"))
    if spec.get("podFailurePolicy") is not None:
        errors += _failure_policy(spec, f"{path}.podFailurePolicy")
    success = spec.get("successPolicy")
    if success is not None and mode != "Indexed":
        here = f"{path}.successPolicy"
        errors.append(invalid_struct(here, f"{_BATCH}SuccessPolicy", success, "requires indexed completion mode"))
    elif success is not None:
        errors += _success_policy(success, spec.get("completions") or 0, f"{path}.successPolicy")
    if spec.get("podReplacementPolicy") is not None:
        supported = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
        errors += one_of(f"{path}.podReplacementPolicy", spec["podReplacementPolicy"], supported)
    template = spec.get("template") or {}
    return errors + pods.template(template, f"{path}.template") + _restart(spec, template, path)


def _restart(spec: Obj, template: Obj, path: str) -> Errors:
    """Pods of a Job must be able to finish."""
    restart = (template.get("spec") or {}).get("restartPolicy", "")
    here = f"{path}.template.spec.restartPolicy"
    if restart in ("Always", ""):
        return [required(here, 'valid values: "OnFailure", "Never"')]
    if restart not in ("OnFailure", "Never"):
        return [unsupported(here, restart, ("OnFailure", "Never"))]
    if spec.get("podFailurePolicy") is not None and restart != "Never":
        return [invalid(here, restart, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def _indexed(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    completions, parallel, failed = (spec.get(name) for name in ("completions", "parallelism", "maxFailedIndexes"))
    if completions is None:
        errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if parallel is not None and parallel > _MOST_INDEXED:
        text = f"must be less than or equal to {_MOST_INDEXED} when completion mode is Indexed"
        errors.append(invalid(f"{path}.parallelism", parallel, text))
    if completions is not None and failed is not None and failed > completions:
        errors.append(invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
    if failed is not None and failed > _MOST_INDEXED:
        errors.append(invalid(f"{path}.maxFailedIndexes", failed, f"must be less than or equal to {_MOST_INDEXED}"))
    if completions is not None and completions > _MANY and spec.get("backoffLimitPerIndex") is not None:
        if failed is None:
            text = f"must be specified when completions is above {_MANY}"
            errors.append(required(f"{path}.maxFailedIndexes", text))
        text = (
            f"must be less than or equal to {_MOST_FOR_MANY} when completions are above {_MANY} and used with backoff "
            "limit per index"
        )
        for name, value in (("parallelism", parallel), ("maxFailedIndexes", failed)):
            if value is not None and value > _MOST_FOR_MANY:
                errors.append(invalid(f"{path}.{name}", value, text))
    return errors


def _success_policy(policy: Obj, completions: int, path: str) -> Errors:
    errors: Errors = []
    rules = policy.get("rules") or ()
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        errors.append(required(f"{path}.rules", text))
    if len(rules) > _MOST_RULES:
        errors.append(too_many(f"{path}.rules", len(rules), _MOST_RULES))
    for number, rule in enumerate(rules):
        here = f"{path}.rules[{number}]"
        count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
        if count is None and indexes is None:
            text = "at least one of succeededCount or succeededIndexes must be specified"
            errors.append(required(here, text))
        total = 0
        if indexes is not None:
            if len(indexes.encode()) > _LONGEST_INDEXES:
                errors.append(too_long(f"{here}.succeededIndexes", _LONGEST_INDEXES))
            try:
                total = count_indexes(indexes, completions)
            except IndexListError as error:
                text = f"error parsing succeededIndexes: {error}"
                errors.append(invalid(f"{here}.succeededIndexes", indexes, text))
        if count is not None:
            where = f"{here}.succeededCount"
            errors += non_negative(where, count)
            if count > completions:
                text = f"must be less than or equal to {completions} (the number of specified completions)"
                errors.append(invalid(where, count, text))
            if indexes is not None and count > total:
                text = (
                    f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes "
                    "field)"
                )
                errors.append(invalid(where, count, text))
    return errors


_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_VALID = "valid values: "


def _listed(values: tuple[str, ...]) -> str:
    return _VALID + "[" + " ".join(quote(value) for value in values) + "]"


def _failure_policy(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    inner = (spec.get("template") or {}).get("spec") or {}
    names = {c.get("name") for key in ("containers", "initContainers") for c in inner.get(key) or ()}
    rules = spec["podFailurePolicy"].get("rules") or ()
    if len(rules) > _MOST_RULES:
        errors.append(too_many(f"{path}.rules", len(rules), _MOST_RULES))
    for index, rule in enumerate(rules):
        here = f"{path}.rules[{index}]"
        action = rule.get("action", "")
        if not action:
            errors.append(required(f"{here}.action", _listed(_ACTIONS)))
        elif action == "FailIndex":
            if spec.get("backoffLimitPerIndex") is None:
                errors.append(invalid(f"{here}.action", action, "requires the backoffLimitPerIndex to be set"))
        else:
            errors += one_of(f"{here}.action", action, _ACTIONS)
        codes = rule.get("onExitCodes")
        conditions = rule.get("onPodConditions") or ()
        if codes is not None:
            errors += _exit_codes(codes, names, f"{here}.onExitCodes")
        errors += _pod_conditions(conditions, f"{here}.onPodConditions")
        text = ""
        if codes is not None and conditions:
            text = "specifying both OnExitCodes and OnPodConditions is not supported"
        elif codes is None and not conditions:
            text = "specifying one of OnExitCodes and OnPodConditions is required"
        if text:
            errors.append(FieldError(here, "FieldValueInvalid", f"Invalid value: {text}"))
    return errors


_STATES = ("False", "True", "Unknown")


def _pod_conditions(conditions: Any, path: str) -> Errors:
    errors: Errors = []
    if len(conditions) > _MOST_RULES:
        errors.append(too_many(path, len(conditions), _MOST_RULES))
    for number, pattern in enumerate(conditions):
        here = f"{path}[{number}]"
        errors += qualified_name(f"{here}.type", pattern.get("type", ""))
        status = pattern.get("status", "")
        if not status:
            errors.append(required(f"{here}.status", _listed(_STATES)))
        else:
            errors += one_of(f"{here}.status", status, _STATES)
    return errors


def _exit_codes(codes: Obj, names: set[Any], path: str) -> Errors:
    errors: Errors = []
    operator = codes.get("operator", "")
    if not operator:
        errors.append(required(f"{path}.operator", _listed(("In", "NotIn"))))
    else:
        errors += one_of(f"{path}.operator", operator, ("In", "NotIn"))
    name = codes.get("containerName")
    if name is not None and name not in names:
        text = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid(f"{path}.containerName", name, text))
    values = codes.get("values") or []
    if not values:
        errors.append(invalid(f"{path}.values", codes.get("values"), "at least one value is required"))
    elif len(values) > _MOST_CODES:
        errors.append(too_many(f"{path}.values", len(values), _MOST_CODES))
    for number, value in enumerate(values):
        here = f"{path}.values[{number}]"
        if operator == "In" and value == 0:
            errors.append(invalid(here, value, "must not be 0 for the In operator"))
        if value in values[:number]:
            errors.append(duplicate(here, value))
    if values != sorted(values):
        errors.append(invalid(f"{path}.values", values, "must be ordered"))
    return errors


def _own_selector(obj: Obj) -> Errors:
    """A Job makes its own selector and labels unless `manualSelector` says otherwise."""
    spec, uid, name = obj.get("spec") or {}, obj["metadata"].get("uid", ""), obj["metadata"].get("name", "")
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    errors: Errors = []
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    here = "spec.template.metadata.labels"
    expected = {"controller-uid": uid, "job-name": name}
    expected |= {f"batch.kubernetes.io/{key}": value for key, value in expected.items()}
    for key, want in expected.items():
        if key not in labels:
            errors.append(required(f"{here}[{key}]", f"must be '{want}'"))
        elif labels[key] != want:
            errors.append(invalid(f"{here}[{key}]", labels, f"must be '{want}'"))
    if not selector_matches(spec["selector"], expected):
        text = f"Invalid value: {selector_shown(spec['selector'])}: `selector` not auto-generated"
        errors.append(FieldError("spec.selector", "FieldValueInvalid", text))
    return errors


def _selected(spec: Obj) -> Errors:
    selector = spec.get("selector")
    if selector is None:
        return [required("spec.selector"), *selected(None, spec.get("template"), "spec.template")]
    return label_selector(selector, "spec.selector") + selected(selector, spec.get("template"), "spec.template")


def job(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _own_selector(obj) + _job_spec(spec, "spec") + _selected(spec)
    completions = spec.get("completions") or 0
    name = obj["metadata"].get("name") or ""
    if spec.get("completionMode") == "Indexed" and completions > 0:
        host = f"{name}-{completions - 1}"
        if label_errors_plain(host):
            text = f"will not able to create pod with invalid DNS label: {host}"
            errors.append(invalid("metadata.name", name, text))
    return errors


_SCHEDULING = ("nodeSelector", "tolerations", "schedulingGates")


def _rest(template: Obj, *, resources: bool) -> Obj:
    """A template without what a suspended Job may still change."""
    meta = {k: v for k, v in (template.get("metadata") or {}).items() if k not in ("labels", "annotations")}
    spec = {k: v for k, v in (template.get("spec") or {}).items() if k not in _SCHEDULING}
    affinity = {k: v for k, v in (spec.pop("affinity", None) or {}).items() if k != "nodeAffinity"}
    for key in ("containers", "initContainers") if resources else ():
        if spec.get(key):
            spec[key] = [{k: v for k, v in one.items() if k != "resources"} for one in spec[key]]
    return {"metadata": meta, "spec": spec, "affinity": affinity}


def _template_changed(spec: Obj, old: Obj) -> bool:
    """Scheduling directives and resources of a suspended Job without running pods may change."""
    before = old.get("spec") or {}
    was, now = before.get("template") or {}, spec.get("template") or {}
    if now == was:
        return False
    if not before.get("suspend") or (old.get("status") or {}).get("active"):
        return True
    return _rest(now, resources=True) != _rest(was, resources=True)


def _completions(spec: Obj, before: Obj) -> Errors:
    here, now = "spec.completions", spec.get("completions")
    if spec.get("completionMode") != "Indexed":
        return immutable(here, now, before.get("completions"))
    if now in (None, before.get("completions")) or now == spec.get("parallelism"):
        return []
    return [invalid(here, now, "can only be modified in tandem with spec.parallelism")]


def job_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return job_status(obj, old)
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = job(ctx, obj) + _job_spec(spec, "spec") + _selected(spec) + _completions(spec, before)
    errors += immutable_selector("spec.selector", spec.get("selector"), before.get("selector"))
    if _template_changed(spec, old):
        errors.append(invalid_struct("spec.template", _TEMPLATE, spec.get("template"), IMMUTABLE))
    errors += immutable("spec.completionMode", spec.get("completionMode"), before.get("completionMode"))
    errors += _same(spec, before, "podFailurePolicy", "PodFailurePolicy")
    for field in ("backoffLimitPerIndex", "managedBy"):
        errors += immutable(f"spec.{field}", spec.get(field), before.get(field))
    return errors + _same(spec, before, "successPolicy", "SuccessPolicy")


def _same(spec: Obj, before: Obj, field: str, kind: str) -> Errors:
    if spec.get(field) == before.get(field):
        return []
    return [invalid_struct(f"spec.{field}", f"{_BATCH}{kind}", spec.get(field), IMMUTABLE)]


def _cron_spec(obj: Obj, old: Obj | None) -> Errors:
    spec = obj.get("spec") or {}
    before = (old or {}).get("spec") or {}
    errors: Errors = []
    schedule = spec.get("schedule", "")
    if not schedule:
        errors.append(required("spec.schedule"))
    else:
        errors += _schedule(schedule, spec.get("timeZone"), zoned="TZ" in before.get("schedule", ""))
    errors += non_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    if old is None or spec.get("timeZone") != before.get("timeZone"):
        errors += _time_zone(spec.get("timeZone"))
    policies = ("Allow", "Forbid", "Replace")
    errors += one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy", ""), policies, need=True)
    here = "spec.jobTemplate.spec"
    job_spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    errors += _job_spec(job_spec, here)
    if job_spec.get("selector") is not None:
        text = f"Invalid value: {selector_shown(job_spec['selector'])}: `selector` will be auto-generated"
        errors.append(FieldError(f"{here}.selector", "FieldValueInvalid", text))
    if job_spec.get("manualSelector"):
        errors.append(unsupported(f"{here}.manualSelector", True, ("nil", "false")))
    for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += non_negative(f"spec.{name}", spec.get(name))
    return errors


def _schedule(schedule: str, zone: str | None, *, zoned: bool) -> Errors:
    errors: Errors = []
    try:
        cron.check(schedule)
    except cron.CronError as error:
        errors.append(invalid("spec.schedule", schedule, str(error)))
    if "TZ" in schedule and not zoned:
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid("spec.schedule", schedule, text))
    elif "TZ" in schedule and zone is not None:
        text = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        errors.append(invalid("spec.schedule", schedule, text))
    return errors


def _time_zone(name: str | None) -> Errors:
    if name is None:
        return []
    here = "spec.timeZone"
    if not name:
        return [invalid(here, name, "timeZone must be nil or non-empty string")]
    unknown = invalid(here, name, f"unknown time zone {name}")
    for part in name.split("/"):
        if not re.fullmatch(r"[A-Za-z0-9._+-]{1,14}", part) or part in (".", "..") or part.startswith("-"):
            return [unknown]
    if name == "Local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid(here, name, text)]
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        if name.lower() != "local":
            return [unknown]
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid(here, name, text), unknown]
    return []


def cron_job(_: RequestContext, obj: Obj) -> Errors:
    errors = _cron_spec(obj, None)
    name = obj["metadata"].get("name") or ""
    if len(name) > 52:
        errors.append(invalid("metadata.name", name, "must be no more than 52 characters"))
    return errors


def cron_job_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    return [] if ctx.subresource == "status" else _cron_spec(obj, old)
