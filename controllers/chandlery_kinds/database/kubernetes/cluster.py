"""The Cluster of CloudNativePG that a database becomes.

Source: the CloudNativePG API reference, postgresql.cnpg.io/v1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.parts import SpreadPolicy
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery.providers.kubernetes.types import CNPG_CLUSTERS, Obj
from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.spec_parts import Durability, ReplicationMode

AUTH = "-auth"


def cluster(
    owner: Owner,
    spec: DatabaseSpec,
    parameters: Mapping[str, Any],
    catalogue: Mapping[str, str],
    pull_secrets: Sequence[str] = (),
) -> Obj:
    """The manifest. Without a version or an image of people's own, the image is CloudNativePG's choice."""
    first = spec.databases[0]
    default = f"ghcr.io/cloudnative-pg/postgresql:{spec.version}" if spec.version else ""
    chosen, _ = image("postgres", default, parameters, catalogue)
    body: dict[str, Any] = {
        "instances": spec.instances,
        "storage": {"size": str(Quantity(str(spec.storage.size)))},
        "bootstrap": {
            "initdb": {
                "database": first.name,
                "owner": spec.owner_of(first),
                "secret": {"name": owner.base + AUTH},
            }
        },
        "inheritedMetadata": {"labels": owner.selector},
        "affinity": _affinity(spec),
    }
    if chosen:
        body["imageName"] = chosen
    if spec.storage.class_name:
        body["storage"]["storageClass"] = spec.storage.class_name
    secrets = tuple(parameters.get("pullSecrets") or pull_secrets)
    if secrets:
        body["imagePullSecrets"] = [{"name": name} for name in secrets]
    if spec.placement.priority_class_name:
        body["priorityClassName"] = spec.placement.priority_class_name
    resources = spec.resources.model_dump(mode="json", by_alias=True, exclude_none=True)
    if resources:
        body["resources"] = resources
    postgresql = _postgresql(spec)
    if postgresql:
        body["postgresql"] = postgresql
    return owner.child(CNPG_CLUSTERS, spec=body)


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
    if spec.configuration:
        found["parameters"] = dict(spec.configuration)
    replication = spec.replication
    if replication.mode is ReplicationMode.SYNCHRONOUS and spec.instances > 1:
        found["synchronous"] = {
            "method": "any",
            "number": replication.synchronous_instances or 1,
            "dataDurability": "preferred" if replication.durability is Durability.PREFERRED else "required",
        }
    return found
