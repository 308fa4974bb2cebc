"""Caches as workloads of a Kubernetes cluster: Valkey and Redis, alone, with copies or in shards; Memcached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.providers.kubernetes.backup import refused
from chandlery.providers.kubernetes.driver import KubernetesDriver, Pass, child_rules
from chandlery.providers.kubernetes.foreign import FURTHER_RULES
from chandlery_kinds.cache.drivers.kubernetes_cluster import ClusterPods
from chandlery_kinds.cache.drivers.kubernetes_memcached import MemcachedPods
from chandlery_kinds.cache.drivers.kubernetes_valkey import ValkeyPods
from chandlery_kinds.cache.kubernetes.parameters import CacheParameters
from chandlery_kinds.cache.model import Cache, CacheEngine, CacheMode


class CacheDriver(KubernetesDriver[Cache, CacheParameters]):
    """The `kubernetes` driver of Cache."""

    parameters: ClassVar[type[CacheParameters]] = CacheParameters
    permissions: ClassVar[tuple[Rule, ...]] = (
        *child_rules(
            ("", ("services", "secrets")),
            ("apps", ("statefulsets",)),
            ("batch", ("cronjobs", "jobs")),
            ("policy", ("poddisruptionbudgets",)),
            ("networking.k8s.io", ("networkpolicies",)),
        ),
        Rule(("",), ("pods",), ("list", "watch", "patch", "delete")),
        Rule(("",), ("persistentvolumeclaims",), ("list", "watch", "patch", "delete")),
        *FURTHER_RULES,
    )

    def refused(self, obj: Cache, parameters: CacheParameters) -> Iterator[Unsupported]:
        spec = obj.spec
        if spec.engine is CacheEngine.MEMCACHED:
            if spec.metrics is not None and spec.metrics.enabled:
                why = "memcached's exporter can't log in, and a cache without a password is nobody's"
                yield Unsupported("spec.metrics", "set", why)
            if spec.tls is not None and spec.tls.enabled and not spec.tls.required:
                why = "memcached speaks TLS with all clients or with none"
                yield Unsupported("spec.tls.required", "false", why)
        yield from refused(spec)

    async def begin(self, ctx: DriverContext, obj: Cache) -> Pass:
        if obj.spec.engine is CacheEngine.MEMCACHED:
            return await MemcachedPods.of(ctx, obj)
        if obj.spec.mode is CacheMode.SHARDED:
            return await ClusterPods.of(ctx, obj)
        return await ValkeyPods.of(ctx, obj)
