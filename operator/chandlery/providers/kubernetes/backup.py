"""Backups by pods: a CronJob, Jobs on request, what status tells of them, and the pod of our own program. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from chandlery.driver.protocol import Unsupported
from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.backup import Backup, BackupDestination
from chandlery.model.base import Condition, ConditionStatus, DeletionPolicy
from chandlery.model.parts import Placement
from chandlery.providers.kubernetes import pods
from chandlery.providers.kubernetes.certificates import TLS
from chandlery.providers.kubernetes.children import GENERATED
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.ownership import Owner, annotated
from chandlery.providers.kubernetes.parameters import AnyWorkload
from chandlery.providers.kubernetes.s3 import ACCESS_KEY, SECRET_KEY
from chandlery.providers.kubernetes.types import CRON_JOBS, JOBS, OWNER_UID, Obj

SUFFIX: Final = "-backup"
REQUESTED: Final = "chandlery.dev/backup-requested"
"""Annotation of a Job: the text that asked for it."""
RESTORE: Final = "chandlery.dev/restore"
"""Annotation of a workload: the backup that the data begin with, as it was found at creation."""
COMPONENT: Final = "app.kubernetes.io/component"
CONDITION: Final = "BackedUp"
KEPT_JOBS: Final = 3
KEPT_SECONDS: Final = 7 * 86400
BACKUPS: Final = "/backups"
"""Where the claim with backups is mounted; room to work in where they are in a bucket."""
KEYS: Final = "/run/chandlery-keys"
"""Where a bucket's credentials are mounted."""
Place = Mapping[str, str]
"""Where backups are: `claim` and `path` in it; or `bucket`, `prefix`, `endpoint`, `region`, `credentials`: a Secret."""
SECRET: Final = "/run/chandlery-admin"  # noqa: S105
TLS_MOUNT: Final = "/etc/chandlery-tls"
TOLD: Final = "/dev/termination-log"
"""What a backup's pod writes there is the backup's name: that is how the driver learns it."""
_IMAGE: Final = "ghcr.io/chandlery/chandlery:0.1.0"
_SHOWN: Final = ("tls.crt", "ca.crt", "previous.crt", "client.crt", "client.key")


def program_image(parameters: AnyWorkload, catalogue: Mapping[str, str]) -> str:
    """The image with our own program: the operator's, which the chart names."""
    return pods.image("chandlery", _IMAGE, parameters, catalogue, engine=False)[0]


def place_of(destination: BackupDestination) -> dict[str, str]:
    """What a destination means; a folder of the operator's machine is refused."""
    s3 = destination.s3
    if s3 is None:
        assert destination.volume is not None
        return {"claim": str(destination.volume.claim_name), "path": str(destination.volume.path).strip("/")}
    credentials = s3.credentials_secret.name if s3.credentials_secret is not None else ""
    found = {"bucket": s3.bucket, "prefix": str(s3.prefix).strip("/"), "endpoint": s3.endpoint, "region": s3.region}
    return {key: str(value) for key, value in {**found, "credentials": credentials}.items() if value}


def known_place(source: Mapping[str, str]) -> dict[str, str]:
    """The place in what is on record of a backup to begin with."""
    names = ("bucket", "prefix", "endpoint", "region", "credentials") if source.get("bucket") else ("claim", "path")
    return {name: source[name] for name in names if name in source}


def task_of(place: Place) -> dict[str, Any]:
    """What our own program must know of a place."""
    if "bucket" not in place:
        return {"folder": f"{BACKUPS}/{place['path']}".rstrip("/")}
    return {"folder": BACKUPS, "s3": {key: place[key] for key in place if key != "credentials"}, "keys": KEYS}


def mounts(place: Place, *, read_only: bool = False) -> list[dict[str, Any]]:
    """With which a container sees a place."""
    if "bucket" in place:
        return [{"name": "backups", "mountPath": BACKUPS}, {"name": "keys", "mountPath": KEYS, "readOnly": True}]
    return [{"name": "backups", "mountPath": BACKUPS, **({"readOnly": True} if read_only else {})}]


def volumes(place: Place, *, read_only: bool = False) -> list[dict[str, Any]]:
    """What `mounts` names. Credentials may go once a pod's data are there."""
    if "bucket" in place:
        items = [{"key": key, "path": key} for key in (ACCESS_KEY, SECRET_KEY)]
        keys = {"secretName": place["credentials"], "items": items, "defaultMode": 0o440, "optional": True}
        return [{"name": "backups", "emptyDir": {}}, {"name": "keys", "secret": keys}]
    claim = {"claimName": place["claim"], **({"readOnly": True} if read_only else {})}
    return [{"name": "backups", "persistentVolumeClaim": claim}]


