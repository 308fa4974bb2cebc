"""Load balancers in the simulated world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from chandlery.driver.protocol import Binding, Disruption
from chandlery.model.base import Endpoint
from chandlery.providers.memory.driver import MemoryDriver
from chandlery.providers.memory.world import Part
from chandlery_kinds.loadbalancer.model import LoadBalancer


class LoadBalancerDriver(MemoryDriver):
    """A load balancer without traffic."""

    costs: ClassVar[Mapping[str, Disruption]] = {
        "listeners": Disruption.RELOAD,
        "pools": Disruption.RELOAD,
        "routes": Disruption.RELOAD,
        "timeouts": Disruption.RELOAD,
        "rateLimit": Disruption.RELOAD,
        "accessLog": Disruption.RELOAD,
        "configuration": Disruption.RESTART,
        "address": Disruption.REPLACE,
    }

    def binding(self, obj: LoadBalancer, user: Part, endpoint: Endpoint) -> Binding:
        entries = {"host": endpoint.host, "port": str(endpoint.port)}
        return Binding("loadbalancer", "chandlery", {**entries, "uri": f"tcp://{endpoint.host}:{endpoint.port}"})

    def facts(self, obj: LoadBalancer, instance: Part, *, ready: bool) -> Mapping[str, Any]:
        there = instance.data.get("settings", {})
        count = there.get("replicas") or 1
        targets = sum(len(pool.get("targets", ())) for pool in there.get("pools", ()))
        return {
            "engine": "simulated",
            "address": "127.0.0.1",
            "replicas": count,
            "readyReplicas": count if ready else 0,
            "targets": targets,
            "healthyTargets": targets if ready else 0,
            "listeners": [{"name": item["name"], "ready": ready} for item in there.get("listeners", ())],
        }
