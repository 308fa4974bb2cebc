"""PgBouncer in front of a single PostgreSQL: its configuration, its pods, its Service.

Who may log in is asked of the engine at each login (auth_query), so new passwords count at once; the file holds the
password of the driver's own user only. The pods read files at their start: another configuration or certificate rolls
them one by one, and one that ends waits for its clients as long as it may.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

from chandlery.providers.kubernetes import certificates, pods
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.network import Doors, cidrs_of, network_policy
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.services import client_service, port
from chandlery.providers.kubernetes.templates import Kept, keep
from chandlery.providers.kubernetes.types import DEPLOYMENTS, SECRETS, Obj
from chandlery_kinds.database.kubernetes.inputs import MOUNT, PORT, TLS_MOUNT, Inputs
from chandlery_kinds.database.postgres.configuration import ADMIN
from chandlery_kinds.database.postgres.pooler import QUERY

SUFFIX = "-pooler"
LISTEN = 6432
GRACE_SECONDS = 120
CONFIGURATION = "chandlery.dev/configuration"
"""Annotation of the pods: digest of the files that they have read."""
_FILE = "pgbouncer.ini"
_USERS = "users.txt"


def owner_of(inputs: Inputs) -> Owner:
    """Whose the pods are: the object's, with labels that no Service of the engine selects."""
    owner = inputs.owner
    return replace(owner, identity=f"{owner.identity}{SUFFIX}", app="pgbouncer")


def text(inputs: Inputs) -> str:
    """The configuration; nothing in it is secret."""
    spec, owner, tls = inputs.spec.pooler, inputs.owner, inputs.tls
    assert spec is not None
    values: dict[str, str] = {
        "ignore_startup_parameters": "extra_float_digits",
        "server_reset_query": "DISCARD ALL",
        **spec.configuration,
        "listen_addr": "*",
        "listen_port": str(LISTEN),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": f"{MOUNT}/{_USERS}",
        "auth_user": ADMIN,
        "auth_query": QUERY,
        "pool_mode": spec.mode.value,
        "max_client_conn": str(spec.max_client_connections),
        "default_pool_size": str(spec.pool_size),
    }
    if tls is not None:
        values |= {
            "client_tls_sslmode": "verify-ca" if inputs.clients_show else "require" if tls.required else "allow",
            "client_tls_cert_file": f"{TLS_MOUNT}/tls.crt",
            "client_tls_key_file": f"{TLS_MOUNT}/tls.key",
            "client_tls_protocols": "secure" if tls.minimum_version.value == "1.2" else "tlsv1.3",
            "client_tls_ca_file": f"{TLS_MOUNT}/trust.crt",
            "server_tls_sslmode": "require",
        }
    lines = "".join(f"{name} = {value}\n" for name, value in sorted(values.items()))
    where = f"host={owner.base}.{owner.namespace}.svc port={PORT}"
    return f"[databases]\n* = {where}\n\n[pgbouncer]\n{lines}"


def children(inputs: Inputs, password: str) -> list[Obj]:
    """All but the Deployment; none without a pooler.

    Args:
        inputs: of the whole.
        password: of the driver's own user.
    """
    if inputs.spec.pooler is None or not inputs.pooled:
        return []
    owner = owner_of(inputs)
    exposure = inputs.spec.exposure
    files = {_FILE: text(inputs), _USERS: f'"{ADMIN}" "{password}"\n'}
    data = {name: b64encode(content.encode()).decode() for name, content in files.items()}
    service = _named(client_service(owner, exposure, [port("pgbouncer", inputs.service_port)]))
    policies = network_policy(
        owner, Doors(clients=[LISTEN]), cidrs=cidrs_of(exposure), asked=inputs.parameters.network_policy
    )
    more = [*policies, *pods.budget(owner, inputs.spec.pooler.instances)]
    return [owner.child(SECRETS, SUFFIX, type="Opaque", data=data), service, *(_named(one) for one in more)]


def _named(child: Obj) -> Obj:
    meta = child["metadata"]
    return {**child, "metadata": {**meta, "name": meta["name"] + SUFFIX}}


def workload(inputs: Inputs, live: Obj | None, fingerprint: str, *, upgrade: str = "") -> list[Kept]:
    """The Deployment with the pod template that it should have now; none without a pooler.

    `fingerprint` is that of the certificate, empty without TLS.
    """
    if not inputs.pooled:
        return []
    spec, owner = inputs.spec.pooler, owner_of(inputs)
    assert spec is not None
    read = digest([text(inputs), fingerprint])
    mounts = [{"name": "config", "mountPath": MOUNT, "readOnly": True}]
    if inputs.tls is not None:
        mounts.append({"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True})
    container = {
        "name": "pgbouncer",
        "image": inputs.pooler,
        "command": [*pods.program("pgbouncer", ["pgbouncer"], inputs.parameters), f"{MOUNT}/{_FILE}"],
        "ports": [{"name": "pgbouncer", "containerPort": LISTEN, "protocol": "TCP"}],
        **pods.CONTAINER,
        "resources": pods.resources(spec.resources, memory=64 << 20, limit=256 << 20),
        "livenessProbe": pods.tcp_probe("pgbouncer", period=10, failures=6),
        "readinessProbe": pods.tcp_probe("pgbouncer"),
        "volumeMounts": mounts,
    }
    template = {
        "metadata": {"labels": owner.labels, "annotations": {CONFIGURATION: read}},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            **pods.placement(owner, inputs.spec.placement, inputs.pull_secrets),
            "containers": [container],
            "volumes": [
                {"name": "config", "secret": {"secretName": owner.base + SUFFIX, "defaultMode": 0o440}},
                *([certificates.volume(owner.base)] if inputs.tls is not None else []),
            ],
        },
    }
    body = {
        "replicas": spec.instances,
        "selector": {"matchLabels": owner.selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": template,
    }
    asked = {
        "read": read,
        "image": inputs.pooler_said,
        "resources": spec.resources.model_dump(mode="json", by_alias=True, exclude_none=True),
        "placement": inputs.spec.placement.model_dump(mode="json", by_alias=True, exclude_none=True),
        "tls": inputs.tls is not None,
        "pullSecrets": list(inputs.pull_secrets),
        "commands": inputs.parameters.commands_said(),
    }
    return [keep(owner.child(DEPLOYMENTS, SUFFIX, spec=body), live, asked, upgrade=upgrade)]
