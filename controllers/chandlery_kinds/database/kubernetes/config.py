"""The ConfigMap with PostgreSQL's files. Nothing in it is secret.

Settings that take effect at a start stand here, so that a value with which it can't start is mended by mending the
spec. All others are set live by ALTER SYSTEM, which PostgreSQL checks at once and keeps beside the data.
"""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.pods import USER
from chandlery.providers.kubernetes.types import CONFIG_MAPS, Obj
from chandlery_kinds.database.kubernetes.inputs import DATA, MOUNT, PORT, RUN, Inputs
from chandlery_kinds.database.postgres.configuration import ADMIN, host_rules, render, settings
from chandlery_kinds.database.settings import TABLES

CONFIG = "-config"
REVISION = "chandlery.revision"
"""A setting of our own in the file: tells which file a running server has begun with."""


def split(inputs: Inputs) -> tuple[dict[str, str], dict[str, str]]:
    """Settings of the spec: (those that take effect at a start, those that can be set live)."""
    start: dict[str, str] = {}
    live: dict[str, str] = {}
    for name, value in settings(inputs.spec, memory=inputs.memory).items():
        (live if TABLES["postgres"].effect(name) == "reload" else start)[name] = value
    return start, live


def revision(inputs: Inputs) -> str:
    """A short text that changes with what only a new start can bring about."""
    return digest(_start_values(inputs))


def _start_values(inputs: Inputs) -> Mapping[str, str]:
    start, _ = split(inputs)
    return {
        **start,
        "listen_addresses": "*",
        "port": str(PORT),
        "unix_socket_directories": RUN,
        "hba_file": f"{MOUNT}/pg_hba.conf",
        "ident_file": f"{MOUNT}/pg_ident.conf",
        "cluster_name": inputs.owner.base,
        "logging_collector": "off",
        "log_destination": "stderr",
    }


def config(inputs: Inputs) -> Obj:
    """The manifest."""
    files = {
        "postgresql.conf": render({**_start_values(inputs), REVISION: revision(inputs)}),
        # Over the pod's network with a password only, as everywhere.
        "pg_hba.conf": f"{host_rules(('all',))}host    replication  {ADMIN}  all  scram-sha-256\n",
        # While a backup is restored nobody else is there: the server listens on a socket of the init container's own.
        "restore_hba.conf": "local   all          all   trust\n",
        "pg_ident.conf": "",
        # initdb asks who it runs as, and an image needn't know the user that we run it as.
        "passwd": f"postgres:x:{USER}:{USER}:PostgreSQL:{DATA}:/bin/false\n",
    }
    return inputs.owner.child(CONFIG_MAPS, CONFIG, data=files)
