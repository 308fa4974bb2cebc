"""Between the versions of a built-in kind: HorizontalPodAutoscaler v1 and v2, events of core/v1 and events.k8s.io/v1.

Source: the types' field descriptions. All functions return a new object and leave their argument alone.
"""

from __future__ import annotations

import json
from typing import Any

from chandlery.controlplane.types import Obj

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"

_EVENT_FIELDS = (
    # core/v1, events.k8s.io/v1
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)


def _renamed(obj: Obj, names: dict[str, str], api_version: str) -> Obj:
    out = {names.get(key, key): value for key, value in obj.items()}
    out["apiVersion"] = api_version
    return out


def event_to_core(obj: Obj) -> Obj:
    """events.k8s.io/v1 -> v1."""
    out = _renamed(obj, {new: core for core, new in _EVENT_FIELDS}, "v1")
    out.setdefault("source", {})
    out.setdefault("involvedObject", {})
    out.setdefault("reportingComponent", "")
    out.setdefault("reportingInstance", "")
    return out


def event_from_core(obj: Obj) -> Obj:
    """v1 -> events.k8s.io/v1."""
    out = _renamed(obj, dict(_EVENT_FIELDS), "events.k8s.io/v1")
    for name in ("reportingController", "reportingInstance"):
        if not out.get(name):
            out.pop(name, None)
    return out


def _is_cpu(metric: Obj) -> bool:
    source = metric.get("resource") or {}
    target = source.get("target") or {}
    return metric.get("type") == "Resource" and source.get("name") == "cpu" and "averageUtilization" in target


def autoscaler_to_v2(obj: Obj) -> Obj:
    """autoscaling/v1 -> v2; what v1 can't say comes back from its annotations."""
    out = {**obj, "apiVersion": "autoscaling/v2"}
    spec = dict(obj.get("spec") or {})
    annotations = dict((obj.get("metadata") or {}).get("annotations") or {})
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    metrics: list[Any] = []
    if _METRICS in annotations:
        metrics = json.loads(annotations.pop(_METRICS))
    if percent is not None:
        target = {"type": "Utilization", "averageUtilization": percent}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if not metrics:
        target = {"type": "Utilization", "averageUtilization": 80}
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    spec["metrics"] = metrics
    if _BEHAVIOR in annotations:
        spec["behavior"] = json.loads(annotations.pop(_BEHAVIOR))
    out["spec"] = spec
    status = dict(obj.get("status") or {})
    current = status.pop("currentCPUUtilizationPercentage", None)
    found: list[Any] | None = json.loads(annotations.pop(_CURRENT)) if _CURRENT in annotations else None
    if current is not None:
        now = {"name": "cpu", "current": {"averageUtilization": current}}
        found = [*(found or ()), {"type": "Resource", "resource": now}]
    status["currentMetrics"] = found
    if _CONDITIONS in annotations:
        status["conditions"] = json.loads(annotations.pop(_CONDITIONS))
    status.setdefault("desiredReplicas", 0)
    out["status"] = status
    _set_annotations(out, annotations)
    return out


def autoscaler_from_v2(obj: Obj) -> Obj:
    """autoscaling/v2 -> v1; what v1 can't say goes to annotations."""
    out = {**obj, "apiVersion": "autoscaling/v1"}
    spec = dict(obj.get("spec") or {})
    annotations = dict((obj.get("metadata") or {}).get("annotations") or {})
    rest = []
    for metric in spec.pop("metrics", None) or ():
        if _is_cpu(metric) and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
        else:
            rest.append(metric)
    if rest:
        annotations[_METRICS] = _compact(rest)
    behavior = spec.pop("behavior", None)
    if behavior:
        annotations[_BEHAVIOR] = _compact(behavior)
    out["spec"] = spec
    status = dict(obj.get("status") or {})
    others = []
    for metric in status.pop("currentMetrics", None) or ():
        now = (metric.get("resource") or {}).get("current") or {}
        if metric.get("type") == "Resource" and metric["resource"].get("name") == "cpu" and "averageUtilization" in now:
            status["currentCPUUtilizationPercentage"] = now["averageUtilization"]
        else:
            others.append(metric)
    if others:
        annotations[_CURRENT] = _compact(others)
    conditions = status.pop("conditions", None)
    if conditions:
        annotations[_CONDITIONS] = _compact(conditions)
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)
    out["status"] = status
    _set_annotations(out, annotations)
    return out


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _set_annotations(obj: Obj, annotations: dict[str, str]) -> None:
    meta = dict(obj.get("metadata") or {})
    if annotations:
        meta["annotations"] = annotations
    else:
        meta.pop("annotations", None)
    obj["metadata"] = meta


TO_STORAGE = {
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): autoscaler_to_v2,
    ("events.k8s.io", "v1", "Event"): event_to_core,
}
FROM_STORAGE = {
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): autoscaler_from_v2,
    ("events.k8s.io", "v1", "Event"): event_from_core,
}
