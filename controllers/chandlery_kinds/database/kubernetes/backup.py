"""Backups of a single database into a claim: a CronJob, and Jobs on request.

A backup is a folder named by the time of its beginning (UTC), with `data` (a copy of the files) or `dump.sql`, and a
mark when it is whole. The image needs `date`, `mkdir`, `mv` and `rm` besides the engine's programs. mariadb-backup
reads the server's files: its pod runs on the server's node and mounts its volume too.
"""

from __future__ import annotations

from typing import Any

from chandlery.providers.kubernetes import pods
from chandlery.providers.kubernetes.certificates import TLS
from chandlery.providers.kubernetes.children import GENERATED
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.ownership import annotated
from chandlery.providers.kubernetes.types import CRON_JOBS, JOBS, OWNER_UID, Obj
from chandlery_kinds.database.kubernetes import mariadb_pod
from chandlery_kinds.database.kubernetes.config import CONFIG
from chandlery_kinds.database.kubernetes.inputs import BACKUPS, DATA, FIND, MARK, RUN, SECRET, TLS_MOUNT, Inputs
from chandlery_kinds.database.model import DatabaseEngine
from chandlery_kinds.database.postgres.configuration import ADMIN
from chandlery_kinds.database.spec_parts import BackupMethod, DatabaseBackup

SUFFIX = "-backup"
REQUESTED = "chandlery.dev/backup-requested"
"""Annotation of a Job: the text that asked for it."""
KEPT_JOBS = 3
KEPT_SECONDS = 7 * 86400
# Its name is the termination message: that is how the driver learns it.
_SCRIPT = """set -eu
{find}umask 077
read -r word < {secret}/admin || :
{options}
name=$(date -u +%Y%m%dT%H%M%SZ)
folder={folder}
[ -d "$folder" ] || mkdir -p "$folder"
rm -rf "$folder"/.unfinished-*
work="$folder/.unfinished-$name"
mkdir "$work"
{take}
: > "$work/{mark}"
mv "$work" "$folder/$name"
printf %s "$name" > {told}
{retain}"""
_PHYSICAL = 'pg_basebackup --pgdata="$work/data" --dbname="{where}" --wal-method=stream --checkpoint=fast'
_LOGICAL = 'pg_dumpall --dbname="{where} dbname=postgres" --file="$work/dump.sql"'
_PGPASS = """printf '*:*:*:{admin}:%s\n' "$word" > {run}/pgpass"""
_MARIADB_OPTIONS = """printf '[client]\\nuser = {admin}\\npassword = "%s"\\n{more}' "$word" > {run}/client.cnf"""
_MARIADB_PHYSICAL = """for made in {data}/mariadb-*; do
  if [ -e "$made/chandlery-initialised" ]; then break; fi
done
mariadb-backup --defaults-file={run}/client.cnf --backup --target-dir="$work/data" --datadir="$made" \\
  --tmpdir={run} --host={host} --port={port}"""
# What mysql and sys hold is the driver's work: users and rights are as the spec says.
_MARIADB_LOGICAL = """mariadb-dump --defaults-file={run}/client.cnf --host={host} --port={port} --all-databases \\
  --ignore-database=mysql --ignore-database=sys --single-transaction --routines --events \\
  --result-file="$work/dump.sql\""""
_TOLD = "/dev/termination-log"
# The newest good one is among those that are kept whatever the rules say.
_COUNT = """set --
for one in "$folder"/[0-9]*; do if [ -e "$one/{mark}" ]; then set -- "$@" "$one"; fi; done
while [ $# -gt {count} ]; do rm -rf "$1"; shift; done
"""


def claim_of(backup: DatabaseBackup) -> tuple[str, str]:
    """(claim, folder in it)."""
    volume = backup.destination.volume
    assert volume is not None  # others are refused
    return str(volume.claim_name), str(volume.path).strip("/")


def script(inputs: Inputs, backup: DatabaseBackup) -> str:
    """What a backup's pod does."""
    _, path = claim_of(backup)
    options, take = _mariadb(inputs, backup) if _is_mariadb(inputs) else _postgres(inputs, backup)
    count = backup.retention.count if backup.retention is not None else None
    retain = _COUNT.format(mark=MARK, count=count) if count else ""
    folder = f"{BACKUPS}/{path}".rstrip("/")
    find = mariadb_pod.FIND if _is_mariadb(inputs) else FIND
    return _SCRIPT.format(
        find=find, folder=folder, take=take, mark=MARK, told=_TOLD, retain=retain, secret=SECRET, options=options
    )


def _is_mariadb(inputs: Inputs) -> bool:
    return inputs.spec.engine is DatabaseEngine.MARIADB


def _port(inputs: Inputs) -> int:
    return inputs.port if inputs.pooled else inputs.service_port


def _host(inputs: Inputs) -> str:
    return f"{inputs.owner.base}.{inputs.owner.namespace}.svc"


def _postgres(inputs: Inputs, backup: DatabaseBackup) -> tuple[str, str]:
    """What writes the password where the tools look for it, and what they do."""
    where = f"host={_host(inputs)} port={_port(inputs)} user={ADMIN}"
    if inputs.tls is not None:
        own = inputs.tls.certificate_secret is None and inputs.tls.issuer_ref is None
        where += f" sslmode=verify-full sslrootcert={TLS_MOUNT}/ca.crt" if own else " sslmode=require"
    take = (_PHYSICAL if backup.method is BackupMethod.PHYSICAL else _LOGICAL).format(where=where)
    return _PGPASS.format(admin=ADMIN, run=RUN), take


