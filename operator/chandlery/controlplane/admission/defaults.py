"""Defaults that depend on other objects: service accounts and priorities of pods, classes, protection finalizers.

Source: Kubernetes docs, admission controllers ServiceAccount, Priority, DefaultTolerationSeconds,
DefaultStorageClass, DefaultIngressClass, StorageObjectInUseProtection, TaintNodesByCondition.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any

from chandlery.controlplane.admission.common import forbid
from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 (a path)
_MIRROR = "kubernetes.io/config.mirror"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_TOKEN_SECONDS = 3607
_PATIENCE = 1.0
"""Seconds to wait for the ServiceAccount `default` of a namespace that was just made."""


async def apply_defaults(api: LocalApi, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
    """Change a new object in place, as the default admission plugins do. Raises ApiError 403."""
    if ctx.subresource or ctx.resource.plural not in _PLUGINS:
        return
    group, plugin = _PLUGINS[ctx.resource.plural]
    if group != ctx.resource.group:
        return
    await plugin(api, ctx, obj, old)


async def _pod(api: LocalApi, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
    spec = obj.setdefault("spec", {})
    _tolerations(spec)
    if old is not None:
        return
    _priority(api, ctx, obj, spec)
    _runtime(api, ctx, obj, spec)
    if _MIRROR in (obj["metadata"].get("annotations") or {}):
        return
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = await _account(api, ctx.namespace, name)
    if account is None:
        why = f"error looking up service account {ctx.namespace}/{name}: serviceaccount {json.dumps(name)} not found"
        raise forbid(ctx, obj, why)
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(ref) for ref in account["imagePullSecrets"]]
    automount = spec.get("automountServiceAccountToken")
    if automount is None:
        automount = account.get("automountServiceAccountToken", True)
    if automount:
        _mount_token(spec)


def _runtime(api: LocalApi, ctx: RequestContext, obj: Obj, spec: Obj) -> None:
    """What a pod's RuntimeClass says of nodes and overhead. Raises ApiError 403."""
    name, given = spec.get("runtimeClassName"), spec.get("overhead")
    found: Obj = {}
    if name is not None:
        known = api.get("node.k8s.io", "runtimeclasses", "", name)
        if known is None:
            raise forbid(ctx, obj, f"pod rejected: RuntimeClass {json.dumps(name)} not found")
        found = known
    overhead = (found.get("overhead") or {}).get("podFixed")
    if overhead is None and given:
        raise forbid(ctx, obj, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
    if overhead is not None:
        if given is not None and given != overhead:
            raise forbid(ctx, obj, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
        spec["overhead"] = dict(overhead)
    scheduling = found.get("scheduling") or {}
    wanted, selector = scheduling.get("nodeSelector") or {}, spec.get("nodeSelector") or {}
    for key, value in wanted.items():
        if selector.get(key, value) != value:
            why = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
            raise forbid(ctx, obj, f"{why}pod.spec.nodeSelector[{key}] = {selector[key]}")
    if wanted:
        spec["nodeSelector"] = {**selector, **wanted}
    tolerations = spec.get("tolerations") or []
    added = [dict(one) for one in scheduling.get("tolerations") or () if one not in tolerations]
    if added:
        spec["tolerations"] = [*tolerations, *added]


async def _account(api: LocalApi, namespace: str, name: str) -> Obj | None:
    account = api.get("", "serviceaccounts", namespace, name)
    if account is not None or name != "default":
        return account
    # The controller that makes it runs right after the namespace was made: give it a moment.
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while account is None and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
        account = api.get("", "serviceaccounts", namespace, name)
    return account


def _containers(spec: Obj) -> list[Obj]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _mount_token(spec: Obj) -> None:
    volumes = spec.get("volumes") or []
    volume = next(
        (v["name"] for v in volumes if str(v.get("name", "")).startswith("kube-api-access-") and v.get("projected")),
        "",
    )
    bare = [
        container
        for container in _containers(spec)
        if all(mount.get("mountPath") != TOKEN_PATH for mount in container.get("volumeMounts") or ())
    ]
    if not bare:
        return
    if not volume:
        volume = "kube-api-access-" + "".join(secrets.choice(_SUFFIX) for _ in range(5))
        spec["volumes"] = [*volumes, _token_volume(volume)]
    for container in bare:
        mount = {"name": volume, "readOnly": True, "mountPath": TOKEN_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


def _token_volume(name: str) -> Obj:
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
            ],
            "defaultMode": 420,
        },
    }


