"""The StatefulSet of a cache by Valkey or Redis, and its pods.

Pods are replaced by the driver, copies first (`OnDelete`): only it knows who is primary and who is in step.
"""

from __future__ import annotations

import json
from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes import certificates, pods
from chandlery.providers.kubernetes.backup import RESTORE
from chandlery.providers.kubernetes.ownership import annotated
from chandlery.providers.kubernetes.services import HEADLESS
from chandlery.providers.kubernetes.types import STATEFUL_SETS, Obj
from chandlery_kinds.cache import memory
from chandlery_kinds.cache.kubernetes import backup, exporter
from chandlery_kinds.cache.kubernetes.inputs import DATA, MOUNT, PORT, PROBE_USER, RUN, TLS_MOUNT, TLS_PORT, Inputs

_MIB = 2**20
CONFIG = "-config"
SOCKET = f"{RUN}/cache.sock"
"""Where probes and the exporter connect, whatever the network's ports speak."""
ONLY_TLS = "chandlery.dev/only-tls"
"""Annotation of pods whose usual port speaks TLS."""
GRACE_SECONDS = 60
"""For the last save when a pod ends."""


def memory_needed(inputs: Inputs) -> tuple[int, int]:
    """Bytes to request and at most, from the memory for data."""
    return inputs.spec.memory.bytes * 11 // 10 + 32 * _MIB, memory.most(inputs.spec)


def stateful_set(inputs: Inputs, instances: int, live: Obj | None = None, suffix: str = "") -> Obj:
    """The manifest.

    Args:
        inputs: of all of it.
        instances: how many pods.
        live: as it is; the size in its claim templates can't change and is kept.
        suffix: of its name: shards have one each.
    """
    owner = inputs.owner
    spec: dict[str, Any] = {
        "replicas": instances,
        "serviceName": owner.base + HEADLESS,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "selector": {"matchLabels": owner.selector},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"},
        "template": template(inputs),
    }
    if inputs.persistent:
        spec["volumeClaimTemplates"] = [_claim(inputs, live)]
    made = owner.child(STATEFUL_SETS, suffix, spec=spec)
    return annotated(made, {RESTORE: json.dumps(inputs.restore)}) if inputs.restore is not None else made


def _claim(inputs: Inputs, live: Obj | None) -> dict[str, Any]:
    storage = inputs.spec.persistence.storage
    assert storage is not None  # the CRD asks for it
    size = str(Quantity(str(storage.size)))
    for known in ((live or {}).get("spec") or {}).get("volumeClaimTemplates") or ():
        size = known["spec"]["resources"]["requests"]["storage"]
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage.class_name:
        spec["storageClassName"] = storage.class_name
    return {"metadata": {"name": "data", "labels": inputs.owner.labels}, "spec": spec}


def template(inputs: Inputs) -> dict[str, Any]:
    """The pod template."""
    owner = inputs.owner
    volumes: list[dict[str, Any]] = [
        {"name": "config", "secret": {"secretName": owner.base + CONFIG, "defaultMode": 0o440}}
    ]
    if not inputs.persistent:
        volumes.append({"name": "data", "emptyDir": {}})
    volumes += [*backup.restore_volumes(inputs), pods.scratch("run"), *exporter.volumes(inputs, owner.base + CONFIG)]
    if inputs.tls is not None:
        volumes.append(certificates.volume(owner.base))
    return {
        "metadata": {"labels": owner.labels, **({"annotations": {ONLY_TLS: "true"}} if inputs.only_tls else {})},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            **pods.placement(owner, inputs.spec.placement, inputs.pull_secrets),
            **({"initContainers": backup.restore_container(inputs)} if inputs.restore is not None else {}),
            "containers": [_container(inputs), *exporter.exporter(inputs)],
            "volumes": volumes,
        },
    }


def _container(inputs: Inputs) -> dict[str, Any]:
    request, limit = memory_needed(inputs)
    alive = [*inputs.client, "-s", SOCKET, "ping"]
    # The probe's user may do nothing but ask, so it is let in with any password: nothing secret has to stand in a
    # command or in the environment, and no shell is needed to read it from a file.
    serves = [*inputs.client, "-s", SOCKET, "-e", "--no-auth-warning", "--user", PROBE_USER, "--pass", "any", "ping"]
    ports = [{"name": "cache", "containerPort": PORT, "protocol": "TCP"}]
    mounts = [
        {"name": "config", "mountPath": MOUNT, "readOnly": True},
        {"name": "data", "mountPath": DATA},
        {"name": "run", "mountPath": RUN},
    ]
    command, env = [*inputs.server, f"{MOUNT}/cache.conf"], []
    if inputs.tls is not None:
        mounts.append({"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True})
        if not inputs.only_tls:
            ports.append({"name": "tls", "containerPort": TLS_PORT, "protocol": "TCP"})
    if inputs.sharded:
        ports.append({"name": "bus", "containerPort": PORT + 10000, "protocol": "TCP"})
        # its address changes with every new pod; what stands in nodes.conf would be the last one's
        command += ["--cluster-announce-ip", "$(POD_IP)"]
        command += [
            "--cluster-announce-hostname",
            f"$(POD_NAME).{inputs.owner.base}{HEADLESS}.{inputs.owner.namespace}.svc",
        ]
        env = [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]
    return {
        "name": "cache",
        "image": inputs.image,
        "command": command,
        **({"env": env} if env else {}),
        "ports": ports,
        **pods.CONTAINER,
        "resources": pods.resources(inputs.spec.resources, memory=request, limit=limit),
        # answers at all, be it that it is loading or wants a password
        "livenessProbe": pods.exec_probe(alive, period=10, timeout=5, failures=6),
        "startupProbe": pods.exec_probe(alive, period=2, timeout=5, failures=150),
        # serves: data loaded, in step with its primary
        "readinessProbe": pods.exec_probe(serves, period=5, timeout=5),
        "volumeMounts": mounts,
    }
