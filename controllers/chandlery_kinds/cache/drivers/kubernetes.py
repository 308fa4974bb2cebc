"""Caches as workloads of a Kubernetes cluster: Valkey and Redis, one instance or with copies that take over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Observation, Unsupported
from chandlery.model.base import DeletionPolicy
from chandlery.model.parts import ExposureType
from chandlery_kinds.cache.drivers.kubernetes_valkey import ValkeyPods
from chandlery_kinds.cache.model import Cache, CacheEngine, CacheMode


class CacheDriver:
    """The `kubernetes` driver of Cache."""

    name: ClassVar[str] = "kubernetes"
    permissions: ClassVar[tuple[Rule, ...]] = (
        Rule(("",), ("services", "secrets"), ("get", "list", "watch", "create", "patch", "delete")),
        Rule(("",), ("pods",), ("get", "list", "watch", "patch", "delete")),
        Rule(("",), ("persistentvolumeclaims",), ("get", "list", "watch", "patch", "delete")),
        Rule(("apps",), ("statefulsets",), ("get", "list", "watch", "create", "patch", "delete")),
        Rule(("policy",), ("poddisruptionbudgets",), ("get", "list", "watch", "create", "patch", "delete")),
    )

    def unsupported(self, obj: Cache, parameters: Mapping[str, Any]) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []

        def no(field: str, value: object, why: str) -> None:
            found.append(Unsupported(field, str(value), why))

        if spec.engine is CacheEngine.MEMCACHED:
            no("spec.engine", spec.engine.value, "memcached is not run on Kubernetes yet")
        if spec.mode is CacheMode.SHARDED:
            no("spec.mode", spec.mode.value, "sharded caches are not run on Kubernetes yet")
        if spec.tls is not None and spec.tls.enabled:
            no("spec.tls.enabled", "true", "caches on Kubernetes have no TLS yet")
        if spec.backup is not None:
            no("spec.backup", "set", "caches on Kubernetes are not backed up yet")
        if spec.restore_from is not None:
            no("spec.restoreFrom", "set", "caches on Kubernetes can't be restored yet")
        if spec.metrics is not None and spec.metrics.enabled:
            no("spec.metrics", "set", "caches on Kubernetes have no exporter yet")
        if spec.rotation is not None:
            no("spec.rotation", "set", "passwords of caches on Kubernetes are not rotated on a schedule yet")
        if spec.deletion_policy is DeletionPolicy.SNAPSHOT:
            no("spec.deletionPolicy", "Snapshot", "caches on Kubernetes can't be backed up yet")
        if spec.adopt is not None:
            no("spec.adopt", "set", "workloads that something else made can't be taken over")
        if spec.exposure.allowed_cidrs and spec.exposure.type is not ExposureType.LOAD_BALANCER:
            no("spec.exposure.allowedCidrs", "set", "only a Service of type LoadBalancer can restrict who connects")
        return found

    async def observe(self, ctx: DriverContext, obj: Cache) -> Observation:
        return await (await ValkeyPods.of(ctx, obj)).observe()

    async def create(self, ctx: DriverContext, obj: Cache) -> None:
        await (await ValkeyPods.of(ctx, obj)).create()

    async def update(self, ctx: DriverContext, obj: Cache, observed: Observation) -> None:
        await (await ValkeyPods.of(ctx, obj)).update(observed)

    async def delete(self, ctx: DriverContext, obj: Cache) -> bool:
        return await (await ValkeyPods.of(ctx, obj)).delete()