def _mariadb(inputs: Inputs, backup: DatabaseBackup) -> tuple[str, str]:
    """As `_postgres`."""
    more = ""
    if inputs.tls is not None:
        own = inputs.tls.certificate_secret is None and inputs.tls.issuer_ref is None
        verify = f"ssl-ca = {TLS_MOUNT}/ca.crt\\nssl-verify-server-cert = ON" if own else "ssl-verify-server-cert = OFF"
        more = f"ssl = ON\\n{verify}\\n"
    words = _MARIADB_PHYSICAL if backup.method is BackupMethod.PHYSICAL else _MARIADB_LOGICAL
    take = words.format(run=RUN, data=DATA, host=_host(inputs), port=_port(inputs))
    return _MARIADB_OPTIONS.format(admin=ADMIN, run=RUN, more=more), take


def template(inputs: Inputs, backup: DatabaseBackup) -> dict[str, Any]:
    """The pod of a backup. It has no label that a Service of ours selects."""
    owner = inputs.owner
    claim, _ = claim_of(backup)
    place = pods.placement(owner, inputs.spec.placement, inputs.pull_secrets)
    place.pop("topologySpreadConstraints", None)
    maria = _is_mariadb(inputs)
    files = maria and backup.method is BackupMethod.PHYSICAL
    tls: list[dict[str, Any]] = []
    if inputs.tls is not None:
        authority = {"secretName": owner.base + TLS, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
        tls = [{"name": "tls", "secret": {**authority, "defaultMode": 0o440, "optional": True}}]
    container: dict[str, Any] = {
        "name": "backup",
        "image": inputs.image,
        "command": ["sh", "-c", script(inputs, backup)],
        "env": [{"name": "PGPASSFILE", "value": f"{RUN}/pgpass"}],
        **pods.CONTAINER,
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *([] if maria else [{"name": "config", "mountPath": "/etc/passwd", "subPath": "passwd", "readOnly": True}]),
            {"name": "auth", "mountPath": SECRET, "readOnly": True},
            {"name": "run", "mountPath": RUN},
            {"name": "backups", "mountPath": BACKUPS},
            *([{"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True}] if tls else []),
            *([{"name": "data", "mountPath": DATA}] if files else []),
        ],
    }
    if maria:
        del container["env"]
    if files:
        term = {"labelSelector": {"matchLabels": owner.selector}, "topologyKey": "kubernetes.io/hostname"}
        place["affinity"] = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    auth = {"secretName": owner.base + AUTH, "items": [{"key": "admin", "path": "admin"}]}
    return {
        "metadata": {"labels": labels(inputs)},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            **place,
            "containers": [container],
            "volumes": [
                *(
                    []
                    if maria
                    else [{"name": "config", "configMap": {"name": owner.base + CONFIG, "defaultMode": 0o444}}]
                ),
                {"name": "auth", "secret": {**auth, "defaultMode": 0o440}},
                {"name": "run", "emptyDir": {}},
                {"name": "backups", "persistentVolumeClaim": {"claimName": claim}},
                *tls,
                *([{"name": "data", "persistentVolumeClaim": {"claimName": f"data-{owner.base}-0"}}] if files else []),
            ],
        },
    }


def labels(inputs: Inputs) -> dict[str, str]:
    """Of everything about backups but the CronJob itself."""
    return {
        OWNER_UID: inputs.owner.uid,
        "app.kubernetes.io/component": "backup",
        "app.kubernetes.io/managed-by": "chandlery",
        "chandlery.dev/kind": inputs.owner.kind,
    }


def _job(inputs: Inputs, backup: DatabaseBackup) -> dict[str, Any]:
    return {"backoffLimit": 2, "activeDeadlineSeconds": 86400, "template": template(inputs, backup)}


def cron_job(inputs: Inputs, backup: DatabaseBackup) -> list[Obj]:
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
        "jobTemplate": {"metadata": {"labels": labels(inputs)}, "spec": _job(inputs, backup)},
    }
    return [inputs.owner.child(CRON_JOBS, SUFFIX, spec=spec)]


def job(inputs: Inputs, backup: DatabaseBackup, asked: str) -> Obj:
    """The Job that a person has asked for; asked for again by the same text it is the same one."""
    spec = {**_job(inputs, backup), "ttlSecondsAfterFinished": KEPT_SECONDS}
    made = inputs.owner.child(JOBS, f"{SUFFIX}-{digest(asked)[:8]}", spec=spec)
    made = {**made, "metadata": {**made["metadata"], "labels": labels(inputs)}}
    return annotated(made, {REQUESTED: asked, GENERATED: "true"})


def facts(jobs: list[Obj], owned_pods: list[Obj], cron: Obj | None) -> dict[str, Any]:
    """`status.backup`, from Jobs and their pods; older backups than these are in the claim all the same."""
    names = {}
    for pod in owned_pods:
        job_name = pod["metadata"]["labels"].get("batch.kubernetes.io/job-name") or ""
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            ended = (container.get("state") or {}).get("terminated") or {}
            if ended.get("message"):
                names[job_name] = (str(ended["message"]).strip(), int(ended.get("exitCode") or 0))
    entries = []
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
        entries.append(entry)
    entries.sort(key=lambda entry: str(entry.get("startedAt") or "~"), reverse=True)
    done = [str(e["completedAt"]) for e in entries if e["phase"] == "Completed" and e.get("completedAt")]
    found: dict[str, Any] = {"list": entries[:20]}
    last = max([*done, str(((cron or {}).get("status") or {}).get("lastSuccessfulTime") or "")], default="")
    if last:
        found["lastSuccessfulTime"] = last
    return found
