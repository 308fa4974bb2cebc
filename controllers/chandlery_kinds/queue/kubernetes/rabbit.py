"""The children of a queue by RabbitMQ: a StatefulSet whose servers know one another by their pods' names. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.parts import ClientAuthentication
from chandlery.providers.kubernetes import certificates, pods
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.metrics import metrics_children
from chandlery.providers.kubernetes.network import Doors, cidrs_of, network_policy
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.services import HEADLESS, client_service, headless_service, port
from chandlery.providers.kubernetes.templates import Kept, keep
from chandlery.providers.kubernetes.types import SECRETS, STATEFUL_SETS, Obj
from chandlery_kinds.queue import rabbitmq as rabbit
from chandlery_kinds.queue.kubernetes.config import CONFIG
from chandlery_kinds.queue.kubernetes.inputs import DATA, MOUNT, RUN, TLS_MOUNT, Inputs
from chandlery_kinds.queue.kubernetes.parameters import QueueParameters
from chandlery_kinds.queue.kubernetes.statefulset import REVISION, storage_size
from chandlery_kinds.queue.model import Queue

PORT: Final = 5672
TLS_PORT: Final = 5671
MANAGEMENT_PORT: Final = 15672
METRICS_PORT: Final = 15692
EPMD_PORT: Final = 4369
DISTRIBUTION_PORT: Final = 25672
_VERSION: Final = "4.1.8"
_MEMORY: Final = 2**30
_PLUGINS: Final = ("rabbitmq_management", "rabbitmq_prometheus", "rabbitmq_shovel")
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - a pod's own addresses
_SECRETS: Final = "/etc/chandlery-cookie"
_COOKIE: Final = ".erlang.cookie"
COOKIE_KEY: Final = "cookie"


def inputs_of(
    obj: Queue, parameters: QueueParameters, catalogue: Mapping[str, str], pull_secrets: Sequence[str] = ()
) -> Inputs:
    """What the manifests are made from."""
    version = str(obj.spec.version) if obj.spec.version else _VERSION
    chosen, said = pods.image("rabbitmq", f"docker.io/library/rabbitmq:{version}", parameters, catalogue)
    secrets = parameters.pull_secrets or tuple(pull_secrets)
    return Inputs(Owner.of(obj, "rabbitmq"), obj.spec, chosen, said, secrets, parameters=parameters)


def node_name(inputs: Inputs, pod: str, cluster_domain: str) -> str:
    """As Erlang has it: by the whole name, which a pod knows of itself before the cluster's DNS does."""
    return f"rabbit@{pod}.{inputs.domain}.{cluster_domain}"


def client_port(inputs: Inputs) -> int:
    return TLS_PORT if inputs.tls is not None else PORT


@dataclass(frozen=True, slots=True)
class Files:
    """The configuration, and what stands for it."""

    data: Mapping[str, str]
    fixed: str
    """Digest of all that a running server doesn't take: everything here but whom it looked for when it was new."""
    cluster_domain: str


def files(inputs: Inputs, admin_password: str, cluster_domain: str, servers: int | None = None) -> Files:
    """rabbitmq.conf and what belongs to it.

    Args:
        inputs: of all of it.
        admin_password: of the driver's own user.
        cluster_domain: with which the servers' names end.
        servers: how many there are to be now, where that isn't what the spec asks for yet.
    """
    spec, count = inputs.spec, inputs.spec.replicas if servers is None else servers
    names = (f"{inputs.owner.base}-{index}" for index in range(count))
    peers = tuple(node_name(inputs, name, cluster_domain) for name in names) if count > 1 else ()
    alone = _text(inputs, (), admin_password)
    text = _text(inputs, peers, admin_password)
    plugins = [name for name in _PLUGINS if inputs.metrics or name != "rabbitmq_prometheus"]
    data = {
        "rabbitmq.conf": text,
        "advanced.config": rabbit.advanced(spec),
        "enabled_plugins": f"[{','.join(plugins)}].\n",
    }
    return Files(data, digest({**data, "rabbitmq.conf": alone}), cluster_domain)


