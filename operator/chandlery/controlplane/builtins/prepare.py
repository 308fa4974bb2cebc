"""What the API itself sets at creation and update, whatever the client sent: resets, generated fields, finalizers.

Source: the API conventions ("Spec and Status"), the kinds' documentation, and observed answers of kube-apiserver 1.36.
All functions change their first argument in place.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from chandlery.controlplane.builtins import service
from chandlery.controlplane.builtins.podwarn import take_profiles
from chandlery.controlplane.builtins.qos import qos_class
from chandlery.controlplane.metadata import new_uid
from chandlery.controlplane.types import Obj, RequestContext

Create = Callable[[RequestContext, Obj], None]
Update = Callable[[RequestContext, Obj, Obj], None]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _namespace(_: RequestContext, obj: Obj) -> None:
    finalizers = [f for f in (obj.get("spec") or {}).get("finalizers") or () if f != "kubernetes"]
    obj["spec"] = {"finalizers": ["kubernetes", *finalizers]}
    obj["status"] = {"phase": "Active"}
    name = obj["metadata"].get("name")
    if name:
        obj["metadata"]["labels"] = {**(obj["metadata"].get("labels") or {}), "kubernetes.io/metadata.name": name}


def _select(term: Obj, labels: Obj) -> None:
    """The values that a term's label keys have in the pod become part of its selector."""
    selector = term.get("labelSelector")
    if selector is None:
        return
    for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
        for key in term.get(field) or ():
            if key in labels:
                rule = {"key": key, "operator": operator, "values": [labels[key]]}
                selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), rule]


def _label_keys(obj: Obj) -> None:
    spec, labels = obj["spec"], obj["metadata"].get("labels") or {}
    for term in spec.get("topologySpreadConstraints") or ():
        _select(term, labels)
    for side in ("podAffinity", "podAntiAffinity"):
        found = (spec.get("affinity") or {}).get(side) or {}
        for term in found.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            _select(term, labels)
        for weighted in found.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            _select(weighted.get("podAffinityTerm") or {}, labels)


def _pod(ctx: RequestContext, obj: Obj) -> None:
    spec = obj["spec"]
    _label_keys(obj)
    ctx.warnings += [text for text in take_profiles(obj) if text not in ctx.warnings]
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("schedulingGates"):
        obj["status"]["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": None,
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "observedGeneration": 1,
            }
        ]


_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


def _template_generation(obj: Obj) -> int:
    """The number in the annotation (`decode` let nothing else pass)."""
    return int((obj["metadata"].get("annotations") or {}).get(_TEMPLATE_GENERATION) or 0)


def _daemon_set(_: RequestContext, obj: Obj) -> None:
    meta = obj["metadata"]
    number = max(1, _template_generation(obj))
    meta["annotations"] = {**(meta.get("annotations") or {}), _TEMPLATE_GENERATION: str(number)}


def _daemon_set_update(_: RequestContext, obj: Obj, old: Obj) -> None:
    key = _TEMPLATE_GENERATION
    before = str(_template_generation(old))
    if obj["spec"].get("template") != old["spec"].get("template"):
        before = str(int(before) + 1)
    meta = obj["metadata"]
    if (meta.get("annotations") or {}).get(key) != before:
        meta["annotations"] = {**(meta.get("annotations") or {}), key: before}


def _limit_range(_: RequestContext, obj: Obj) -> None:
    if not obj["metadata"].get("name"):
        obj["metadata"]["name"] = new_uid()


def _job(_: RequestContext, obj: Obj) -> None:
    spec, meta = obj["spec"], obj["metadata"]
    if not spec.get("manualSelector"):
        template_meta = spec["template"].setdefault("metadata", {})
        labels = dict(template_meta.get("labels") or {})
        uid, name = meta.get("uid", ""), meta.get("name", "")
        for key, value in (
            ("controller-uid", uid),
            ("batch.kubernetes.io/controller-uid", uid),
            ("job-name", name),
            ("batch.kubernetes.io/job-name", name),
        ):
            labels.setdefault(key, value)
        template_meta["labels"] = labels
        selector = spec.setdefault("selector", {})
        selector["matchLabels"] = {
            **(selector.get("matchLabels") or {}),
            "batch.kubernetes.io/controller-uid": uid,
        }
        if not meta.get("labels"):
            meta["labels"] = dict(labels)


def _claim(_: RequestContext, obj: Obj) -> None:
    obj["status"] = {"phase": "Pending"}
    _claim_sources(obj["spec"])


def _claim_update(_: RequestContext, obj: Obj, old: Obj) -> None:
    _claim_sources(obj["spec"])
    del old


