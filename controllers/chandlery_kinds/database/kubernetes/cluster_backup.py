"""Backups of a Cluster of CloudNativePG by its Barman Cloud plugin: where they go, when, and how one begins with them.

Sources: the documentation of the Barman Cloud plugin ("Using the Barman Cloud Plugin") and of CloudNativePG
("Backup", "Recovery").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.model.backup import S3Destination
from chandlery.providers.kubernetes.children import GENERATED
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.ownership import Owner, annotated
from chandlery.providers.kubernetes.types import CNPG_BACKUPS, CNPG_SCHEDULES, OBJECT_STORES, Obj
from chandlery_kinds.database.model import DatabaseSpec

PLUGIN = "barman-cloud.cloudnative-pg.io"
CRD = "objectstores.barmancloud.cnpg.io"
ORIGIN = "-origin"
"""Suffix of the store that a cluster begins from."""
_SOURCE = "origin"


def store(owner: Owner, destination: S3Destination, suffix: str = "", *, days: int | None = None) -> Obj:
    """An ObjectStore; its credentials stay in the Secret that people name."""
    keys = {"accessKeyId": "access-key-id", "secretAccessKey": "secret-access-key"}
    credentials: dict[str, Any] = {"inheritFromIAMRole": True}
    if destination.credentials_secret is not None:
        name = str(destination.credentials_secret.name)
        credentials = {field: {"name": name, "key": key} for field, key in keys.items()}
    configuration: dict[str, Any] = {
        "destinationPath": f"s3://{destination.bucket}/{destination.prefix}".rstrip("/"),
        "s3Credentials": credentials,
        "wal": {"compression": "gzip"},
    }
    if destination.endpoint is not None:
        configuration["endpointURL"] = str(destination.endpoint)
    spec: dict[str, Any] = {"configuration": configuration}
    if destination.region:
        env = [{"name": "AWS_DEFAULT_REGION", "value": destination.region}]
        spec["instanceSidecarConfiguration"] = {"env": env}
    if days is not None:
        spec["retentionPolicy"] = f"{days}d"
    return owner.child(OBJECT_STORES, suffix, spec=spec)


def children(owner: Owner, spec: DatabaseSpec, restore: Mapping[str, Any] | None) -> list[Obj]:
    """The stores, and the schedule."""
    found, backup = [], spec.backup
    if restore is not None:
        found.append(store(owner, S3Destination.model_validate(restore["s3"]), ORIGIN))
    if backup is None or backup.destination.s3 is None:
        return found
    days = backup.retention.days if backup.retention is not None else None
    found.append(store(owner, backup.destination.s3, days=days))
    if backup.schedule is not None:
        said = str(backup.schedule)
        body = {
            **_what(owner),
            "schedule": said if said.startswith("@") else f"0 {said}",  # it knows seconds, too
            "suspend": backup.suspended,
            "backupOwnerReference": "self",
        }
        found.append(owner.child(CNPG_SCHEDULES, spec=body))
    return found


def _what(owner: Owner) -> dict[str, Any]:
    return {"cluster": {"name": owner.base}, "method": "plugin", "pluginConfiguration": {"name": PLUGIN}}


def asked_for(owner: Owner, asked: str) -> Obj:
    """The Backup that a person has asked for; asked for again by the same text it is the same one."""
    made = owner.child(CNPG_BACKUPS, f"-backup-{digest(asked)[:8]}", spec=_what(owner))
    return annotated(made, {GENERATED: "true"})


def plugins(owner: Owner, spec: DatabaseSpec) -> dict[str, Any]:
    """Of the Cluster: the log is archived from the beginning, as the plugin's backups need it."""
    if spec.backup is None:
        return {}
    return {"plugins": [{"name": PLUGIN, "isWALArchiver": True, "parameters": {"barmanObjectName": owner.base}}]}


def recovery(owner: Owner, spec: DatabaseSpec, restore: Mapping[str, Any], auth: str) -> dict[str, Any]:
    """Of the Cluster: how it begins with what another one left."""
    first, given = spec.databases[0], spec.restore_from
    target: dict[str, str] = {}
    if given is not None and given.point_in_time is not None:
        target["targetTime"] = str(given.point_in_time)
    if given is not None and given.backup:
        target["backupID"] = given.backup
    begin: dict[str, Any] = {
        "source": _SOURCE,
        "database": first.name,
        "owner": spec.owner_of(first),
        "secret": {"name": auth},
        **({"recoveryTarget": target} if target else {}),
    }
    parameters = {"barmanObjectName": owner.base + ORIGIN, "serverName": str(restore["server"])}
    source = {"name": _SOURCE, "plugin": {"name": PLUGIN, "parameters": parameters}}
    return {"bootstrap": {"recovery": begin}, "externalClusters": [source]}


def facts(owner: Owner, stores: Obj | None, backups: Sequence[Obj]) -> dict[str, Any]:
    """`status.backup`: what the store tells of its window, and the Backups that were asked for here."""
    window = (((stores or {}).get("status") or {}).get("serverRecoveryWindow") or {}).get(owner.base) or {}
    found: dict[str, Any] = {}
    if window.get("lastSuccessfulBackupTime"):
        found["lastSuccessfulTime"] = window["lastSuccessfulBackupTime"]
    if window.get("firstRecoverabilityPoint"):
        found["firstRecoverabilityPoint"] = window["firstRecoverabilityPoint"]
    entries = []
    for one in backups:
        status = one.get("status") or {}
        phase = {"completed": "Completed", "failed": "Failed"}.get(str(status.get("phase") or ""), "Running")
        entry = {"name": str(status.get("backupId") or one["metadata"]["name"]), "phase": phase}
        times = {"startedAt": status.get("startedAt"), "completedAt": status.get("stoppedAt")}
        entry |= {key: str(value) for key, value in times.items() if value}
        if phase == "Failed":
            entry["message"] = str(status.get("error") or "")
        entries.append(entry)
    entries.sort(key=lambda entry: entry.get("startedAt", "~"), reverse=True)
    return {**found, "list": entries[:20]}
