"""Warnings: what is accepted, but suspicious or on its way out.

Source: observed Warning headers of kube-apiserver 1.36.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable
from typing import Any

from chandlery.controlplane.builtins import podwarn
from chandlery.controlplane.metadata import label_errors
from chandlery.controlplane.types import Obj, RequestContext


def _template(template: Any, path: str) -> list[str]:
    template = template or {}
    return podwarn.warnings(template.get("metadata") or {}, template.get("spec") or {}, f"{path}.")


def _pod(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    if old is not None:
        return []
    return pod_name(obj, old) + podwarn.warnings(obj["metadata"], obj.get("spec") or {})


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


def _changed(obj: Obj, old: Obj | None) -> bool:
    """At an update, templates are only looked at again when the spec changed."""
    return old is None or obj.get("spec") != old.get("spec")


def _workload(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    found = _workload_name(obj, old)
    if _changed(obj, old):
        found += _template((obj.get("spec") or {}).get("template"), "spec.template")
    return found


_HISTORY = "a negative value retains all historical revisions; a value >= 0 is recommended"


def _stateful_set(ctx: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    found, spec = _workload(ctx, obj, old), obj.get("spec") or {}
    inner = "" if old is None else ".Spec"
    for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        found += podwarn.claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}]{inner}")
    limit = spec.get("revisionHistoryLimit")
    if limit is not None and limit < 0:
        found.append(f"spec.revisionHistoryLimit: {_HISTORY}")
    return found


def _daemon_set(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    template = (obj.get("spec") or {}).get("template")
    if old is not None and template == (old.get("spec") or {}).get("template"):
        return []
    return _template(template, "spec.template")


def _pod_template(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    if old is not None and obj.get("template") == old.get("template"):
        return []
    return _template(obj.get("template"), "template")


_MANY, _PARALLEL = 100_000, 10_000
_TOO_MANY = (
    "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes "
    "might not be able to track completedIndexes when a big number of indexes fail"
)


def _job_spec(spec: Obj, path: str) -> list[str]:
    found = []
    many = (spec.get("completions") or 0) > _MANY and (spec.get("parallelism") or 0) > _PARALLEL
    if spec.get("completionMode") == "Indexed" and many:
        found.append(f"{path}: {_TOO_MANY}")
    return found + _template(spec.get("template"), f"{path}.template")


def _job(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    found = _workload_name(obj, old)
    return found + _job_spec(obj.get("spec") or {}, "spec") if _changed(obj, old) else found


def _cron_job(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    found = _workload_name(obj, old)
    if _changed(obj, old):
        job = ((obj.get("spec") or {}).get("jobTemplate") or {}).get("spec") or {}
        found += _job_spec(job, "spec.jobTemplate.spec")
    return found


def _service(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    spec = obj.get("spec") or {}
    found = []
    if "service.kubernetes.io/topology-aware-hints" in (obj["metadata"].get("annotations") or {}):
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
    return _beta_class(obj) + podwarn.claim_spec(obj.get("spec") or {}, "spec")


def _beta_class(obj: Obj) -> list[str]:
    beta = "volume.beta.kubernetes.io/storage-class"
    if beta not in (obj["metadata"].get("annotations") or {}):
        return []
    return [f'metadata.annotations[{beta}]: deprecated since v1.8; use "storageClassName" attribute instead']


def _volume(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    del old
    spec = obj.get("spec") or {}
    found = _beta_class(obj)
    options = "volume.beta.kubernetes.io/mount-options"
    if options in (obj["metadata"].get("annotations") or {}):
        found.append(f'metadata.annotations[{options}]: deprecated since v1.31; use "mountOptions" attribute instead')
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        found.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the "
            "recommended approach is to use dynamic provisioning."
        )
    terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    for index, term in enumerate(terms):
        found += podwarn.selector_term(term, f"spec.nodeAffinity.required.nodeSelectorTerms[{index}]", values=False)
    return found + podwarn.old_volumes(spec, "spec")


def _storage_class(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    del old
    found = []
    for index, term in enumerate(obj.get("allowedTopologies") or ()):
        for number, rule in enumerate(term.get("matchLabelExpressions") or ()):
            key = rule.get("key", "")
            if key in podwarn.OLD_LABELS:
                here = f"allowedTopologies[{index}].matchLabelExpressions[{number}].key"
                found.append(f"{here}: {key} is {podwarn.OLD_LABELS[key]}")
    return found


def _capacity(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    del old
    topology = obj.get("nodeTopology") or {}
    found = podwarn.selector_term(topology, "nodeTopology", values=False)
    for key in topology.get("matchLabels") or ():
        if key in podwarn.OLD_LABELS:
            found.append(f"nodeTopology.matchLabels.{key}: {podwarn.OLD_LABELS[key]}")
    return found


def _runtime_class(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    del old
    selector = (obj.get("scheduling") or {}).get("nodeSelector") or {}
    labels = podwarn.OLD_LABELS
    return [f"scheduling.nodeSelector: {labels[key]}" for key in selector if key in labels]


def _node(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    del old
    spec = obj.get("spec") or {}
    found = []
    if spec.get("configSource") is not None:
        found.append("spec.configSource: the feature is removed")
    if spec.get("externalID"):
        found.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    return found


def _endpoint_slice(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    found = []
    if old is None and obj.get("addressType") == "FQDN":
        found.append("spec.addressType: FQDN endpoints are deprecated")
    for index, one in enumerate(obj.get("endpoints") or ()):
        for number, text in enumerate(one.get("addresses") or ()):
            found += _odd_ip(f"endpoints[{index}].addresses[{number}]", text)
    return found


def _ingress(_: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
    if old is None and "kubernetes.io/ingress.class" in (obj["metadata"].get("annotations") or {}):
        return ["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"]
    return []


WARNINGS: dict[tuple[str, str], Callable[[RequestContext, Obj, Obj | None], list[str]]] = {
    ("", "Node"): _node,
    ("", "Pod"): _pod,
    ("", "PodTemplate"): _pod_template,
    ("", "ReplicationController"): _workload,
    ("", "Service"): _service,
    ("", "Secret"): _secret,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _volume,
    ("apps", "Deployment"): _workload,
    ("apps", "ReplicaSet"): _workload,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
    ("node.k8s.io", "RuntimeClass"): _runtime_class,
    ("discovery.k8s.io", "EndpointSlice"): _endpoint_slice,
    ("storage.k8s.io", "CSIStorageCapacity"): _capacity,
    ("storage.k8s.io", "StorageClass"): _storage_class,
}
"""(group, kind) -> texts for Warning headers; `old` is None at creation."""
