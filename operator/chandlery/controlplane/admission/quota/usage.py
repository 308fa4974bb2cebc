"""What an object uses of a quota, and what a quota covers.

Source: Kubernetes docs, "Resource Quotas" (resource names, scopes); quantities by `builtins.quantity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from chandlery.controlplane.admission.quota.pending import charges_of
from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.builtins.podusage import Usage, add, amounts, pod_resources
from chandlery.controlplane.types import Obj

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

_ONE = (Fraction(1), "DecimalSI")
_LEGACY = frozenset(
    {
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
    }
)
"""Core resources that are counted under their bare name too."""
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_PLAIN = frozenset(_COMPUTE)
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"


def count_name(group: str, plural: str) -> str:
    """The resource name under which objects are counted: `count/deployments.apps`."""
    return f"count/{plural}.{group}" if group else f"count/{plural}"


def usage_of(group: str, plural: str, obj: Obj) -> Usage:
    """Everything that one object uses, under every name that a quota may limit."""
    used: Usage = {count_name(group, plural): _ONE}
    if group:
        return used
    if plural == "pods":
        if not _finished(obj):
            used["pods"] = _ONE
            add(used, _pod_compute(obj.get("spec") or {}))
        return used
    if plural in _LEGACY:
        used[plural] = _ONE
    if plural == "services":
        add(used, _service(obj.get("spec") or {}))
    elif plural == "persistentvolumeclaims":
        add(used, _claim(obj))
    return used


def _finished(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _service(spec: Obj) -> Usage:
    kind = spec.get("type", "ClusterIP")
    ports = len(spec.get("ports") or ())
    if kind == "NodePort":
        return {"services.nodeports": (Fraction(ports), "DecimalSI")}
    if kind == "LoadBalancer":
        used: Usage = {"services.loadbalancers": _ONE}
        if spec.get("allocateLoadBalancerNodePorts", True):
            used["services.nodeports"] = (Fraction(ports), "DecimalSI")
        return used
    return {}


def _claim(claim: Obj) -> Usage:
    spec = claim.get("spec") or {}
    requested = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    annotations = claim["metadata"].get("annotations") or {}
    storage_class = annotations.get("volume.beta.kubernetes.io/storage-class") or spec.get("storageClassName")
    used: Usage = {}
    if requested is not None:
        used["requests.storage"] = quantity.parse(str(requested))
    if storage_class:
        prefix = f"{storage_class}{_CLASS_SUFFIX}"
        used[f"{prefix}persistentvolumeclaims"] = _ONE
        if requested is not None:
            used[f"{prefix}requests.storage"] = used["requests.storage"]
    return used


def _pod_compute(spec: Obj) -> Usage:
    used: Usage = {}
    for name, amount in pod_resources(spec, "requests").items():
        used[f"requests.{name}"] = amount
        if name in _PLAIN or name.startswith("hugepages-"):
            used[name] = amount
    for name, amount in pod_resources(spec, "limits").items():
        used[f"limits.{name}"] = amount
    return used


def covers(quota: Obj, group: str, plural: str, obj: Obj) -> bool:
    """Whether the quota's scopes select this object (a quota without scopes selects everything)."""
    spec = quota.get("spec") or {}
    scopes: list[Mapping[str, Any]] = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    scopes += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_in_scope(scope, group, plural, obj) for scope in scopes)


def _in_scope(scope: Mapping[str, Any], group: str, plural: str, obj: Obj) -> bool:
    name = scope["scopeName"]
    spec = obj.get("spec") or {}
    if (group, plural) == ("", "persistentvolumeclaims"):
        return name == "VolumeAttributesClass" and _chosen(scope, spec.get("volumeAttributesClassName") or "")
    if (group, plural) != ("", "pods"):
        return False
    match name:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return _best_effort(spec)
        case "NotBestEffort":
            return not _best_effort(spec)
        case "PriorityClass":
            return _chosen(scope, spec.get("priorityClassName") or "")
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(spec)
        case _:
            return False


def _chosen(scope: Mapping[str, Any], value: str) -> bool:
    values = scope.get("values") or ()
    match scope.get("operator", "Exists"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "DoesNotExist":
            return not value
        case _:
            return bool(value)


def _best_effort(spec: Obj) -> bool:
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return all(
        amount[0] == 0
        for container in containers
        for kind in ("requests", "limits")
        for name, amount in amounts(container, kind)
        if name in ("cpu", "memory")
    )


def _crosses_namespaces(spec: Obj) -> bool:
    affinity = spec.get("affinity") or {}
    terms: list[Obj] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms += rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        for weighted in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            terms.append(weighted.get("podAffinityTerm") or {})
    return any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms)


def source_of(name: str) -> tuple[str, str] | None:
    """The (group, plural) of the objects that use a resource name; None when nothing that we store does."""
    if name.startswith("count/"):
        plural, _, group = name[len("count/") :].partition(".")
        return group, plural
    if name in _LEGACY:
        return "", name
    if name.startswith("services."):
        return "", "services"
    if name == "requests.storage" or _CLASS_SUFFIX in name:
        return "", "persistentvolumeclaims"
    if name in _PLAIN or name.startswith(("requests.", "limits.", "hugepages-")):
        return "", "pods"
    return None


def sources_of(names: Iterable[str]) -> set[tuple[str, str]]:
    """The (group, plural) of the objects that use any of these resource names."""
    return {source for name in names if (source := source_of(name)) is not None}


def compute_used(api: LocalApi, quota: Obj) -> dict[str, str]:
    """What the objects that exist now use of a quota's hard limits, as canonical quantities; less what isn't served.

    What is on its way to the store is counted with them.
    """
    spec = quota.get("spec") or {}
    hard = spec.get("hard") or {}
    scoped = bool(spec.get("scopes") or spec.get("scopeSelector"))
    namespace = quota["metadata"]["namespace"]
    total: Usage = {}
    charges = charges_of(api)
    served = {source for source in sources_of(hard) if api.resource(*source) is not None}
    for group, plural in served:
        counted = {count_name(group, plural)}
        if not group and plural != "pods":
            counted.add(plural)
        names = {name for name in hard if source_of(name) == (group, plural)}
        for charge in charges.of(namespace):
            if (charge.group, charge.plural) == (group, plural) and covers(quota, group, plural, charge.obj):
                add(total, {name: used for name, used in charge.growth.items() if name in names})
        if not scoped and names <= counted:
            add(total, dict.fromkeys(names, (Fraction(api.count(group, plural, namespace)), "DecimalSI")))
            continue
        for obj in api.list(group, plural, namespace):
            if covers(quota, group, plural, obj):
                add(total, {name: used for name, used in usage_of(group, plural, obj).items() if name in names})
    return {name: _write(hard[name], total.get(name)) for name in sorted(hard) if source_of(name) in served}


def _write(limit: str, used: tuple[Fraction, str] | None) -> str:
    if used is None:
        return "0"
    return quantity.write(used[0], used[1] if used[0] else quantity.parse(str(limit))[1])
