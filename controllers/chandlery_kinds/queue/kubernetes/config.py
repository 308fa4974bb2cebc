"""The Secret with the configuration of NATS: one file for all servers, told apart by their pods' names.

Most of it is read again while the servers run. A tag in the file tells which one a server has read: the kubelet brings
a changed file to the pods when it likes.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from chandlery.model.parts import ClientAuthentication
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.services import HEADLESS
from chandlery.providers.kubernetes.types import SECRETS, Obj
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.kubernetes.inputs import CLUSTER_PORT, DATA, MONITOR_PORT, PORT, RUN, TLS_MOUNT, Inputs

CONFIG = "-config"
SYSTEM_USER = "chandlery-system"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a pod's own addresses
PID_FILE = f"{RUN}/nats.pid"
LAME_DUCK = {"lame_duck_grace_period": "5s", "lame_duck_duration": "30s"}
"""How clients are asked to go elsewhere before a server ends; within the pod's grace period."""
_LIVE = frozenset({"accounts", "max_payload", "tls", "server_tags", "lame_duck_duration", "lame_duck_grace_period"})
"""What NATS reads again while it runs."""
_TAG = "configuration:"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The file, and what stands for it."""

    text: str
    tag: str
    """A server that has read the file has this tag."""
    fixed: str
    """Digest of what needs a restart."""


def text(
    inputs: Inputs, users: Sequence[js.NatsUser], cluster_password: str, system_password: str, servers: int
) -> Configuration:
    """The file; each server's name is its pod's.

    Args:
        inputs: of all of it.
        users: of the queue's account.
        cluster_password: with which servers log in at one another.
        system_password: of the driver at the system account.
        servers: how many there are now.
    """
    owner = inputs.owner
    server = js.Server("", EVERYWHERE, PORT, DATA)
    if inputs.clustered:
        routes = tuple(
            f"nats://route:{cluster_password}@{owner.base}-{index}.{owner.base}{HEADLESS}:{CLUSTER_PORT}"
            for index in range(servers)
        )
        server = replace(server, cluster=owner.identity, cluster_port=CLUSTER_PORT, routes=routes)
    config: dict[str, Any] = json.loads(js.render(inputs.spec, server, users, cluster_password))
    del config["server_name"]
    config["http"] = f"{EVERYWHERE}:{MONITOR_PORT}"
    config["pid_file"] = PID_FILE
    config |= LAME_DUCK
    config["accounts"]["SYS"]["users"] = [{"user": SYSTEM_USER, "password": system_password}]
    if inputs.tls is not None:
        config["tls"] = _tls(inputs)
    tag = _TAG + digest(config)
    fixed = {key: value for key, value in config.items() if key not in _LIVE}
    fixed["encrypted"] = inputs.tls is not None
    if inputs.clustered:
        fixed["cluster"] = {key: value for key, value in config["cluster"].items() if key != "routes"}
    config["server_tags"] = [tag]
    # the file is read again whole, so what differs from server to server comes from the environment
    named = '{\n "server_name": $POD_NAME,' + json.dumps(config, indent=1).removeprefix("{") + "\n"
    return Configuration(named, tag, digest(fixed))


def _tls(inputs: Inputs) -> dict[str, Any]:
    tls = inputs.tls
    assert tls is not None
    found: dict[str, Any] = {
        "cert_file": f"{TLS_MOUNT}/tls.crt",
        "key_file": f"{TLS_MOUNT}/tls.key",
        "min_version": tls.minimum_version.value,
    }
    if tls.client_authentication is ClientAuthentication.REQUIRED:
        found |= {"ca_file": f"{TLS_MOUNT}/trust.crt", "verify": True}
    return found


def config(inputs: Inputs, content: Configuration) -> Obj:
    """The manifest."""
    data = {"nats.conf": b64encode(content.text.encode()).decode()}
    return inputs.owner.child(SECRETS, CONFIG, type="Opaque", data=data)
