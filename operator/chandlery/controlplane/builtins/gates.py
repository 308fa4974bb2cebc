"""Fields that Kubernetes 1.36 knows but has switched off: writers may send them, and they are not kept.

Source: the feature gates of kube-apiserver 1.36 and their defaults. An object that has such a field already keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from chandlery.controlplane.types import Obj

_POD_SPECS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): ("spec",),
    ("", "PodTemplate"): ("template", "spec"),
    ("", "ReplicationController"): ("spec", "template", "spec"),
    ("apps", "Deployment"): ("spec", "template", "spec"),
    ("apps", "ReplicaSet"): ("spec", "template", "spec"),
    ("apps", "StatefulSet"): ("spec", "template", "spec"),
    ("apps", "DaemonSet"): ("spec", "template", "spec"),
    ("batch", "Job"): ("spec", "template", "spec"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template", "spec"),
}


def pod_spec(kind: tuple[str, str], obj: Obj) -> Obj | None:
    """The pod spec inside an object of this (group, kind)."""
    path = _POD_SPECS.get(kind)
    found: Any = obj if path else None
    for key in path or ():
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _containers(spec: Obj) -> Iterator[Obj]:
    for group in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(group) or ()


def _projections(spec: Obj) -> Iterator[Obj]:
    for volume in spec.get("volumes") or ():
        yield from (volume.get("projected") or {}).get("sources") or ()


def _stop_signals(spec: Obj, *, drop: bool) -> bool:
    found = False
    for one in _containers(spec):
        life = one.get("lifecycle") or {}
        if "stopSignal" in life:
            found = True
            if drop:
                del life["stopSignal"]
                if not life:
                    del one["lifecycle"]
    return found


def _projected(field: str) -> Callable[..., bool]:
    def check(spec: Obj, *, drop: bool) -> bool:
        found = False
        for source in _projections(spec):
            if field in source:
                found = True
                if drop:
                    del source[field]
        return found

    return check


def _scheduling_group(spec: Obj, *, drop: bool) -> bool:
    found = "schedulingGroup" in spec
    if found and drop:
        del spec["schedulingGroup"]
    return found


_OFF: tuple[Callable[..., bool], ...] = (
    _stop_signals,  # ContainerStopSignals
    _projected("clusterTrustBundle"),  # ClusterTrustBundleProjection
    _projected("podCertificate"),  # PodCertificateRequest
    _scheduling_group,  # GenericWorkload
)


def _rolling(obj: Obj) -> Obj:
    return ((obj.get("spec") or {}).get("updateStrategy") or {}).get("rollingUpdate") or {}


def _claim_reference(obj: Obj) -> Obj | None:
    reference: Obj | None = (obj.get("spec") or {}).get("dataSourceRef")
    return reference


def drop_switched_off(kind: tuple[str, str], obj: Obj, old: Obj | None) -> None:
    """Take away, in place, what is switched off and what the object didn't have before."""
    spec = pod_spec(kind, obj)
    if spec is not None:
        before = pod_spec(kind, old) if old is not None else None
        for check in _OFF:
            if check(spec, drop=False) and not (before is not None and check(before, drop=False)):
                check(spec, drop=True)
    if kind == ("apps", "StatefulSet"):  # MaxUnavailableStatefulSet
        if "maxUnavailable" in _rolling(obj) and not (old is not None and "maxUnavailable" in _rolling(old)):
            del _rolling(obj)["maxUnavailable"]
    elif kind == ("", "PersistentVolumeClaim"):  # CrossNamespaceVolumeDataSource
        reference = _claim_reference(obj)
        if reference is not None and reference.get("namespace") and not (old is not None and _claim_reference(old)):
            del obj["spec"]["dataSourceRef"]
