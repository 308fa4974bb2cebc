"""The Secret with the configuration of NATS: one file for all servers, told apart by their pods' names."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace

from chandlery.providers.kubernetes.types import SECRETS, Obj
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.kubernetes.inputs import CLUSTER_PORT, DATA, MONITOR_PORT, PORT, Inputs

CONFIG = "-config"
HEADLESS = "-nodes"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a pod's own addresses


def text(inputs: Inputs, users: Sequence[js.NatsUser], cluster_password: str) -> str:
    """The file. A server's name is not in it: that comes with the command."""
    owner, count = inputs.owner, inputs.spec.replicas
    server = js.Server("", EVERYWHERE, PORT, DATA)
    if count > 1:
        routes = tuple(
            f"nats://route:{cluster_password}@{owner.base}-{index}.{owner.base}{HEADLESS}:{CLUSTER_PORT}"
            for index in range(count)
        )
        server = replace(server, cluster=owner.identity, cluster_port=CLUSTER_PORT, routes=routes)
    config = json.loads(js.render(inputs.spec, server, users, cluster_password))
    del config["server_name"]
    config["http"] = f"{EVERYWHERE}:{MONITOR_PORT}"
    return json.dumps(config, indent=1) + "\n"


def config(inputs: Inputs, content: str) -> Obj:
    """The manifest."""
    data = {"nats.conf": b64encode(content.encode()).decode()}
    return inputs.owner.child(SECRETS, CONFIG, type="Opaque", data=data)
