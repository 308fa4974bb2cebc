"""The pods that back a queue in JetStream up, and that fill a new one. Pure."""

from __future__ import annotations

from typing import Any, Final

from chandlery.providers.kubernetes import backup as common
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.queue import content
from chandlery_kinds.queue.kubernetes.inputs import Inputs

MODULE: Final = "chandlery_kinds.queue.drivers.kubernetes_program"
RESTORE: Final = "-restore"
"""Suffix of the Job that fills a new queue, and what it is for as a label says."""


def _server(inputs: Inputs) -> dict[str, Any]:
    """Whom the program asks for which streams."""
    owner, spec = inputs.owner, inputs.spec
    return {
        "host": f"{owner.base}.{owner.namespace}.svc",
        "port": inputs.service_port,
        "password": f"{common.SECRET}/admin",
        "tls": common.TLS_MOUNT if inputs.tls is not None else "",
        "streams": [one for one in content.wanted(owner.name, spec, spec.replicas) if "durable_name" not in one[2]],
    }


def template(inputs: Inputs) -> Obj:
    """The pod that makes one backup."""
    backup, owner = inputs.spec.backup, inputs.owner
    assert backup is not None
    place = common.place_of(backup.destination)
    task = {
        **_server(inputs),
        "owner": {"kind": owner.kind, "namespace": owner.namespace, "name": owner.name, "uid": owner.uid},
        **common.task_of(place),
        "retention": backup.retention.model_dump(mode="json", exclude_none=True) if backup.retention else None,
        "told": common.TOLD,
    }
    made = common.container("backup", inputs.tool, MODULE, ["take"], task, inputs.parameters)
    return common.program_template(
        owner, made, place, inputs.spec.placement, inputs.pull_secrets, tls=inputs.tls is not None
    )


def restore_template(inputs: Inputs) -> Obj:
    """The pod that fills a new queue."""
    owner, source = inputs.owner, inputs.restore
    assert source is not None
    task = {
        **_server(inputs),
        "kind": owner.kind,
        "namespace": owner.namespace,
        **common.task_of(common.known_place(source)),
        **{key: source[key] for key in ("object", "uid", "name") if key in source},
        "told": common.TOLD,
    }
    made = common.container("restore", source["image"], MODULE, ["restore"], task, inputs.parameters)
    return common.program_template(
        owner,
        made,
        common.known_place(source),
        inputs.spec.placement,
        inputs.pull_secrets,
        tls=inputs.tls is not None,
        read_only=True,
        component=RESTORE.lstrip("-"),
    )
