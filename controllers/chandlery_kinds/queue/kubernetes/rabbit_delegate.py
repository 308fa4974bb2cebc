"""The objects of RabbitMQ's own operators for a queue: a RabbitmqCluster, and its content as topology objects. Pure.

Sources: the API references of the RabbitMQ cluster operator and messaging topology operator (rabbitmq.com/v1beta1).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from chandlery.driver.objects import ResourceType
from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.parts import ExposureType, Metrics
from chandlery.providers.kubernetes import pods
from chandlery.providers.kubernetes.certificates import TLS
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.types import (
    RABBITMQ_BINDINGS,
    RABBITMQ_CLUSTERS,
    RABBITMQ_EXCHANGES,
    RABBITMQ_PERMISSIONS,
    RABBITMQ_POLICIES,
    RABBITMQ_QUEUES,
    RABBITMQ_TOPIC_PERMISSIONS,
    RABBITMQ_USERS,
    RABBITMQ_VHOSTS,
    SECRETS,
    SERVICE_MONITORS,
    Obj,
)
from chandlery_kinds.queue import rabbitmq as rabbit
from chandlery_kinds.queue.kubernetes.inputs import Inputs
from chandlery_kinds.queue.kubernetes.statefulset import storage_size

TOPOLOGY: Final = (
    RABBITMQ_VHOSTS,
    RABBITMQ_USERS,
    RABBITMQ_EXCHANGES,
    RABBITMQ_QUEUES,
    RABBITMQ_BINDINGS,
    RABBITMQ_PERMISSIONS,
    RABBITMQ_TOPIC_PERMISSIONS,
    RABBITMQ_POLICIES,
)
_MEMORY: Final = 2**30
_THEIRS: Final = frozenset(
    {"default_user", "default_pass", "management.tcp.ip", "management.tcp.port", "loopback_users"}
)
"""Settings that RabbitMQ's operator makes itself, as it does listeners and how servers find one another."""


def cluster(inputs: Inputs, live: Obj | None) -> Obj:
    """The RabbitmqCluster."""
    spec, owner = inputs.spec, inputs.owner
    size = storage_size(inputs)
    has = (((live or {}).get("spec") or {}).get("persistence") or {}).get("storage")
    if has is not None and Quantity(has) > Quantity(size):
        size = has  # never smaller
    persistence: dict[str, Any] = {"storage": size}
    if spec.storage is not None and spec.storage.class_name:
        persistence["storageClassName"] = spec.storage.class_name
    place = pods.placement(owner, spec.placement, inputs.pull_secrets)
    service: dict[str, Any] = {"type": "ClusterIP"}
    if spec.exposure.type is not ExposureType.INTERNAL:
        service["type"] = spec.exposure.type.value
    if spec.exposure.annotations:
        service["annotations"] = dict(spec.exposure.annotations)
    body: dict[str, Any] = {
        "replicas": spec.replicas,
        "persistence": persistence,
        "resources": pods.resources(spec.resources, memory=_MEMORY),
        "service": service,
        "rabbitmq": {"additionalConfig": _settings(inputs), "advancedConfig": rabbit.advanced(spec)},
    }
    if inputs.tls is not None:
        body["tls"] = {"secretName": owner.base + TLS, "disableNonTLSListeners": inputs.tls.required}
    if inputs.image_said or spec.version:
        body["image"] = inputs.image
    if inputs.pull_secrets:
        body["imagePullSecrets"] = [{"name": name} for name in inputs.pull_secrets]
    body |= {key: place[key] for key in ("affinity", "tolerations") if place.get(key)}
    return owner.child(RABBITMQ_CLUSTERS, spec=body)