def _tolerations(spec: Obj) -> None:
    """Stay five minutes on a node that is not ready or unreachable."""
    tolerations = spec.get("tolerations") or []
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        tolerated = any(
            toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")
            for toleration in tolerations
        )
        if not tolerated:
            added = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            tolerations = [*tolerations, added]
    spec["tolerations"] = tolerations


def _priority(api: LocalApi, ctx: RequestContext, obj: Obj, spec: Obj) -> None:
    name = spec.get("priorityClassName") or ""
    found: Obj | None = None
    if name:
        found = api.get("scheduling.k8s.io", "priorityclasses", "", name)
        if found is None:
            raise forbid(ctx, obj, f"no PriorityClass with name {name} was found")
    else:
        for candidate in api.list("scheduling.k8s.io", "priorityclasses"):
            if candidate.get("globalDefault") and (found is None or candidate["value"] < found["value"]):
                found = candidate
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
    value = found["value"] if found is not None else 0
    given = spec.get("priority")
    if given is not None and given != value:
        why = (
            f"the integer value of priority ({given}) must not be provided in pod spec;"
            f" priority admission controller computed {value} from the given PriorityClass name"
        )
        raise forbid(ctx, obj, why)
    spec["priority"] = value
    policy = (found or {}).get("preemptionPolicy") or "PreemptLowerPriority"
    spec.setdefault("preemptionPolicy", policy)


def _protect(finalizer: str) -> Any:
    async def plugin(api: LocalApi, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
        if old is not None:
            return
        finalizers = obj["metadata"].get("finalizers") or []
        if finalizer not in finalizers:
            obj["metadata"]["finalizers"] = [*finalizers, finalizer]
        if ctx.resource.plural == "persistentvolumeclaims" and not old:
            _class(api, obj, "storageclasses", "storage.k8s.io", "storageClassName", "storageclass.kubernetes.io")

    return plugin


async def _ingress(api: LocalApi, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    annotations = obj["metadata"].get("annotations") or {}
    if old is None and "kubernetes.io/ingress.class" not in annotations:
        _class(api, obj, "ingressclasses", "networking.k8s.io", "ingressClassName", "ingressclass.kubernetes.io")


def _class(api: LocalApi, obj: Obj, plural: str, group: str, field: str, prefix: str) -> None:
    """Name the default class in a spec that names none; the newest wins when several are the default."""
    spec = obj.setdefault("spec", {})
    if spec.get(field) is not None:
        return
    defaults = [
        candidate["metadata"]
        for candidate in api.list(group, plural)
        if (candidate["metadata"].get("annotations") or {}).get(f"{prefix}/is-default-class") == "true"
    ]
    if defaults:
        newest = max(meta["creationTimestamp"] for meta in defaults)
        spec[field] = min(meta["name"] for meta in defaults if meta["creationTimestamp"] == newest)


async def _node(api: LocalApi, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:  # noqa: ARG001
    if old is not None:
        return
    spec = obj.setdefault("spec", {})
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    taints = spec.get("taints") or []
    if not any(known.get("key") == taint["key"] and known.get("effect") == "NoSchedule" for known in taints):
        spec["taints"] = [*taints, taint]


_PLUGINS: dict[str, tuple[str, Any]] = {
    "pods": ("", _pod),
    "persistentvolumeclaims": ("", _protect("kubernetes.io/pvc-protection")),
    "persistentvolumes": ("", _protect("kubernetes.io/pv-protection")),
    "ingresses": ("networking.k8s.io", _ingress),
    "nodes": ("", _node),
}
