"""Defaults of pods and pod templates.

Source: the field descriptions of core/v1 and observed answers of kube-apiserver 1.36. Each function fills its
argument in place.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.types import Obj

_MILLI = Fraction(1, 1000)


def resource_list(resources: Any) -> None:
    """Quantities finer than a thousandth are rounded up to thousandths."""
    for name, text in (resources or {}).items():
        if text[-1:] in ("n", "u"):
            value, style = quantity.parse(text)
            rest = value % _MILLI
            resources[name] = quantity.write(value + (_MILLI - rest if rest else 0), style)


def requirements(resources: Obj | None) -> None:
    if resources:
        resource_list(resources.get("limits"))
        resource_list(resources.get("requests"))


def image_tag(image: str) -> str:
    """The tag of an image name: `latest` when there is neither tag nor digest, "" when there is a digest only."""
    if "@" in image:
        name = image.split("@", 1)[0]
        _, colon, tag = name.rpartition(":")
        return tag if colon and "/" not in tag else ""
    _, colon, tag = image.rpartition(":")
    return tag if colon and "/" not in tag else "latest"


def pull_policy(image: str) -> str:
    return "Always" if image_tag(image) == "latest" else "IfNotPresent"


def http_get(action: Obj | None) -> None:
    if action is not None:
        action.setdefault("path", "/")
        action.setdefault("scheme", "HTTP")


def probe(found: Obj | None) -> None:
    if found is None:
        return
    http_get(found.get("httpGet"))
    if "grpc" in found and found["grpc"].get("service") is None:
        found["grpc"]["service"] = ""
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        found.setdefault(field, value)


def container(one: Obj) -> None:
    one.setdefault("imagePullPolicy", pull_policy(one.get("image", "")))
    one.setdefault("terminationMessagePath", "/dev/termination-log")
    one.setdefault("terminationMessagePolicy", "File")
    for port in one.get("ports", ()):
        port.setdefault("protocol", "TCP")
    for variable in one.get("env", ()):
        source = variable.get("valueFrom")
        if source:
            if "fieldRef" in source:
                source["fieldRef"].setdefault("apiVersion", "v1")
            if "fileKeyRef" in source:
                source["fileKeyRef"].setdefault("optional", False)
    requirements(one.get("resources"))
    probe(one.get("livenessProbe"))
    probe(one.get("readinessProbe"))
    probe(one.get("startupProbe"))
    lifecycle = one.get("lifecycle")
    if lifecycle:
        for hook in ("postStart", "preStop"):
            http_get((lifecycle.get(hook) or {}).get("httpGet"))
    security = one.get("securityContext")
    if security is not None and "procMount" in security and not security["procMount"]:
        security["procMount"] = "Default"


_MODES = ("secret", "configMap", "downwardAPI", "projected")


def _field_refs(items: Any) -> None:
    for item in items or ():
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")


def volume_source(source: Obj) -> None:
    """Defaults that volumes of pods and PersistentVolumes share."""
    if "hostPath" in source:
        source["hostPath"].setdefault("type", "")
    if "iscsi" in source:
        source["iscsi"].setdefault("iscsiInterface", "default")
    if "rbd" in source:
        for field, text in (("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")):
            source["rbd"].setdefault(field, text)
    if "azureDisk" in source:
        for field, value in (("cachingMode", "ReadWrite"), ("fsType", "ext4"), ("readOnly", False), ("kind", "Shared")):
            source["azureDisk"].setdefault(field, value)
    if "scaleIO" in source:
        source["scaleIO"].setdefault("storageMode", "ThinProvisioned")
        source["scaleIO"].setdefault("fsType", "xfs")


def volume(one: Obj) -> None:
    if (len(one) == 1 and "name" in one) or not one:
        one["emptyDir"] = {}
        return
    for kind in _MODES:
        if kind in one:
            one[kind].setdefault("defaultMode", 420)
    if "downwardAPI" in one:
        _field_refs(one["downwardAPI"].get("items"))
    for source in (one.get("projected") or {}).get("sources") or ():
        if "downwardAPI" in source:
            _field_refs(source["downwardAPI"].get("items"))
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
    if "image" in one:
        one["image"].setdefault("pullPolicy", pull_policy(one["image"].get("reference", "")))
    if "ephemeral" in one and one["ephemeral"].get("volumeClaimTemplate"):
        claim_spec(one["ephemeral"]["volumeClaimTemplate"].setdefault("spec", {}))
    volume_source(one)


def claim_spec(spec: Obj) -> None:
    requirements(spec.get("resources"))
    spec.setdefault("volumeMode", "Filesystem")


def pod_spec(spec: Obj) -> None:
    for one in spec.get("volumes", ()):
        volume(one)
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for one in spec.get(group) or ():
            container(one)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    resource_list(spec.get("overhead"))
    requirements(spec.get("resources"))


def template(one: Obj) -> None:
    pod_spec(one.setdefault("spec", {}))


def _requests_from_limits(resources: Obj | None) -> None:
    if resources and resources.get("limits"):
        requests = resources.setdefault("requests", {})
        for name, value in resources["limits"].items():
            requests.setdefault(name, value)


def _sum(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    out = dict(one)
    for name, text in other.items():
        value, style = quantity.parse(out.get(name, "0"))
        out[name] = quantity.write(value + quantity.parse(text)[0], style) if name in out else text
    return out


def _largest(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    out = dict(one)
    for name, text in other.items():
        if name not in out or quantity.parse(text)[0] > quantity.parse(out[name])[0]:
            out[name] = text
    return out


def _asked(spec: Obj) -> dict[str, str]:
    """What the containers ask for at the same time: all that run on, or the init container that needs most."""

    def requests(one: Obj) -> dict[str, str]:
        return (one.get("resources") or {}).get("requests") or {}

    total: dict[str, str] = {}
    for one in spec.get("containers") or ():
        total = _sum(total, requests(one))
    beside: dict[str, str] = {}
    first: dict[str, str] = {}
    for one in spec.get("initContainers") or ():
        if one.get("restartPolicy") == "Always":
            beside = _sum(beside, requests(one))
            first = _largest(first, beside)
        else:
            first = _largest(first, _sum(requests(one), beside))
    return _largest(_sum(total, beside), first)


def _whole_pod(spec: Obj) -> None:
    """A pod that limits itself asks for what its containers ask for, or else for its limits."""
    resources = spec.get("resources")
    if not resources or not resources.get("limits"):
        return
    requests = resources.setdefault("requests", {})
    for name, text in _asked(spec).items():
        if name in ("cpu", "memory"):
            requests.setdefault(name, text)
    _requests_from_limits(resources)


def pod(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    for group in ("containers", "initContainers"):
        for one in spec.get(group) or ():
            _requests_from_limits(one.get("resources"))
            if spec.get("hostNetwork"):
                for port in one.get("ports", ()):
                    port.setdefault("hostPort", port.get("containerPort", 0))
    _whole_pod(spec)
    spec.setdefault("enableServiceLinks", True)
    status = obj.get("status") or {}
    first, listed = status.get("podIP"), status.get("podIPs")
    if first and (not listed or listed[0].get("ip") != first):  # the one address counts, for old kubelets
        status["podIPs"] = [{"ip": first}]
    elif listed:
        status["podIP"] = listed[0].get("ip", "")


def pod_template(obj: Obj) -> None:
    template(obj.setdefault("template", {}))
