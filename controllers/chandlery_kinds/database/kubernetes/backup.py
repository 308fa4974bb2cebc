"""Backups of a single database: a CronJob, and Jobs on request.

A backup is what the driver of one machine makes: what pg_basebackup writes as archives or mariadb-backup as files, or a
dump, and a manifest. The image needs the engine's tools only; mariadb-backup reads the server's files: its pod runs on
the server's node and mounts its volume too.
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
from chandlery_kinds.database.kubernetes.inputs import DATA, FIND, RUN, SECRET, TLS_MOUNT, Inputs
from chandlery_kinds.database.kubernetes.restore import MODULE
from chandlery_kinds.database.model import DatabaseEngine
from chandlery_kinds.database.postgres.configuration import ADMIN
from chandlery_kinds.database.spec_parts import BackupMethod, DatabaseBackup

_SCRIPT = """set -eu
{find}umask 077
read -r word < {secret}/admin || :
{options}
read -r work < {run}/work
{take}
{tool} --version > {run}/version 2>&1
"""
_PHYSICAL = """pg_basebackup --pgdata="$work" --dbname="{where}" --format=tar --compress=client-gzip:1 \\
  --wal-method=stream --checkpoint=fast --no-sync"""
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


def script(inputs: Inputs, backup: DatabaseBackup) -> str:
    """What the engine's tools do: write into the folder that our own program made."""
    maria, physical = _is_mariadb(inputs), backup.method is BackupMethod.PHYSICAL
    options, take = _mariadb(inputs, backup) if maria else _postgres(inputs, backup)
    tools = ("mariadb-backup", "mariadb-dump") if maria else ("pg_basebackup", "pg_dumpall")
    find = mariadb_pod.FIND if maria else FIND
    tool = tools[0] if physical else tools[1]
    return _SCRIPT.format(find=find, secret=SECRET, options=options, run=RUN, take=take, tool=tool)


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
    """The pod of a backup: our program makes room, the tools write, our program makes it a backup.

    It has no label that a Service of ours selects.
    """
    owner, place = inputs.owner, common.place_of(backup.destination)
    node = pods.placement(owner, inputs.spec.placement, inputs.pull_secrets)
    node.pop("topologySpreadConstraints", None)
    maria = _is_mariadb(inputs)
    files = maria and backup.method is BackupMethod.PHYSICAL
    if files:
        term = {"labelSelector": {"matchLabels": owner.selector}, "topologyKey": "kubernetes.io/hostname"}
        node["affinity"] = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    auth = {"secretName": owner.base + AUTH, "items": [{"key": "admin", "path": "admin"}]}
    config = {"name": owner.base + CONFIG, "defaultMode": 0o444}
    return {
        "metadata": {"labels": common.labels(owner)},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            **node,
            "initContainers": [_ours(inputs, backup, "begin"), _tools(inputs, backup, files=files)],
            "containers": [_ours(inputs, backup, "finish")],
            "volumes": [
                *([] if maria else [{"name": "config", "configMap": config}]),
                {"name": "auth", "secret": {**auth, "defaultMode": 0o440}},
                {"name": "run", "emptyDir": {}},
                *common.volumes(place),
                *_authority(inputs),
                *([{"name": "data", "persistentVolumeClaim": {"claimName": f"data-{owner.base}-0"}}] if files else []),
            ],
        },
    }


def _authority(inputs: Inputs) -> list[dict[str, Any]]:
    """The volume with the CA; none without TLS."""
    if inputs.tls is None:
        return []
    items = [{"key": "ca.crt", "path": "ca.crt"}]
    shown = {"secretName": inputs.owner.base + TLS, "items": items, "defaultMode": 0o440, "optional": True}
    return [{"name": "tls", "secret": shown}]


def _ours(inputs: Inputs, backup: DatabaseBackup, verb: str) -> dict[str, Any]:
    """A container with our own program."""
    owner, place = inputs.owner, common.place_of(backup.destination)
    task = {
        "owner": {"kind": owner.kind, "namespace": owner.namespace, "name": owner.name, "uid": owner.uid},
        **common.task_of(place),
        "retention": backup.retention.model_dump(mode="json", exclude_none=True) if backup.retention else None,
        "told": common.TOLD,
        "engine": inputs.spec.engine.value,
        "method": backup.method.value,
        "run": RUN,
    }
    mounts = [{"name": "run", "mountPath": RUN}, *common.mounts(place)]
    return common.container(verb, inputs.tool, MODULE, [verb], task, inputs.parameters, volumeMounts=mounts)


def _tools(inputs: Inputs, backup: DatabaseBackup, *, files: bool) -> dict[str, Any]:
    """The container with the engine's tools."""
    maria = _is_mariadb(inputs)
    places = [mount for mount in common.mounts(common.place_of(backup.destination)) if mount["name"] == "backups"]
    return {
        "name": "backup",
        "image": inputs.image,
        "command": ["sh", "-c", script(inputs, backup)],
        **({} if maria else {"env": [{"name": "PGPASSFILE", "value": f"{RUN}/pgpass"}]}),
        **pods.CONTAINER,
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [
            *([] if maria else [{"name": "config", "mountPath": "/etc/passwd", "subPath": "passwd", "readOnly": True}]),
            {"name": "auth", "mountPath": SECRET, "readOnly": True},
            {"name": "run", "mountPath": RUN},
            *places,
            *([{"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True}] if inputs.tls is not None else []),
            *([{"name": "data", "mountPath": DATA}] if files else []),
        ],
    }


def cron_job(inputs: Inputs, backup: DatabaseBackup) -> list[Obj]:
    """On the schedule; none without one."""
    return common.cron_job(inputs.owner, backup, template(inputs, backup))
