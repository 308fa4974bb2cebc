"""Queues in the simulated world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from chandlery.driver.protocol import Binding, Disruption
from chandlery.model.base import Endpoint
from chandlery.providers.memory.driver import MemoryDriver
from chandlery.providers.memory.world import Part
from chandlery_kinds.queue.model import Queue


class QueueDriver(MemoryDriver):
    """A queue that no message passes through."""

    costs: ClassVar[Mapping[str, Disruption]] = {
        "configuration": Disruption.RELOAD,
        "users": Disruption.RELOAD,
        "version": Disruption.RESTART,
        "tls": Disruption.RESTART,
        "replicas": Disruption.FAILOVER,
        "brokerRef": Disruption.DATA_LOSS,
        "engine": Disruption.DATA_LOSS,
    }

    def binding(self, obj: Queue, user: Part, endpoint: Endpoint) -> Binding:
        base = super().binding(obj, user, endpoint)
        engine = str(obj.spec.engine.value)
        scheme = "nats" if engine == "nats" else "amqp"
        name, secret = base.entries["username"], base.entries["password"]
        uri = f"{scheme}://{name}:{secret}@{endpoint.host}:{endpoint.port}"
        return Binding(engine, "chandlery", {**base.entries, "queue": obj.metadata.name, "uri": uri})

    def facts(self, obj: Queue, instance: Part, *, ready: bool) -> Mapping[str, Any]:
        there = instance.data.get("settings", {})
        count = there.get("replicas") or 1
        return {
            "engine": there.get("engine"),
            "version": there.get("version") or "simulated",
            "broker": obj.metadata.name,
            "replicas": count,
            "readyReplicas": count if ready else 0,
            "messages": 0,
            "consumers": 0,
        }