def _text(inputs: Inputs, peers: tuple[str, ...], admin_password: str) -> str:
    node = rabbit.RabbitNode("", PORT, MANAGEMENT_PORT, peers, _tls(inputs))
    # the same for any number of servers, so that more or fewer of them need no restart; one alone is its own majority
    partitions = {"cluster_partition_handling": "pause_minority", **inputs.spec.configuration}
    spec = inputs.spec.model_copy(update={"configuration": partitions})
    text = rabbit.render(spec, node, admin_password, _EVERYWHERE)
    if inputs.metrics:
        text += f"prometheus.tcp.ip = {_EVERYWHERE}\nprometheus.tcp.port = {METRICS_PORT}\n"
    return text


def _tls(inputs: Inputs) -> rabbit.RabbitTls | None:
    tls = inputs.tls
    if tls is None:
        return None
    asks = tls.client_authentication is not ClientAuthentication.NONE
    return rabbit.RabbitTls(
        port=TLS_PORT,
        certificate=f"{TLS_MOUNT}/tls.crt",
        key=f"{TLS_MOUNT}/tls.key",
        authority=f"{TLS_MOUNT}/trust.crt" if asks else "",
        demanded=tls.client_authentication is ClientAuthentication.REQUIRED,
        minimum_version=tls.minimum_version.value,
        plain_too=not tls.required,
    )


def workload(inputs: Inputs, content: Files, live: Obj | None, upgrade: str = "", servers: int | None = None) -> Kept:
    """The StatefulSet, with the pod template that it should have now; `servers` as in `files`."""
    spec = inputs.spec
    asked = {**inputs.asked, "message": str(spec.max_message_size), "acknowledge": str(spec.acknowledgement_timeout)}
    asked |= {"ordering": spec.ordering.value, "tls": spec.tls.model_dump(mode="json") if spec.tls else None}
    return keep(_stateful_set(inputs, content, live, servers), live, asked, upgrade=upgrade)


def children(
    inputs: Inputs, content: Files, stateful: Obj, more: Sequence[Obj] = (), *, monitors: bool = False
) -> list[Obj]:
    """Everything but what holds generated values, in the order in which they are made."""
    spec, owner = inputs.spec, inputs.owner
    both = inputs.tls is not None and not inputs.tls.required
    clients = [client_port(inputs), *([PORT] if both else [])]
    doors = Doors(
        clients,
        members=[EPMD_PORT, DISTRIBUTION_PORT],
        metrics=[METRICS_PORT] if inputs.metrics else [],
        operator=[MANAGEMENT_PORT],
    )
    data = {key: b64encode(text.encode()).decode() for key, text in content.data.items()}
    ports = [port("client", spec.exposure.port or client_port(inputs))]
    ports += [port("plain", PORT)] if both else []
    own = [
        port("client", client_port(inputs)),
        port("epmd", EPMD_PORT, EPMD_PORT),
        port("distribution", DISTRIBUTION_PORT),
    ]
    return [
        owner.child(SECRETS, CONFIG, type="Opaque", data=data),
        client_service(owner, spec.exposure, ports),
        headless_service(owner, own),
        *metrics_children(owner, spec.metrics, METRICS_PORT, monitors=monitors),
        *network_policy(owner, doors, cidrs=cidrs_of(spec.exposure), asked=inputs.parameters.network_policy),
        *pods.budget(owner, spec.replicas),
        *more,
        stateful,
    ]


