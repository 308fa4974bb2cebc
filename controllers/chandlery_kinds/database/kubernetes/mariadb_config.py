"""The ConfigMap with MariaDB's option file. Nothing in it is secret.

A setting that can be changed live is set live first and stands in the file once the engine took it: what it refuses
can't keep it from starting. `applied` says which these are. The name of the pid file tells, over a connection, which
file a running server has begun with.
"""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.types import CONFIG_MAPS, Obj
from chandlery_kinds.database.kubernetes.config import CONFIG
from chandlery_kinds.database.kubernetes.inputs import DATA, MARIADB_RUN, TLS_MOUNT, Inputs
from chandlery_kinds.database.mariadb.configuration import render, settings
from chandlery_kinds.database.mariadb.settings import is_live

FILE = "my.cnf"
SOCKET = f"{MARIADB_RUN}/mariadb.sock"
TEMPORARY = f"{DATA}/tmp"  # noqa: S108


def wanted_settings(inputs: Inputs) -> dict[str, str]:
    """What the spec asks for."""
    wanted = settings(inputs.spec, memory=inputs.memory)
    return {**wanted, "require_secure_transport": "ON" if inputs.only_tls else "OFF"}


def _applied(inputs: Inputs) -> Mapping[str, str]:
    return wanted_settings(inputs) if inputs.applied is None else inputs.applied


def _own(inputs: Inputs) -> dict[str, str]:
    found = {
        "port": str(inputs.port),
        "bind_address": "*",
        "socket": SOCKET,
        "tmpdir": TEMPORARY,
        "performance_schema": _applied(inputs).get("performance_schema", "OFF"),
    }
    tls = inputs.tls
    if tls is not None:
        versions = ["TLSv1.2", "TLSv1.3"] if tls.minimum_version.value == "1.2" else ["TLSv1.3"]
        found |= {
            "ssl_cert": f"{TLS_MOUNT}/tls.crt",
            "ssl_key": f"{TLS_MOUNT}/tls.key",
            "ssl_ca": f"{TLS_MOUNT}/trust.crt",
            "tls_version": ",".join(versions),
        }
    return found


def revisions(inputs: Inputs) -> tuple[str, str]:
    """Short texts that change with what needs a start, and with what was set live."""
    values = _applied(inputs)
    start = {name: value for name, value in values.items() if not is_live(name)} | _own(inputs)
    live = {name: value for name, value in values.items() if is_live(name)}
    return digest(start)[:8], digest(live)[:8]


def config(inputs: Inputs) -> Obj:
    """The manifest."""
    pid = {"pid_file": f"{MARIADB_RUN}/{'-'.join(revisions(inputs))}.pid"}
    text = render({**_applied(inputs), **_own(inputs), **pid})
    return inputs.owner.child(CONFIG_MAPS, CONFIG, data={FILE: text})