def _claim_sources(spec: Obj) -> None:
    """A data source may be a claim or a snapshot; others count only as dataSourceRef. Each fills the other."""
    source = spec.get("dataSource")
    if source is not None:
        group, kind = source.get("apiGroup") or "", source.get("kind")
        if (group, kind) not in (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")):
            spec.pop("dataSource")
            source = None
    reference = spec.get("dataSourceRef")
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        group, kind = reference.get("apiGroup") or "", reference.get("kind")
        if (group, kind) in (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")):
            spec["dataSource"] = {k: v for k, v in reference.items() if k != "namespace"}


def _volume(_: RequestContext, obj: Obj) -> None:
    obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": _now()}


_CONTAINERS = ("containers", "initContainers")


def _ephemeral_containers(_: RequestContext, obj: Obj, old: Obj) -> None:
    """This endpoint of a pod changes its ephemeral containers, and nothing else of it."""
    added = (obj.get("spec") or {}).get("ephemeralContainers")
    obj["spec"] = {key: value for key, value in old["spec"].items() if key != "ephemeralContainers"}
    if added:
        obj["spec"]["ephemeralContainers"] = added
    _keep_metadata(obj, old)


def _resize(_: RequestContext, obj: Obj, old: Obj) -> None:
    """This endpoint of a pod changes what its containers may use; other containers are left to validation to refuse."""
    spec, before = obj.get("spec") or {}, old["spec"]
    if any(len(spec.get(group) or ()) != len(before.get(group) or ()) for group in _CONTAINERS):
        return
    kept = dict(before)
    for group in _CONTAINERS:
        if before.get(group):
            kept[group] = [_resized(new, was) for new, was in zip(spec[group], before[group], strict=True)]
    kept.pop("resources", None)
    obj["spec"] = kept | {key: spec[key] for key in ("resources",) if key in spec}
    _keep_metadata(obj, old)


def _resized(new: Obj, was: Obj) -> Obj:
    if new.get("name") != was.get("name"):
        return new
    out = {key: value for key, value in was.items() if key not in ("resources", "resizePolicy")}
    return out | {key: new[key] for key in ("resources", "resizePolicy") if key in new}


def _keep_metadata(obj: Obj, old: Obj) -> None:
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        if field in old["metadata"]:
            obj["metadata"][field] = old["metadata"][field]
        else:
            obj["metadata"].pop(field, None)


def _signing_request(ctx: RequestContext, obj: Obj) -> None:
    """Who asks is the server's to say."""
    spec, user = obj.setdefault("spec", {}), ctx.user
    for field in ("username", "uid", "groups", "extra"):
        spec.pop(field, None)
    spec["username"] = user.name
    if user.uid:
        spec["uid"] = user.uid
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}


def _signing_request_update(_: RequestContext, obj: Obj, old: Obj) -> None:
    obj["spec"] = old["spec"]


def _approval(_: RequestContext, obj: Obj, old: Obj) -> None:
    """This endpoint changes a request's conditions, and nothing else of it."""
    obj["spec"] = old["spec"]
    status = {key: value for key, value in (old.get("status") or {}).items() if key != "conditions"}
    conditions = (obj.get("status") or {}).get("conditions")
    obj["status"] = ({"conditions": conditions} if conditions else {}) | status
    condition_times(obj, old)


def condition_times(obj: Obj, old: Obj) -> None:
    """When a signing request's conditions were written, and since when they are what they are."""
    now = _now()
    before = (old.get("status") or {}).get("conditions") or ()
    for one in (obj.get("status") or {}).get("conditions") or ():
        if not one.get("lastUpdateTime"):
            one["lastUpdateTime"] = now
        if not one.get("lastTransitionTime"):
            same = (was for was in before if all(was.get(key) == one.get(key) for key in ("type", "status")))
            one["lastTransitionTime"] = next((was.get("lastTransitionTime") for was in same), None) or now


_COUNTED_OF_DRIVERS = (
    "tokenRequests", "requiresRepublish", "seLinuxMount", "nodeAllocatableUpdatePeriodSeconds",
    "serviceAccountTokenInSecrets",
)  # fmt: skip


def _driver_update(_: RequestContext, obj: Obj, old: Obj) -> None:
    """A change of what kubelets act on is a new generation; the first is none."""
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    if any(spec.get(field) != before.get(field) for field in _COUNTED_OF_DRIVERS):
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


SIGNING_REQUEST = ("certificates.k8s.io", "CertificateSigningRequest")
STATUS_PARTS = frozenset({"approval"})
"""Endpoints that write a part of the status."""

CREATE: dict[tuple[str, str], Create] = {
    ("", "Namespace"): _namespace,
    ("", "Pod"): _pod,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _volume,
    ("", "Service"): service.prepare_for_create,
    ("", "LimitRange"): _limit_range,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    SIGNING_REQUEST: _signing_request,
}

UPDATE: dict[tuple[str, str], Update] = {
    ("", "PersistentVolumeClaim"): _claim_update,
    ("", "Service"): service.prepare_for_update,
    ("apps", "DaemonSet"): _daemon_set_update,
    ("storage.k8s.io", "CSIDriver"): _driver_update,
    SIGNING_REQUEST: _signing_request_update,
}

PARTS: dict[tuple[str, str, str], Update] = {
    ("", "Pod", "ephemeralcontainers"): _ephemeral_containers,
    ("", "Pod", "resize"): _resize,
    (*SIGNING_REQUEST, "approval"): _approval,
}
"""(group, kind, subresource) -> what an endpoint of a part of an object does at an update."""

STATUS_CREATED = frozenset({("", "Node")})
"""Kinds whose status may be given at creation."""

STATUS_KEEPS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): ("ownerReferences",),
    ("apps", "Deployment"): ("labels",),
}
"""What of metadata a kind's /status endpoint doesn't take."""

STATUS_KEEPS_METADATA = frozenset(
    {
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("storage.k8s.io", "VolumeAttachment"),
    }
)
"""Kinds whose /status endpoint takes nothing of metadata."""
