"""CSI drivers, what nodes know of them, what they have room for, and volumes that are attached.

Source: the kinds' API documentation (storage.k8s.io/v1), texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    Errors,
    dns_subdomain,
    duplicate,
    forbidden,
    immutable,
    immutable_selector,
    invalid,
    invalid_struct,
    label_selector,
    non_negative_quantity,
    one_of,
    qualified_name,
    required,
    too_long,
)
from chandlery.controlplane.builtins.validation.storage import parameters, volume_source
from chandlery.controlplane.builtins.validation.volumes import csi_driver_name
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_NODE_DRIVER = "io.k8s.api.storage.v1.CSINodeDriver"
_ATTACHMENT = "io.k8s.api.storage.v1.VolumeAttachmentSpec"
_SHORTEST_TOKEN, _LONGEST_TOKEN = 600, 1 << 32
_LONGEST_NODE = 256
_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_MODES = ("Persistent", "Ephemeral")


# --- CSIDriver


def driver(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors: Errors = []
    if spec.get("fsGroupPolicy") is not None:
        errors += one_of("spec.fsGroupPolicy", spec["fsGroupPolicy"], _POLICIES)
    seen: set[str] = set()
    for index, token in enumerate(spec.get("tokenRequests") or ()):
        here = f"spec.tokenRequests[{index}]"
        audience, seconds = token.get("audience", ""), token.get("expirationSeconds")
        if audience in seen:
            errors.append(duplicate(f"{here}.audience", audience))
            continue
        seen.add(audience)
        if seconds is not None and seconds < _SHORTEST_TOKEN:
            text = "may not specify a duration less than 10 minutes"
            errors.append(invalid(f"{here}.expirationSeconds", seconds, text))
        elif seconds is not None and seconds > _LONGEST_TOKEN:
            text = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid(f"{here}.expirationSeconds", seconds, text))
    for mode in spec.get("volumeLifecycleModes") or ():
        errors += one_of("spec.volumeLifecycleModes", mode, _MODES)
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < 10:
        text = "must be greater than or equal to 10 seconds"
        errors.append(invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, text))
    if spec.get("serviceAccountTokenInSecrets") is not None and not spec.get("tokenRequests"):
        text = "serviceAccountTokenInSecrets is only valid when tokenRequests are configured"
        errors.append(invalid("spec.serviceAccountTokenInSecrets", spec["serviceAccountTokenInSecrets"], text))
    return errors


def driver_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = driver(ctx, obj)
    errors += immutable("spec.attachedRequired", spec.get("attachRequired"), before.get("attachRequired"))
    modes = (spec.get("volumeLifecycleModes"), before.get("volumeLifecycleModes"))
    return errors + immutable("spec.volumeLifecycleModes", *modes)


# --- CSINode


def node(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, one in enumerate((obj.get("spec") or {}).get("drivers") or ()):
        here, name, node_id = f"spec.drivers[{index}]", one.get("name", ""), one.get("nodeID", "")
        errors += csi_driver_name(name, f"{here}.name")
        if not node_id:
            errors.append(required(f"{here}.nodeID"))
        elif len(node_id.encode()) > _LONGEST_NODE:
            errors.append(invalid(f"{here}.nodeID", node_id, f"must be {_LONGEST_NODE} characters or less"))
        count = (one.get("allocatable") or {}).get("count")
        if count is not None and count < 0:
            errors.append(invalid(f"{here}.allocatable.count", count, "must be greater than or equal to 0"))
        if name in seen:
            errors.append(duplicate(f"{here}.name", name))
        seen.add(name)
        keys: set[str] = set()
        for key in one.get("topologyKeys") or ():
            errors += ([] if key else [required(here)]) + qualified_name(here, key)
            if key in keys:
                errors.append(duplicate(here, key))
            keys.add(key)
    return errors


def node_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = node(ctx, obj)
    before = {one.get("name"): one for one in (old.get("spec") or {}).get("drivers") or ()}
    for one in (obj.get("spec") or {}).get("drivers") or ():
        was = before.get(one.get("name"))
        if was is None:
            continue
        fixed, known = ({k: v for k, v in side.items() if k != "allocatable"} for side in (one, was))
        if fixed != known:
            errors.append(invalid_struct("spec.drivers", _NODE_DRIVER, fixed, IMMUTABLE))
    return errors


# --- CSIStorageCapacity


def capacity(_: RequestContext, obj: Obj) -> Errors:
    errors = label_selector(obj.get("nodeTopology"), "nodeTopology")
    errors += dns_subdomain("storageClassName", obj.get("storageClassName", ""))
    if obj.get("capacity") is not None:
        errors += non_negative_quantity("capacity", obj["capacity"])
    return errors


def capacity_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = capacity(ctx, obj)
    errors += immutable_selector("nodeTopology", obj.get("nodeTopology"), old.get("nodeTopology"))
    return errors + immutable("storageClassName", obj.get("storageClassName", ""), old.get("storageClassName", ""))


# --- VolumeAttachment


def _attachment(obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    source = spec.get("source") or {}
    errors: Errors = []
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and name is None:
        text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        errors.append(required("spec.source", text))
    elif inline is not None and name is not None:
        text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        errors.append(forbidden("spec.source", text))
    elif name == "":
        text = "must specify non empty persistentVolumeName"
        errors.append(required("spec.source.persistentVolumeName", text))
    elif inline is not None:
        errors += _inline(inline, "spec.source.inlineVolumeSpec")
    return errors + dns_subdomain("spec.nodeName", spec.get("nodeName", ""))


def _inline(volume: Obj, path: str) -> Errors:
    """A volume that is described in place: a CSI volume, and nothing of what binds a PersistentVolume."""
    errors = [forbidden(f"{path}.{field}", f"may not be {_IN_PLACE}") for field in _OUTSIDE if volume.get(field)]
    if volume.get("csi") is None:
        errors.append(required(f"{path}.csi", f"has to be {_IN_PLACE}"))
    policy, mode = volume.get("persistentVolumeReclaimPolicy") or "Retain", volume.get("volumeMode") or "Filesystem"
    if policy != "Retain":
        text = "may only be Retain in the context of inline volumes"
        errors.append(forbidden(f"{path}.persistentVolumeReclaimPolicy", text))
    if mode != "Filesystem":
        text = "may not specify volumeMode other than Filesystem in the context of inline volumes"
        errors.append(forbidden(f"{path}.volumeMode", text))
    return errors + volume_source(volume, path)


_IN_PLACE = "specified in the context of inline volumes"
_OUTSIDE = ("claimRef", "capacity", "nodeAffinity", "storageClassName")
_LONGEST_MESSAGE, _MOST_TOLD = 1024, 256 * 1024


def _volume_error(found: Any, path: str) -> Errors:
    """The limit that is told of a message is not the one that is kept, on the real server neither."""
    text, code = (found or {}).get("message", ""), (found or {}).get("errorCode")
    errors = [too_long(f"{path}.message", _MOST_TOLD)] if len(text.encode()) > _LONGEST_MESSAGE else []
    if code is not None and code < 0:
        errors.append(invalid(f"{path}.errorCode", code, "must be between 0 and 2147483647, inclusive"))
    return errors


def _attached(obj: Obj) -> Errors:
    errors = [] if (obj.get("spec") or {}).get("attacher") else [required("spec.attacher")]
    errors += _attachment(obj)
    status = obj.get("status") or {}
    told = status.get("attachmentMetadata") or {}
    if sum(len(key.encode()) + len(value.encode()) for key, value in told.items()) > _MOST_TOLD:
        errors.append(too_long("status.attachmentMetadata", _MOST_TOLD))
    for field in ("attachError", "detachError"):
        errors += _volume_error(status.get(field), f"status.{field}")
    return errors


def attachment(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = _attached(obj) + csi_driver_name(spec.get("attacher", ""), "spec.attacher")
    name = (spec.get("source") or {}).get("persistentVolumeName")
    return errors if name is None else errors + dns_subdomain("spec.source.persistentVolumeName", name)


def attachment_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = _attached(obj)
    if obj.get("spec") != old.get("spec"):
        errors.append(invalid_struct("spec", _ATTACHMENT, obj.get("spec"), IMMUTABLE))
    return errors


# --- VolumeAttributesClass


def attributes_class(_: RequestContext, obj: Obj) -> Errors:
    name = obj.get("driverName", "")
    errors: list[FieldError] = qualified_name("driverName", name.lower()) if name else [required("driverName")]
    found = obj.get("parameters") or {}
    if not found:
        return [*errors, required("parameters", "must contain at least one key/value pair")]
    return errors + parameters(found)


def attributes_class_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = attributes_class(ctx, obj)
    for field in ("driverName", "parameters"):
        if obj.get(field) != old.get(field):
            errors.append(forbidden(field, f"updates to {field} are forbidden."))
    return errors
