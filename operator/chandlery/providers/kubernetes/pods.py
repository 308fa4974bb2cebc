"""Parts of pod templates that all kinds share: restricted security, placement, resources, probes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.parts import Placement, Resources, SpreadPolicy
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.parameters import AnyWorkload
from chandlery.providers.kubernetes.types import BUDGETS, Obj

USER = 999
"""User and group of the engines: any number but 0 will do, as files belong to the group by fsGroup."""

EXPORTER = "metrics"
"""Name of the container beside an engine that serves its metrics."""

CONTAINER: dict[str, Any] = {
    # an image's own may be closed to our user, and then nothing starts
    "workingDir": "/",
    # the last words of one that fails stand in the pod's status, and so in ours
    "terminationMessagePolicy": "FallbackToLogsOnError",
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


def exec_probe(command: Sequence[str], *, period: int = 5, timeout: int = 5, failures: int = 3) -> dict[str, Any]:
    return {
        "exec": {"command": list(command)},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def http_probe(path: str, port: str, *, period: int = 5, timeout: int = 5, failures: int = 3) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def tcp_probe(port: str, *, period: int = 5, timeout: int = 5, failures: int = 3) -> dict[str, Any]:
    return {
        "tcpSocket": {"port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def scratch(name: str, size: str = "16Mi") -> dict[str, Any]:
    """A volume for what need not survive the pod: sockets, pid files, temporary files."""
    return {"name": name, "emptyDir": {"sizeLimit": size}}


def program(name: str, default: Sequence[str], parameters: AnyWorkload) -> list[str]:
    """How a program is started: the words before its arguments.

    Images put their programs in different places: a class says so with `commands.<name>`, a list of words.
    """
    return list(parameters.commands.get(name) or default)


def sidecar(image: str, command: Sequence[str], port: int, path: str, **more: Any) -> dict[str, Any]:
    """A container that serves the engine's metrics at a port named `metrics`."""
    return {
        "name": EXPORTER,
        "image": image,
        "command": list(command),
        "ports": [{"name": "metrics", "containerPort": port, "protocol": "TCP"}],
        **CONTAINER,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        # no readiness of its own: clients are served without metrics too (see `cut_off`)
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


def image(
    name: str, default: str, parameters: AnyWorkload, catalogue: Mapping[str, str], *, engine: bool = True
) -> tuple[str, str]:
    """The image of an engine or of what runs beside one, and what people said of it (empty: the driver's own choice).

    A class's parameters (`images.<name>`, for engines also `image`) win over the catalogue, and that over the default.
    """
    said = parameters.image_of(name, engine=engine) or catalogue.get(name) or ""
    return str(said or default), str(said)


def running(pod: Obj | None) -> bool:
    """Whether the pod's containers run, as the kubelet last said."""
    if pod is None or (pod.get("status") or {}).get("phase") != "Running":
        return False
    return all("running" in (c.get("state") or {}) for c in pod["status"].get("containerStatuses") or ())


def ready(pod: Obj | None) -> bool:
    """Whether the pod serves clients, as the kubelet last said: later than it answers, by a probe's period.

    An exporter that fails takes nothing from that, though Kubernetes calls such a pod unready.
    """
    if pod is None or pod["metadata"].get("deletionTimestamp"):
        return False
    if _said_ready(pod):
        return True
    said = (pod.get("status") or {}).get("containerStatuses") or ()
    engines = [c for c in said if c["name"] != EXPORTER]
    return len(engines) < len(said) and bool(engines) and all(c.get("ready") for c in engines)


def cut_off(pod: Obj | None) -> bool:
    """Whether nothing but its exporter keeps Services from leading to the pod."""
    return pod is not None and ready(pod) and not _said_ready(pod)


def _said_ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


_UNPULLED = (
    "Check the image's name and whether the node may pull it; another image is named by the class's parameter "
    "images or by the chart's drivers.images, pull Secrets by pullSecrets beside it"
)
_HINTS: dict[str, str] = {
    "ImagePullBackOff": _UNPULLED,
    "ErrImagePull": _UNPULLED,
    "InvalidImageName": _UNPULLED,
    "ErrImageNeverPull": _UNPULLED,
    "OOMKilled": "Give it more memory: spec.resources.limits.memory",
}
_UNPLACED = (
    ('" not found', "Make the claim that spec names, or name another one"),
    (
        "persistentvolumeclaim",
        "Name a StorageClass that can make volumes (spec.storage.className), or make one default",
    ),
    ("insufficient", "Add nodes, or ask for less in spec.resources.requests"),
    ("taint", "Add nodes, or tolerate the taint in spec.placement.tolerations"),
    ("topology spread", "Add nodes, or set spec.placement.spread.policy to Preferred"),
    ("node affinity", "Check spec.placement.nodeSelector, and where its volume lies"),
)
"""What the scheduler's sentence says, and the way out."""


def problem(pod: Obj | None) -> tuple[str, str] | None:
    """What a person should know about a pod that doesn't get on, and what to do: (reason, sentence)."""
    if pod is None:
        return None
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("reason") == "DeletionByTaintManager" and pod["metadata"].get("deletionTimestamp"):
            where = f"{pod['metadata']['name']} -n {pod['metadata']['namespace']}"
            words = f"is to leave its node {pod['spec'].get('nodeName', '')}, which has a taint or is lost"
            return "NodeLost", f"{words}. If the node is gone for good: kubectl delete pod {where} --force"
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            words = str(condition.get("message") or "can't be scheduled")
            hint = next((hint for part, hint in _UNPLACED if part in words.lower()), "")
            return str(condition.get("reason") or "Unschedulable"), _with(words, hint)
    if status.get("phase") == "Failed" and status.get("reason"):
        return str(status["reason"]), str(status.get("message") or status["reason"])
    said = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in sorted(said, key=lambda c: bool(c["name"] == EXPORTER)):
        found = container_problem(container)
        if found:
            return found
    return None


def container_problem(said: Obj) -> tuple[str, str] | None:
    """As `problem`, from the status of one container."""
    waiting = (said.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    if not reason or reason in ("ContainerCreating", "PodInitializing"):
        return None
    ended = (said.get("lastState") or {}).get("terminated") or {}
    why = str(ended.get("reason") or "")
    words = str(waiting.get("message") or reason)
    if ended:
        last = " ".join(str(ended.get("message") or "").split())
        words += f"; it last ended with {why} ({ended.get('exitCode')})"
        words += f", saying: {last[-_WORDS:]}" if last else ""
    return str(reason), _with(words, _HINTS.get(why) or _HINTS.get(reason, ""))


_WORDS = 300
"""Of a container's last ones."""


def _with(words: str, hint: str) -> str:
    return f"{words.rstrip('.')}. {hint}" if hint else words
