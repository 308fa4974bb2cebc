"""Volumes of pods and sources of PersistentVolumes.

Source: the field descriptions of core/v1 and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    amount,
    dns_label,
    dns_subdomain,
    duplicate,
    each,
    forbidden,
    invalid,
    one_of,
    path_without_back_steps,
    relative_path,
    required,
    template_metadata,
    too_long,
    unsupported,
)
from chandlery.controlplane.builtins.validation.containers import (
    _ENV_PATHS,
    field_selector,
    resource_selector,
)
from chandlery.controlplane.builtins.validation.volumesources import TOLD_AS, VENDORS
from chandlery.controlplane.metadata import subdomain_errors
from chandlery.controlplane.types import Obj

MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
_DOWNWARD_PATHS = ("metadata.name", "metadata.namespace", "metadata.uid", "metadata.annotations", "metadata.labels")
_HOST_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")


def mode(path: str, value: Any) -> Errors:
    return [] if value is None or 0 <= value <= 0o777 else [invalid(path, value, MODE_TEXT)]


def items(found: Any, path: str) -> Errors:
    """Keys of a Secret or ConfigMap, and the files that they become."""
    errors: Errors = []
    for index, item in enumerate(found or ()):
        here = f"{path}[{index}]"
        if not item.get("key"):
            errors.append(required(f"{here}.key"))
        if not item.get("path"):
            errors.append(required(f"{here}.path"))
        errors += _local_path(item.get("path", ""), f"{here}.path")
        errors += mode(f"{here}.mode", item.get("mode"))
    return errors


def _local_path(value: str, path: str) -> Errors:
    errors = relative_path(path, value)
    if value.startswith("..") and not value.startswith("../") and value != "..":
        errors.append(invalid(path, value, "must not start with '..'"))
    return errors


def _downward(found: Obj, path: str) -> Errors:
    errors = mode(f"{path}.defaultMode", found.get("defaultMode"))
    for item in found.get("items") or ():
        errors += _downward_file(item, path)
    return errors


def _downward_file(item: Obj, path: str) -> Errors:
    errors: Errors = []
    if not item.get("path"):
        errors.append(required(f"{path}.path"))
    errors += _local_path(item.get("path", ""), f"{path}.path")
    if "fieldRef" in item:
        errors += field_selector(item["fieldRef"], _DOWNWARD_PATHS, f"{path}.fieldRef")
        if "resourceFieldRef" in item:
            errors.append(
                invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
            )
    elif "resourceFieldRef" in item:
        errors += resource_selector(item["resourceFieldRef"], f"{path}.resourceFieldRef", volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + mode(f"{path}.mode", item.get("mode"))


def _secret(found: Obj, path: str, _: Obj) -> Errors:
    errors = [] if found.get("secretName") else [required(f"{path}.secretName")]
    return errors + mode(f"{path}.defaultMode", found.get("defaultMode")) + items(found.get("items"), f"{path}.items")


def _config_map(found: Obj, path: str, _: Obj) -> Errors:
    errors = [] if found.get("name") else [required(f"{path}.name")]
    return errors + mode(f"{path}.defaultMode", found.get("defaultMode")) + items(found.get("items"), f"{path}.items")


def host_path(found: Obj, path: str, _: Obj) -> Errors:
    if not found.get("path"):
        return [required(f"{path}.path")]
    return path_without_back_steps(f"{path}.path", found["path"]) + one_of(
        f"{path}.type", found.get("type", ""), _HOST_TYPES
    )


def _empty_dir(found: Obj, path: str, _: Obj) -> Errors:
    limit = found.get("sizeLimit")
    if limit is not None and amount(limit) < 0:
        return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _claim(found: Obj, path: str, _: Obj) -> Errors:
    return [] if found.get("claimName") else [required(f"{path}.claimName")]


def _downward_volume(found: Obj, path: str, _: Obj) -> Errors:
    return _downward(found, path)


def _projected(found: Obj, path: str, _: Obj) -> Errors:
    errors = mode(f"{path}.defaultMode", found.get("defaultMode"))
    paths: set[str] = set()
    for index, source in enumerate(found.get("sources") or ()):
        errors += _projection(source, f"{path}.sources[{index}]", path, paths)
    return errors


def _projection(source: Obj, path: str, whole: str, paths: set[str]) -> Errors:
    """One source of a projected volume, which is at `whole`; `paths` are those that others took."""
    errors: Errors = []
    for kind in ("secret", "configMap"):
        if kind in source:
            name = source[kind].get("name", "")
            errors += [] if name else [required(f"{path}.{kind}.name")]
            errors += items(source[kind].get("items"), f"{path}.{kind}.items")
            errors += _taken(source[kind].get("items"), paths, whole, name)
    if "downwardAPI" in source:
        found = source["downwardAPI"].get("items")
        for item in found or ():
            errors += _downward_file(item, f"{path}.downwardAPI")
        errors += _taken(found, paths, whole)
    if "serviceAccountToken" in source:
        errors += _token(source["serviceAccountToken"], f"{path}.serviceAccountToken", whole)
    if sum(kind in source for kind in _PROJECTIONS) > 1:
        errors.append(forbidden(path, "may not specify more than 1 volume type per source"))
    return errors


_PROJECTIONS = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate")


def _taken(found: Any, paths: set[str], whole: str, name: str | None = None) -> Errors:
    """Files that another source brings already; the error names what brings them again, if that has a name."""
    errors: Errors = []
    for item in found or ():
        where = item.get("path", "")
        if where and where in paths:
            errors.append(invalid(whole, where if name is None else name, "conflicting duplicate paths"))
        paths.add(where)
    return errors


def _token(found: Obj, path: str, whole: str) -> Errors:
    errors: Errors = []
    seconds = found.get("expirationSeconds", 0)
    if seconds < 600:
        errors.append(invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
    elif seconds > 1 << 32:
        errors.append(
            invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
        )
    where = found.get("path", "")
    return errors + (_local_path(where, f"{whole}.path") if where else [required(f"{whole}.path")])


def _ephemeral(found: Obj, path: str, _: Obj) -> Errors:
    from chandlery.controlplane.builtins.validation.storage import claim_spec

    template = found.get("volumeClaimTemplate")
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    here, meta = f"{path}.volumeClaimTemplate", template.get("metadata") or {}
    errors = template_metadata(meta, f"{here}.metadata")
    errors += [
        forbidden(f"{here}.metadata.{field}", "cannot be set")
        for field, value in meta.items()
        if field not in ("annotations", "labels") and value
    ]
    return errors + claim_spec(template.get("spec") or {}, f"{here}.spec")


def _csi(found: Obj, path: str, _: Obj) -> Errors:
    errors = csi_driver_name(found.get("driver", ""), f"{path}.driver")
    reference = found.get("nodePublishSecretRef")
    if reference is None:
        return errors
    name = reference.get("name", "")
    return errors + (dns_subdomain(f"{path}.name", name) if name else [required(f"{path}.nodePublishSecretRef.name")])


def csi_driver_name(name: str, path: str) -> Errors:
    errors = [] if name else [required(path)]
    if len(name.encode()) > 63:
        errors.append(too_long(path, 63))
    return errors + each(path, name, subdomain_errors(name.lower()))


def _image(found: Obj, path: str, _: Obj) -> Errors:
    policies = ("Always", "IfNotPresent", "Never")
    errors = [] if found.get("reference") else [required(f"{path}.reference")]
    return errors + one_of(f"{path}.pullPolicy", found.get("pullPolicy", ""), policies, need=True)


def _vendor(kind: str) -> Callable[[Obj, str, Obj], Errors]:
    check = VENDORS[kind]
    return lambda found, path, _volume: check(found, path, False)


_CHECKS: dict[str, Callable[[Obj, str, Obj], Errors]] = {
    "emptyDir": _empty_dir,
    "hostPath": host_path,
    "secret": _secret,
    "persistentVolumeClaim": _claim,
    "downwardAPI": _downward_volume,
    "configMap": _config_map,
    "projected": _projected,
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
} | {kind: _vendor(kind) for kind in VENDORS}
_ORDER = (
    "emptyDir hostPath gitRepo gcePersistentDisk awsElasticBlockStore secret nfs iscsi glusterfs flocker "
    "persistentVolumeClaim rbd cinder cephfs quobyte downwardAPI fc flexVolume configMap azureFile vsphereVolume "
    "photonPersistentDisk portworxVolume azureDisk storageos projected scaleIO csi ephemeral image"
).split()
_SECOND = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
"""How the real server writes a source that is one too many."""


def _one(volume: Obj, path: str) -> Errors:
    errors: Errors = []
    given = [kind for kind in _ORDER if kind in volume]
    if not given:
        return [required(path, "must specify a volume type")]
    first, *others = given
    errors += _CHECKS[first](volume[first], f"{path}.{TOLD_AS.get(first, first)}", volume)
    text = "may not specify more than 1 volume type"
    return errors + [forbidden(f"{path}.{_SECOND.get(kind, kind)}", text) for kind in others]


def volumes(found: Any, path: str, pod: str = "") -> tuple[dict[str, Obj], Errors]:
    """({name: volume}, errors); `pod` is the pod's name, in a pod that has one."""
    errors: Errors = []
    known: dict[str, Obj] = {}
    made = {f"{pod}-{one.get('name', '')}" for one in found or () if pod and "ephemeral" in one}
    for index, volume in enumerate(found or ()):
        here = f"{path}[{index}]"
        name = volume.get("name", "")
        own = _one(volume, here)
        if pod and name and "ephemeral" in volume:
            full = f"{pod}-{name}"
            problems = [f'PVC name "{full}": {problem}' for problem in subdomain_errors(full)]
            own += each(f"{here}.name", name, problems)
        own += dns_label(f"{here}.name", name) if name else [required(f"{here}.name")]
        if name in known:
            own.append(duplicate(f"{here}.name", name))
        if not own:
            known[name] = volume
        errors += own
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
        if claim in made:
            text = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(invalid(f"{here}.persistentVolumeClaim.claimName", claim, text))
    return known, errors


__all__ = ["_ENV_PATHS", "csi_driver_name", "host_path", "unsupported", "volumes"]
