"""RabbitMQ servers more or fewer: what has to happen inside before and after, and the Jobs that do it. Pure.

What RabbitMQ's HTTP API leaves to its command line is done by a Job of the same image, one command each; the state is
read anew afterwards, so that a Job that failed, or did its work twice, does no harm. Sources: the RabbitMQ
documentation, "Quorum Queues" (managing replicas) and "Clustering" (breaking up a cluster).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chandlery.driver.protocol import Difference
from chandlery.providers.kubernetes import pods
from chandlery.providers.kubernetes.children import GENERATED
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.ownership import annotated
from chandlery.providers.kubernetes.services import HEADLESS
from chandlery.providers.kubernetes.types import JOBS, OWNER_UID, Obj
from chandlery_kinds.queue.kubernetes.inputs import RUN, Inputs

TASK = "-task"
COMPONENT = "app.kubernetes.io/component"
TASK_SECONDS = 300
RETRY_SECONDS = 30.0
KEPT_SECONDS = 600
ADD, REMOVE, LEAVE, FORGET = "add", "remove", "leave", "forget"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the servers said of themselves."""

    nodes: Collection[str] = ()
    """Names of all members of the cluster."""
    running: Collection[str] = ()
    """Of those that the others see."""
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Who keeps a copy, by queue."""


def scale_differences(wanted: int, now: int, names: Sequence[str], there: Cluster) -> tuple[list[Difference], int]:
    """What has to be done, payload ("task", what, ...), and how many servers there are to be for now.

    A server that goes gives its copies to nobody: the other copies go on without it, and only when no queue counts on
    it any more it leaves the cluster, and then ends. One after the other, the last one first.

    Args:
        wanted: servers that the spec asks for.
        now: servers that the StatefulSet has.
        names: of the servers by their pods' numbers, as many as `now` or more.
        there: the cluster; empty while nobody tells.
    """
    present, last = names[:now], names[now - 1]
    staying = present if wanted >= now else present[:-1]
    servers = max(wanted, now)
    if not there.nodes:
        return _waits(wanted, now), servers
    stale = [node for node in there.nodes if node not in present and node not in there.running]
    if stale:
        return [_task(f"servers without {stale[0]}", FORGET, stale[0])], servers
    if any(node not in there.running for node in staying):
        return _waits(wanted, now), servers
    if wanted >= now:
        if wanted == now:
            return _spread(staying, there.members), servers
        return [], servers
    for queue, members in there.members.items():
        if last in members:
            return [_task(f"copy of {queue} at {last}", REMOVE, queue, last)], now
    if last in there.nodes:
        return [_task(f"servers without {last}", LEAVE, last)], now
    return [], now - 1


def _spread(nodes: Sequence[str], queues: Mapping[str, Sequence[str]]) -> list[Difference]:
    """A copy of each queue at each server."""
    for queue, members in queues.items():
        for node in nodes:
            if members and node not in members:
                return [_task(f"copy of {queue} at {node}", ADD, queue, node)]
    return []


def _waits(wanted: int, now: int) -> list[Difference]:
    if wanted >= now:
        return []
    return [Difference("spec.replicas", str(wanted), str(now), payload=("wait",))]


def _task(what: str, *payload: str) -> Difference:
    return Difference(what, "done", "to do", payload=("task", *payload))


def command(inputs: Inputs, vhost: str, at: str, what: str, *words: str) -> list[str]:
    """The words that do it.

    Args:
        inputs: say how an image's programs are started.
        vhost: of the queues.
        at: a server that stays.
        what: ADD, REMOVE (queue, server), LEAVE, FORGET (server).
        words: what it is done to.
    """
    queues = [*pods.program("rabbitmq-queues", ["rabbitmq-queues"], inputs.parameters), "--longnames", "--node", at]
    control = [*pods.program("rabbitmqctl", ["rabbitmqctl"], inputs.parameters), "--longnames", "--node"]
    if what == ADD:
        return [*queues, "add_member", "--vhost", vhost, *words]
    if what == REMOVE:
        return [*queues, "delete_member", "--vhost", vhost, *words]
    if what == FORGET:
        return [*control, at, "forget_cluster_node", *words]
    # a server that leaves by itself: the others never see it fail. RabbitMQ's programs are scripts, so there is a shell
    return ["sh", "-c", '"$@" stop_app && "$@" reset', "leave", *control, *words]


def job(inputs: Inputs, cookie: Obj, volumes: Sequence[Obj], words: Sequence[str]) -> Obj:
    """The Job that does one thing.

    Args:
        inputs: of the queue.
        cookie: the init container that brings the servers' shared secret.
        volumes: that it needs.
        words: the command.
    """
    owner = inputs.owner
    labels = {
        OWNER_UID: owner.uid,
        COMPONENT: "task",
        "app.kubernetes.io/managed-by": "chandlery",
        "chandlery.dev/kind": owner.kind,
    }
    place = pods.placement(owner, inputs.spec.placement, inputs.pull_secrets)
    place.pop("topologySpreadConstraints", None)
    container = {
        "name": "task",
        "image": inputs.image,
        "command": list(words),
        "env": [
            {"name": "HOME", "value": RUN},
            {"name": "RABBITMQ_CONF_ENV_FILE", "value": "/dev/null"},
            {"name": "RABBITMQ_USE_LONGNAME", "value": "true"},
        ],
        **pods.CONTAINER,
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "run", "mountPath": RUN}],
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            # a whole name of its own, without which Erlang speaks to no server with one
            "hostname": "task",
            "subdomain": owner.base + HEADLESS,
            **place,
            "initContainers": [cookie],
            "containers": [container],
            "volumes": list(volumes),
        },
    }
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": TASK_SECONDS,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "template": template,
    }
    made = owner.child(JOBS, f"{TASK}-{digest(list(words))[:8]}", spec=spec)
    made = {**made, "metadata": {**made["metadata"], "labels": labels}}
    return annotated(made, {GENERATED: "true"})


def ended(one: Obj) -> str:
    """How a Job came to its end: Complete, Failed, or nothing."""
    return next((str(c["type"]) for c in _ends(one)), "")


def over(one: Obj, now: datetime) -> bool:
    """Whether a Job has ended, and may make room for another one; one that failed does so after a while."""
    for condition in _ends(one):
        told = condition.get("lastTransitionTime")
        since = (now - datetime.fromisoformat(told)).total_seconds() if told else RETRY_SECONDS
        return bool(condition["type"] == "Complete" or since >= RETRY_SECONDS)
    return False


def _ends(one: Obj) -> list[Obj]:
    found = (one.get("status") or {}).get("conditions") or ()
    return [c for c in found if c.get("status") == "True" and c.get("type") in ("Complete", "Failed")]


def last_words(one: Obj, all_pods: Sequence[Obj]) -> str:
    """What a Job's pod said last."""
    for pod in all_pods:
        if any(o.get("uid") == one["metadata"]["uid"] for o in pod["metadata"].get("ownerReferences") or ()):
            for container in (pod.get("status") or {}).get("containerStatuses") or ():
                said = ((container.get("state") or {}).get("terminated") or {}).get("message")
                if said:
                    return " ".join(str(said).split())[-500:]
    return "its pod said nothing"
