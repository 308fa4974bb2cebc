"""Rules of claims, volumes and storage classes.

Source: the field descriptions of core/v1 and storage.k8s.io/v1, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import posixpath
from typing import Any

from chandlery.controlplane.builtins import internal
from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    POSITIVE,
    Errors,
    amount,
    dns_label,
    dns_subdomain,
    duplicate,
    forbidden,
    immutable,
    invalid,
    label_selector,
    one_of,
    path_without_back_steps,
    qualified_name,
    required,
    too_long,
    unsupported,
)
from chandlery.controlplane.builtins.validation.resources import is_native
from chandlery.controlplane.builtins.validation.volumesources import TOLD_AS, VENDORS
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES = ("Block", "Filesystem")
_CLAIM = "io.k8s.api.core.v1.PersistentVolumeClaimSpec"
_VOLUME = "io.k8s.api.core.v1.PersistentVolumeSpec"
_IMMUTABLE_CLAIM = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)


def access_modes(modes: Any, path: str) -> Errors:
    errors: Errors = []
    for mode in modes or ():
        errors += one_of(path, mode, _MODES)
    others = [mode for mode in modes or () if mode in _MODES and mode != "ReadWriteOncePod"]
    if others and "ReadWriteOncePod" in modes:
        errors.append(forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


def _source(source: Obj, path: str) -> Errors:
    errors = [required(f"{path}.{name}") for name in ("name", "kind") if not source.get(name)]
    group = source.get("apiGroup") or ""
    if not group and source.get("kind") != "PersistentVolumeClaim":
        text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(invalid(path, source.get("kind", ""), text))
    if group:
        errors += dns_subdomain(f"{path}.apiGroup", group)
    if source.get("namespace"):
        errors += dns_label(f"{path}.namespace", source["namespace"])
    return errors


def _sources(spec: Obj, path: str) -> Errors:
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    errors: Errors = []
    if source is not None:
        errors += _source(source, f"{path}.dataSource")
    if reference is None:
        return errors
    errors += _source(reference, f"{path}.dataSourceRef")
    text = ""
    if source is not None and reference.get("namespace"):
        text = "may not be specified when dataSourceRef.namespace is specified"
    elif source is not None and any(source.get(key) != reference.get(key) for key in ("apiGroup", "kind", "name")):
        text = "must match dataSourceRef"
    return [*errors, FieldError(path, "FieldValueInvalid", f"Invalid value: {{}}: {text}")] if text else errors


def claim_spec(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    if not spec.get("accessModes"):
        errors.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    errors += label_selector(spec.get("selector"), f"{path}.selector")
    errors += access_modes(spec.get("accessModes"), f"{path}.accessModes")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        errors.append(required(f"{path}.resources[storage]"))
    elif amount(storage) <= 0:
        errors.append(invalid(f"{path}.resources[storage]", storage, POSITIVE))
    if spec.get("storageClassName"):
        errors += dns_subdomain(f"{path}.storageClassName", spec["storageClassName"])
    if spec.get("volumeMode") is not None:
        errors += one_of(f"{path}.volumeMode", spec["volumeMode"], _VOLUME_MODES)
    errors += _sources(spec, path)
    if spec.get("volumeAttributesClassName"):
        errors += dns_subdomain(f"{path}.volumeAttributesClassName", spec["volumeAttributesClassName"])
    return errors


def claim(_: RequestContext, obj: Obj) -> Errors:
    return claim_spec(obj.get("spec") or {}, "spec")


_AFFINITY_KEPT = f"{IMMUTABLE}, except for updating from beta label to GA"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def claim_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return _claim_status(obj)
    spec, before = dict(obj.get("spec") or {}), dict(old.get("spec") or {})
    errors = claim_spec(spec, "spec") * 2
    if not before.get("volumeName") and spec.get("volumeName"):
        before["volumeName"] = spec["volumeName"]
    errors += _class_kept(obj, old, spec, before)
    bound = (old.get("status") or {}).get("phase") == "Bound"
    requests, requests_before = ((s.get("resources") or {}).get("requests") or {} for s in (spec, before))
    new_size, old_size = requests.get("storage", "0"), requests_before.get("storage", "0")
    if bound and requests:
        spec["resources"] = {**spec["resources"], "requests": {**requests, "storage": old_size}}
    if bound:
        for one in (spec, before):
            one.pop("volumeAttributesClassName", None)
    if spec != before:
        errors.append(forbidden("spec", f"{_IMMUTABLE_CLAIM}\n{internal.difference(_CLAIM, before, spec)}"))
    if amount(new_size) < amount(old_size):
        capacity = ((old.get("status") or {}).get("capacity") or {}).get("storage", "0")
        if amount(new_size) <= amount(capacity):
            text = "field can not be less than status.capacity"
            errors.append(forbidden("spec.resources.requests.storage", text))
    errors += immutable("volumeMode", (obj.get("spec") or {}).get("volumeMode"), before.get("volumeMode"))
    return errors + _attributes_kept(obj.get("spec") or {}, old)


def _class_kept(obj: Obj, old: Obj, spec: Obj, before: Obj) -> Errors:
    """The storage class may be named once; `spec` and `before` lose what may differ."""
    beta, beta_before = ((o["metadata"].get("annotations") or {}).get(_BETA_CLASS) for o in (obj, old))
    name = spec.get("storageClassName")
    first = before.get("storageClassName") is None and name is not None
    if first and beta_before == name and beta in (None, beta_before):
        spec.pop("storageClassName")
        return []
    if first and beta_before in (None, name):
        spec.pop("storageClassName")
    return immutable(f"metadata.annotations.{_BETA_CLASS}", beta or "", beta_before or "")


_ATTRIBUTES = "spec.volumeAttributesClassName"


def _attributes_kept(spec: Obj, old: Obj) -> Errors:
    """A class that was put to use isn't taken away again."""
    now, was = spec.get("volumeAttributesClassName"), (old.get("spec") or {}).get("volumeAttributesClassName")
    if now == was or now or (old.get("status") or {}).get("currentVolumeAttributesClassName") is None:
        return []
    what = "nil" if now is None else "empty string"
    text = f"update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
    return [forbidden(_ATTRIBUTES, text)]


