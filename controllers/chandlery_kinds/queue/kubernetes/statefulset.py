"""The StatefulSet of NATS servers."""

from __future__ import annotations

from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes import certificates, pods
from chandlery.providers.kubernetes.services import HEADLESS
from chandlery.providers.kubernetes.types import STATEFUL_SETS, Obj
from chandlery_kinds.queue.kubernetes.config import CONFIG, PID_FILE
from chandlery_kinds.queue.kubernetes.inputs import (
    CLUSTER_PORT,
    DATA,
    MONITOR_PORT,
    MOUNT,
    PORT,
    RUN,
    TLS_MOUNT,
    Inputs,
)

_MEMORY = 256 * 2**20
_DEFAULT_SIZE = "1Gi"
REVISION = "chandlery.dev/configuration"


def storage_size(inputs: Inputs) -> str:
    """Of each server's volume."""
    storage = inputs.spec.storage
    return str(Quantity(str(storage.size))) if storage is not None else _DEFAULT_SIZE


def stateful_set(inputs: Inputs, revision: str, live: Obj | None = None, *, servers: int | None = None) -> Obj:
    """The manifest.

    Args:
        inputs: of all of it.
        revision: stands for the part of the configuration that needs a restart.
        live: as it is; the size in its claim templates can't change and is kept.
        servers: how many, where that isn't what the spec asks for yet.
    """
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
            "replicas": inputs.spec.replicas if servers is None else servers,
            "serviceName": owner.base + HEADLESS,
            "podManagementPolicy": "Parallel",
            # one server after the other, each only when the one before is in step again (its readiness says so)
            "updateStrategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": owner.selector},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"},
            "template": {
                "metadata": {"labels": owner.labels, "annotations": {REVISION: revision}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": pods.pod_security(),
                    "terminationGracePeriodSeconds": 60,
                    **pods.placement(owner, inputs.spec.placement, inputs.pull_secrets),
                    "containers": [_container(inputs), *_exporter(inputs)],
                    "volumes": _volumes(inputs),
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": owner.labels}, "spec": claim}],
        },
    )


def _volumes(inputs: Inputs) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "config", "secret": {"secretName": inputs.owner.base + CONFIG, "defaultMode": 0o440}},
        pods.scratch("run"),
    ]
    return [*found, certificates.volume(inputs.owner.base)] if inputs.tls is not None else found


def _container(inputs: Inputs) -> dict[str, Any]:
    ports = [
        {"name": "client", "containerPort": PORT, "protocol": "TCP"},
        {"name": "monitor", "containerPort": MONITOR_PORT, "protocol": "TCP"},
    ]
    if inputs.clustered:
        ports.append({"name": "cluster", "containerPort": CLUSTER_PORT, "protocol": "TCP"})
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": MOUNT, "readOnly": True},
        {"name": "data", "mountPath": DATA},
        {"name": "run", "mountPath": RUN},
    ]
    if inputs.tls is not None:
        mounts.append({"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True})
    server = pods.program("nats-server", ["nats-server"], inputs.parameters)
    return {
        "name": "nats",
        "image": inputs.image,
        "command": [*server, "-c", f"{MOUNT}/nats.conf"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": ports,
        **pods.CONTAINER,
        "resources": pods.resources(inputs.spec.resources, memory=_MEMORY),
        # clients and leaders of streams go elsewhere before the server ends
        "lifecycle": {"preStop": {"exec": {"command": [*server, f"--signal=ldm={PID_FILE}"]}}},
        # /healthz asks JetStream too: its streams are there and in step
        "startupProbe": pods.http_probe("/healthz?js-enabled-only=true", "monitor", period=2, failures=150),
        "livenessProbe": pods.http_probe("/healthz?js-enabled-only=true", "monitor", period=10, failures=6),
        "readinessProbe": pods.http_probe("/healthz?js-server-only=true", "monitor", period=5),
        "volumeMounts": mounts,
    }


def _exporter(inputs: Inputs) -> list[dict[str, Any]]:
    """The sidecar that serves the metrics; none without them. It needs no password: the monitor port tells figures."""
    if not inputs.metrics:
        return []
    command = [
        *pods.program("prometheus-nats-exporter", ["/prometheus-nats-exporter"], inputs.parameters),
        "-addr",
        "0.0.0.0",  # noqa: S104 - a pod's own addresses
        "-port",
        str(inputs.metrics_port),
        "-varz",
        "-routez",
        "-jsz=all",
        f"http://127.0.0.1:{MONITOR_PORT}",
    ]
    return [pods.sidecar(inputs.exporter, command, inputs.metrics_port, "/metrics")]