def _settings(inputs: Inputs) -> str:
    node = rabbit.RabbitNode("", 0, 0)
    lines = rabbit.render(inputs.spec, node, "", "").splitlines()
    names = [(line.partition(" = ")[0], line) for line in lines]
    theirs = ("listeners.", "cluster_partition_handling")
    kept = [line for name, line in names if name not in _THEIRS and not name.startswith(theirs)]
    if inputs.tls is not None and inputs.tls.minimum_version.value == "1.3":
        kept.append("ssl_options.versions.1 = tlsv1.3")  # without it both are spoken
    asked = [f"{name} = {value}" for name, value in inputs.spec.configuration.items()]
    return "".join(f"{line}\n" for line in dict.fromkeys([*kept, *asked]))


def monitor(inputs: Inputs, metrics: Metrics | None, *, monitors: bool) -> list[Obj]:
    """The ServiceMonitor, where it is asked for and the Prometheus operator is installed.

    RabbitMQ's operator has every server serve metrics and its Service lead to them, with TLS as soon as there is any.
    """
    if metrics is None or not (metrics.enabled and metrics.monitor and monitors):
        return []
    owner = inputs.owner
    endpoint: dict[str, Any] = {"port": "prometheus", "interval": str(metrics.interval)}
    if inputs.tls is not None:
        authority = {"secret": {"name": owner.base + TLS, "key": "ca.crt", "optional": True}}
        named = {"ca": authority, "serverName": f"{owner.base}.{owner.namespace}.svc"}
        endpoint |= {"port": "prometheus-tls", "scheme": "https", "tlsConfig": named}
    made = owner.child(
        SERVICE_MONITORS,
        spec={
            "selector": {"matchLabels": {"app.kubernetes.io/name": owner.base, **_SERVICE}},
            "namespaceSelector": {"matchNames": [owner.namespace]},
            "endpoints": [endpoint],
        },
    )
    made["metadata"]["labels"] = {**made["metadata"]["labels"], **metrics.labels}
    return [made]


_SERVICE: Final = {"app.kubernetes.io/component": "rabbitmq"}
"""Labels of the Service for clients, beside its RabbitmqCluster's name; the headless one has them too, but no port."""


def topology(owner: Owner, want: rabbit.Definitions) -> list[Obj]:
    """What is inside, as objects of the topology operator, and the Secrets that its users come from.

    Args:
        owner: whose content it is; the RabbitmqCluster has its base name.
        want: as `rabbitmq.wanted` gives it.
    """
    where = {"rabbitmqClusterReference": {"name": owner.base}}
    found = []
    for section, (kind, spec_of) in _SECTIONS.items():
        for entry in want.get(section, ()):
            if section == "permissions" and entry["user"] == rabbit.ADMIN:
                continue  # the operators' own user has its rights from them
            if section == "users":
                found.append(_login(owner, entry))
            found.append(owner.child(kind, _suffix(section, entry), spec={**spec_of(entry, owner), **where}))
    return found


def _login(owner: Owner, user: Mapping[str, Any]) -> Obj:
    data = {key: b64encode(str(user[name]).encode()).decode() for key, name in _LOGIN}
    return owner.child(SECRETS, _login_suffix(user), type="Opaque", data=data)


_LOGIN: Final = (("username", "name"), ("password", "password"))


def _login_suffix(user: Mapping[str, Any]) -> str:
    """A password that changes is another Secret: theirs is read again when the object that names it changes."""
    return f"-login-{digest([user['name'], user['password']])[:8]}"


def _suffix(section: str, entry: Mapping[str, Any]) -> str:
    """By what it is known; none of that can change in an object that exists."""
    keys = ("name", "user", "exchange", "source", "destination", "routing_key")
    return f"-{digest([section, *(entry.get(key, '') for key in keys)])[:8]}"


def _vhost(entry: Mapping[str, Any], _owner: Owner) -> dict[str, Any]:
    return {"name": entry["name"]}


def _user(entry: Mapping[str, Any], owner: Owner) -> dict[str, Any]:
    return {"importCredentialsSecret": {"name": owner.base + _login_suffix(entry)}}


