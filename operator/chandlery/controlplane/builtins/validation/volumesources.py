"""Sources of volumes that are named by a vendor: what each needs, in a pod and (`lasting`) in a PersistentVolume.

Source: the field descriptions of core/v1 and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_label,
    invalid,
    label_errors_plain,
    one_of,
    relative_path,
    required,
    unsupported,
)
from chandlery.controlplane.types import Obj

Check = Callable[[Obj, str, bool], Errors]
"""(source, its path, whether it is a PersistentVolume's)."""

_IQN = re.compile(r"iqn\.[0-9]{4}-[0-9]{2}\.([A-Za-z0-9_.-]+)(:[^,;*&$|\s]+)$")
_EUI = re.compile(r"^eui.[A-Za-z0-9]{16}$")
_NAA = re.compile(r"^naa.[A-Za-z0-9]{32}$")
_LUN = "must be between 0 and 255, inclusive"
_PARTITION = "must be between 1 and 255, inclusive"
_MANAGED = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
_PAIRS = "must be a host:port pair or multiple pairs separated by commas"
_NAMESPACE = "if the endpointnamespace is set, it must be a valid namespace name"


def missing(found: Obj, path: str, *fields: str) -> Errors:
    return [required(f"{path}.{field}") for field in fields if not found.get(field)]


def needs(*fields: str) -> Check:
    return lambda found, path, _lasting: missing(found, path, *fields)


def _secret(found: Obj, path: str, lasting: bool) -> Errors:
    """A `secretRef`; one of a PersistentVolume says in which namespace."""
    reference = found.get("secretRef")
    if reference is None:
        return []
    return missing(reference, f"{path}.secretRef", *(("name", "namespace") if lasting else ("name",)))


def nfs(found: Obj, path: str, _: bool) -> Errors:
    errors = missing(found, path, "server", "path")
    where = found.get("path", "")
    return errors if where.startswith("/") else [*errors, invalid(f"{path}.path", where, "must be an absolute path")]


def git(found: Obj, path: str, _: bool) -> Errors:
    return missing(found, path, "repository") + relative_path(f"{path}.directory", found.get("directory", ""))


def partitioned(field: str) -> Check:
    def check(found: Obj, path: str, _: bool) -> Errors:
        part = found.get("partition", 0)
        wrong = [] if 0 <= part <= 255 else [invalid(f"{path}.partition", part, _PARTITION)]
        return missing(found, path, field) + wrong

    return check


_STARTS = "must be valid format starting with iqn, eui, or naa"


def _qualified(name: str, path: str, lasting: bool) -> Errors:
    """A name that iSCSI knows targets or initiators by."""
    pattern = {"iqn": _IQN, "eui": _EUI, "naa": _NAA}.get(name[:3])
    if pattern is None:
        return [invalid(path, name, "must be valid format" if lasting else _STARTS)]
    return [] if pattern.search(name) else [invalid(path, name, "must be valid format")]


def iscsi(found: Obj, path: str, lasting: bool) -> Errors:
    errors = missing(found, path, "targetPortal", "iqn")
    if found.get("iqn"):
        errors += _qualified(found["iqn"], f"{path}.iqn", lasting)
    lun = found.get("lun", 0)
    if not 0 <= lun <= 255:
        errors.append(invalid(f"{path}.lun", lun, _LUN))
    secret = found.get("secretRef")
    if (found.get("chapAuthDiscovery") or found.get("chapAuthSession")) and secret is None:
        errors.append(required(f"{path}.secretRef"))
    if lasting and secret is not None:
        errors += missing(secret, f"{path}.secretRef", "name")
    initiator = found.get("initiatorName")
    return errors if initiator is None else errors + _qualified(initiator, f"{path}.initiatorname", lasting)


def fibre(found: Obj, path: str, _: bool) -> Errors:
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


def quobyte(found: Obj, path: str, _: bool) -> Errors:
    errors: Errors = []
    registry = found.get("registry", "")
    if not registry:
        errors.append(required(f"{path}.registry", _PAIRS))
    elif len(found.get("tenant", "").encode()) >= 65:
        errors.append(required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        bad = [pair for pair in registry.split(",") if not re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*):[^:\[\]]*", pair)]
        errors += [invalid(f"{path}.registry", registry, _PAIRS)] * len(bad)
    return errors + missing(found, path, "volume")


def gluster(found: Obj, path: str, lasting: bool) -> Errors:
    errors = missing(found, path, "endpoints", "path")
    namespace = found.get("endpointsNamespace") if lasting else None
    here = f"{path}.endpointsNamespace"
    if namespace == "":
        errors.append(invalid(here, namespace, _NAMESPACE))
    elif namespace is not None:
        errors += dns_label(here, namespace)
    return errors


def flocker(found: Obj, path: str, _: bool) -> Errors:
    name, known = found.get("datasetName", ""), found.get("datasetUUID", "")
    errors: Errors = []
    if not name and not known:
        errors.append(required(path, "one of datasetName and datasetUUID is required"))
    if name and known:
        text = "datasetName and datasetUUID can not be specified simultaneously"
        errors.append(invalid(path, "resource", text))
    if "/" in name:
        errors.append(invalid(f"{path}.datasetName", name, "must not contain '/'"))
    return errors


def flex(found: Obj, path: str, _: bool) -> Errors:
    errors = missing(found, path, "driver")
    for key in found.get("options") or ():
        if ("." + key.partition("/")[0].lower()).endswith((".kubernetes.io", ".k8s.io")):
            text = "kubernetes.io and k8s.io namespaces are reserved"
            errors.append(invalid(f"{path}.options[{key}]", key, text))
    return errors


def azure_file(found: Obj, path: str, lasting: bool) -> Errors:
    errors = missing(found, path, "secretName", "shareName")
    if lasting and found.get("secretNamespace") == "":
        errors.append(required(f"{path}.secretNamespace"))
    return errors


def azure_disk(found: Obj, path: str, _: bool) -> Errors:
    errors = missing(found, path, "diskName", "diskURI")
    caching, kind, uri = found.get("cachingMode"), found.get("kind"), found.get("diskURI", "")
    if caching is not None:
        errors += one_of(f"{path}.cachingMode", caching, ("None", "ReadOnly", "ReadWrite"))
    if kind is not None:
        errors += one_of(f"{path}.kind", kind, ("Dedicated", "Managed", "Shared"))
        if kind == "Managed" and not uri.startswith("/subscriptions/"):
            errors.append(unsupported(f"{path}.diskURI", uri, (_MANAGED,)))
        if kind != "Managed" and not uri.startswith("https://"):
            errors.append(unsupported(f"{path}.diskURI", uri, (_BLOB,)))
    return errors


def cinder(found: Obj, path: str, lasting: bool) -> Errors:
    return missing(found, path, "volumeID") + _secret(found, path, lasting)


def storage_os(found: Obj, path: str, lasting: bool) -> Errors:
    name, namespace = found.get("volumeName", ""), found.get("volumeNamespace", "")
    errors = dns_label(f"{path}.volumeName", name) if name else [required(f"{path}.volumeName")]
    if namespace and label_errors_plain(namespace):
        errors += dns_label(f"{path}.volumeNamespace", namespace)
    return errors + _secret(found, path, lasting)


VENDORS: dict[str, Check] = {
    "nfs": nfs,
    "gitRepo": git,
    "gcePersistentDisk": partitioned("pdName"),
    "awsElasticBlockStore": partitioned("volumeID"),
    "iscsi": iscsi,
    "glusterfs": gluster,
    "flocker": flocker,
    "rbd": needs("monitors", "image"),
    "cinder": cinder,
    "cephfs": needs("monitors"),
    "quobyte": quobyte,
    "fc": fibre,
    "flexVolume": flex,
    "azureFile": azure_file,
    "vsphereVolume": needs("volumePath"),
    "azureDisk": azure_disk,
    "photonPersistentDisk": needs("pdID"),
    "portworxVolume": needs("volumeID"),
    "scaleIO": needs("gateway", "system", "volumeName"),
    "storageos": storage_os,
}

TOLD_AS: dict[str, str] = {"gcePersistentDisk": "persistentDisk"}
"""Sources whose own errors go by another name."""
