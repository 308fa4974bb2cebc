"""The Deployment of HAProxy.

A changed configuration replaces the pods one after the other: the new one serves before the old one goes, and the old
one ends its sessions first. Targets change while it runs.
"""

from __future__ import annotations

from typing import Any

from chandlery.providers.kubernetes import pods
from chandlery.providers.kubernetes.types import DEPLOYMENTS, Obj
from chandlery_kinds.loadbalancer.kubernetes.config import CONFIG
from chandlery_kinds.loadbalancer.kubernetes.inputs import ADMIN_PORT, HEALTH_PORT, MOUNT, RUN, Inputs

MARK = "chandlery.dev/configuration"
GRACE_SECONDS = 90
_MEMORY = 128 * 2**20


def deployment(inputs: Inputs, mark: str) -> Obj:
    """The manifest; `mark` tells which configuration the pods have."""
    owner = inputs.owner
    secret = {"secretName": owner.base + CONFIG, "defaultMode": 0o440}
    return owner.child(
        DEPLOYMENTS,
        spec={
            "replicas": inputs.spec.replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": owner.selector},
            "template": {
                "metadata": {"labels": owner.labels, "annotations": {MARK: mark}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    # Ports below 1024 for a process without rights; one of the sysctls that are always allowed.
                    "securityContext": {
                        **pods.pod_security(),
                        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
                    },
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    **pods.placement(owner, inputs.spec.placement, inputs.pull_secrets),
                    "containers": [_container(inputs)],
                    "volumes": [
                        {"name": "config", "secret": secret},
                        {"name": "run", "emptyDir": {"sizeLimit": "1Mi"}},
                    ],
                },
            },
        },
    )


def _container(inputs: Inputs) -> dict[str, Any]:
    ports = [
        {"name": f"p-{listener.port}", "containerPort": listener.port, "protocol": "TCP"}
        for listener in inputs.spec.listeners
    ]
    ports += [
        {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
    ]
    program = pods.program("haproxy", ["haproxy"], inputs.parameters)
    return {
        "name": "haproxy",
        "image": inputs.image,
        "command": [*program, "-W", "-db", "-f", f"{MOUNT}/haproxy.cfg"],
        "ports": ports,
        **pods.CONTAINER,
        "resources": pods.resources(inputs.spec.resources, memory=_MEMORY),
        # First the pod leaves the Service, then HAProxy lets its sessions end by themselves. SIGUSR1 asks for
        # that; SIGTERM would cut them, and which of both the kubelet sends is up to the image.
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 5; kill -USR1 1; sleep 80"]}}},
        "livenessProbe": pods.http_probe("/healthz", "health", period=10, failures=6),
        "readinessProbe": pods.http_probe("/healthz", "health", period=2),
        "volumeMounts": [
            {"name": "config", "mountPath": MOUNT, "readOnly": True},
            {"name": "run", "mountPath": RUN},
        ],
    }