def refused(spec: Any) -> list[Unsupported]:
    """What specs can say of backups and pods with our own program don't do."""
    found = []
    for path, part in (("spec.backup", spec.backup), ("spec.restoreFrom", spec.restore_from)):
        destination = part.destination if part is not None else None
        if destination is not None and destination.directory is not None:
            why = "a cluster has no folder that all pods see: name a claim (volume) or a bucket (s3)"
            found.append(Unsupported(f"{path}.destination.directory", "set", why))
        if destination is not None and destination.s3 is not None and destination.s3.credentials_secret is None:
            why = f"the pods of backups have no identity of their own: name a Secret with {ACCESS_KEY} and {SECRET_KEY}"
            found.append(Unsupported(f"{path}.destination.s3.credentialsSecret", "none", why))
    if spec.deletion_policy is DeletionPolicy.SNAPSHOT and spec.backup is None:
        why = "it takes a last backup: say in spec.backup where to"
        found.append(Unsupported("spec.deletionPolicy", "Snapshot", why))
    return found


# -- Jobs


def labels(owner: Owner) -> dict[str, str]:
    """Of everything about backups but the CronJob itself. No Service of ours selects them."""
    return {
        OWNER_UID: owner.uid,
        COMPONENT: "backup",
        "app.kubernetes.io/managed-by": "chandlery",
        "chandlery.dev/kind": owner.kind,
    }


def _job(template: Obj) -> dict[str, Any]:
    return {"backoffLimit": 2, "activeDeadlineSeconds": 86400, "template": template}


def cron_job(owner: Owner, backup: Backup, template: Obj) -> list[Obj]:
    """On the schedule; none without one."""
    if backup.schedule is None:
        return []
    spec = {
        "schedule": str(backup.schedule),
        "timeZone": str(backup.time_zone),
        "suspend": backup.suspended,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": KEPT_JOBS,
        "failedJobsHistoryLimit": KEPT_JOBS,
        "jobTemplate": {"metadata": {"labels": labels(owner)}, "spec": _job(template)},
    }
    return [owner.child(CRON_JOBS, SUFFIX, spec=spec)]


def job(owner: Owner, template: Obj, asked: str, suffix: str = SUFFIX) -> Obj:
    """The Job that somebody has asked for; asked for again by the same text it is the same one."""
    spec = {**_job(template), "ttlSecondsAfterFinished": KEPT_SECONDS}
    made = owner.child(JOBS, f"{suffix}-{digest(asked)[:8]}", spec=spec)
    made = {**made, "metadata": {**made["metadata"], "labels": template["metadata"]["labels"]}}
    return annotated(made, {REQUESTED: asked, GENERATED: "true"})


def mine(jobs: Sequence[Obj], component: str = "backup") -> list[Obj]:
    """Jobs that make backups, among all of an object."""
    return [one for one in jobs if (one["metadata"].get("labels") or {}).get(COMPONENT) == component]


# -- what is told


def entries(jobs: Sequence[Obj], owned_pods: Sequence[Obj]) -> list[dict[str, Any]]:
    """`status.backup.list`, from Jobs and their pods, the newest first."""
    names: dict[str, tuple[str, int]] = {}
    waiting: dict[str, str] = {}
    for pod in owned_pods:
        job_name = pod["metadata"]["labels"].get("batch.kubernetes.io/job-name") or ""
        trouble = pods.problem(pod)
        if trouble is not None:
            waiting[job_name] = trouble[1]
        said = pod.get("status") or {}
        for container in (*(said.get("initContainerStatuses") or ()), *(said.get("containerStatuses") or ())):
            ended = (container.get("state") or {}).get("terminated") or {}
            code = int(ended.get("exitCode") or 0)
            if ended.get("message") and (code == 0 or job_name not in names):  # it may have been tried again
                names[job_name] = (str(ended["message"]).strip(), code)
    found = []
    for one in jobs:
        status = one.get("status") or {}
        said, code = names.get(one["metadata"]["name"], ("", 0))
        failed = next((c for c in status.get("conditions") or () if c.get("type") == "Failed"), None)
        phase = "Completed" if status.get("succeeded") else "Failed" if failed else "Running"
        entry = {"name": said if said and code == 0 else one["metadata"]["name"], "phase": phase}
        times = {"startedAt": status.get("startTime"), "completedAt": status.get("completionTime")}
        entry |= {key: value for key, value in times.items() if value}
        if failed is not None:
            entry["message"] = (said if code else "") or str(failed.get("message") or "")
        elif phase == "Running" and one["metadata"]["name"] in waiting:
            entry["message"] = waiting[one["metadata"]["name"]]
        found.append(entry)
    return sorted(found, key=lambda entry: str(entry.get("startedAt") or "~"), reverse=True)


