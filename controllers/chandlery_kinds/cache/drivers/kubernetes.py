"""Caches as workloads of a Kubernetes cluster: Valkey and Redis, one instance or with copies that take over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.model.base import DeletionPolicy
from chandlery.providers.kubernetes.driver import KubernetesDriver, Pass, child_rules
from chandlery.providers.kubernetes.foreign import FURTHER_RULES
from chandlery_kinds.cache.drivers.kubernetes_cluster import ClusterPods
from chandlery_kinds.cache.drivers.kubernetes_valkey import ValkeyPods
from chandlery_kinds.cache.model import Cache, CacheEngine, CacheMode


class CacheDriver(KubernetesDriver[Cache]):
    """The `kubernetes` driver of Cache."""

    permissions: ClassVar[tuple[Rule, ...]] = (
        *child_rules(
            ("", ("services", "secrets")),
            ("apps", ("statefulsets",)),
            ("policy", ("poddisruptionbudgets",)),
            ("networking.k8s.io", ("networkpolicies",)),
        ),
        Rule(("",), ("pods",), ("get", "list", "watch", "patch", "delete")),
        Rule(("",), ("persistentvolumeclaims",), ("get", "list", "watch", "patch", "delete")),
        *FURTHER_RULES,
    )

    def refused(self, obj: Cache, parameters: Mapping[str, Any]) -> Iterator[Unsupported]:
        spec = obj.spec
        if spec.engine is CacheEngine.MEMCACHED:
            yield Unsupported("spec.engine", spec.engine.value, "memcached is not run on Kubernetes yet")
        if spec.backup is not None:
            yield Unsupported("spec.backup", "set", "caches on Kubernetes are not backed up yet")
        if spec.restore_from is not None:
            yield Unsupported("spec.restoreFrom", "set", "caches on Kubernetes can't be restored yet")
        if spec.deletion_policy is DeletionPolicy.SNAPSHOT:
            yield Unsupported("spec.deletionPolicy", "Snapshot", "caches on Kubernetes can't be backed up yet")

    async def begin(self, ctx: DriverContext, obj: Cache) -> Pass:
        passes = ClusterPods if obj.spec.mode is CacheMode.SHARDED else ValkeyPods
        return await passes.of(ctx, obj)
