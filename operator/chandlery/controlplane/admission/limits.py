"""LimitRange: defaults for containers that name no resources, and bounds for those that do.

Source: Kubernetes docs, "Limit Ranges"; `v1` LimitRange of the API reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from chandlery.controlplane.admission.common import forbid
from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.builtins.podusage import pod_resources
from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

_ANNOTATION = "kubernetes.io/limit-ranger"


def _limits(api: LocalApi, ctx: RequestContext, plural: str) -> Iterator[Obj]:
    """The limit items of all LimitRanges in the request's namespace, when it is about `plural` itself."""
    resource = ctx.resource
    if resource.group or resource.plural != plural or ctx.subresource or not ctx.namespace:
        return
    for limit_range in sorted(
        api.list("", "limitranges", ctx.namespace), key=lambda found: str(found["metadata"]["name"])
    ):
        yield from (limit_range.get("spec") or {}).get("limits") or ()


def apply_limit_defaults(api: LocalApi, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
    """Fill requests and limits of a new pod's containers, in place."""
    if old is not None:
        return
    notes: list[str] = []
    for limit in _limits(api, ctx, "pods"):
        if limit.get("type") != "Container":
            continue
        spec = obj.get("spec") or {}
        for title, containers in (
            ("container", spec.get("containers") or ()),
            ("init container", spec.get("initContainers") or ()),
        ):
            for container in containers:
                notes += _fill(container, limit, title)
    if notes:
        annotations = obj["metadata"].setdefault("annotations", {})
        annotations[_ANNOTATION] = "LimitRanger plugin set: " + "; ".join(notes)


def _fill(container: Obj, limit: Obj, title: str) -> list[str]:
    notes = []
    resources = container.setdefault("resources", {})
    for kind, field in (("requests", "defaultRequest"), ("limits", "default")):
        added = []
        for name, amount in (limit.get(field) or {}).items():
            known = resources.get(kind) or {}
            if name not in known:
                resources[kind] = {**known, name: amount}
                added.append(name)
        if added:
            notes.append(f"{', '.join(sorted(added))} {kind[:-1]} for {title} {container.get('name', '')}")
    return notes


def check_limits(api: LocalApi, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
    """Raises ApiError 403 that lists every bound a pod or claim breaks."""
    problems: list[str] = []
    if old is None:
        for limit in _limits(api, ctx, "pods"):
            spec = obj.get("spec") or {}
            if limit.get("type") == "Container":
                for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
                    resources = container.get("resources") or {}
                    problems += _bounds(limit, resources.get("requests") or {}, resources.get("limits") or {})
            elif limit.get("type") == "Pod":
                requests = {name: quantity.write(*used) for name, used in pod_resources(spec, "requests").items()}
                limits = {name: quantity.write(*used) for name, used in pod_resources(spec, "limits").items()}
                problems += _bounds(limit, requests, limits)
    for limit in _limits(api, ctx, "persistentvolumeclaims"):
        if limit.get("type") == "PersistentVolumeClaim":
            requests = ((obj.get("spec") or {}).get("resources") or {}).get("requests") or {}
            problems += _storage_bounds(limit, requests)
    if problems:
        raise forbid(ctx, obj, problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _value(text: object) -> Fraction:
    return quantity.parse(str(text))[0]


def _bounds(limit: Obj, requests: Obj, limits: Obj) -> list[str]:
    kind = limit["type"]
    problems = []
    for name, bound in sorted((limit.get("min") or {}).items()):
        text = f"minimum {name} usage per {kind} is {quantity.canonical(str(bound))}"
        if name not in requests:
            problems.append(f"{text}.  No request is specified")
        elif _value(requests[name]) < _value(bound):
            problems.append(f"{text}, but request is {quantity.canonical(str(requests[name]))}")
        if name in limits and _value(limits[name]) < _value(bound):
            problems.append(f"{text}, but limit is {quantity.canonical(str(limits[name]))}")
    for name, bound in sorted((limit.get("max") or {}).items()):
        text = f"maximum {name} usage per {kind} is {quantity.canonical(str(bound))}"
        if name not in limits:
            problems.append(f"{text}.  No limit is specified")
        elif _value(limits[name]) > _value(bound):
            problems.append(f"{text}, but limit is {quantity.canonical(str(limits[name]))}")
        if name in requests and _value(requests[name]) > _value(bound):
            problems.append(f"{text}, but request is {quantity.canonical(str(requests[name]))}")
    for name, bound in sorted((limit.get("maxLimitRequestRatio") or {}).items()):
        problems += _ratio(kind, name, bound, requests.get(name), limits.get(name))
    return problems


def _ratio(kind: str, name: str, bound: object, request: object, limit: object) -> list[str]:
    text = f"{name} max limit to request ratio per {kind} is {quantity.canonical(str(bound))}"
    if request is None or _value(request) == 0:
        return [f"{text}, but no request is specified or request is 0"]
    if limit is None or _value(limit) == 0:
        return [f"{text}, but no limit is specified or limit is 0"]
    ratio = _value(limit) / _value(request)
    if ratio > _value(bound):
        return [f"{text}, but provided ratio is {float(ratio):f}"]
    return []


def _storage_bounds(limit: Obj, requests: Obj) -> list[str]:
    problems = []
    for field, word, wrong in (("min", "minimum", -1), ("max", "maximum", 1)):
        for name, bound in sorted((limit.get(field) or {}).items()):
            text = f"{word} {name} usage per PersistentVolumeClaim is {quantity.canonical(str(bound))}"
            if name not in requests:
                problems.append(f"{text}.  No request is specified")
            elif (_value(requests[name]) - _value(bound)) * wrong > 0:
                problems.append(f"{text}, but request is {quantity.canonical(str(requests[name]))}")
    return problems
