"""The pod of a single MariaDB.

The driver replaces the pod (`OnDelete`): only it knows what a restart costs and whether it may happen now. Commands
need nothing of an image but MariaDB's own programs, `sh`, and what mariadb-install-db itself needs.
"""

from __future__ import annotations

from typing import Any

from chandlery.providers.kubernetes import certificates, pods
from chandlery.providers.kubernetes.driver import AUTH
from chandlery_kinds.database.kubernetes import exporter
from chandlery_kinds.database.kubernetes.config import CONFIG
from chandlery_kinds.database.kubernetes.inputs import (
    DATA,
    MARIADB_RUN,
    METRICS_MOUNT,
    METRICS_USER,
    MOUNT,
    SECRET,
    TLS_MOUNT,
    Inputs,
)
from chandlery_kinds.database.kubernetes.mariadb_config import FILE, SOCKET, TEMPORARY
from chandlery_kinds.database.kubernetes.mariadb_restore import INSTALL, restore_script
from chandlery_kinds.database.kubernetes.restore import DROP, restore_container, restore_volumes
from chandlery_kinds.database.mariadb.configuration import ADMIN

PROBE_USER = "chandlery_probe"
"""May do nothing but ask; comes by the socket only."""
GRACE_SECONDS = 120
"""For what is in memory only to be written when a pod ends."""
FIND = "PATH=$PATH:/usr/sbin:/usr/libexec\n"
"""Where distributions keep the server, for images that don't have it in PATH."""
_OPTIONS = f"{MARIADB_RUN}/probe.cnf"

# A folder is the database once it holds the mark; one that was cut short is taken away. Passwords come from files by
# the shell's own words, so that they stand in no command. In bootstrap mode there is neither port nor socket, and each
# statement ends with its line.
_INITIALISE = """set -eu
{find}umask 077
read -r admin < {secret}/admin || :
read -r probe < {secret}/probe || :
printf '[client]\nuser = {probe_user}\npassword = "%s"\nsocket = {socket}\n' "$probe" > {options}
{metrics}[ -d {tmp} ] || mkdir {tmp}
n=0
for made in {data}/mariadb-*; do
  if [ -e "$made/chandlery-initialised" ]; then exit 0; fi
  rm -rf "$made"
done
made={data}/mariadb-$n
{fill}
{{
  printf '%s\n' 'FLUSH PRIVILEGES;'
  printf "CREATE OR REPLACE USER {admin}@'%%' IDENTIFIED BY '%s';\n" "$admin"
  printf '%s\n' "GRANT ALL PRIVILEGES ON *.* TO {admin}@'%' WITH GRANT OPTION;"
  printf "CREATE OR REPLACE USER {probe_user}@localhost IDENTIFIED BY '%s';\n" "$probe"
}} | mariadbd --no-defaults --bootstrap --datadir="$made" --tmpdir={tmp}
: > "$made/chandlery-initialised"
{drop}"""
_METRICS = """read -r metrics < {secret}/metrics || :
printf '[client]\nuser = {user}\npassword = "%s"\nsocket = {socket}\n' "$metrics" > {mount}/{name}
"""
_SERVE = """{find}for made in {data}/mariadb-*; do
  if [ -e "$made/chandlery-initialised" ]; then
    exec mariadbd --defaults-file={mount}/{file} --datadir="$made"
  fi
done
echo "no database in {data}" >&2
exit 1
"""
_ASK = f"mariadb --defaults-file={_OPTIONS} --connect-timeout=3 --batch --skip-column-names --execute='SELECT 1'"
# One whose connections are all in use is busy, not dead.
_ALIVE = f"""said=$({_ASK} 2>&1) || case $said in *"Too many connections"*) ;; *) echo "$said" >&2; exit 1 ;; esac"""


def template(inputs: Inputs) -> dict[str, Any]:
    """The pod template. Settings are no part of it: they don't roll the pod by themselves."""
    owner = inputs.owner
    keys = ("admin", "probe", *(["metrics"] if inputs.metrics else []))
    items = [{"key": key, "path": key} for key in keys]
    secret = {"secretName": owner.base + AUTH, "defaultMode": 0o440, "items": items}
    return {
        "metadata": {"labels": owner.labels},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            **pods.placement(owner, inputs.spec.placement, inputs.pull_secrets),
            "initContainers": [*restore_container(inputs, "mariadb"), _initialise(inputs)],
            "containers": [_server(inputs), *exporter.exporter(inputs)],
            "volumes": [
                {"name": "config", "configMap": {"name": owner.base + CONFIG, "defaultMode": 0o444}},
                {"name": "admin", "secret": secret},
                {"name": "run", "emptyDir": {}},
                *([certificates.volume(owner.base)] if inputs.tls is not None else []),
                *exporter.volumes(inputs),
                *restore_volumes(inputs),
            ],
        },
    }


def _mounts(inputs: Inputs) -> list[dict[str, Any]]:
    return [
        {"name": "config", "mountPath": MOUNT, "readOnly": True},
        {"name": "data", "mountPath": DATA},
        {"name": "run", "mountPath": MARIADB_RUN},
        *([{"name": "tls", "mountPath": TLS_MOUNT, "readOnly": True}] if inputs.tls is not None else []),
    ]


def _resources(inputs: Inputs) -> dict[str, Any]:
    return pods.resources(inputs.spec.resources, memory=inputs.memory // 2, limit=inputs.memory)


def _initialise(inputs: Inputs) -> dict[str, Any]:
    mounts = [*_mounts(inputs), {"name": "admin", "mountPath": SECRET, "readOnly": True}]
    fill, drop, metrics = INSTALL.format(tmp=TEMPORARY), "", ""
    if inputs.metrics:
        metrics = _METRICS.format(
            secret=SECRET, user=METRICS_USER, socket=SOCKET, mount=METRICS_MOUNT, name=exporter.OPTIONS
        )
        mounts.append({"name": "metrics", "mountPath": METRICS_MOUNT})
    if inputs.restore is not None:
        fill, drop = restore_script(), DROP
    text = _INITIALISE.format(
        find=FIND,
        secret=SECRET,
        probe_user=PROBE_USER,
        socket=SOCKET,
        options=_OPTIONS,
        metrics=metrics,
        tmp=TEMPORARY,
        data=DATA,
        fill=fill,
        drop=drop,
        admin=ADMIN,
    )
    return {
        "name": "initialise",
        "image": inputs.image,
        "command": ["sh", "-c", text],
        **pods.CONTAINER,
        "resources": _resources(inputs),
        "volumeMounts": mounts,
    }


def _server(inputs: Inputs) -> dict[str, Any]:
    alive = ["sh", "-c", _ALIVE]
    return {
        "name": "database",
        "image": inputs.image,
        "command": ["sh", "-c", _SERVE.format(find=FIND, data=DATA, mount=MOUNT, file=FILE)],
        "ports": [{"name": "mariadb", "containerPort": inputs.port, "protocol": "TCP"}],
        **pods.CONTAINER,
        "resources": _resources(inputs),
        "livenessProbe": pods.exec_probe(alive, period=10, timeout=5, failures=6),
        # a server that recovers after a crash has no socket yet, be it for an hour; one that ends is started again
        "startupProbe": pods.exec_probe(alive, period=2, timeout=5, failures=1800),
        "readinessProbe": pods.exec_probe(["sh", "-c", _ASK], period=5, timeout=5),
        "volumeMounts": _mounts(inputs),
    }
