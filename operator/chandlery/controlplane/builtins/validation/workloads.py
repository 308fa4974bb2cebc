"""Rules of apps/v1, ReplicationController and PodDisruptionBudget.

Source: the field descriptions of apps/v1 and policy/v1, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import json
from typing import Any

from chandlery.controlplane.builtins import internal
from chandlery.controlplane.builtins.validation import pods
from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    Errors,
    as_int,
    at_most_hundred,
    dns_label,
    forbidden,
    immutable_selector,
    int_or_percent,
    invalid,
    invalid_struct,
    label_selector,
    non_negative,
    one_of,
    required,
    selector_is_empty,
    selector_matches,
    selector_shown,
    unsupported,
)
from chandlery.controlplane.builtins.validation.storage import claim_spec
from chandlery.controlplane.types import FieldError, Obj, RequestContext

MISMATCH = "`selector` does not match template `labels`"
_APPS = "io.k8s.api.apps.v1."


def _fields(spec: Obj, path: str, *names: str) -> Errors:
    errors: Errors = []
    for name in names:
        errors += non_negative(f"{path}.{name}", spec.get(name))
    return errors


def _selector(spec: Obj, path: str, what: str, *, need: bool = True) -> Errors:
    selector = spec.get("selector")
    if selector is None:
        return [required(f"{path}.selector")] if need else []
    errors = label_selector(selector, f"{path}.selector")
    if selector_is_empty(selector):
        text = f"Invalid value: {selector_shown(selector)}: empty selector is invalid for {what}"
        errors.append(FieldError(f"{path}.selector", "FieldValueInvalid", text))
    return errors


def selected(selector: Any, template: Any, path: str) -> Errors:
    """The selector must select the template's own pods."""
    labels = ((template or {}).get("metadata") or {}).get("labels")
    if label_selector(selector, path):
        return []
    if selector is not None and selector_is_empty(selector):
        return []
    return [] if selector_matches(selector, labels) else [invalid(f"{path}.metadata.labels", labels, MISMATCH)]


def _always(template: Any, path: str) -> Errors:
    restart = ((template or {}).get("spec") or {}).get("restartPolicy", "")
    return [] if restart == "Always" else [unsupported(f"{path}.spec.restartPolicy", restart, ("Always",))]


def _deadline(template: Any, path: str, what: str) -> Errors:
    if ((template or {}).get("spec") or {}).get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {what} is not Supported"
        return [forbidden(f"{path}.spec.activeDeadlineSeconds", text)]
    return []


