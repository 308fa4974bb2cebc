"""Warnings: what is accepted, but suspicious or on its way out.

Source: observed Warning headers of kube-apiserver 1.36.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable
from typing import Any

from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.metadata import label_errors
from chandlery.controlplane.types import Obj, RequestContext

_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'use "node.kubernetes.io/instance-type" instead',
}


def _quantity_warnings(resources: Any, path: str) -> list[str]:
    found = []
    for field in ("limits", "requests"):
        for name in ("memory", "ephemeral-storage"):
            text = ((resources or {}).get(field) or {}).get(name)
            if text is not None and quantity.parse(text)[0].denominator != 1:
                found.append(f'{path}.{field}[{name}]: fractional byte value "{text}" is invalid, must be an integer')
    return found


def _container(one: Obj, path: str, name_seen: set[str]) -> list[str]:
    del name_seen
    found = _quantity_warnings(one.get("resources"), f"{path}.resources")
    seen: dict[str, int] = {}
    for index, variable in enumerate(one.get("env") or ()):
        name = variable.get("name", "")
        if name in seen and f"$({name})" not in (variable.get("value") or ""):
            text = f'hides previous definition of "{name}", which may be dropped when using apply'
            found.append(f"{path}.env[{index}]: {text}")
        seen[name] = index
    ports: dict[tuple[str, int], int] = {}
    for index, port in enumerate(one.get("ports") or ()):
        key = (port.get("protocol", "TCP"), port.get("containerPort", 0))
        if key in ports:
            text = f"duplicate port definition with {path}.ports[{ports[key]}]"
            found.append(f"{path}.ports[{index}]: {text}")
        else:
            ports[key] = index
    return found


def pod_spec(spec: Obj, path: str, *, template: bool) -> list[str]:
    """Warnings about a PodSpec; `path` ends without a dot."""
    found: list[str] = []
    for key in spec.get("nodeSelector") or ():
        if key in _NODE_LABELS:
            found.append(f"{path}.nodeSelector[{key}]: deprecated since v1.14; {_NODE_LABELS[key]}")
    terms = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for index, term in enumerate(terms.get("nodeSelectorTerms") or ()):
        here = f"{path}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{index}]"
        if not term.get("matchExpressions") and not term.get("matchFields"):
            found.append(f"{here}: a null or empty node selector term matches no objects")
        for number, rule in enumerate(term.get("matchExpressions") or ()):
            if rule.get("key") in _NODE_LABELS:
                key = rule["key"]
                found.append(
                    f"{here}.matchExpressions[{number}].key: {key} is deprecated since v1.14; {_NODE_LABELS[key]}"
                )
    for index, one in enumerate(spec.get("topologySpreadConstraints") or ()):
        here = f"{path}.topologySpreadConstraints[{index}]"
        if one.get("topologyKey") in _NODE_LABELS:
            key = one["topologyKey"]
            found.append(f"{here}.topologyKey: {key} is deprecated since v1.14; {_NODE_LABELS[key]}")
        if one.get("labelSelector") is None:
            found.append(f"{here}.labelSelector: a null labelSelector results in matching no pod")
    for index, alias in enumerate(spec.get("imagePullSecrets") or ()):
        if not alias.get("name"):
            found.append(f'{path}.imagePullSecrets[{index}].name: invalid empty name ""')
    names: dict[str, int] = {}
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        if alias.get("ip") in names:
            found.append(f"{path}.hostAliases[{index}].ip: duplicate ip {alias['ip']}")
        names[alias.get("ip", "")] = index
    for group in ("initContainers", "containers"):
        for index, one in enumerate(spec.get(group) or ()):
            found += _container(one, f"{path}.{group}[{index}]", set())
    found += _quantity_warnings({"limits": spec.get("overhead")}, f"{path}")
    for index, volume in enumerate(spec.get("volumes") or ()):
        here = f"{path}.volumes[{index}]"
        if "gitRepo" in volume:
            text = "deprecated in v1.11, and disabled by default in v1.33+"
            found.append(f"{here}.gitRepo: {text}")
        for kind, since, gone in (("glusterfs", 25, 26), ("cephfs", 28, 31), ("rbd", 28, 31)):
            if kind in volume:
                found.append(f"{here}.{kind}: deprecated in v1.{since}, non-functional in v1.{gone}+")
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        found.append(
            f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    del template
    return found


def _template(template: Any, path: str) -> list[str]:
    return pod_spec((template or {}).get("spec") or {}, f"{path}.spec", template=True)


def _pod(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    if old is not None and old.get("spec") == obj.get("spec"):
        return []
    return pod_name(obj, old) + pod_spec(obj.get("spec") or {}, "spec", template=False)


def pod_name(obj: Obj, old: Obj | None) -> list[str]:
    """A name that becomes hostnames should be a DNS label."""
    name = obj["metadata"].get("name") or ""
    if old is not None or not name:
        return []
    problems = label_errors(name)
    if not problems:
        return []
    text = "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
    return [f"metadata.name: {text}: [{' '.join(problems)}]"]


def _workload_name(obj: Obj, old: Obj | None) -> list[str]:
    name = obj["metadata"].get("name") or ""
    problems = label_errors(name) if old is None and name else []
    if not problems:
        return []
    text = (
        "this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended"
    )
    return [f"metadata.name: {text}: [{' '.join(problems)}]"]


def _workload(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    found = _workload_name(obj, old)
    template = (obj.get("spec") or {}).get("template")
    if (
        old is None
        or obj["metadata"].get("generation") != old["metadata"].get("generation")
        or obj.get("spec") != old.get("spec")
    ):
        found += _template(template, "spec.template")
    return found


def _replica_set(ctx: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    return _workload(ctx, obj, old)


def _stateful_set(ctx: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    return _workload(ctx, obj, old)


def _daemon_set(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    if old is not None and obj.get("spec") == old.get("spec"):
        return []
    return _template((obj.get("spec") or {}).get("template"), "spec.template")


def _job(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    found = _workload_name(obj, old)
    if old is None:
        found += _template((obj.get("spec") or {}).get("template"), "spec.template")
    return found


def _cron_job(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    found = _workload_name(obj, old)
    if old is None or obj.get("spec") != old.get("spec"):
        job = ((obj.get("spec") or {}).get("jobTemplate") or {}).get("spec") or {}
        found += _template(job.get("template"), "spec.jobTemplate.spec.template")
    return found


def _service(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    spec = obj.get("spec") or {}
    found = []
    if (obj["metadata"].get("annotations") or {}).get("service.kubernetes.io/topology-aware-hints"):
        found.append(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use "
            "service.kubernetes.io/topology-mode instead"
        )
    headless = spec.get("clusterIP") == "None" or (spec.get("clusterIPs") or [""])[0] == "None"
    for index, text in enumerate(() if headless else spec.get("clusterIPs") or ()):
        found += _odd_ip(f"spec.clusterIPs[{index}]", text)
    if headless:
        if spec.get("loadBalancerIP"):
            found.append("spec.loadBalancerIP is ignored for headless services")
        if spec.get("externalIPs"):
            found.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") not in (None, "", "None"):
            found.append("spec.SessionAffinity is ignored for headless services")
    found += _service_addresses(spec)
    kind = spec.get("type")
    if kind == "ExternalName" and spec.get("externalIPs"):
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if kind != "ExternalName" and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    del old
    return found


def _service_addresses(spec: Obj) -> list[str]:
    found: list[str] = []
    if spec.get("externalIPs"):
        found.append("spec.externalIPs is deprecated")
    for index, text in enumerate(spec.get("externalIPs") or ()):
        found += _odd_ip(f"spec.externalIPs[{index}]", text)
    found += _odd_ip("spec.loadBalancerIP", spec.get("loadBalancerIP") or "")
    for index, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        found += _odd_cidr(f"spec.loadBalancerSourceRanges[{index}]", text)
    return found


def _odd_ip(path: str, text: str) -> list[str]:
    try:
        standard = str(ipaddress.ip_address(text))
    except ValueError:
        return []
    if standard == text:
        return []
    return [f'{path}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{standard}")']


def _odd_cidr(path: str, text: str) -> list[str]:
    try:
        standard = str(ipaddress.IPv6Network(text))
    except ValueError:
        return []
    if standard == text:
        return []
    return [f'{path}: IPv6 CIDR value "{text}" should be in RFC 5952 canonical format ("{standard}")']


def _network_policy(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    found: list[str] = []
    del old
    for rules, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate((obj.get("spec") or {}).get(rules) or ()):
            for number, peer in enumerate(rule.get(side) or ()):
                block, here = peer.get("ipBlock") or {}, f"spec.{rules}[{index}].{side}[{number}].ipBlock"
                found += _odd_cidr(f"{here}.cidr", block.get("cidr") or "")
                for position, text in enumerate(block.get("except") or ()):
                    found += _odd_cidr(f"{here}.except[{position}]", text)
    return found


def _secret(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    if obj.get("type") != "kubernetes.io/tls":
        return []
    data = obj.get("data") or {}
    if old is not None and (old.get("data") or {}) == data:
        return []
    certificate, key = data.get("tls.crt"), data.get("tls.key")
    if certificate is None or key is None:
        return []
    problem = _tls_problem(base64.b64decode(certificate), base64.b64decode(key))
    return [problem] if problem else []


def _tls_problem(certificate: bytes, key: bytes) -> str:
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        if b"-----BEGIN" in certificate:
            return (
                'tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM blocks of the '
                "following types: []"
            )
        return "tls: failed to find any PEM data in certificate input"
    if b"-----BEGIN" not in key:
        return "tls: failed to find any PEM data in key input"
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        return ""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if public.public_bytes(encoding, form) != private.public_key().public_bytes(encoding, form):
        return "tls: private key does not match public key"
    return ""


def _claim(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    if old is not None and obj.get("spec") == old.get("spec"):
        return []
    found = []
    notes = obj["metadata"].get("annotations") or {}
    beta = "volume.beta.kubernetes.io/storage-class"
    if beta in notes:
        found.append(f'metadata.annotations[{beta}]: deprecated since v1.8; use "storageClassName" attribute instead')
    requests = ((obj.get("spec") or {}).get("resources") or {}).get("requests") or {}
    text = requests.get("storage")
    if text is not None and quantity.parse(text)[0].denominator != 1:
        found.append(f'spec.resources.requests[storage]: fractional byte value "{text}" is invalid, must be an integer')
    return found


def _volume(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    del old
    found = []
    spec = obj.get("spec") or {}
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        found.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the "
            "recommended approach is to use dynamic provisioning."
        )
    beta = "volume.beta.kubernetes.io/storage-class"
    if beta in (obj["metadata"].get("annotations") or {}):
        found.append(f'metadata.annotations[{beta}]: deprecated since v1.8; use "storageClassName" attribute instead')
    return found


def _ingress(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    if old is None and "kubernetes.io/ingress.class" in (obj["metadata"].get("annotations") or {}):
        return ["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"]
    return []


WARNINGS: dict[tuple[str, str], Callable[[RequestContext, Obj, Obj | None], list[str]]] = {
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("", "Secret"): _secret,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _volume,
    ("apps", "Deployment"): _workload,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
}
"""(group, kind) -> texts for Warning headers; `old` is None at creation."""
