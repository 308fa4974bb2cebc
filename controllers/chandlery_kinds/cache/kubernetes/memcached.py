"""Memcached's children: a StatefulSet, so that clients can spread their keys over names that last. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from chandlery.model.parts import ClientAuthentication, TlsVersion
from chandlery.providers.kubernetes import certificates, pods
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.network import Doors, cidrs_of, network_policy
from chandlery.providers.kubernetes.pods import budget
from chandlery.providers.kubernetes.services import HEADLESS
from chandlery.providers.kubernetes.templates import Kept, keep
from chandlery.providers.kubernetes.types import SECRETS, STATEFUL_SETS, Obj
from chandlery_kinds.cache import memcached
from chandlery_kinds.cache.kubernetes.inputs import MOUNT, TLS_MOUNT, Inputs
from chandlery_kinds.cache.kubernetes.services import services
from chandlery_kinds.cache.kubernetes.statefulset import CONFIG
from chandlery_kinds.cache.memory import most

_MIB = 2**20
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - a pod's own addresses
_FILE = "users"
_VERIFY = {ClientAuthentication.NONE: "0", ClientAuthentication.OPTIONAL: "1", ClientAuthentication.REQUIRED: "2"}
_VERSIONS = {TlsVersion.V1_2: "2", TlsVersion.V1_3: "3"}


def children(inputs: Inputs, password: str, kept: Kept, more: Sequence[Obj] = ()) -> list[Obj]:
    """Everything but what holds generated values, in the order in which they are made."""
    spec, owner = inputs.spec, inputs.owner
    data = {_FILE: b64encode(memcached.auth_file(memcached.USER, [password]).encode()).decode()}
    return [
        owner.child(SECRETS, CONFIG, type="Opaque", data=data),
        *services(inputs),
        *network_policy(
            owner, Doors([inputs.port]), cidrs=cidrs_of(spec.exposure), asked=inputs.parameters.network_policy
        ),
        *budget(owner, spec.primaries),
        *more,
        kept.workload,
    ]


def workload(inputs: Inputs, password: str, live: Obj | None, upgrade: str = "") -> Kept:
    """The StatefulSet. A new password comes with new pods: memcached reads its users when it starts."""
    asked = {**inputs.asked, "lasting": memcached.lasting_arguments(inputs.spec), "password": digest(password)}
    return keep(_stateful_set(inputs, digest(password)), live, asked, upgrade=upgrade)


def _stateful_set(inputs: Inputs, revision: str) -> Obj:
    owner = inputs.owner
    volumes: list[dict[str, Any]] = [
        {"name": "config", "secret": {"secretName": owner.base + CONFIG, "defaultMode": 0o440}}
    ]
    if inputs.tls is not None:
        volumes.append(certificates.volume(owner.base))
    return owner.child(
        STATEFUL_SETS,
        spec={
            "replicas": inputs.spec.primaries,
            "serviceName": owner.base + HEADLESS,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": owner.selector},
            "template": {
                "metadata": {"labels": owner.labels, "annotations": {"chandlery.dev/configuration": revision}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": pods.pod_security(),
                    "terminationGracePeriodSeconds": 30,
                    **pods.placement(owner, inputs.spec.placement, inputs.pull_secrets),
                    "containers": [_container(inputs)],
                    "volumes": volumes,
                },
            },
        },
    )


def _container(inputs: Inputs) -> dict[str, Any]:
    memory = memcached.megabytes(inputs.spec) * _MIB
    arguments = memcached.arguments(inputs.spec, inputs.port, f"{MOUNT}/{_FILE}", _EVERYWHERE)
    mounts: list[dict[str, Any]] = [{"name": "config", "mountPath": MOUNT, "readOnly": True}]
    if inputs.tls is not None:
        mounts.append({"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True})
        arguments += ["--enable-ssl", "--extended", ",".join(_tls(inputs))]
    return {
        "name": "cache",
        "image": inputs.image,
        "command": [*pods.program("memcached", ["memcached"], inputs.parameters), *arguments],
        "ports": [{"name": "cache", "containerPort": inputs.port, "protocol": "TCP"}],
        **pods.CONTAINER,
        # its own tables come on top of the data
        "resources": pods.resources(inputs.spec.resources, memory=memory + 32 * _MIB, limit=most(inputs.spec)),
        "startupProbe": pods.tcp_probe("cache", period=2, failures=60),
        "livenessProbe": pods.tcp_probe("cache", period=10, failures=6),
        "readinessProbe": pods.tcp_probe("cache", period=5),
        "volumeMounts": mounts,
    }


def _tls(inputs: Inputs) -> list[str]:
    tls = inputs.tls
    assert tls is not None
    found = [
        f"ssl_chain_cert={TLS_MOUNT}/tls.crt",
        f"ssl_key={TLS_MOUNT}/tls.key",
        f"ssl_min_version={_VERSIONS[tls.minimum_version]}",
        f"ssl_verify_mode={_VERIFY[tls.client_authentication]}",
    ]
    if tls.client_authentication is not ClientAuthentication.NONE:
        found.append(f"ssl_ca_cert={TLS_MOUNT}/trust.crt")
    return found
