"""The pod of a single PostgreSQL.

The driver replaces the pod (`OnDelete`): only it knows what a restart costs and whether it may happen now. Commands
need nothing of an image but PostgreSQL's own programs and `sh`, which initdb itself needs.
"""

from __future__ import annotations

from typing import Any

from chandlery.providers.kubernetes import certificates, pods
from chandlery.providers.kubernetes.driver import AUTH
from chandlery_kinds.database.kubernetes import exporter
from chandlery_kinds.database.kubernetes.config import CONFIG
from chandlery_kinds.database.kubernetes.inputs import (
    DATA,
    FIND,
    MOUNT,
    PORT,
    RUN,
    SECRET,
    TLS_MOUNT,
    Inputs,
)
from chandlery_kinds.database.kubernetes.restore import DROP, restore_container, restore_script, restore_volumes
from chandlery_kinds.database.postgres.configuration import ADMIN

GRACE_SECONDS = 120
"""For the last checkpoint when a pod ends."""
_MIB = 2**20

# A folder is the database once it holds the mark. initdb that was cut short leaves one without it, which is taken away
# where the image has `rm`, and passed over elsewhere. The mark is written through to the disk by initdb as well.
# A volume that has changed hands (another node, a copy of a disk) is opened to the pod's whole group by the kubelet;
# PostgreSQL starts only in a folder that nobody else may write to.
_INITIALISE = """set -eu
{find}n=0
for made in {data}/pgdata-*; do
  if [ -e "$made/chandlery-initialised" ]; then
    if command -v chmod >/dev/null; then chmod 0700 "$made"; fi
    exit 0
  fi
  if [ -e "$made" ] && command -v rm >/dev/null; then rm -rf "$made" || :; fi
done
while [ -e {data}/pgdata-$n ]; do n=$((n+1)); done
made={data}/pgdata-$n
{fill}
: > "$made/chandlery-initialised"
initdb --pgdata="$made" --sync-only
{drop}"""
_SERVE = """{find}for made in {data}/pgdata-*; do
  if [ -e "$made/chandlery-initialised" ]; then exec {command}; fi
done
echo "no database in {data}" >&2
exit 1
"""


def found(command: str) -> list[str]:
    """A command that gets the folder of the database as `$made`."""
    return ["sh", "-c", _SERVE.format(find=FIND, data=DATA, command=command)]


def template(inputs: Inputs) -> dict[str, Any]:
    """The pod template. Settings are no part of it: they don't roll the pod by themselves."""
    owner = inputs.owner
    shared = inputs.memory // 4  # parallel queries hand rows over there; it counts as the container's memory
    return {
        "metadata": {"labels": owner.labels},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            **pods.placement(owner, inputs.spec.placement, inputs.pull_secrets),
            "initContainers": [*restore_container(inputs, "pgdata"), _initialise(inputs)],
            "containers": [_server(inputs), *exporter.exporter(inputs)],
            "volumes": [
                *restore_volumes(inputs),
                {"name": "config", "configMap": {"name": owner.base + CONFIG, "defaultMode": 0o444}},
                {
                    "name": "admin",
                    "secret": {
                        "secretName": owner.base + AUTH,
                        "defaultMode": 0o440,
                        "items": [{"key": "admin", "path": "admin"}],
                    },
                },
                {"name": "run", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{max(64, shared // _MIB)}Mi"}},
                *([certificates.volume(owner.base)] if inputs.tls is not None else []),
                *exporter.volumes(inputs),
            ],
        },
    }


def _mounts(inputs: Inputs) -> list[dict[str, Any]]:
    return [
        {"name": "config", "mountPath": MOUNT, "readOnly": True},
        {"name": "config", "mountPath": "/etc/passwd", "subPath": "passwd", "readOnly": True},
        {"name": "data", "mountPath": DATA},
        {"name": "run", "mountPath": RUN},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        *([{"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True}] if inputs.tls is not None else []),
    ]


def _resources(inputs: Inputs) -> dict[str, Any]:
    return pods.resources(inputs.spec.resources, memory=inputs.memory // 2, limit=inputs.memory)


def _initialise(inputs: Inputs) -> dict[str, Any]:
    given = inputs.spec.initialization
    options = " ".join(
        (
            f"--username={ADMIN}",
            f"--pwfile={SECRET}/admin",
            "--auth=scram-sha-256",
            f"--encoding={given.encoding or 'UTF8'}",
            f"--locale={given.locale or 'C'}",
            "--data-checksums" if given.data_checksums else "--no-data-checksums",
            "--no-instructions",
        )
    )
    fill, drop = f'initdb --pgdata="$made" --no-sync {options}', ""
    mounts = [*_mounts(inputs), {"name": "admin", "mountPath": SECRET, "readOnly": True}]
    if inputs.restore is not None:
        fill, drop = restore_script(options), DROP
    return {
        "name": "initialise",
        "image": inputs.image,
        "command": ["sh", "-c", _INITIALISE.format(find=FIND, data=DATA, fill=fill, drop=drop)],
        **pods.CONTAINER,
        "resources": _resources(inputs),
        "volumeMounts": mounts,
    }


def _server(inputs: Inputs) -> dict[str, Any]:
    asks = f"{FIND}pg_isready --quiet --host={RUN} --port={PORT} --username={ADMIN} --timeout=3"
    alive = ["sh", "-c", f"{asks}; [ $? -le 1 ]"]  # exit code 1 says that it starts, recovers or ends
    return {
        "name": "database",
        "image": inputs.image,
        "command": found(f'postgres -D "$made" -c config_file={MOUNT}/postgresql.conf'),
        "ports": [{"name": "postgres", "containerPort": PORT, "protocol": "TCP"}],
        **pods.CONTAINER,
        "resources": _resources(inputs),
        # SIGTERM would wait for every client to leave: the fast shutdown ends sessions and writes a checkpoint. It is
        # only asked for here: a hook that waited would be cut off with the container, and be told as one that failed.
        "lifecycle": {"preStop": {"exec": {"command": found('pg_ctl stop -D "$made" --mode=fast --no-wait')}}},
        # Alive is also one that recovers after a crash, be it for hours: it answers that it doesn't take connections.
        "livenessProbe": pods.exec_probe(alive, period=10, timeout=5, failures=6),
        "startupProbe": pods.exec_probe(alive, period=2, timeout=5, failures=150),
        "readinessProbe": pods.exec_probe(["sh", "-c", asks], period=5, timeout=5),
        "volumeMounts": _mounts(inputs),
    }