def ended_seconds(one: Obj, now: datetime) -> float:
    """For how long a Job has ended; 0 while it hasn't."""
    for found in (one.get("status") or {}).get("conditions") or ():
        if found.get("status") == "True" and found.get("type") in ("Complete", "Failed"):
            told = found.get("lastTransitionTime") or one["status"].get("startTime")
            return (now - datetime.fromisoformat(told)).total_seconds() if told else float("inf")
    return 0.0


def facts(jobs: Sequence[Obj], owned_pods: Sequence[Obj], cron: Obj | None) -> dict[str, Any]:
    """`status.backup`; older backups than these are in the claim all the same."""
    listed = entries(jobs, owned_pods)
    done = [str(e["completedAt"]) for e in listed if e["phase"] == "Completed" and e.get("completedAt")]
    found: dict[str, Any] = {"list": listed[:20]}
    last = max([*done, str(((cron or {}).get("status") or {}).get("lastSuccessfulTime") or "")], default="")
    if last:
        found["lastSuccessfulTime"] = last
    return found


def condition(told: Mapping[str, Any]) -> Condition:
    """Whether the newest backup that ended is a good one, and none waits for something; from `facts`."""
    stuck = told["list"][0] if told["list"] and told["list"][0]["phase"] == "Running" else {}
    if stuck.get("message"):
        return Condition(type=CONDITION, status=ConditionStatus.FALSE, reason="Waiting", message=stuck["message"])
    newest = next((entry for entry in told["list"] if entry["phase"] != "Running"), None)
    if newest is not None and newest["phase"] == "Failed":
        why = newest.get("message") or "its pod said nothing"
        return Condition(type=CONDITION, status=ConditionStatus.FALSE, reason="Failed", message=f"{why}")
    if newest is None and not told.get("lastSuccessfulTime"):
        return Condition(
            type=CONDITION, status=ConditionStatus.UNKNOWN, reason="None", message="There is no backup yet."
        )
    message = f"The newest one is {newest['name']}." if newest is not None else ""
    return Condition(type=CONDITION, status=ConditionStatus.TRUE, reason="Completed", message=message)


# -- the pod of our own program


def container(
    name: str,
    image: str,
    module: str,
    words: Sequence[str],
    task: Mapping[str, Any],
    parameters: AnyWorkload,
    **more: Any,
) -> dict[str, Any]:
    """One that runs a module of ours with a task. Nothing in the task is secret: passwords are in files.

    Args:
        name: of the container.
        image: the operator's.
        module: to run.
        words: its first arguments.
        task: its last one, as JSON.
        parameters: of the class: how the program is started in its image.
        more: further fields.
    """
    python = pods.program("chandlery-python", ["python"], parameters)
    return {
        "name": name,
        "image": image,
        "command": [*python, "-m", module, *words, json.dumps(task, sort_keys=True)],
        **pods.CONTAINER,
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": str(Quantity("256Mi"))}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **more,
    }


def program_template(
    owner: Owner,
    made: Mapping[str, Any],
    place: Place,
    placement: Placement,
    pull_secrets: Sequence[str],
    *,
    tls: bool,
    read_only: bool = False,
    component: str = "backup",
) -> Obj:
    """The pod of a Job that asks an engine and reads or writes a claim.

    Args:
        owner: whose engine it is.
        made: its container, without mounts.
        place: of the backups.
        placement: as the engine's pods.
        pull_secrets: for its image.
        tls: whether the engine speaks TLS.
        read_only: whether the claim is only read.
        component: what it is for.
    """
    node = pods.placement(owner, placement, pull_secrets)
    node.pop("topologySpreadConstraints", None)
    seen = [
        {"name": "auth", "mountPath": SECRET, "readOnly": True},
        *mounts(place, read_only=read_only),
        *([{"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True}] if tls else []),
    ]
    auth = {"secretName": owner.base + AUTH, "items": [{"key": "admin", "path": "admin"}], "defaultMode": 0o440}
    items = [{"key": key, "path": key} for key in _SHOWN]
    shown = {"secretName": owner.base + TLS, "items": items, "defaultMode": 0o440, "optional": True}
    return {
        "metadata": {"labels": {**labels(owner), COMPONENT: component}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            **node,
            "containers": [{**made, "volumeMounts": seen}],
            "volumes": [
                {"name": "auth", "secret": auth},
                *volumes(place),
                *([{"name": "tls", "secret": shown}] if tls else []),
            ],
        },
    }
