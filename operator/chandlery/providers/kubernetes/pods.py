"""Parts of pod templates that all kinds share: restricted security, placement, resources, probes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.parts import Placement, Resources, SpreadPolicy
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.types import BUDGETS, Obj

USER = 999
"""User and group of the engines: any number but 0 will do, as files belong to the group by fsGroup."""

CONTAINER: dict[str, Any] = {
    # an image's own may be closed to our user, and then nothing starts
    "workingDir": "/",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}
"""What every container says, whatever its image."""


def pod_security() -> dict[str, Any]:
    """As the `restricted` pod security standard asks."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def placement(owner: Owner, spec: Placement, pull_secrets: Sequence[str] = ()) -> dict[str, Any]:
    """Node selector, tolerations, priority and spread of a pod spec."""
    found: dict[str, Any] = {}
    if spec.node_selector:
        found["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        found["tolerations"] = [t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in spec.tolerations]
    if spec.priority_class_name:
        found["priorityClassName"] = spec.priority_class_name
    if spec.spread.policy is not SpreadPolicy.NONE:
        required = spec.spread.policy is SpreadPolicy.REQUIRED
        found["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": spec.spread.topology_key,
                "whenUnsatisfiable": "DoNotSchedule" if required else "ScheduleAnyway",
                "labelSelector": {"matchLabels": owner.selector},
            }
        ]
    if pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in pull_secrets]
    return found


def resources(spec: Resources, *, memory: int, limit: int | None = None, cpu: str = "100m") -> dict[str, Any]:
    """Requests and limits of a container.

    Args:
        spec: what the user says, which wins.
        memory: bytes that the engine needs with the memory that it was given.
        limit: bytes at most; by default the same, so that the pod is never the first to be evicted.
        cpu: requested when the user says nothing; there is no limit then.
    """
    requests = {"cpu": cpu, "memory": str(Quantity.bytes(memory))}
    limits = {"memory": str(Quantity.bytes(limit or memory))}
    for into, given in ((requests, spec.requests), (limits, spec.limits)):
        if given is not None and given.cpu:
            into["cpu"] = str(Quantity(given.cpu))
        if given is not None and given.memory:
            into["memory"] = str(Quantity(str(given.memory)))
    if Quantity(requests["memory"]) > Quantity(limits["memory"]):
        requests["memory"] = limits["memory"]
    return {"requests": requests, "limits": limits}


def exec_probe(command: Sequence[str], *, period: int = 5, timeout: int = 3, failures: int = 3) -> dict[str, Any]:
    return {
        "exec": {"command": list(command)},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def http_probe(path: str, port: str, *, period: int = 5, timeout: int = 3, failures: int = 3) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def tcp_probe(port: str, *, period: int = 5, timeout: int = 3, failures: int = 3) -> dict[str, Any]:
    return {
        "tcpSocket": {"port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def scratch(name: str, size: str = "16Mi") -> dict[str, Any]:
    """A volume for what need not survive the pod: sockets, pid files, temporary files."""
    return {"name": name, "emptyDir": {"sizeLimit": size}}


def program(name: str, default: Sequence[str], parameters: Mapping[str, Any]) -> list[str]:
    """How a program is started: the words before its arguments.

    Images put their programs in different places: a class says so with `commands.<name>`, a list of words.
    """
    said = (parameters.get("commands") or {}).get(name)
    return [str(word) for word in said] if said else list(default)


def sidecar(name: str, image: str, command: Sequence[str], port: int, path: str, **more: Any) -> dict[str, Any]:
    """A container that serves the engine's metrics at a port named `metrics`."""
    return {
        "name": name,
        "image": image,
        "command": list(command),
        "ports": [{"name": "metrics", "containerPort": port, "protocol": "TCP"}],
        **CONTAINER,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        # no readiness of its own: clients are served without metrics too
        "livenessProbe": http_probe(path, "metrics", period=30, timeout=10, failures=4),
        **more,
    }


def budget(owner: Owner, instances: int) -> list[Obj]:
    """A PodDisruptionBudget: one instance at a time. None for a single instance, which would block every drain."""
    if instances < 2:
        return []
    return [
        owner.child(
            BUDGETS,
            spec={
                "maxUnavailable": 1,
                "selector": {"matchLabels": owner.selector},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        )
    ]


def image(engine: str, default: str, parameters: Mapping[str, Any], catalogue: Mapping[str, str]) -> tuple[str, str]:
    """The image of an engine, and what people said of it (empty when it is the driver's own choice).

    A class's parameters (`images.<engine>`, or `image`) win over the chart's catalogue, which wins over the default.
    """
    said = (parameters.get("images") or {}).get(engine) or parameters.get("image") or catalogue.get(engine) or ""
    return str(said or default), str(said)


def running(pod: Obj | None) -> bool:
    """Whether the pod's containers run, as the kubelet last said."""
    if pod is None or (pod.get("status") or {}).get("phase") != "Running":
        return False
    return all("running" in (c.get("state") or {}) for c in pod["status"].get("containerStatuses") or ())


def ready(pod: Obj | None) -> bool:
    """Whether Services lead to the pod, as the kubelet last said: later than it answers, by a probe's period."""
    if pod is None or pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def problem(pod: Obj | None) -> tuple[str, str] | None:
    """What a person should know about a pod that doesn't get on: (reason, sentence)."""
    if pod is None:
        return None
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("reason") or "Unschedulable"), str(
                condition.get("message") or "can't be scheduled"
            )
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            ended = (container.get("lastState") or {}).get("terminated") or {}
            last = f"; it last ended with {ended.get('reason')} ({ended.get('exitCode')})" if ended else ""
            return str(reason), f"{waiting.get('message') or reason}{last}"
    return None
