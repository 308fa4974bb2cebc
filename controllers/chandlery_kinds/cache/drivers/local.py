"""Caches as processes on this machine: Valkey and Redis, alone, with copies or in shards, and Memcached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.model.base import DeletionPolicy
from chandlery.model.parts import ExposureType
from chandlery.providers.local import Instance, rotation
from chandlery.providers.local.cgroups import Allowance
from chandlery.providers.local.driver import LocalDriver, Servers
from chandlery_kinds.cache import memcached, memory
from chandlery_kinds.cache.drivers.local_cluster import ClusterServers
from chandlery_kinds.cache.drivers.local_memcached import MemcachedServers
from chandlery_kinds.cache.drivers.local_nodes import generated
from chandlery_kinds.cache.drivers.local_valkey import ValkeyServers
from chandlery_kinds.cache.model import Cache, CacheEngine, CacheMode


class CacheDriver(LocalDriver):
    """The `local` driver of Cache."""

    own_limits: ClassVar[str] = "The engine itself keeps its data within spec.memory."
    abilities: ClassVar[frozenset[str]] = frozenset({"tls", "backup", "restoreFrom", "rotation", "exposure"})

    def servers(self, ctx: DriverContext, obj: Cache, instance: Instance) -> Servers:
        if obj.spec.engine is CacheEngine.MEMCACHED:
            return MemcachedServers(ctx, obj, instance)
        if obj.spec.mode is CacheMode.SHARDED:
            return ClusterServers(ctx, obj, instance)
        return ValkeyServers(ctx, obj, instance)

    def allowance(self, obj: Cache, process: str) -> Allowance:
        """Never less than what spec.memory needs: a server that keeps within that must not be killed."""
        found = super().allowance(obj, process)
        return replace(found, memory=max(found.memory, memory.most(obj.spec))) if found.memory is not None else found

    def refused(self, obj: Cache) -> Sequence[Unsupported]:
        spec = obj.spec
        found = _exposure(obj)
        if spec.engine is CacheEngine.MEMCACHED:
            found += list(rotation.refused(spec, {memcached.USER: "password"}))
            if spec.deletion_policy is DeletionPolicy.SNAPSHOT:
                found.append(Unsupported("spec.deletionPolicy", "Snapshot", "memcached has no data to back up"))
            return found
        found += list(rotation.refused(spec, generated(spec)))
        if spec.tls is not None and spec.tls.enabled and spec.mode is CacheMode.SHARDED:
            found += _sharded_tls(obj)
        return found


def _sharded_tls(obj: Cache) -> list[Unsupported]:
    """A node of a cluster sends clients to others, and names one port of each."""
    if obj.spec.engine is CacheEngine.REDIS:
        why = "a sharded redis can't send clients to the TLS ports of this machine; valkey can"
        return [Unsupported("spec.tls.enabled", "true", why)]
    if obj.spec.tls is not None and not obj.spec.tls.required:
        why = "the nodes of a sharded cache send all clients to one port each: with TLS or without"
        return [Unsupported("spec.tls.required", "false", why)]
    return []


def _exposure(obj: Cache) -> list[Unsupported]:
    exposure = obj.spec.exposure
    if exposure.type is ExposureType.LOAD_BALANCER:
        why = "this machine has no load balancers with addresses of their own: use NodePort"
        return [Unsupported("spec.exposure.type", "LoadBalancer", why)]
    if exposure.type is ExposureType.NODE_PORT and obj.spec.mode is CacheMode.SHARDED:
        why = "the nodes of a sharded cache send clients to one another on loopback"
        return [Unsupported("spec.exposure.type", "NodePort", why)]
    if exposure.type is ExposureType.INTERNAL and exposure.allowed_cidrs:
        why = "only this machine can connect; networks are let in with type NodePort"
        return [Unsupported("spec.exposure.allowedCidrs", ", ".join(map(str, exposure.allowed_cidrs)), why)]
    return []