def _exchange(entry: Mapping[str, Any], _owner: Owner) -> dict[str, Any]:
    return {
        "name": entry["name"],
        "vhost": entry["vhost"],
        "type": entry["type"],
        "durable": entry["durable"],
        "autoDelete": entry["auto_delete"],
    }


def _queue(entry: Mapping[str, Any], _owner: Owner) -> dict[str, Any]:
    arguments = {key: value for key, value in entry["arguments"].items() if key != "x-queue-type"}
    return {
        "name": entry["name"],
        "vhost": entry["vhost"],
        "type": entry["arguments"]["x-queue-type"],
        "durable": entry["durable"],
        "autoDelete": entry["auto_delete"],
        **({"arguments": arguments} if arguments else {}),
    }


def _binding(entry: Mapping[str, Any], _owner: Owner) -> dict[str, Any]:
    return {
        "vhost": entry["vhost"],
        "source": entry["source"],
        "destination": entry["destination"],
        "destinationType": entry["destination_type"],
        "routingKey": entry["routing_key"],
    }


def _permission(entry: Mapping[str, Any], _owner: Owner) -> dict[str, Any]:
    rights = {key: entry[key] for key in ("configure", "write", "read")}
    return {"vhost": entry["vhost"], "user": entry["user"], "permissions": rights}


def _topic_permission(entry: Mapping[str, Any], _owner: Owner) -> dict[str, Any]:
    rights = {key: entry[key] for key in ("exchange", "write", "read")}
    return {"vhost": entry["vhost"], "user": entry["user"], "permissions": rights}


def _policy(entry: Mapping[str, Any], _owner: Owner) -> dict[str, Any]:
    return {
        "name": entry["name"],
        "vhost": entry["vhost"],
        "pattern": entry["pattern"],
        "applyTo": entry["apply-to"],
        "priority": entry["priority"],
        "definition": entry["definition"],
    }


_SpecOf = Callable[[Mapping[str, Any], Owner], dict[str, Any]]
_SECTIONS: Final[Mapping[str, tuple[ResourceType, _SpecOf]]] = {
    "vhosts": (RABBITMQ_VHOSTS, _vhost),
    "users": (RABBITMQ_USERS, _user),
    "exchanges": (RABBITMQ_EXCHANGES, _exchange),
    "queues": (RABBITMQ_QUEUES, _queue),
    "bindings": (RABBITMQ_BINDINGS, _binding),
    "permissions": (RABBITMQ_PERMISSIONS, _permission),
    "topic_permissions": (RABBITMQ_TOPIC_PERMISSIONS, _topic_permission),
    "policies": (RABBITMQ_POLICIES, _policy),
}


def problems(live: Obj, inside: Sequence[Obj]) -> Iterator[tuple[str, str]]:
    """What RabbitMQ's operators say is not well: reason and sentence, the most telling first."""
    told = {c["type"]: c for c in (live.get("status") or {}).get("conditions") or ()}
    for kind in ("ReconcileSuccess", "AllReplicasReady", "ClusterAvailable"):
        condition = told.get(kind)
        if condition is None or condition.get("status") != "True":
            said = (condition or {}).get("message") or "RabbitMQ's operator has not said so yet"
            yield str((condition or {}).get("reason") or "Starting"), f"{kind}: {said}"
    if (live.get("status") or {}).get("observedGeneration") != live["metadata"].get("generation"):
        yield "Starting", "RabbitMQ's operator has not seen the last change yet"
    for one in inside:
        name = f"{one['kind']} {one['spec'].get('name') or one['metadata']['name']}"
        status = one.get("status") or {}
        ready: Mapping[str, Any] = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
        current = status.get("observedGeneration") in (None, one["metadata"].get("generation"))
        if ready.get("status") != "True" or not current:
            yield str(ready.get("reason") or "Starting"), f"{name}: {ready.get('message') or 'not there yet'}"
