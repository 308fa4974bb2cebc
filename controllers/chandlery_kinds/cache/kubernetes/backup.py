"""The pods that back a cache up, and the container that puts a backup's file where a server loads it. Pure.

A backup is the RDB that a primary (each one, of shards) sends as it would to a new copy. A restore puts it into the
first pod (of each shard) before its server starts for the first time: as the snapshot, or as the append-only file,
which may begin with one. Without persistence it has a name that the server knows only until the data are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chandlery.providers.kubernetes import backup as common
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.cache.kubernetes.inputs import DATA, MOUNT, PORT, TLS_PORT, Inputs
from chandlery_kinds.cache.model import PersistenceMode

MODULE: Final = "chandlery_kinds.cache.drivers.kubernetes_program"
DONE_FILE: Final = "restored"
"""Key of the Secret with the configuration: the data of the backup are there, and not to be loaded again."""
PASSING: Final = "restored.rdb"
"""Name of the snapshot of a cache that keeps none."""


def settings(inputs: Inputs, *, restored: bool) -> dict[str, str]:
    """Lines of the file while a backup is still to be loaded."""
    passes = inputs.restore is not None and not restored and not inputs.persistent
    return {"dbfilename": PASSING} if passes else {}


def template(inputs: Inputs) -> Obj:
    """The pod that makes one backup."""
    backup, owner = inputs.spec.backup, inputs.owner
    assert backup is not None
    place = common.place_of(backup.destination)
    beside = inputs.tls is not None and not inputs.only_tls
    task: dict[str, Any] = {
        "owner": {"kind": owner.kind, "namespace": owner.namespace, "name": owner.name, "uid": owner.uid},
        **common.task_of(place),
        "retention": backup.retention.model_dump(mode="json", exclude_none=True) if backup.retention else None,
        "told": common.TOLD,
        "engine": inputs.spec.engine.value,
        "mode": "sharded" if inputs.sharded else "single",
        "host": f"{owner.base}.{owner.namespace}.svc",
        "port": TLS_PORT if beside else inputs.service_port,
        "nodes": TLS_PORT if beside else PORT,
        "password": f"{common.SECRET}/admin",
        "tls": common.TLS_MOUNT if inputs.tls is not None else "",
    }
    made = common.container("backup", inputs.tool, MODULE, ["take"], task, inputs.parameters)
    return common.program_template(
        owner, made, place, inputs.spec.placement, inputs.pull_secrets, tls=inputs.tls is not None
    )


def restore_container(inputs: Inputs) -> list[dict[str, Any]]:
    """What fills the volume of a first pod; none without a backup to begin with."""
    source = inputs.restore
    if source is None:
        return []
    task = {
        "kind": inputs.owner.kind,
        "namespace": inputs.owner.namespace,
        **common.task_of(common.known_place(source)),
        **{key: source[key] for key in ("object", "uid", "name") if key in source},
        "engine": inputs.spec.engine.value,
        "sharded": inputs.sharded,
        "shards": inputs.spec.primaries,
        "data": DATA,
        "into": _file(inputs),
        "done": f"{MOUNT}/{DONE_FILE}",
    }
    mounts = [
        {"name": "config", "mountPath": MOUNT, "readOnly": True},
        *common.mounts(common.known_place(source), read_only=True),
        {"name": "data", "mountPath": DATA},
    ]
    env = [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    return [
        common.container(
            "restore", source["image"], MODULE, ["restore"], task, inputs.parameters, volumeMounts=mounts, env=env
        )
    ]


def restore_volumes(inputs: Inputs) -> list[dict[str, Any]]:
    """With the backup; none without one to begin with."""
    if inputs.restore is None:
        return []
    return common.volumes(common.known_place(inputs.restore), read_only=True)


def _file(inputs: Inputs) -> str:
    configuration: Mapping[str, str] = inputs.spec.configuration
    mode = inputs.spec.persistence.mode
    if mode is PersistenceMode.NONE:
        return PASSING
    if mode is PersistenceMode.SNAPSHOT:
        return configuration.get("dbfilename", "dump.rdb")
    # a server that finds the one file of earlier versions, and no folder, takes it for its log's beginning
    return configuration.get("appendfilename", "appendonly.aof")
