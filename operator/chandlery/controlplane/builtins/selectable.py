"""The fields that a field selector may name, kind by kind (metadata.name and metadata.namespace always may).

Source: Kubernetes documentation, "Field Selectors", list of supported fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chandlery.controlplane.types import Obj

Read = Callable[[Obj], str]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _path(*names: str) -> Read:
    def read(obj: Obj) -> str:
        value: Any = obj
        for name in names:
            if not isinstance(value, dict):
                return ""
            value = value.get(name)
        return _text(value)

    return read


def _zero(*names: str) -> Read:
    inner = _path(*names)
    return lambda obj: inner(obj) or "0"


def _false(*names: str) -> Read:
    inner = _path(*names)
    return lambda obj: inner(obj) or "false"


def _pod_ip(obj: Obj) -> str:
    status = obj.get("status") or {}
    ips = status.get("podIPs") or ()
    return _text(ips[0].get("ip") if ips else status.get("podIP"))


def _source(obj: Obj) -> str:
    component = (obj.get("source") or obj.get("deprecatedSource") or {}).get("component")
    return component or obj.get("reportingComponent") or obj.get("reportingController") or ""


def _involved(prefix: str, field: str) -> dict[str, Read]:
    names = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    return {f"{prefix}.{name}": _path(field, name) for name in names}


SELECTABLE: dict[tuple[str, str, str], dict[str, Read]] = {
    ("", "v1", "Pod"): {
        "spec.host": _path("spec", "nodeName"),
        "spec.nodeName": _path("spec", "nodeName"),
        "spec.restartPolicy": _path("spec", "restartPolicy"),
        "spec.schedulerName": _path("spec", "schedulerName"),
        "spec.serviceAccountName": _path("spec", "serviceAccountName"),
        "spec.hostNetwork": _false("spec", "hostNetwork"),
        "status.phase": _path("status", "phase"),
        "status.podIP": _pod_ip,
        "status.podIPs": _pod_ip,
        "status.nominatedNodeName": _path("status", "nominatedNodeName"),
    },
    ("", "v1", "Event"): {
        **_involved("involvedObject", "involvedObject"),
        "reason": _path("reason"),
        "reportingComponent": _path("reportingComponent"),
        "source": _source,
        "type": _path("type"),
    },
    ("events.k8s.io", "v1", "Event"): {
        **_involved("regarding", "regarding"),
        "reason": _path("reason"),
        "reportingController": _path("reportingController"),
        "type": _path("type"),
    },
    ("certificates.k8s.io", "v1", "CertificateSigningRequest"): {"spec.signerName": _path("spec", "signerName")},
    ("", "v1", "Secret"): {"type": _path("type")},
    ("", "v1", "Namespace"): {"status.phase": _path("status", "phase")},
    ("", "v1", "Node"): {"spec.unschedulable": _false("spec", "unschedulable")},
    ("", "v1", "ReplicationController"): {"status.replicas": _zero("status", "replicas")},
    ("", "v1", "Service"): {"spec.clusterIP": _path("spec", "clusterIP"), "spec.type": _path("spec", "type")},
    ("resource.k8s.io", "v1", "ResourceSlice"): {
        "spec.driver": _path("spec", "driver"),
        "spec.nodeName": _path("spec", "nodeName"),
    },
    ("batch", "v1", "Job"): {"status.successful": _zero("status", "succeeded")},
}
"""(group, version, kind) -> {field label: how to read it}."""
