"""The Secret with a cache's configuration: the engine's file, its users, the probe's password."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence

from chandlery.providers.kubernetes.types import SECRETS, Obj
from chandlery_kinds.cache import acl
from chandlery_kinds.cache.kubernetes.inputs import DATA, MOUNT, PORT, PROBE_USER, Inputs
from chandlery_kinds.cache.kubernetes.statefulset import CONFIG
from chandlery_kinds.cache.valkey import NodeConfig, render

FENCED = ("127.0.0.1", 1)
"""Whom a pod of a replicated cache follows until it is told: nobody. So an old primary that comes back takes no write
before the driver has looked who holds the data."""


def probe(password: str) -> acl.AclUser:
    """The user of the readiness probe, who may do nothing but ask."""
    return acl.AclUser(PROBE_USER, (acl.digest(password),), (), (), ("+ping",))


def config(
    inputs: Inputs, settings: Mapping[str, str], users: Sequence[acl.AclUser], admin: str, probe_password: str
) -> Obj:
    """The manifest.

    Args:
        inputs: of all of it.
        settings: the engine's settings by their own names.
        users: everyone who may log in.
        admin: password of the driver's user, with which copies log in at the primary.
        probe_password: of the readiness probe.
    """
    node = NodeConfig(
        port=PORT,
        data_dir=DATA,
        acl_file=f"{MOUNT}/users.acl",
        bind="* -::*",
        primary=FENCED if inputs.replicated else None,
        replication_password=admin,
    )
    more = {"replica-serve-stale-data": "no"} if inputs.replicated else {}
    data = {
        "cache.conf": render({**more, **settings}, node, acl.ADMIN),
        "users.acl": acl.render_file(users),
        "probe-password": probe_password,
    }
    encoded = {key: b64encode(text.encode()).decode() for key, text in data.items()}
    return inputs.owner.child(SECRETS, CONFIG, type="Opaque", data=encoded)
