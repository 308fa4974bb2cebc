"""Caches as processes on this machine: Valkey and Redis, one or with copies that take over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.providers.local import Instance
from chandlery.providers.local.driver import LocalDriver
from chandlery_kinds.cache.drivers.local_valkey import ValkeyServers
from chandlery_kinds.cache.model import Cache, CacheEngine, CacheMode


class CacheDriver(LocalDriver):
    """The `local` driver of Cache."""

    abilities: ClassVar[frozenset[str]] = frozenset({"tls"})

    def servers(self, ctx: DriverContext, obj: Cache, instance: Instance) -> ValkeyServers:
        return ValkeyServers(ctx, obj, instance)

    def refused(self, obj: Cache) -> Sequence[Unsupported]:
        found = []
        if obj.spec.engine is CacheEngine.MEMCACHED:
            found.append(Unsupported("spec.engine", "memcached", "memcached is not run on this machine yet"))
        if obj.spec.mode is CacheMode.SHARDED:
            found.append(Unsupported("spec.mode", "sharded", "sharded caches are not run on this machine yet"))
        return found
