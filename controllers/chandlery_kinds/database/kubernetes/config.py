"""The ConfigMap with PostgreSQL's files. Nothing in it is secret.

Settings that take effect at a start stand here, so that a value with which it can't start is mended by mending the
spec. All others are set live by ALTER SYSTEM, which PostgreSQL checks at once and keeps beside the data.
"""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.pods import USER
from chandlery.providers.kubernetes.types import CONFIG_MAPS, Obj
from chandlery_kinds.database.kubernetes.inputs import DATA, METRICS_USER, MOUNT, PORT, RUN, TLS_MOUNT, Inputs
from chandlery_kinds.database.postgres.configuration import ADMIN, host_rules, render, settings
from chandlery_kinds.database.settings import TABLES

CONFIG = "-config"
RULES = "chandlery.rules"
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
        **_tls(inputs),
        "listen_addresses": "*",
        "port": str(PORT),
        "unix_socket_directories": RUN,
        "hba_file": f"{MOUNT}/pg_hba.conf",
        "ident_file": f"{MOUNT}/pg_ident.conf",
        "cluster_name": inputs.owner.base,
        "logging_collector": "off",
        "log_destination": "stderr",
    }


def _tls(inputs: Inputs) -> dict[str, str]:
    """The engine's own TLS. What is said of files is read again on request, so renewed certificates need no start."""
    tls = inputs.tls
    if tls is None:
        return {}
    return {
        "ssl": "on",
        "ssl_cert_file": f"{TLS_MOUNT}/tls.crt",
        "ssl_key_file": f"{TLS_MOUNT}/tls.key",
        "ssl_ca_file": f"{TLS_MOUNT}/trust.crt",
        "ssl_min_protocol_version": f"TLSv{tls.minimum_version.value}",
        # not the engine's: who may come without TLS stands in another file, which is read at the same start
        RULES: digest(_rules(inputs)),
    }


def _rules(inputs: Inputs) -> str:
    """pg_hba.conf: over the pod's network with a password only, as everywhere; with TLS where it is asked for."""
    tls = inputs.tls
    # probes ask by the socket whether it takes connections, and would be in the log every time
    here = f"local   all          {ADMIN}  scram-sha-256\n"
    if tls is None:
        return f"{host_rules(('all',))}host    replication  {ADMIN}  all  scram-sha-256\n{here}"
    shown = " clientcert=verify-ca" if inputs.clients_show else ""
    lines = [
        *([f"host all {METRICS_USER} samehost scram-sha-256"] if inputs.metrics else []),
        f"hostssl all {ADMIN} all scram-sha-256",
        f"hostssl replication {ADMIN} all scram-sha-256",
        f"hostssl all all all scram-sha-256{shown}",
        # without TLS there is no certificate to show: where one is required that is no way in
        *(["host all all all scram-sha-256"] if not tls.required and not shown else []),
    ]
    return "".join(f"{line}\n" for line in lines) + here


def config(inputs: Inputs) -> Obj:
    """The manifest."""
    files = {
        "postgresql.conf": render({**_start_values(inputs), REVISION: revision(inputs)}),
        "pg_hba.conf": _rules(inputs),
        # While a backup is restored nobody else is there: the server listens on a socket of the init container's own.
        "restore_hba.conf": "local   all          all   trust\n",
        "pg_ident.conf": "",
        # initdb asks who it runs as, and an image needn't know the user that we run it as.
        "passwd": f"postgres:x:{USER}:{USER}:PostgreSQL:{DATA}:/bin/false\n",
    }
    return inputs.owner.child(CONFIG_MAPS, CONFIG, data=files)
