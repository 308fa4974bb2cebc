"""The Secret with HAProxy's configuration and its certificates."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence

from chandlery.providers.kubernetes.types import SECRETS, Obj
from chandlery_kinds.loadbalancer.haproxy import Surroundings, render
from chandlery_kinds.loadbalancer.kubernetes.inputs import ADMIN_PORT, HEALTH_PORT, MOUNT, RUN, Inputs
from chandlery_kinds.loadbalancer.targets import Server

CONFIG = "-config"
_SOCKET = f"unix@{RUN}/admin.sock"
# The runtime API is for the driver alone: it and HAProxy show each other certificates of the object's own CA. A
# frontend does that, since `ssl` on a stats socket is accepted and ignored by HAProxy 2.8.
_ADMIN = f"""frontend chandlery_admin
    bind *:{ADMIN_PORT} ssl crt {MOUNT}/admin.pem ca-file {MOUNT}/admin-ca.pem verify required ssl-min-ver TLSv1.3
    mode tcp
    timeout client 1m
    option dontlog-normal
    default_backend chandlery_admin
backend chandlery_admin
    mode tcp
    timeout connect 5s
    timeout server 1m
    server cli {_SOCKET}
"""
_HEALTH = f"""frontend chandlery_health
    bind *:{HEALTH_PORT}
    mode http
    timeout client 5s
    option dontlog-normal
    http-request return status 200 content-type text/plain string "ok" if {{ path /healthz }}
    http-request return status 404 content-type text/plain string "nothing here"
"""


def file_name(content: str) -> str:
    """A certificate's file: the name changes with the content, so that a changed one is a changed configuration."""
    return f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.pem"


def text(
    inputs: Inputs,
    servers: Mapping[str, Sequence[Server]],
    certificates: Mapping[str, Sequence[str]],
    client_cas: Mapping[str, str],
    pool_cas: Mapping[str, str],
) -> tuple[str, Surroundings]:
    """The whole configuration. Certificates and CAs are contents (PEM), by listener or pool."""

    def path(content: str) -> str:
        return f"{MOUNT}/{file_name(content)}"

    where = Surroundings(
        bind="*",
        socket=_SOCKET,
        certificates={name: [path(pem) for pem in pems] for name, pems in certificates.items()},
        client_cas={name: path(pem) for name, pem in client_cas.items()},
        pool_cas={name: path(pem) for name, pem in pool_cas.items()},
    )
    return render(inputs.spec, servers, where) + _ADMIN + _HEALTH, where


def config(inputs: Inputs, configuration: str, files: Sequence[str], admin: str, admin_ca: str) -> Obj:
    """The manifest.

    Args:
        inputs: of all of it.
        configuration: HAProxy's file.
        files: certificates and CAs that it names.
        admin: certificate and key of the runtime API, PEM.
        admin_ca: the CA that the driver's certificate comes from.
    """
    data = {"haproxy.cfg": configuration, "admin.pem": admin, "admin-ca.pem": admin_ca}
    data |= {file_name(content): content for content in files}
    encoded = {key: b64encode(value.encode()).decode() for key, value in data.items()}
    return inputs.owner.child(SECRETS, CONFIG, type="Opaque", data=encoded)