_RESIZES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)


def _basic(text: str, path: str) -> Errors:
    value = amount(text)
    return [invalid(path, int(value), "must be a valid resource quantity")] if value < 0 else []


def _claim_key(key: str, path: str) -> Errors:
    errors = qualified_name(path, key)
    if errors or not is_native(key) or key == "storage":
        return errors
    return [unsupported(path, key, ("storage",))]


def _claim_status(obj: Obj) -> Errors:
    errors: Errors = []
    status = obj.get("status") or {}
    if not (obj.get("spec") or {}).get("accessModes"):
        errors.append(required("Spec.accessModes"))
    for key, text in (status.get("capacity") or {}).items():
        errors += _basic(text, f"status.capacity[{key}]")
    for key, state in (status.get("allocatedResourceStatuses") or {}).items():
        errors += _claim_key(key, "status.allocatedResourceStatus")
        if state not in _RESIZES:
            errors.append(unsupported("status.allocatedResourceStatus", key, _RESIZES))
    for key, text in (status.get("allocatedResources") or {}).items():
        errors += _claim_key(key, "status.allocatedResources") or _basic(text, f"status.allocatedResources[{key}]")
    return errors


_SOURCES = (
    "hostPath gcePersistentDisk awsElasticBlockStore glusterfs flocker nfs rbd quobyte cephfs iscsi cinder fc "
    "flexVolume azureFile vsphereVolume azureDisk photonPersistentDisk portworxVolume scaleIO local storageos csi"
).split()


