"""Rules of claims, volumes and storage classes.

Source: the field descriptions of core/v1 and storage.k8s.io/v1, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins import internal
from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    NON_NEGATIVE,
    POSITIVE,
    Errors,
    amount,
    dns_subdomain,
    forbidden,
    immutable,
    invalid,
    label_selector,
    one_of,
    qualified_name,
    required,
)
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_CLAIM = "io.k8s.api.core.v1.PersistentVolumeClaimSpec"
_VOLUME = "io.k8s.api.core.v1.PersistentVolumeSpec"
_IMMUTABLE_CLAIM = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def access_modes(found: Any, path: str) -> Errors:
    modes = found or []
    if not modes:
        return [required(path, "at least 1 access mode is required")]
    errors: Errors = []
    for mode in modes:
        errors += one_of(path, mode, _MODES)
    if "ReadWriteOncePod" in modes and len(set(modes)) > 1:
        errors.append(forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


def claim_spec(spec: Obj, path: str) -> Errors:
    errors = access_modes(spec.get("accessModes"), f"{path}.accessModes")
    errors += label_selector(spec.get("selector"), f"{path}.selector")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        errors.append(required(f"{path}.resources[storage]"))
    elif amount(storage) <= 0:
        errors.append(invalid(f"{path}.resources[storage]", storage, POSITIVE))
    if spec.get("storageClassName"):
        errors += dns_subdomain(f"{path}.storageClassName", spec["storageClassName"])
    if spec.get("volumeMode") is not None:
        errors += one_of(f"{path}.volumeMode", spec["volumeMode"], _VOLUME_MODES)
    for field in ("dataSource", "dataSourceRef"):
        source = spec.get(field)
        if source is None:
            continue
        for name in ("name", "kind"):
            if not source.get(name):
                errors.append(required(f"{path}.{field}.{name}"))
        if not source.get("apiGroup") and source.get("kind") != "PersistentVolumeClaim":
            text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
            errors.append(invalid(f"{path}.{field}", source.get("kind", ""), text))
    if spec.get("volumeAttributesClassName"):
        errors += dns_subdomain(f"{path}.volumeAttributesClassName", spec["volumeAttributesClassName"])
    return errors


def claim(_: RequestContext, obj: Obj) -> Errors:
    return claim_spec(obj.get("spec") or {}, "spec")


def claim_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return []
    spec, before = dict(obj.get("spec") or {}), dict(old.get("spec") or {})
    errors = claim_spec(spec, "spec")
    if not before.get("volumeName") and spec.get("volumeName"):
        before["volumeName"] = spec["volumeName"]
    beta = (old["metadata"].get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    name = spec.get("storageClassName")
    if before.get("storageClassName") is None and name is not None and beta in (None, name):
        spec.pop("storageClassName")
    bound = (old.get("status") or {}).get("phase") == "Bound"
    requests, requests_before = ((s.get("resources") or {}).get("requests") or {} for s in (spec, before))
    if bound and "storage" in requests and "storage" in requests_before:
        new_size, old_size = requests["storage"], requests_before["storage"]
        spec["resources"] = {**spec["resources"], "requests": {**requests, "storage": old_size}}
        if amount(new_size) < amount(old_size):
            capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage", "0")
            if amount(new_size) <= amount(capacity):
                text = "field can not be less than status.capacity"
                errors.append(forbidden("spec.resources.requests.storage", text))
    if bound:
        for one in (spec, before):
            one.pop("volumeAttributesClassName", None)
    if spec != before:
        errors.append(forbidden("spec", f"{_IMMUTABLE_CLAIM}\n{internal.difference(_CLAIM, before, spec)}"))
    return errors


_SOURCES = (
    "hostPath gcePersistentDisk awsElasticBlockStore glusterfs flocker nfs rbd quobyte cephfs iscsi cinder fc "
    "flexVolume azureFile vsphereVolume azureDisk photonPersistentDisk portworxVolume scaleIO local storageos csi"
).split()


def _volume_spec(spec: Obj, path: str) -> Errors:
    from chandlery.controlplane.builtins.validation.pods import node_selector
    from chandlery.controlplane.builtins.validation.volumes import _CHECKS, csi_driver_name

    errors: Errors = []
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required(f"{path}.accessModes"))
    for mode in modes:
        errors += one_of(f"{path}.accessModes", mode, _MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        text = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden(f"{path}.accessModes", text))
    capacity = spec.get("capacity") or {}
    if not capacity:
        errors.append(required(f"{path}.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        shown = internal.compact(internal.plain(spec.get("capacity")))
        text = f'Unsupported value: {shown}: supported values: "storage"'
        errors.append(FieldError(f"{path}.capacity", "FieldValueNotSupported", text))
    for name, text in capacity.items():
        here = f"{path}.capacity[{name}]"
        if amount(text) < 0:
            errors.append(invalid(here, text, NON_NEGATIVE))
        if amount(text) <= 0:
            errors.append(invalid(here, text, POSITIVE))
    if spec.get("persistentVolumeReclaimPolicy"):
        policies = ("Delete", "Recycle", "Retain")
        errors += one_of(f"{path}.persistentVolumeReclaimPolicy", spec["persistentVolumeReclaimPolicy"], policies)
    affinity = (spec.get("nodeAffinity") or {}).get("required")
    if spec.get("nodeAffinity") is not None:
        if affinity is None:
            errors.append(required(f"{path}.nodeAffinity.required", "must specify required node constraints"))
        else:
            errors += node_selector(affinity, f"{path}.nodeAffinity.required")
    count = 0
    for kind in _SOURCES:
        if kind not in spec:
            continue
        count += 1
        here = f"{path}.{kind}"
        if count > 1:
            errors.append(forbidden(here, "may not specify more than 1 volume type"))
        elif kind == "csi":
            errors += csi_driver_name(spec[kind].get("driver", ""), f"{here}.driver")
            if not spec[kind].get("volumeHandle"):
                errors.append(required(f"{here}.volumeHandle"))
        elif kind == "local":
            if not spec[kind].get("path"):
                errors.append(required(f"{here}.path"))
            if affinity is None:
                errors.append(required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
        elif kind in _CHECKS:
            errors += _CHECKS[kind](spec[kind], here, spec)
    if count == 0:
        errors.append(required(path, "must specify a volume type"))
    recycle = spec.get("persistentVolumeReclaimPolicy") == "Recycle"
    if recycle and (spec.get("hostPath") or {}).get("path", "").rstrip("/") == "" and "hostPath" in spec:
        text = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden(f"{path}.persistentVolumeReclaimPolicy", text))
    if spec.get("storageClassName"):
        errors += dns_subdomain(f"{path}.storageClassName", spec["storageClassName"])
    if spec.get("volumeMode") is not None:
        errors += one_of(f"{path}.volumeMode", spec["volumeMode"], _VOLUME_MODES)
    return errors


def volume(_: RequestContext, obj: Obj) -> Errors:
    return _volume_spec(obj.get("spec") or {}, "spec")


def volume_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return []
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = _volume_spec(spec, "spec")
    new, was = ({k: s[k] for k in _SOURCES if k in s} for s in (spec, before))
    if new != was:
        difference = internal.difference(_VOLUME, before, {**{k: v for k, v in before.items() if k not in was}, **new})
        text = f"spec.persistentvolumesource is immutable after creation\n{difference}"
        errors.append(forbidden("spec.persistentvolumesource", text))
    errors += immutable("spec.volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    if before.get("nodeAffinity") is not None and spec.get("nodeAffinity") != before["nodeAffinity"]:
        shown = internal.compact(internal.plain(spec.get("nodeAffinity")))
        errors.append(FieldError("spec.nodeAffinity", "FieldValueInvalid", f"Invalid value: {shown}: {IMMUTABLE}"))
    return errors


def storage_class(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    provisioner = obj.get("provisioner", "")
    if not provisioner:
        errors.append(required("provisioner"))
    else:
        errors += qualified_name("provisioner", provisioner.lower())
    size = 0
    for key, value in (obj.get("parameters") or {}).items():
        if not key:
            errors.append(invalid("parameters", key, "field can not be empty."))
        size += len(key) + len(value)
    if size > 256 * 1024:
        errors.append(FieldError("parameters", "FieldValueTooLong", "Too long: may not be more than 262144 bytes"))
    if len(obj.get("parameters") or ()) > 512:
        text = "Too long: may not be more than 512 bytes"
        errors.append(FieldError("parameters", "FieldValueTooLong", text))
    if obj.get("reclaimPolicy") is not None:
        errors += one_of("reclaimPolicy", obj["reclaimPolicy"], ("Delete", "Retain"))
    mode = obj.get("volumeBindingMode")
    if mode is None:
        errors.append(required("volumeBindingMode"))
    else:
        errors += one_of("volumeBindingMode", mode, ("Immediate", "WaitForFirstConsumer"))
    return errors


def storage_class_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = storage_class(ctx, obj)
    for field in ("parameters", "provisioner", "reclaimPolicy"):
        if obj.get(field) != old.get(field):
            errors.append(forbidden(field, f"updates to {field} are forbidden."))
    return errors + immutable("volumeBindingMode", obj.get("volumeBindingMode"), old.get("volumeBindingMode"))
