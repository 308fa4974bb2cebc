"""The StatefulSet of NATS servers."""

from __future__ import annotations

from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes import pods
from chandlery.providers.kubernetes.types import STATEFUL_SETS, Obj
from chandlery_kinds.queue.kubernetes.config import CONFIG, HEADLESS
from chandlery_kinds.queue.kubernetes.inputs import CLUSTER_PORT, DATA, MONITOR_PORT, MOUNT, PORT, Inputs

_MEMORY = 256 * 2**20
_DEFAULT_SIZE = "1Gi"
REVISION = "chandlery.dev/configuration"


def storage_size(inputs: Inputs) -> str:
    """Of each server's volume."""
    storage = inputs.spec.storage
    return str(Quantity(str(storage.size))) if storage is not None else _DEFAULT_SIZE


def stateful_set(inputs: Inputs, revision: str, live: Obj | None = None) -> Obj:
    """The manifest; `revision` stands for the configuration that the pods have."""
    owner = inputs.owner
    size = storage_size(inputs)
    for known in ((live or {}).get("spec") or {}).get("volumeClaimTemplates") or ():
        size = known["spec"]["resources"]["requests"]["storage"]  # can't change here; claims themselves are grown
    claim: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if inputs.spec.storage is not None and inputs.spec.storage.class_name:
        claim["storageClassName"] = inputs.spec.storage.class_name
    return owner.child(
        STATEFUL_SETS,
        spec={
            "replicas": inputs.spec.replicas,
            "serviceName": owner.base + HEADLESS,
            "podManagementPolicy": "Parallel",
            # one server after the other, each only when the one before is in step again (its readiness says so)
            "updateStrategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": owner.selector},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "template": {
                "metadata": {"labels": owner.labels, "annotations": {REVISION: revision}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": pods.pod_security(),
                    "terminationGracePeriodSeconds": 60,
                    **pods.placement(owner, inputs.spec.placement, inputs.pull_secrets),
                    "containers": [_container(inputs)],
                    "volumes": [
                        {"name": "config", "secret": {"secretName": owner.base + CONFIG, "defaultMode": 0o440}}
                    ],
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": owner.labels}, "spec": claim}],
        },
    )


def _container(inputs: Inputs) -> dict[str, Any]:
    ports = [
        {"name": "client", "containerPort": PORT, "protocol": "TCP"},
        {"name": "monitor", "containerPort": MONITOR_PORT, "protocol": "TCP"},
    ]
    if inputs.spec.replicas > 1:
        ports.append({"name": "cluster", "containerPort": CLUSTER_PORT, "protocol": "TCP"})
    return {
        "name": "nats",
        "image": inputs.image,
        "command": ["nats-server", "-n", "$(POD_NAME)", "-c", f"{MOUNT}/nats.conf"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": ports,
        "securityContext": pods.CONTAINER_SECURITY,
        "resources": pods.resources(inputs.spec.resources, memory=_MEMORY),
        # /healthz asks JetStream too: its streams are there and in step
        "startupProbe": pods.http_probe("/healthz?js-enabled-only=true", "monitor", period=2, failures=150),
        "livenessProbe": pods.http_probe("/healthz?js-enabled-only=true", "monitor", period=10, failures=6),
        "readinessProbe": pods.http_probe("/healthz?js-server-only=true", "monitor", period=5),
        "volumeMounts": [
            {"name": "config", "mountPath": MOUNT, "readOnly": True},
            {"name": "data", "mountPath": DATA},
        ],
    }