def _secret_reference(found: Any, path: str) -> Errors:
    if found is None:
        return []
    name, namespace = found.get("name", ""), found.get("namespace", "")
    errors = dns_subdomain(f"{path}.name", name) if name else [required(f"{path}.name")]
    return errors + (dns_label(f"{path}.namespace", namespace) if namespace else [required(f"{path}.namespace")])


def volume_source(spec: Obj, path: str) -> Errors:
    """Where a volume is, and how it may be used: what a PersistentVolume and a volume described in place share."""
    from chandlery.controlplane.builtins.validation.volumes import csi_driver_name, host_path

    errors = [] if spec.get("accessModes") else [required(f"{path}.accessModes")]
    errors += access_modes(spec.get("accessModes"), f"{path}.accessModes")
    count = 0
    for kind in _SOURCES:
        if kind not in spec:
            continue
        count += 1
        here = f"{path}.{kind}"
        if count > 1 and kind != "flexVolume":
            here = here.replace("cephfs", "cephFS")
            errors.append(forbidden(here, "may not specify more than 1 volume type"))
        elif kind == "csi":
            errors += csi_driver_name(spec[kind].get("driver", ""), f"{here}.driver")
            if not spec[kind].get("volumeHandle"):
                errors.append(required(f"{here}.volumeHandle"))
            for role in ("controllerPublish", "controllerExpand", "nodePublish", "nodeExpand"):
                errors += _secret_reference(spec[kind].get(f"{role}SecretRef"), f"{here}.{role}SecretRef")
        elif kind == "local":
            where = spec[kind].get("path", "")
            errors += path_without_back_steps(f"{here}.path", where) if where else [required(f"{here}.path")]
            if (spec.get("nodeAffinity") or {}).get("required") is None:
                errors.append(required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
        elif kind == "hostPath":
            errors += host_path(spec[kind], here, spec)
        else:
            errors += VENDORS[kind](spec[kind], f"{path}.{TOLD_AS.get(kind, kind)}", True)
    return errors if count else [*errors, required(path, "must specify a volume type")]


def _volume_spec(spec: Obj, path: str) -> Errors:
    from chandlery.controlplane.builtins.validation.pods import node_selector

    errors = volume_source(spec, path)
    capacity = spec.get("capacity") or {}
    if not capacity:
        errors.append(required(f"{path}.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        shown = internal.compact(internal.plain(spec.get("capacity")))
        text = f'Unsupported value: {shown}: supported values: "storage"'
        errors.append(FieldError(f"{path}.capacity", "FieldValueNotSupported", text))
    for name, text in capacity.items():
        here = f"{path}.capacity[{name}]"
        errors += _basic(text, here)
        if amount(text) <= 0:
            errors.append(invalid(here, text, POSITIVE))
    if spec.get("persistentVolumeReclaimPolicy"):
        policies = ("Delete", "Recycle", "Retain")
        errors += one_of(f"{path}.persistentVolumeReclaimPolicy", spec["persistentVolumeReclaimPolicy"], policies)
    affinity = (spec.get("nodeAffinity") or {}).get("required")
    if affinity is not None:
        errors += node_selector(affinity, f"{path}.nodeAffinity.required")
    elif spec.get("nodeAffinity") is not None:
        errors.append(required(f"{path}.nodeAffinity.required", "must specify required node constraints"))
    recycle = spec.get("persistentVolumeReclaimPolicy") == "Recycle"
    if recycle and posixpath.normpath((spec.get("hostPath") or {}).get("path") or ".") in ("/", "//"):
        text = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden(f"{path}.persistentVolumeReclaimPolicy", text))
    if spec.get("storageClassName"):
        errors += dns_subdomain(f"{path}.storageClassName", spec["storageClassName"])
    if spec.get("volumeMode") is not None:
        errors += one_of(f"{path}.volumeMode", spec["volumeMode"], _VOLUME_MODES)
    attributes = spec.get("volumeAttributesClassName")
    if attributes is not None:
        here = f"{path}.volumeAttributesClassName"
        errors += dns_subdomain(here, attributes) if attributes else [required(here, "an empty string is disallowed")]
        if "csi" not in spec:
            errors.append(required(f"{path}.csi", "has to be specified when using volumeAttributesClassName"))
    return errors


def volume(_: RequestContext, obj: Obj) -> Errors:
    return _volume_spec(obj.get("spec") or {}, "spec")


def volume_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return []
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = _volume_spec(spec, "spec") * 2
    new, was = ({k: s[k] for k in _SOURCES if k in s} for s in (spec, before))
    expand = "controllerExpandSecretRef"
    if "csi" in new and "csi" in was and was["csi"].get(expand) is None:
        new["csi"] = {key: value for key, value in new["csi"].items() if key != expand}
    if new != was:
        difference = internal.difference(_VOLUME, before, {**{k: v for k, v in before.items() if k not in was}, **new})
        text = f"spec.persistentvolumesource is immutable after creation\n{difference}"
        errors.append(forbidden("spec.persistentvolumesource", text))
    errors += immutable("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    if before.get("nodeAffinity") is not None and spec.get("nodeAffinity") != before["nodeAffinity"]:
        shown = internal.compact(internal.plain(spec.get("nodeAffinity")))
        errors.append(FieldError("nodeAffinity", "FieldValueInvalid", f"Invalid value: {shown}: {_AFFINITY_KEPT}"))
    if before.get("volumeAttributesClassName") is not None and spec.get("volumeAttributesClassName") is None:
        errors.append(forbidden(_ATTRIBUTES, "update from non-nil value to nil is forbidden"))
    return errors


def parameters(found: Any) -> Errors:
    if len(found) > 512:
        return [too_long("parameters", 512)]
    errors = [invalid("parameters", key, "field can not be empty.") for key in found if not key]
    if sum(len(key.encode()) + len(value.encode()) for key, value in found.items()) > 256 * 1024:
        errors.append(too_long("parameters", 256 * 1024))
    return errors


def _topologies(found: Any) -> Errors:
    errors: Errors = []
    seen: list[dict[str, set[str]]] = []
    for index, term in enumerate(found or ()):
        here = f"allowedTopologies[{index}].matchLabelExpressions"
        keys: dict[str, set[str]] = {}
        for number, rule in enumerate(term.get("matchLabelExpressions") or ()):
            where, key, values = f"{here}[{number}]", rule.get("key", ""), rule.get("values") or []
            if not values:
                errors.append(required(f"{where}.values"))
            for position, value in enumerate(values):
                if value in values[:position]:
                    errors.append(duplicate(f"{where}.values[{position}]", value))
            errors += qualified_name(f"{where}.key", key)
            if key in keys:
                errors.append(duplicate(f"{where}.key", key))
            keys[key] = set(values)
        if keys in seen:
            errors.append(duplicate(here, ""))
        seen.append(keys)
    return errors


def storage_class(_: RequestContext, obj: Obj) -> Errors:
    provisioner = obj.get("provisioner", "")
    errors = qualified_name("provisioner", provisioner.lower()) if provisioner else [required("provisioner")]
    errors += parameters(obj.get("parameters") or {})
    if obj.get("reclaimPolicy"):
        errors += one_of("reclaimPolicy", obj["reclaimPolicy"], ("Delete", "Retain"))
    mode = obj.get("volumeBindingMode")
    if mode is None:
        errors.append(required("volumeBindingMode"))
    else:
        errors += one_of("volumeBindingMode", mode, ("Immediate", "WaitForFirstConsumer"))
    return errors + _topologies(obj.get("allowedTopologies"))


def storage_class_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = storage_class(ctx, obj)
    for field in ("parameters", "provisioner", "reclaimPolicy"):
        if obj.get(field) != old.get(field):
            errors.append(forbidden(field, f"updates to {field} are forbidden."))
    return errors + immutable("volumeBindingMode", obj.get("volumeBindingMode"), old.get("volumeBindingMode"))
