"""The list of built-in resources: names, short names, categories, verbs and subresources, per group and version.

Facts: discovery documents of kube-apiserver 1.36. Only what this control plane serves is listed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from chandlery.controlplane.builtins.data import REF, definitions
from chandlery.controlplane.builtins.strategy import BuiltinStrategy
from chandlery.controlplane.types import Obj, Resource

_EXT = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions."
_AGG = "io.k8s.kube-aggregator.pkg.apis.apiregistration."

_STATUS = ("get", "patch", "update")
_SCALE: Obj = {"verbs": ["get", "patch", "update"], "kind": "Scale", "group": "autoscaling", "version": "v1"}

# (group, version, plural, kind, flags, short names, categories, subresources)
# flags: n namespaced, g keeps metadata.generation, d DELETE answers the object, c create only (a review),
# r read only
_TABLE: tuple[tuple[str, str, str, str, str, str, str, str], ...] = (
    ("", "v1", "componentstatuses", "ComponentStatus", "r", "cs", "", ""),
    ("", "v1", "configmaps", "ConfigMap", "n", "cm", "", ""),
    ("", "v1", "endpoints", "Endpoints", "n", "ep", "", ""),
    ("", "v1", "events", "Event", "n", "ev", "", ""),
    ("", "v1", "limitranges", "LimitRange", "n", "limits", "", ""),
    ("", "v1", "namespaces", "Namespace", "d", "ns", "", "status finalize"),
    ("", "v1", "nodes", "Node", "", "no", "", "status"),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", "nd", "pvc", "", "status"),
    ("", "v1", "persistentvolumes", "PersistentVolume", "d", "pv", "", "status"),
    ("", "v1", "pods", "Pod", "ngd", "po", "all", "status"),
    ("", "v1", "podtemplates", "PodTemplate", "ngd", "", "", ""),
    ("", "v1", "replicationcontrollers", "ReplicationController", "ng", "rc", "all", "status scale"),
    ("", "v1", "resourcequotas", "ResourceQuota", "nd", "quota", "", "status"),
    ("", "v1", "secrets", "Secret", "n", "", "", ""),
    ("", "v1", "serviceaccounts", "ServiceAccount", "nd", "sa", "", "token"),
    ("", "v1", "services", "Service", "nd", "svc", "all", "status"),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", "n", "", "", ""),
    ("apps", "v1", "daemonsets", "DaemonSet", "ng", "ds", "all", "status"),
    ("apps", "v1", "deployments", "Deployment", "ng", "deploy", "all", "status scale"),
    ("apps", "v1", "replicasets", "ReplicaSet", "ng", "rs", "all", "status scale"),
    ("apps", "v1", "statefulsets", "StatefulSet", "ng", "sts", "all", "status scale"),
    ("batch", "v1", "cronjobs", "CronJob", "ng", "cj", "all", "status"),
    ("batch", "v1", "jobs", "Job", "ng", "", "all", "status"),
    ("autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "n", "hpa", "all", "status"),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "n", "hpa", "all", "status"),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", "ng", "pdb", "", "status"),
    ("networking.k8s.io", "v1", "ingressclasses", "IngressClass", "g", "", "", ""),
    ("networking.k8s.io", "v1", "ingresses", "Ingress", "ng", "ing", "", "status"),
    ("networking.k8s.io", "v1", "ipaddresses", "IPAddress", "", "ip", "", ""),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", "ng", "netpol", "", ""),
    ("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", "", "", "", "status"),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", "", "", "", ""),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", "", "", "", ""),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", "n", "", "", ""),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", "n", "", "", ""),
    ("coordination.k8s.io", "v1", "leases", "Lease", "n", "", "", ""),
    ("storage.k8s.io", "v1", "csidrivers", "CSIDriver", "d", "", "", ""),
    ("storage.k8s.io", "v1", "csinodes", "CSINode", "d", "", "", ""),
    ("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity", "n", "", "", ""),
    ("storage.k8s.io", "v1", "storageclasses", "StorageClass", "d", "sc", "", ""),
    ("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", "d", "", "", "status"),
    ("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", "d", "vac", "", ""),
    ("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", "", "csr", "", "approval status"),  # noqa: E501
    ("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", "g", "", "", "status"),
    ("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", "g", "", "", "status"),  # noqa: E501
    ("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", "", "", "", ""),
    ("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", "gd", "", "", ""),
    ("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", "nd", "", "", "status"),
    ("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate", "nd", "", "", ""),
    ("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", "gd", "", "", ""),
    ("events.k8s.io", "v1", "events", "Event", "n", "ev", "", ""),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", "ng", "", "", ""),
    ("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", "g", "", "api-extensions", ""),  # noqa: E501
    ("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", "g", "", "api-extensions", ""),  # noqa: E501
    ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", "g", "", "api-extensions", ""),  # noqa: E501
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "g", "", "api-extensions", "status"),  # noqa: E501
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", "g", "", "api-extensions", ""),  # noqa: E501
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", "g", "", "api-extensions", ""),  # noqa: E501
    ("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", "g", "pc", "", ""),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", "c", "", "", ""),
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", "c", "", "", ""),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", "nc", "", "", ""),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", "c", "", "", ""),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", "c", "", "", ""),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", "c", "", "", ""),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", "g", "crd crds", "api-extensions", "status"),  # noqa: E501
    ("apiregistration.k8s.io", "v1", "apiservices", "APIService", "", "", "api-extensions", "status"),
)  # fmt: skip

_STORAGE: dict[tuple[str, str, str], tuple[str, str, str]] = {
    # (group, version, plural) -> the (group, version, plural) it is stored as
    ("autoscaling", "v1", "horizontalpodautoscalers"): ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("events.k8s.io", "v1", "events"): ("", "v1", "events"),
}


_DEPRECATED = {
    ("", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
    ("", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
}


def definition_name(group: str, version: str, kind: str) -> str:
    """The OpenAPI definition of a built-in kind: `io.k8s.api.apps.v1.Deployment`."""
    if group == "apiextensions.k8s.io":
        return f"{_EXT}{version}.{kind}"
    if group == "apiregistration.k8s.io":
        return f"{_AGG}{version}.{kind}"
    return f"io.k8s.api.{(group or 'core').split('.')[0]}.{version}.{kind}"


def package_of(group: str) -> str:
    """The name that the real server's own form of a group's types goes by in its errors: `core`, `apps`, `rbac`."""
    return (group or "core").split(".")[0]


_EARLIER: dict[str, str] = {
    "CertificateSigningRequest": "certificates.k8s.io/v1beta1",
    "ClusterRole": "rbac.authorization.k8s.io/v1beta1 rbac.authorization.k8s.io/v1alpha1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1beta1 rbac.authorization.k8s.io/v1alpha1",
    "ControllerRevision": "apps/v1beta1 apps/v1beta2",
    "CSIDriver": "storage.k8s.io/v1beta1",
    "CSINode": "storage.k8s.io/v1beta1",
    "CSIStorageCapacity": "storage.k8s.io/v1beta1 storage.k8s.io/v1alpha1",
    "CronJob": "batch/v1beta1",
    "DaemonSet": "apps/v1beta2 extensions/v1beta1",
    "Deployment": "apps/v1beta1 apps/v1beta2 extensions/v1beta1",
    "EndpointSlice": "discovery.k8s.io/v1beta1",
    "Event": "events.k8s.io/v1beta1",
    "Eviction": "policy/v1beta1",
    "FlowSchema": (
        "flowcontrol.apiserver.k8s.io/v1beta1 flowcontrol.apiserver.k8s.io/v1beta2 flowcontrol.apiserver.k8s.io/v1beta3"
    ),
    "IPAddress": "networking.k8s.io/v1beta1",
    "Ingress": "extensions/v1beta1 networking.k8s.io/v1beta1",
    "IngressClass": "networking.k8s.io/v1beta1",
    "Lease": "coordination.k8s.io/v1beta1",
    "MutatingAdmissionPolicy": "admissionregistration.k8s.io/v1beta1 admissionregistration.k8s.io/v1alpha1",
    "MutatingAdmissionPolicyBinding": "admissionregistration.k8s.io/v1beta1 admissionregistration.k8s.io/v1alpha1",
    "MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1beta1",
    "NetworkPolicy": "extensions/v1beta1",
    "PodDisruptionBudget": "policy/v1beta1",
    "PriorityClass": "scheduling.k8s.io/v1beta1 scheduling.k8s.io/v1alpha1",
    "PriorityLevelConfiguration": (
        "flowcontrol.apiserver.k8s.io/v1beta1 flowcontrol.apiserver.k8s.io/v1beta2 flowcontrol.apiserver.k8s.io/v1beta3"
    ),
    "ReplicaSet": "apps/v1beta2 extensions/v1beta1",
    "DeviceClass": "resource.k8s.io/v1beta1 resource.k8s.io/v1beta2",
    "ResourceClaim": "resource.k8s.io/v1beta1 resource.k8s.io/v1beta2",
    "ResourceClaimTemplate": "resource.k8s.io/v1beta1 resource.k8s.io/v1beta2",
    "ResourceSlice": "resource.k8s.io/v1beta1 resource.k8s.io/v1beta2",
    "Role": "rbac.authorization.k8s.io/v1beta1 rbac.authorization.k8s.io/v1alpha1",
    "RoleBinding": "rbac.authorization.k8s.io/v1beta1 rbac.authorization.k8s.io/v1alpha1",
    "RuntimeClass": "node.k8s.io/v1beta1 node.k8s.io/v1alpha1",
    "ServiceCIDR": "networking.k8s.io/v1beta1",
    "StatefulSet": "apps/v1beta1 apps/v1beta2",
    "StorageClass": "storage.k8s.io/v1beta1",
    "TokenReview": "authentication.k8s.io/v1beta1",
    "ValidatingAdmissionPolicy": "admissionregistration.k8s.io/v1beta1 admissionregistration.k8s.io/v1alpha1",
    "ValidatingAdmissionPolicyBinding": "admissionregistration.k8s.io/v1beta1 admissionregistration.k8s.io/v1alpha1",
    "ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1beta1",
    "VolumeAttachment": "storage.k8s.io/v1beta1 storage.k8s.io/v1alpha1",
    "VolumeAttributesClass": "storage.k8s.io/v1beta1 storage.k8s.io/v1alpha1",
}
"""Versions that are served no more, or not by default, and still understood."""


def wrong_type(expected: tuple[str, str], api_version: str, kind: str) -> str | None:
    """Why an object of this type can't be read as one of the (group, kind) that is expected.

    None when it could, but for its version.
    """
    group, _, version = api_version.rpartition("/")
    earlier = api_version in _EARLIER.get(kind, "").split()
    if not earlier and definition_name(group, version, kind) not in definitions():
        scheme = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"
        return f'no kind "{kind}" is registered for version "{api_version}" in scheme "{scheme}"'
    wanted_group, wanted = expected
    if kind == wanted and (earlier or wanted == "Event" or group == wanted_group):
        return None
    return f"converting ({version}.{kind}) to ({package_of(wanted_group)}.{wanted}): unknown conversion"


def _subresources(names: str, kind: str) -> dict[str, Obj]:
    out: dict[str, Obj] = {}
    for name in names.split():
        if name == "scale":
            out[name] = dict(_SCALE)
        elif name == "token":
            out[name] = {"verbs": ["create"], "kind": "TokenRequest", "group": "authentication.k8s.io", "version": "v1"}
        elif name == "finalize":
            out[name] = {"verbs": ["update"], "kind": kind}
        else:
            out[name] = {"verbs": list(_STATUS), "kind": kind}
    return out


@cache
def builtin_resources() -> list[Resource]:
    """Every built-in resource in every version that is served."""
    defs = definitions()
    out = []
    for group, version, plural, kind, flags, short, categories, subs in _TABLE:
        name = definition_name(group, version, kind)
        stored = _STORAGE.get((group, version, plural), (group, version, plural))
        extra: dict[str, Any] = {"deprecation": _DEPRECATED.get((group, plural), "")}
        if "c" in flags:
            extra["verbs"] = ("create",)
        elif "r" in flags:
            extra["verbs"] = ("get", "list")
        elif plural == "namespaces":
            extra["verbs"] = ("create", "delete", "get", "list", "patch", "update", "watch")
        out.append(
            Resource(
                group=group,
                version=version,
                plural=plural,
                singular=kind.lower(),
                kind=kind,
                list_kind=kind + "List",
                namespaced="n" in flags,
                strategy=BuiltinStrategy(group, version, kind, name, subresources=frozenset(subs.split())),
                schema={"$ref": REF + name},
                definitions=defs,
                short_names=tuple(short.split()),
                categories=tuple(categories.split()),
                subresources=_subresources(subs, kind),
                storage_version=stored[1],
                storage_key=(stored[0], stored[2]),
                returns_deleted="d" in flags,
                has_generation="g" in flags,
                builtin=True,
                **extra,
            )
        )
    return out
