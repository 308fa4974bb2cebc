"""The objects of CloudNativePG that a database becomes: a Cluster, a Pooler.

Sources: the CloudNativePG API reference, postgresql.cnpg.io/v1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.parts import ExposureType, SpreadPolicy
from chandlery.model.scalars import Duration
from chandlery.providers.kubernetes.metrics import metrics_children
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery.providers.kubernetes.services import client_service, port
from chandlery.providers.kubernetes.types import CNPG_CLUSTERS, CNPG_POOLERS, OWNER_UID, Obj
from chandlery_kinds.database.kubernetes import cluster_backup
from chandlery_kinds.database.kubernetes.parameters import DatabaseParameters
from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.spec_parts import Durability, ReplicationMode

AUTH = "-auth"
ADMIN = "-admin"
"""Suffix of the Secret of CloudNativePG's superuser."""
POOLER = "-pooler"
SUPERUSER = "postgres"
PORT = 5432
METRICS_PORT = 9187
_LIBRARIES = "shared_preload_libraries"


def children(
    owner: Owner,
    spec: DatabaseSpec,
    parameters: DatabaseParameters,
    catalogue: Mapping[str, str],
    pull_secrets: Sequence[str] = (),
    *,
    live: Obj | None = None,
    monitors: bool = False,
    restore: Mapping[str, Any] | None = None,
) -> list[Obj]:
    """Everything but what holds generated values. `restore` says where a cluster begins from: server, s3."""
    made = cluster(owner, spec, parameters, catalogue, pull_secrets, live=live, restore=restore)
    found = [*cluster_backup.children(owner, spec, restore), made, *pooler(owner, spec)]
    if spec.exposure.type is not ExposureType.INTERNAL:
        selector = {"cnpg.io/cluster": owner.base, "cnpg.io/instanceRole": "primary"}
        if pooled(spec):
            selector = {"cnpg.io/poolerName": owner.base + POOLER}
        target = port("postgres", spec.exposure.port or PORT, "pgbouncer" if pooled(spec) else "postgresql")
        found.append(client_service(owner, spec.exposure, [target], selector))
    return [*found, *metrics_children(owner, spec.metrics, METRICS_PORT, monitors=monitors)]


def pooled(spec: DatabaseSpec) -> bool:
    return spec.pooler is not None and spec.pooler.enabled


def cluster(
    owner: Owner,
    spec: DatabaseSpec,
    parameters: DatabaseParameters,
    catalogue: Mapping[str, str],
    pull_secrets: Sequence[str] = (),
    *,
    live: Obj | None = None,
    restore: Mapping[str, Any] | None = None,
) -> Obj:
    """The manifest. Without a version or an image of people's own, the image is CloudNativePG's choice.

    How `live` began is kept: it is read at creation only.
    """
    default = f"ghcr.io/cloudnative-pg/postgresql:{spec.version}" if spec.version else ""
    chosen, _ = image("postgres", default, parameters, catalogue)
    body: dict[str, Any] = {
        "instances": spec.instances,
        "storage": {"size": str(Quantity(str(spec.storage.size)))},
        **_began(owner, spec, live, restore),
        **cluster_backup.plugins(owner, spec),
        # databases, roles and rights are kept over a real connection, as everywhere
        "enableSuperuserAccess": True,
        "superuserSecret": {"name": owner.base + ADMIN},
        # the owner's uid is how its pods are found
        "inheritedMetadata": {"labels": {**owner.selector, OWNER_UID: owner.uid}},
        "affinity": _affinity(spec),
    }
    if chosen:
        body["imageName"] = chosen
    if spec.storage.class_name:
        body["storage"]["storageClass"] = spec.storage.class_name
    secrets = parameters.pull_secrets or tuple(pull_secrets)
    if secrets:
        body["imagePullSecrets"] = [{"name": name} for name in secrets]
    if spec.placement.priority_class_name:
        body["priorityClassName"] = spec.placement.priority_class_name
    resources = spec.resources.model_dump(mode="json", by_alias=True, exclude_none=True)
    if resources:
        body["resources"] = resources
    delay = int(Duration(str(spec.replication.failover_delay)).seconds)
    if delay:
        body["failoverDelay"] = delay
    tls = spec.tls
    if tls is not None and tls.enabled and tls.certificate_secret is not None:
        name = str(tls.certificate_secret.name)
        body["certificates"] = {"serverTLSSecret": name, "serverCASecret": name}
    postgresql = _postgresql(spec)
    if postgresql:
        body["postgresql"] = postgresql
    return owner.child(CNPG_CLUSTERS, spec=body)


