"""The MariaDB object of mariadb-operator that a database with several instances becomes.

Source: mariadb-operator's documentation of k8s.mariadb.com/v1alpha1 ("Replication", "Metadata", "TLS").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.base import DeletionPolicy
from chandlery.model.parts import ExposureType, SpreadPolicy
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery.providers.kubernetes.types import MARIADBS, OWNER_UID, Obj
from chandlery_kinds.database.kubernetes.cluster import ADMIN
from chandlery_kinds.database.kubernetes.inputs import ENGINES
from chandlery_kinds.database.kubernetes.parameters import DatabaseParameters
from chandlery_kinds.database.mariadb.configuration import plain, render
from chandlery_kinds.database.model import DatabaseEngine, DatabaseSpec
from chandlery_kinds.database.spec_parts import Durability, ReplicationMode

SUPERUSER = "root"
PORT = 3306
PRIMARY = "-primary"
"""Suffix of the Service that leads to the primary."""
SECONDARY = "-secondary"
BUNDLE = "-ca-bundle"
"""Suffix of the Secret with the CAs of its certificates."""
_FOREVER = "87600h"


def cluster(
    owner: Owner,
    spec: DatabaseSpec,
    parameters: DatabaseParameters,
    catalogue: Mapping[str, str],
    pull_secrets: Sequence[str] = (),
    *,
    version: str = "",
) -> Obj:
    """The manifest. `version` is that of the data, which stays when a newer operator would begin with another."""
    facts = ENGINES[DatabaseEngine.MARIADB]
    wanted = str(spec.version or version or facts.newest)
    chosen, _ = image("mariadb", f"{facts.repository}:{facts.releases.get(wanted, wanted)}", parameters, catalogue)
    retained = spec.deletion_policy is DeletionPolicy.RETAIN
    storage: dict[str, Any] = {
        "size": str(Quantity(str(spec.storage.size))),
        "resizeInUseVolumes": True,
        "pvcRetentionPolicy": {"whenDeleted": "Retain" if retained else "Delete", "whenScaled": "Delete"},
    }
    if spec.storage.class_name:
        storage["storageClassName"] = spec.storage.class_name
    body: dict[str, Any] = {
        "replicas": spec.instances,
        "image": chosen,
        "rootPasswordSecretKeyRef": {"name": owner.base + ADMIN, "key": "password", "generate": False},
        "storage": storage,
        "replication": _replication(spec),
        "myCnf": _options(spec),
        # the owner's uid is how its pods are found
        "inheritMetadata": {"labels": {**owner.selector, OWNER_UID: owner.uid}},
        "affinity": {"antiAffinityEnabled": spec.placement.spread.policy is not SpreadPolicy.NONE},
        "tls": _tls(spec),
    }
    if spec.exposure.type is not ExposureType.INTERNAL:
        annotations = dict(spec.exposure.annotations)
        service: dict[str, Any] = {"type": spec.exposure.type.value}
        if annotations:
            service["metadata"] = {"annotations": annotations}
        if spec.exposure.allowed_cidrs:
            service["loadBalancerSourceRanges"] = [str(cidr) for cidr in spec.exposure.allowed_cidrs]
        body["primaryService"] = service
    secrets = parameters.pull_secrets or tuple(pull_secrets)
    if secrets:
        body["imagePullSecrets"] = [{"name": name} for name in secrets]
    placement = spec.placement
    if placement.priority_class_name:
        body["priorityClassName"] = placement.priority_class_name
    if placement.node_selector:
        body["nodeSelector"] = dict(placement.node_selector)
    if placement.tolerations:
        body["tolerations"] = [
            t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in placement.tolerations
        ]
    resources = spec.resources.model_dump(mode="json", by_alias=True, exclude_none=True)
    if resources:
        body["resources"] = resources
    return owner.child(MARIADBS, spec=body)


def _replication(spec: DatabaseSpec) -> dict[str, Any]:
    """A copy takes over by itself. What was confirmed is on a copy too where replication is synchronous."""
    given = spec.replication
    found: dict[str, Any] = {
        "enabled": True,
        "primary": {"autoFailover": True, "autoFailoverDelay": str(given.failover_delay)},
        "semiSyncEnabled": given.mode is ReplicationMode.SYNCHRONOUS,
    }
    if given.mode is ReplicationMode.SYNCHRONOUS:
        found["semiSyncWaitPoint"] = "AfterSync"
        if given.durability is not Durability.PREFERRED:
            found["semiSyncAckTimeout"] = _FOREVER
    return found


def _options(spec: DatabaseSpec) -> str:
    """The option file that it adds to its own."""
    limits = spec.resources.limits
    memory = limits.memory.bytes if limits is not None and limits.memory is not None else 0
    values = {
        "character_set_server": spec.initialization.encoding or "utf8mb4",
        **({"collation_server": spec.initialization.locale} if spec.initialization.locale else {}),
        **({"innodb_buffer_pool_size": str(memory // 4)} if memory else {}),
        **spec.configuration,
    }
    tls = spec.tls
    if tls is not None and tls.enabled:
        values["tls_version"] = "TLSv1.3" if tls.minimum_version.value == "1.3" else "TLSv1.2,TLSv1.3"
    return render({name: plain(name, value) for name, value in values.items()})


def _tls(spec: DatabaseSpec) -> dict[str, Any]:
    tls = spec.tls
    if tls is None or not tls.enabled:
        return {"enabled": False}
    return {"enabled": True, "required": tls.required}
