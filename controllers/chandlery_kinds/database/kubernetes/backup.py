"""Backups of a single database into a claim: a CronJob, and Jobs on request.

A backup is a folder named by the time of its beginning (UTC), with `data` (a copy of the files) or `dump.sql`, and a
mark when it is whole. The image needs `date`, `mkdir`, `mv` and `rm` besides the engine's programs. mariadb-backup
reads the server's files: its pod runs on the server's node and mounts its volume too.
"""

from __future__ import annotations

from typing import Any

from chandlery.providers.kubernetes import backup as common
from chandlery.providers.kubernetes import pods
from chandlery.providers.kubernetes.certificates import TLS
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.database.kubernetes import mariadb_pod
from chandlery_kinds.database.kubernetes.config import CONFIG
from chandlery_kinds.database.kubernetes.inputs import BACKUPS, DATA, FIND, MARK, RUN, SECRET, TLS_MOUNT, Inputs
from chandlery_kinds.database.model import DatabaseEngine
from chandlery_kinds.database.postgres.configuration import ADMIN
from chandlery_kinds.database.spec_parts import BackupMethod, DatabaseBackup

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
# The newest good one is among those that are kept whatever the rules say.
_COUNT = """set --
for one in "$folder"/[0-9]*; do if [ -e "$one/{mark}" ]; then set -- "$@" "$one"; fi; done
while [ $# -gt {count} ]; do rm -rf "$1"; shift; done
"""


def script(inputs: Inputs, backup: DatabaseBackup) -> str:
    """What a backup's pod does."""
    _, path = common.claim_of(backup.destination)
    options, take = _mariadb(inputs, backup) if _is_mariadb(inputs) else _postgres(inputs, backup)
    count = backup.retention.count if backup.retention is not None else None
    retain = _COUNT.format(mark=MARK, count=count) if count else ""
    folder = f"{BACKUPS}/{path}".rstrip("/")
    find = mariadb_pod.FIND if _is_mariadb(inputs) else FIND
    return _SCRIPT.format(
        find=find, folder=folder, take=take, mark=MARK, told=common.TOLD, retain=retain, secret=SECRET, options=options
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
    claim, _ = common.claim_of(backup.destination)
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
        "metadata": {"labels": common.labels(owner)},
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


def cron_job(inputs: Inputs, backup: DatabaseBackup) -> list[Obj]:
    """On the schedule; none without one."""
    return common.cron_job(inputs.owner, backup, template(inputs, backup))