def _began(owner: Owner, spec: DatabaseSpec, live: Obj | None, restore: Mapping[str, Any] | None) -> dict[str, Any]:
    had = (live or {}).get("spec") or {}
    if had.get("bootstrap"):
        return {key: had[key] for key in ("bootstrap", "externalClusters") if had.get(key)}
    if restore is not None:
        return cluster_backup.recovery(owner, spec, restore, owner.base + AUTH)
    return {"bootstrap": {"initdb": _beginning(owner, spec)}}


def _beginning(owner: Owner, spec: DatabaseSpec) -> dict[str, Any]:
    given, first = spec.initialization, spec.databases[0]
    return {
        "database": first.name,
        "owner": spec.owner_of(first),
        "secret": {"name": owner.base + AUTH},
        **({"encoding": given.encoding} if given.encoding else {}),
        **({"locale": given.locale} if given.locale else {}),
        "dataChecksums": given.data_checksums,
    }


def _affinity(spec: DatabaseSpec) -> dict[str, Any]:
    spread = spec.placement.spread
    found: dict[str, Any] = {"enablePodAntiAffinity": spread.policy is not SpreadPolicy.NONE}
    if spread.policy is not SpreadPolicy.NONE:
        found["topologyKey"] = spread.topology_key
        found["podAntiAffinityType"] = "required" if spread.policy is SpreadPolicy.REQUIRED else "preferred"
    if spec.placement.node_selector:
        found["nodeSelector"] = dict(spec.placement.node_selector)
    if spec.placement.tolerations:
        found["tolerations"] = [
            t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in spec.placement.tolerations
        ]
    return found


def _postgresql(spec: DatabaseSpec) -> dict[str, Any]:
    found: dict[str, Any] = {}
    values = dict(spec.configuration)
    libraries = [name.strip().strip('"') for name in values.pop(_LIBRARIES, "").split(",") if name.strip()]
    tls = spec.tls
    if tls is not None and tls.enabled:
        values["ssl_min_protocol_version"] = f"TLSv{tls.minimum_version.value}"
        if tls.required:
            found["pg_hba"] = ["hostnossl all all all reject"]
    if values:
        found["parameters"] = values
    if libraries:
        found[_LIBRARIES] = libraries
    replication = spec.replication
    if replication.mode is ReplicationMode.SYNCHRONOUS and spec.instances > 1:
        found["synchronous"] = {
            "method": "any",
            "number": replication.synchronous_instances or 1,
            "dataDurability": "preferred" if replication.durability is Durability.PREFERRED else "required",
        }
    return found


def pooler(owner: Owner, spec: DatabaseSpec) -> list[Obj]:
    """PgBouncer in front of the primary; none without one. CloudNativePG makes it a Service of the same name."""
    given = spec.pooler
    if given is None or not given.enabled:
        return []
    body: dict[str, Any] = {
        "cluster": {"name": owner.base},
        "type": "rw",
        "instances": given.instances,
        "pgbouncer": {
            "poolMode": given.mode.value,
            "parameters": {
                **given.configuration,
                "max_client_conn": str(given.max_client_connections),
                "default_pool_size": str(given.pool_size),
            },
        },
    }
    resources = given.resources.model_dump(mode="json", by_alias=True, exclude_none=True)
    if resources:
        body["template"] = {
            "metadata": {"labels": dict(owner.selector)},
            "spec": {"containers": [{"name": "pgbouncer", "resources": resources}]},
        }
    return [owner.child(CNPG_POOLERS, POOLER, spec=body)]