def deployment_strategy(strategy: Obj, path: str) -> Errors:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            text = "may not be specified when strategy `type` is 'Recreate'"
            return [forbidden(f"{path}.rollingUpdate", text)]
        return []
    if kind != "RollingUpdate":
        shown = internal.shown(_APPS + "DeploymentStrategy", strategy)
        text = f'Unsupported value: {shown}: supported values: "Recreate", "RollingUpdate"'
        return [FieldError(path, "FieldValueNotSupported", text)]
    here = f"{path}.rollingUpdate"
    if rolling is None:
        return [required(here, "this should be defaulted and never be nil")]
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = int_or_percent(f"{here}.maxUnavailable", unavailable) + int_or_percent(f"{here}.maxSurge", surge)
    if as_int(unavailable) == 0 and as_int(surge) == 0:
        errors.append(invalid(f"{here}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    return errors + at_most_hundred(f"{here}.maxUnavailable", unavailable)


def _replicated(spec: Obj) -> Errors:
    """The template of a Deployment or ReplicaSet; a selector that can't be read leaves it unchecked."""
    selector, template = spec.get("selector"), spec.get("template")
    if label_selector(selector, "spec.selector"):
        text = f"Invalid value: {selector_shown(selector)}: invalid label selector"
        return [FieldError("spec.selector", "FieldValueInvalid", text)]
    errors = selected(selector, template, "spec.template") + pods.template(template, "spec.template")
    return errors + _only_always(template, "spec.template") + _deadline(template, "spec.template", "ReplicaSet")


def deployment(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _fields(spec, "spec", "replicas")
    errors += _selector(spec, "spec", "deployment")
    errors += _replicated(spec)
    errors += deployment_strategy(spec.get("strategy") or {}, "spec.strategy")
    errors += _fields(spec, "spec", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    progress = spec.get("progressDeadlineSeconds")
    if progress is not None and progress <= spec.get("minReadySeconds", 0):
        errors.append(invalid("spec.progressDeadlineSeconds", progress, "must be greater than minReadySeconds"))
    return errors


def _only_always(template: Any, path: str) -> Errors:
    """A restart policy that pods know but this kind doesn't; an unknown one is told once."""
    restart = ((template or {}).get("spec") or {}).get("restartPolicy", "")
    return _always(template, path) if restart else []


def _status(ctx: RequestContext, obj: Obj, *names: str) -> Errors | None:
    """On /status only the status is checked."""
    if ctx.subresource != "status":
        return None
    return _fields(obj.get("status") or {}, "status", *names)


def _not_more(status: Obj, name: str, other: str, prefix: str = "status.") -> Errors:
    value = status.get(name, 0)
    if value > status.get(other, 0):
        return [invalid(f"status.{name}", value, f"cannot be greater than {prefix}{other}")]
    return []


def _collisions(status: Obj, old: Obj) -> Errors:
    count, before = status.get("collisionCount"), (old.get("status") or {}).get("collisionCount")
    if before is not None and (count or 0) < before:
        return [invalid("status.collisionCount", count or 0, "cannot be decremented")]
    return []


def deployment_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    counts = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    found = _status(ctx, obj, *counts, "unavailableReplicas", "terminatingReplicas", "collisionCount")
    if found is not None:
        status = obj.get("status") or {}
        for name in ("updatedReplicas", "readyReplicas", "availableReplicas"):
            found += _not_more(status, name, "replicas")
        return found + _not_more(status, "availableReplicas", "readyReplicas", "") + _collisions(status, old)
    errors = deployment(ctx, obj)
    return errors + immutable_selector("spec.selector", obj["spec"].get("selector"), old["spec"].get("selector"))


def replica_set(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _fields(spec, "spec", "replicas", "minReadySeconds")
    return errors + _selector(spec, "spec", "deployment") + _replicated(spec)


_RS_COUNTS = (
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
    "terminatingReplicas",
)


def _replica_status(ctx: RequestContext, obj: Obj) -> Errors | None:
    found = _status(ctx, obj, *_RS_COUNTS)
    if found is not None:
        status = obj.get("status") or {}
        for name in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
            found += _not_more(status, name, "replicas")
        found += _not_more(status, "availableReplicas", "readyReplicas", "")
    return found


def replica_set_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    found = _replica_status(ctx, obj)
    if found is not None:
        return found
    errors = replica_set(ctx, obj) * 2
    return errors + immutable_selector("spec.selector", obj["spec"].get("selector"), old["spec"].get("selector"))


def replication_controller(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    selector, template = spec.get("selector"), spec.get("template")
    errors = _fields(spec, "spec", "minReadySeconds")
    if not selector:
        errors.append(required("spec.selector"))
    errors += _fields(spec, "spec", "replicas")
    if template is None:
        return [*errors, required("spec.template")]
    labels = (template.get("metadata") or {}).get("labels")
    if selector and not selector_matches({"matchLabels": selector}, labels):
        errors.append(invalid("spec.template.metadata.labels", labels, MISMATCH))
    errors += pods.template(template, "spec.template") + _only_always(template, "spec.template")
    return errors + _deadline(template, "spec.template", "ReplicationController")


def replication_controller_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    found = _replica_status(ctx, obj)
    return found if found is not None else replication_controller(ctx, obj) * 2


def stateful_set(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _stateful_spec(spec)
    for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        errors += claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec")
    return errors + dns_label("spec.serviceName", spec["serviceName"]) if spec.get("serviceName") else errors


def _stateful_spec(spec: Obj) -> Errors:
    """What creations and updates must keep; what never changes isn't looked at again."""
    errors: Errors = []
    policy = spec.get("podManagementPolicy", "")
    if not policy:
        errors.append(required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        errors.append(invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    errors += _stateful_strategy(spec.get("updateStrategy") or {}, "spec.updateStrategy")
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for field in ("whenDeleted", "whenScaled") if retention else ():
        here = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
        errors += one_of(here, retention.get(field, ""), ("Retain", "Delete"))
    errors += _fields(spec, "spec", "replicas", "minReadySeconds")
    errors += non_negative("spec.ordinals.start", (spec.get("ordinals") or {}).get("start"))
    errors += _selector(spec, "spec", "statefulset")
    template = spec.get("template")
    if label_selector(spec.get("selector"), "spec.selector"):
        shown = selector_shown(spec.get("selector"))
        errors.append(FieldError("spec.selector", "FieldValueInvalid", f"Invalid value: {shown}"))
    else:
        errors += selected(spec.get("selector"), template, "spec.template")
        errors += pods.template(_as_in_pods(template, spec.get("volumeClaimTemplates")), "spec.template")
        errors += pods.template_meta(template, "spec.template")
    return errors + _only_always(template, "spec.template") + _deadline(template, "spec.template", "StatefulSet")


def _as_in_pods(template: Any, claims: Any) -> Any:
    """The template as its pods will be: claim templates become volumes that containers may mount, names are given."""
    if not template:
        return template
    spec = {key: value for key, value in (template.get("spec") or {}).items() if key not in ("hostname", "subdomain")}
    names = [(claim.get("metadata") or {}).get("name", "") for claim in claims or ()]
    if names:
        given = [v for v in spec.get("volumes") or () if v.get("name") not in names]
        made = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names if name]
        spec["volumes"] = [*given, *made]
    return {**template, "spec": spec}


def _stateful_strategy(strategy: Obj, path: str) -> Errors:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "RollingUpdate":
        if rolling is None:
            return []
        errors = non_negative(f"{path}.rollingUpdate.partition", rolling.get("partition"))
        unavailable = rolling.get("maxUnavailable")
        if unavailable is not None:
            here = f"{path}.rollingUpdate.maxUnavailable"
            errors += int_or_percent(here, unavailable)
            if as_int(unavailable) == 0:
                errors.append(invalid(here, unavailable, "cannot be 0"))
            errors += at_most_hundred(here, unavailable)
        return errors
    if kind == "OnDelete":
        if rolling is not None:
            shown = internal.shown(_APPS + "RollingUpdateStatefulSetStrategy", rolling)
            text = f"Invalid value: {shown}: only allowed for updateStrategy 'RollingUpdate'"
            return [FieldError(f"{path}.rollingUpdate", "FieldValueInvalid", text)]
        return []
    if not kind:
        return [required(path)]
    text = "must be 'RollingUpdate' or 'OnDelete'"
    return [invalid_struct(path, _APPS + "StatefulSetUpdateStrategy", strategy, text)]


_STATEFUL_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_STATEFUL_TEXT = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def stateful_set_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    counts = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    found = _status(ctx, obj, *counts, "observedGeneration", "collisionCount")
    if found is not None:
        status = obj.get("status") or {}
        for name in counts[1:]:
            found += _not_more(status, name, "replicas")
        return found + _not_more(status, "availableReplicas", "readyReplicas") + _collisions(status, old)
    errors = _stateful_spec(obj.get("spec") or {})
    new, before = ({k: v for k, v in o["spec"].items() if k not in _STATEFUL_MUTABLE} for o in (obj, old))
    if new != before:
        errors.append(forbidden("spec", _STATEFUL_TEXT))
    return errors


def _daemon_strategy(strategy: Obj, path: str) -> Errors:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        shown = internal.shown(_APPS + "DaemonSetUpdateStrategy", strategy)
        text = f'Unsupported value: {shown}: supported values: "RollingUpdate", "OnDelete"'
        return [FieldError(path, "FieldValueNotSupported", text)]
    here = f"{path}.rollingUpdate"
    if rolling is None:
        return [required(here)]
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = int_or_percent(f"{here}.maxUnavailable", unavailable) + int_or_percent(f"{here}.maxSurge", surge)
    errors += at_most_hundred(f"{here}.maxUnavailable", unavailable) + at_most_hundred(f"{here}.maxSurge", surge)
    if as_int(unavailable) and as_int(surge):
        errors.append(invalid(f"{here}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif not as_int(unavailable) and not as_int(surge):
        errors.append(required(f"{here}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def daemon_set(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    template = spec.get("template")
    errors = label_selector(spec.get("selector"), "spec.selector")
    if not selector_matches(spec.get("selector"), ((template or {}).get("metadata") or {}).get("labels")):
        labels = ((template or {}).get("metadata") or {}).get("labels")
        errors.append(invalid("spec.template.metadata.labels", labels, MISMATCH))
    if spec.get("selector") is not None and selector_is_empty(spec["selector"]):
        text = f"Invalid value: {selector_shown(spec['selector'])}: empty selector is invalid for daemonset"
        errors.append(FieldError("spec.selector", "FieldValueInvalid", text))
    errors += pods.template(template, "spec.template") + _only_always(template, "spec.template")
    errors += _deadline(template, "spec.template", "DaemonSet") + _fields(spec, "spec", "minReadySeconds")
    errors += _daemon_strategy(spec.get("updateStrategy") or {}, "spec.updateStrategy")
    return errors + _fields(spec, "spec", "revisionHistoryLimit")


def daemon_set_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    counts = (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    )
    found = _status(ctx, obj, *counts)
    if found is not None:
        return found + _collisions(obj.get("status") or {}, old)
    errors = daemon_set(ctx, obj) * 2
    return errors + immutable_selector("spec.selector", obj["spec"].get("selector"), old["spec"].get("selector"))


def _revision(obj: Obj) -> Errors:
    return non_negative("revision", obj.get("revision", 0))


def controller_revision(_: RequestContext, obj: Obj) -> Errors:
    data = obj.get("data")
    if isinstance(data, dict):
        return _revision(obj)
    return [
        *_revision(obj),
        required("data", "data is mandatory" if data is None else "data must be a valid JSON object"),
    ]


def controller_revision_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = _revision(obj)
    if obj.get("data") != old.get("data"):
        shown = json.dumps(obj.get("data"), separators=(",", ":"), ensure_ascii=False)
        errors.append(FieldError("data", "FieldValueInvalid", f"Invalid value: {shown}: {IMMUTABLE}"))
    return errors


_BUDGET = "io.k8s.api.policy.v1.PodDisruptionBudgetSpec"


def disruption_budget(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors: Errors = []
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        errors.append(invalid_struct("spec", _BUDGET, spec, "minAvailable and maxUnavailable cannot be both set"))
    for name, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            errors += int_or_percent(f"spec.{name}", value) + at_most_hundred(f"spec.{name}", value)
    errors += label_selector(spec.get("selector"), "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None:
        errors += one_of("spec.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget"))
    return errors


def disruption_budget_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    found = _status(ctx, obj, "disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    return found if found is not None else disruption_budget(ctx, obj)
