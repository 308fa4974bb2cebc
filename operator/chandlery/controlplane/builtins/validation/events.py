"""Rules of events, in both APIs that serve them. Paths are those of core/v1, whichever API the event came by.

Source: the field descriptions of core/v1 and events.k8s.io/v1, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins import internal
from chandlery.controlplane.builtins.convert import event_to_core
from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    Errors,
    dns_subdomain,
    immutable,
    invalid,
    qualified_name,
    required,
)
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_ELSEWHERE = "does not match event.namespace"


def _said(obj: Obj, field: str, limit: int = 128, *, need: bool = True) -> Errors:
    text = obj.get(field) or ""
    if need and not text:
        return [required(field)]
    if len(text.encode()) > limit:
        return [invalid(field, "", f"can have at most {limit} characters")]
    return []


def _both(obj: Obj, controller: str) -> Errors:
    """What both APIs ask of an event; one with `eventTime` is of the newer sort."""
    namespace = obj["metadata"].get("namespace") or ""
    there = (obj.get("involvedObject") or {}).get("namespace") or ""
    errors: Errors = []
    if not obj.get("eventTime"):
        if there != namespace and (there or namespace != "default"):
            errors.append(invalid("involvedObject.namespace", there, _ELSEWHERE))
    else:
        if not there and namespace not in ("default", "kube-system"):
            errors.append(invalid("involvedObject.namespace", there, _ELSEWHERE))
        name = obj.get("reportingComponent") or ""
        if not name:
            errors.append(required(controller))
        errors += qualified_name(controller, name) + _said(obj, "reportingInstance")
        errors += _said(obj, "action") + _said(obj, "reason") + _said(obj, "message", 1024, need=False)
    return errors + dns_subdomain("namespace", namespace)


def _series(obj: Obj) -> Errors:
    series = obj.get("series")
    if series is None:
        return []
    errors: Errors = []
    if series.get("count", 0) < 2:
        errors.append(invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        errors.append(required("series.lastObservedTime"))
    return errors


def event(ctx: RequestContext, obj: Obj) -> Errors:
    if ctx.resource.group != "events.k8s.io":
        return _both(obj, "reportingComponent")
    obj = event_to_core(obj)
    errors = _both(obj, "reportingController") + _series(obj)
    if not obj.get("eventTime"):
        errors.append(required("eventTime"))
    if obj.get("type") not in ("Normal", "Warning"):
        errors.append(invalid("type", "", f"has invalid value: {obj.get('type') or ''}"))
    for field in ("firstTimestamp", "lastTimestamp", "count", "source"):
        if obj.get(field):
            errors.append(invalid(field, "", "needs to be unset"))
    return errors


_REFERENCE = "io.k8s.api.core.v1.ObjectReference"
_SOURCE = "io.k8s.api.core.v1.EventSource"


def _kept(field: str, new: Any, old: Any, definition: str) -> Errors:
    if (new or None) == (old or None):
        return []
    return [FieldError(field, "FieldValueInvalid", f"Invalid value: {internal.shown(definition, new)}: {IMMUTABLE}")]


def event_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.resource.group != "events.k8s.io":
        return _both(obj, "reportingComponent")
    obj, old = event_to_core(obj), event_to_core(old)
    errors = _both(obj, "reportingController")
    if obj.get("series") != old.get("series"):
        errors += _series(obj)

    def same(*fields: str) -> None:
        for field in fields:
            shown = "reportingController" if field == "reportingComponent" else field
            empty: Any = 0 if field == "count" else "" if not field.lower().endswith(("time", "timestamp")) else None
            errors.extend(immutable(shown, obj.get(field) or empty, old.get(field) or empty))

    errors += _kept("involvedObject", obj.get("involvedObject"), old.get("involvedObject"), _REFERENCE)
    same("reason", "message")
    errors += _kept("source", obj.get("source"), old.get("source"), _SOURCE)
    same("firstTimestamp", "lastTimestamp", "count", "reason", "type", "eventTime", "action")
    errors += _kept("related", obj.get("related"), old.get("related"), _REFERENCE)
    same("reportingComponent", "reportingInstance")
    return errors
