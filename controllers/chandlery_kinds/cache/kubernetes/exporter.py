"""The sidecar that serves a cache's metrics: redis_exporter, which also knows Valkey."""

from __future__ import annotations

import json
from typing import Any

from chandlery.providers.kubernetes import pods
from chandlery_kinds.cache import acl
from chandlery_kinds.cache.kubernetes.inputs import METRICS_USER, RUN, Inputs

PASSWORDS = "metrics-passwords.json"
ADDRESS = f"unix://{RUN}/cache.sock"
_MOUNT = "/etc/chandlery-metrics"
_COMMANDS = ("+ping", "+info", "+cluster|info", "+slowlog|len", "+slowlog|get", "+latency|latest", "+latency|histogram")


def user(password: str) -> acl.AclUser:
    """Reads figures, neither data nor configuration (which holds passwords)."""
    return acl.AclUser(METRICS_USER, (acl.digest(password),), (), (), (*_COMMANDS, "+select", "+client|setname"))


def passwords(password: str) -> str:
    """The exporter's password file: JSON from address to password."""
    named = ADDRESS.replace("unix://", f"unix://{METRICS_USER}@")
    return json.dumps({ADDRESS: password, named: password})


def volumes(inputs: Inputs, secret: str) -> list[dict[str, Any]]:
    """What the exporter may know of the Secret with the configuration: its own password."""
    if not inputs.metrics:
        return []
    items = [{"key": PASSWORDS, "path": PASSWORDS}]
    return [{"name": "metrics", "secret": {"secretName": secret, "defaultMode": 0o440, "items": items}}]


def exporter(inputs: Inputs) -> list[dict[str, Any]]:
    """The container; none without metrics."""
    if not inputs.metrics:
        return []
    command = [
        *pods.program("redis_exporter", ["/redis_exporter"], inputs.parameters),
        f"--redis.addr={ADDRESS}",
        f"--redis.user={METRICS_USER}",
        f"--redis.password-file={_MOUNT}/{PASSWORDS}",
        f"--web.listen-address=0.0.0.0:{inputs.metrics_port}",
        "--config-command=-",
        "--set-client-name=false",
    ]
    mounts = [
        {"name": "metrics", "mountPath": _MOUNT, "readOnly": True},
        {"name": "run", "mountPath": RUN},
    ]
    return [pods.sidecar(inputs.exporter, command, inputs.metrics_port, "/health", volumeMounts=mounts)]
