"""Databases in the simulated world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from chandlery.driver.protocol import Binding, Disruption
from chandlery.model.base import Endpoint
from chandlery.providers.memory.driver import MemoryDriver
from chandlery.providers.memory.world import Part
from chandlery_kinds.database.model import Database


class DatabaseDriver(MemoryDriver):
    """A database without rows."""

    costs: ClassVar[Mapping[str, Disruption]] = {
        "configuration": Disruption.RELOAD,
        "version": Disruption.RESTART,
        "replication": Disruption.RELOAD,
        "tls": Disruption.RESTART,
        "resources": Disruption.FAILOVER,
        "initialization": Disruption.DATA_LOSS,
        "engine": Disruption.DATA_LOSS,
    }

    def binding(self, obj: Database, user: Part, endpoint: Endpoint) -> Binding:
        base = super().binding(obj, user, endpoint)
        engine = "postgresql" if obj.spec.engine.value == "postgres" else "mysql"
        name, secret, database = base.entries["username"], base.entries["password"], obj.spec.databases[0].name
        uri = f"{engine}://{name}:{secret}@{endpoint.host}:{endpoint.port}/{database}"
        return Binding(engine, "chandlery", {**base.entries, "database": database, "uri": uri})

    def facts(self, obj: Database, instance: Part, *, ready: bool) -> Mapping[str, Any]:
        there = instance.data.get("settings", {})
        count = there.get("instances") or 1
        return {
            "engine": there.get("engine"),
            "version": there.get("version") or "simulated",
            "instances": count,
            "readyInstances": count if ready else 0,
            "primary": f"{obj.metadata.name}-0",
            "storageSize": there.get("storage", {}).get("size"),
            "databases": [{"name": d["name"], "ready": ready} for d in there.get("databases", ())],
        }
