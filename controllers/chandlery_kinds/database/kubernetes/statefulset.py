"""The StatefulSet of a single database, whatever the engine."""

from __future__ import annotations

from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes.services import HEADLESS
from chandlery.providers.kubernetes.types import STATEFUL_SETS, Obj
from chandlery_kinds.database.kubernetes import mariadb_pod, postgres_pod
from chandlery_kinds.database.kubernetes.inputs import Inputs
from chandlery_kinds.database.model import DatabaseEngine


def stateful_set(inputs: Inputs, live: Obj | None = None) -> Obj:
    """The manifest.

    Args:
        inputs: of all of it.
        live: as it is; the size in its claim templates can't change and is kept.
    """
    owner = inputs.owner
    spec: dict[str, Any] = {
        "replicas": 1,
        "serviceName": owner.base + HEADLESS,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "selector": {"matchLabels": owner.selector},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "template": _template(inputs),
        "volumeClaimTemplates": [_claim(inputs, live)],
    }
    return owner.child(STATEFUL_SETS, spec=spec)


def _claim(inputs: Inputs, live: Obj | None) -> dict[str, Any]:
    storage = inputs.spec.storage
    size = str(Quantity(str(storage.size)))
    for known in ((live or {}).get("spec") or {}).get("volumeClaimTemplates") or ():
        size = known["spec"]["resources"]["requests"]["storage"]
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage.class_name:
        spec["storageClassName"] = storage.class_name
    return {"metadata": {"name": "data", "labels": inputs.owner.labels}, "spec": spec}


def _template(inputs: Inputs) -> dict[str, Any]:
    maria = inputs.spec.engine is DatabaseEngine.MARIADB
    return mariadb_pod.template(inputs) if maria else postgres_pod.template(inputs)
