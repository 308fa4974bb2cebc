"""Caches in the simulated world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from chandlery.driver.protocol import Binding, Disruption
from chandlery.model.base import Endpoint
from chandlery.providers.memory.driver import MemoryDriver
from chandlery.providers.memory.world import Part
from chandlery_kinds.cache.model import Cache


class CacheDriver(MemoryDriver):
    """A cache that answers nobody, but lives, changes and breaks as a real one does."""

    costs: ClassVar[Mapping[str, Disruption]] = {
        "configuration": Disruption.RELOAD,
        "users": Disruption.RELOAD,
        "tls": Disruption.RESTART,
        "version": Disruption.RESTART,
        "persistence": Disruption.RESTART,
        "replicas": Disruption.NONE,
        "mode": Disruption.FAILOVER,
        "shards": Disruption.REPLACE,
        "engine": Disruption.DATA_LOSS,
    }

    def binding(self, obj: Cache, user: Part, endpoint: Endpoint) -> Binding:
        base = super().binding(obj, user, endpoint)
        name, secret = base.entries["username"], base.entries["password"]
        uri = f"redis://{name}:{secret}@{endpoint.host}:{endpoint.port}/0"
        return Binding(str(obj.spec.engine.value), "chandlery", {**base.entries, "uri": uri})

    def facts(self, obj: Cache, instance: Part, *, ready: bool) -> Mapping[str, Any]:
        there = instance.data.get("settings", {})
        copies, primaries = there.get("replicas") or 0, there.get("shards") or 1
        count = primaries * (1 + copies)
        return {
            "engine": there.get("engine"),
            "version": there.get("version") or "simulated",
            "replicas": copies,
            "shards": primaries,
            "instances": count,
            "readyInstances": count if ready else 0,
        }
