"""The Secret with a cache's configuration: the engine's file and its users."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence

from chandlery.model.parts import ClientAuthentication, TlsVersion
from chandlery.providers.kubernetes.types import SECRETS, Obj
from chandlery_kinds.cache import acl
from chandlery_kinds.cache.kubernetes import backup, exporter
from chandlery_kinds.cache.kubernetes.inputs import DATA, MOUNT, PORT, PROBE_USER, TLS_MOUNT, TLS_PORT, Inputs
from chandlery_kinds.cache.kubernetes.statefulset import CONFIG, SOCKET
from chandlery_kinds.cache.valkey import NodeConfig, render

FENCED = ("127.0.0.1", 1)
"""Whom a pod of a replicated cache follows until it is told: nobody. So an old primary that comes back takes no write
before the driver has looked who holds the data."""


REPLICA_USER = "chandlery-replica"
_PROTOCOLS = {TlsVersion.V1_2: "TLSv1.2 TLSv1.3", TlsVersion.V1_3: "TLSv1.3"}
_CLIENTS = {
    ClientAuthentication.NONE: "no",
    ClientAuthentication.OPTIONAL: "optional",
    ClientAuthentication.REQUIRED: "yes",
}
TLS_FILES = {
    "tls-cert-file": f"{TLS_MOUNT}/tls.crt",
    "tls-key-file": f"{TLS_MOUNT}/tls.key",
    "tls-client-cert-file": f"{TLS_MOUNT}/client.crt",
    "tls-client-key-file": f"{TLS_MOUNT}/client.key",
    "tls-ca-cert-file": f"{TLS_MOUNT}/trust.crt",
}
"""Set again, they are read again."""


def replica(password: str) -> acl.AclUser:
    """As whom servers log in at one another: copies at their primary, and who gives slots away at who gets them."""
    return acl.AclUser(REPLICA_USER, (acl.digest(password),), ("~*",), ("&*",), ("+@all",))


def closed_users(admin: str) -> list[acl.AclUser]:
    """Who may log in at a server that has just started and may have lost what it held: the driver and the probe.

    Neither clients nor copies, until the driver has seen that no copy holds more: a primary that came back empty would
    make its copies as empty as it is.
    """
    nobody = acl.AclUser(acl.DEFAULT, (), (), (), (), enabled=False)
    return [acl.admin(admin), nobody, probe()]


def probe() -> acl.AclUser:
    """The user of the readiness probe, who may do nothing but ask, and gets in with any password."""
    return acl.AclUser(PROBE_USER, (), (), (), ("nopass", "+ping"))


def tls_settings(inputs: Inputs) -> dict[str, str]:
    """Settings about TLS that the engine takes while it runs."""
    tls = inputs.tls
    if tls is None:
        return {}
    return {"tls-protocols": _PROTOCOLS[tls.minimum_version], "tls-auth-clients": _CLIENTS[tls.client_authentication]}


def config(
    inputs: Inputs,
    settings: Mapping[str, str],
    users: Sequence[acl.AclUser],
    admin: str,
    metrics: str = "",
    *,
    replication: str = "",
    restored: bool = False,
) -> Obj:
    """The manifest.

    Args:
        inputs: of all of it.
        settings: the engine's settings by their own names.
        users: everyone who may log in.
        admin: password of the driver's user, with which copies log in at the primary.
        metrics: password of the exporter.
        replication: password of `REPLICA_USER`, where copies log in as that.
        restored: whether the data of the backup that it begins with are there.
    """
    node = NodeConfig(
        port=0 if inputs.only_tls else PORT,
        data_dir=DATA,
        acl_file=f"{MOUNT}/users.acl",
        bind="* -::*",
        primary=FENCED if inputs.replicated else None,
        replication_password=replication or admin,
        cluster_port=PORT + 10000 if inputs.sharded else None,
    )
    more = {"replica-serve-stale-data": "no"} if inputs.replicated else {}
    more |= {"unixsocket": SOCKET, "unixsocketperm": "770", **backup.settings(inputs, restored=restored)}
    if inputs.tls is not None:
        only = "yes" if inputs.only_tls else "no"
        more |= {"tls-port": str(PORT if inputs.only_tls else TLS_PORT), "tls-replication": only, **TLS_FILES}
        if inputs.sharded:
            # certificates are for names, so clients must be sent to names
            more |= {"tls-cluster": only, "cluster-preferred-endpoint-type": "hostname"}
    data = {
        "cache.conf": render({**more, **settings}, node, REPLICA_USER if replication else acl.ADMIN),
        "users.acl": acl.render_file(users),
    }
    if restored:
        data[backup.DONE_FILE] = "true"
    if inputs.metrics:
        data[exporter.PASSWORDS] = exporter.passwords(metrics)
    encoded = {key: b64encode(text.encode()).decode() for key, text in data.items()}
    return inputs.owner.child(SECRETS, CONFIG, type="Opaque", data=encoded)