def _stateful_set(inputs: Inputs, content: Files, live: Obj | None, servers: int | None) -> Obj:
    owner, spec = inputs.owner, inputs.spec
    size = storage_size(inputs)
    for known in ((live or {}).get("spec") or {}).get("volumeClaimTemplates") or ():
        size = known["spec"]["resources"]["requests"]["storage"]  # can't change here; claims themselves are grown
    claim: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if spec.storage is not None and spec.storage.class_name:
        claim["storageClassName"] = spec.storage.class_name
    volumes: list[dict[str, Any]] = [
        {"name": "config", "secret": {"secretName": owner.base + CONFIG, "defaultMode": 0o440}},
        *cookie_volumes(inputs),
    ]
    if inputs.tls is not None:
        volumes.append(certificates.volume(owner.base))
    return owner.child(
        STATEFUL_SETS,
        spec={
            "replicas": spec.replicas if servers is None else servers,
            "serviceName": owner.base + HEADLESS,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": owner.selector},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"},
            "template": {
                "metadata": {"labels": owner.labels, "annotations": {REVISION: content.fixed}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": pods.pod_security(),
                    "terminationGracePeriodSeconds": 120,
                    **pods.placement(owner, spec.placement, inputs.pull_secrets),
                    "initContainers": [cookie(inputs)],
                    "containers": [_container(inputs, content.cluster_domain)],
                    "volumes": volumes,
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": owner.labels}, "spec": claim}],
        },
    )


def cookie_volumes(inputs: Inputs) -> list[dict[str, Any]]:
    """Where `cookie` finds it and puts it."""
    items = [{"key": COOKIE_KEY, "path": "cookie"}]
    secret = {"secretName": f"{inputs.owner.base}-auth", "defaultMode": 0o440, "items": items}
    return [{"name": "cookie", "secret": secret}, pods.scratch("run", "256Mi")]


def cookie(inputs: Inputs) -> dict[str, Any]:
    """Erlang takes its cookie only from a file that nobody else may read; a Secret's files belong to a group too.

    By a shell's own words: RabbitMQ is started by a shell script, so there is one.
    """
    target = f"{RUN}/{_COOKIE}"
    script = f'umask 0277; [ -e {target} ] || {{ read -r cookie < {_SECRETS}/cookie; printf %s "$cookie" > {target}; }}'
    return {
        "name": "cookie",
        "image": inputs.image,
        "command": ["sh", "-c", script],
        **pods.CONTAINER,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [
            {"name": "cookie", "mountPath": _SECRETS, "readOnly": True},
            {"name": "run", "mountPath": RUN},
        ],
    }


def _container(inputs: Inputs, cluster_domain: str) -> dict[str, Any]:
    ports = [
        {"name": "client", "containerPort": client_port(inputs), "protocol": "TCP"},
        {"name": "management", "containerPort": MANAGEMENT_PORT, "protocol": "TCP"},
        {"name": "distribution", "containerPort": DISTRIBUTION_PORT, "protocol": "TCP"},
    ]
    if inputs.tls is not None and not inputs.tls.required:
        ports.append({"name": "plain", "containerPort": PORT, "protocol": "TCP"})
    if inputs.metrics:
        ports.append({"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"})
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": MOUNT, "readOnly": True},
        {"name": "data", "mountPath": DATA},
        {"name": "run", "mountPath": RUN},
    ]
    if inputs.tls is not None:
        mounts.append({"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True})
    limits = inputs.spec.resources.limits
    memory = int(Quantity(str(limits.memory))) if limits is not None and limits.memory else _MEMORY
    env = {
        "HOME": RUN,
        "RABBITMQ_CONFIG_FILE": f"{MOUNT}/rabbitmq.conf",
        "RABBITMQ_ADVANCED_CONFIG_FILE": f"{MOUNT}/advanced.config",
        "RABBITMQ_CONFIG_FILES": f"{MOUNT}/conf.d/*.conf",  # there are none: an image's own would win over ours
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{MOUNT}/enabled_plugins",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_USE_LONGNAME": "true",
        "RABBITMQ_NODENAME": node_name(inputs, "$(POD_NAME)", cluster_domain),
        "RABBITMQ_DIST_PORT": str(DISTRIBUTION_PORT),
        "RABBITMQ_MNESIA_BASE": f"{DATA}/rabbitmq",
        "RABBITMQ_LOG_BASE": f"{RUN}/log",
        "RABBITMQ_GENERATED_CONFIG_DIR": f"{RUN}/config",
        "RABBITMQ_FEATURE_FLAGS_FILE": f"{DATA}/rabbitmq/feature_flags",
        "ERL_CRASH_DUMP_SECONDS": "0",  # a dump holds what was in memory, passwords among it
        # Certificates that were renewed are read again within so many milliseconds. Erlang has a table of all files
        # that it may open: a runtime that lets it open a billion of them would have it take all the memory.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-ssl ssl_pem_cache_clean 5000 +Q 65536",
    }
    return {
        "name": "rabbitmq",
        "image": inputs.image,
        "command": pods.program("rabbitmq-server", ["rabbitmq-server"], inputs.parameters),
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *({"name": key, "value": value} for key, value in env.items()),
        ],
        "ports": ports,
        **pods.CONTAINER,
        "resources": pods.resources(inputs.spec.resources, memory=memory),
        # it opens its ports when it is in step with the others; a big queue takes a while
        "startupProbe": pods.tcp_probe("client", period=5, failures=240),
        "livenessProbe": pods.tcp_probe("distribution", period=10, failures=6),
        "readinessProbe": pods.tcp_probe("client", period=5),
        "volumeMounts": mounts,
    }
