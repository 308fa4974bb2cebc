"""Volumes of pods and sources of PersistentVolumes.

Source: the field descriptions of core/v1 and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    amount,
    dns_label,
    dns_subdomain,
    duplicate,
    forbidden,
    invalid,
    one_of,
    path_without_back_steps,
    relative_path,
    required,
    unsupported,
)
from chandlery.controlplane.builtins.validation.containers import (
    _ENV_PATHS,
    field_selector,
    resource_selector,
)
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
    for index, item in enumerate(found.get("items") or ()):
        errors += _downward_file(item, f"{path}.items[{index}]" if path else f"[{index}]")
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


def _host_path(found: Obj, path: str, _: Obj) -> Errors:
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


def _needs(*fields: str) -> Callable[[Obj, str, Obj], Errors]:
    def check(found: Obj, path: str, _: Obj) -> Errors:
        return [required(f"{path}.{field}") for field in fields if not found.get(field)]

    return check


def _nfs(found: Obj, path: str, _: Obj) -> Errors:
    errors = _needs("server", "path")(found, path, {})
    if found.get("path") and not found["path"].startswith("/"):
        errors.append(invalid(f"{path}.path", found["path"], "must be an absolute path"))
    return errors


def _claim(found: Obj, path: str, _: Obj) -> Errors:
    return [] if found.get("claimName") else [required(f"{path}.claimName")]


def _downward_volume(found: Obj, path: str, _: Obj) -> Errors:
    return _downward(found, path)


def _projected(found: Obj, path: str, _: Obj) -> Errors:
    errors = mode(f"{path}.defaultMode", found.get("defaultMode"))
    paths: set[str] = set()
    for index, source in enumerate(found.get("sources") or ()):
        here = f"{path}.sources[{index}]"
        errors += _projection(source, here, paths)
    return errors


def _projection(source: Obj, path: str, paths: set[str]) -> Errors:
    errors: Errors = []
    count = 0
    for kind in ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"):
        if kind not in source:
            continue
        count += 1
        here, found = f"{path}.{kind}", source[kind]
        if count > 1:
            errors.append(forbidden(here, "may not specify more than 1 volume type per source"))
            continue
        if kind in ("secret", "configMap"):
            if not found.get("name"):
                errors.append(required(f"{here}.name"))
            errors += items(found.get("items"), f"{here}.items")
            errors += _unique(found.get("items"), paths, path)
        elif kind == "downwardAPI":
            for index, item in enumerate(found.get("items") or ()):
                errors += _downward_file(item, here)
                del index
            errors += _unique(found.get("items"), paths, path)
        elif kind == "serviceAccountToken":
            errors += _token(found, here)
            errors += _unique([found], paths, path)
    if count == 0:
        errors.append(required(path, "may not specify more than 1 volume type per source"))
    return errors


def _unique(found: Any, paths: set[str], path: str) -> Errors:
    errors: Errors = []
    for item in found or ():
        where = item.get("path", "")
        if where and where in paths:
            errors.append(invalid(path, where, "conflicting duplicate paths"))
        paths.add(where)
    return errors


def _token(found: Obj, path: str) -> Errors:
    errors: Errors = []
    seconds = found.get("expirationSeconds")
    if seconds is None:
        errors.append(required(f"{path}.expirationSeconds"))
    elif seconds < 600:
        errors.append(invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
    elif seconds > 1 << 32:
        errors.append(
            invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
        )
    where = found.get("path", "")
    if not where:
        errors.append(required(f"{path}.path"))
    else:
        errors += _local_path(where, f"{path}.path")
    return errors


def _ephemeral(found: Obj, path: str, _: Obj) -> Errors:
    from chandlery.controlplane.builtins.validation.storage import claim_spec

    template = found.get("volumeClaimTemplate")
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    return claim_spec(template.get("spec") or {}, f"{path}.volumeClaimTemplate.spec")


def _csi(found: Obj, path: str, _: Obj) -> Errors:
    errors = csi_driver_name(found.get("driver", ""), f"{path}.driver")
    reference = found.get("nodePublishSecretRef")
    if reference is not None and not reference.get("name"):
        errors.append(required(f"{path}.nodePublishSecretRef.name"))
    return errors


def csi_driver_name(name: str, path: str) -> Errors:
    if not name:
        return [required(path)]
    if len(name) > 63:
        from chandlery.controlplane.builtins.validation.common import too_long

        return [too_long(path, 63)]
    return dns_subdomain(path, name.lower())


def _image(found: Obj, path: str, _: Obj) -> Errors:
    policies = ("Always", "IfNotPresent", "Never")
    errors = [] if found.get("reference") else [required(f"{path}.reference")]
    return errors + one_of(f"{path}.pullPolicy", found.get("pullPolicy", ""), policies, need=True)


_IQN = re.compile(r"iqn\.[0-9]{4}-[0-9]{2}\.([A-Za-z0-9_.-]+)(:[^,;*&$|\s]+)$")
_EUI = re.compile(r"^eui.[A-Za-z0-9]{16}$")
_NAA = re.compile(r"^naa.[A-Za-z0-9]{32}$")
_LUN = "must be between 0 and 255, inclusive"


def _iscsi(found: Obj, path: str, _: Obj) -> Errors:
    errors = _needs("targetPortal")(found, path, {})
    name = found.get("iqn", "")
    pattern = {"iqn": _IQN, "eui": _EUI, "naa": _NAA}.get(name[:3])
    if not name:
        errors.append(required(f"{path}.iqn"))
    elif pattern is None:
        errors.append(invalid(f"{path}.iqn", name, "must be valid format starting with iqn, eui, or naa"))
    elif not pattern.search(name):
        errors.append(invalid(f"{path}.iqn", name, "must be valid format"))
    lun = found.get("lun", 0)
    if not 0 <= lun <= 255:
        errors.append(invalid(f"{path}.lun", lun, _LUN))
    if (found.get("chapAuthDiscovery") or found.get("chapAuthSession")) and found.get("secretRef") is None:
        errors.append(required(f"{path}.secretRef"))
    return errors


def _fibre(found: Obj, path: str, _: Obj) -> Errors:
    names, wide = found.get("targetWWNs") or [], found.get("wwids") or []
    errors: Errors = []
    if not names and not wide:
        text = "must specify either targetWWNs or wwids, but not both"
        errors.append(required(f"{path}.targetWWNs", text))
    if names and wide:
        text = "targetWWNs and wwids can not be specified simultaneously"
        errors.append(invalid(f"{path}.targetWWNs", names, text))
    if names:
        lun = found.get("lun")
        if lun is None:
            errors.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
        elif not 0 <= lun <= 255:
            errors.append(invalid(f"{path}.lun", lun, _LUN))
    return errors


_CHECKS: dict[str, Callable[[Obj, str, Obj], Errors]] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "secret": _secret,
    "nfs": _nfs,
    "iscsi": _iscsi,
    "glusterfs": _needs("endpoints", "path"),
    "flocker": lambda _f, _p, _v: [],
    "persistentVolumeClaim": _claim,
    "rbd": _needs("monitors", "image"),
    "cinder": _needs("volumeID"),
    "cephfs": _needs("monitors"),
    "quobyte": _needs("registry", "volume"),
    "downwardAPI": _downward_volume,
    "fc": _fibre,
    "flexVolume": _needs("driver"),
    "azureFile": _needs("secretName", "shareName"),
    "configMap": _config_map,
    "vsphereVolume": _needs("volumePath"),
    "azureDisk": _needs("diskName", "diskURI"),
    "photonPersistentDisk": _needs("pdID"),
    "portworxVolume": _needs("volumeID"),
    "scaleIO": _needs("gateway", "system", "volumeName"),
    "storageos": lambda _f, _p, _v: [],
    "projected": _projected,
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
    "gitRepo": _needs("repository"),
    "gcePersistentDisk": _needs("pdName"),
    "awsElasticBlockStore": _needs("volumeID"),
}


def volumes(found: Any, path: str) -> tuple[dict[str, Obj], Errors]:
    """({name: source}, errors)."""
    errors: Errors = []
    known: dict[str, Obj] = {}
    for index, volume in enumerate(found or ()):
        here = f"{path}[{index}]"
        name = volume.get("name", "")
        own: Errors = []
        count = 0
        for kind, check in _CHECKS.items():
            if kind in volume:
                count += 1
                if count > 1:
                    own.append(forbidden(f"{here}.{kind}", "may not specify more than 1 volume type"))
                else:
                    own += check(volume[kind], f"{here}.{kind}", volume)
        if count == 0:
            own.append(required(here, "must specify a volume type"))
        if not name:
            own.append(required(f"{here}.name"))
        else:
            own += dns_label(f"{here}.name", name)
        if name in known:
            own.append(duplicate(f"{here}.name", name))
        if not own:
            known[name] = volume
        errors += own
    return known, errors


__all__ = ["_ENV_PATHS", "csi_driver_name", "unsupported", "volumes"]
