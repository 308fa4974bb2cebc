"""Queues as NATS StatefulSets on Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Observation, Unsupported
from chandlery.model.base import DeletionPolicy
from chandlery.model.parts import ExposureType
from chandlery_kinds.queue.drivers.kubernetes_nats import NatsPods
from chandlery_kinds.queue.model import Queue, QueueEngine


class QueueDriver:
    """The `kubernetes` driver of Queue."""

    name: ClassVar[str] = "kubernetes"
    permissions: ClassVar[tuple[Rule, ...]] = (
        Rule(("",), ("services", "secrets"), ("get", "list", "watch", "create", "patch", "delete")),
        Rule(("",), ("pods",), ("get", "list", "watch")),
        Rule(("",), ("persistentvolumeclaims",), ("get", "list", "watch", "patch", "delete")),
        Rule(("apps",), ("statefulsets",), ("get", "list", "watch", "create", "patch", "delete")),
        Rule(("policy",), ("poddisruptionbudgets",), ("get", "list", "watch", "create", "patch", "delete")),
    )

    def unsupported(self, obj: Queue, parameters: Mapping[str, Any]) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []

        def no(field: str, value: object, why: str) -> None:
            found.append(Unsupported(field, str(value), why))

        if spec.engine is not QueueEngine.NATS:
            no("spec.engine", spec.engine.value, "it is not run on Kubernetes yet")
        if spec.broker_ref is not None:
            no("spec.brokerRef", spec.broker_ref.name, "queues on Kubernetes have a broker of their own")
        if spec.dead_letter is not None and spec.dead_letter.queue is not None:
            no("spec.deadLetter.queue", spec.dead_letter.queue.name, "dead letters stay with the queue's own broker")
        if spec.tls is not None and spec.tls.enabled:
            no("spec.tls.enabled", "true", "queues on Kubernetes have no TLS yet")
        if spec.backup is not None:
            no("spec.backup", "set", "queues on Kubernetes are not backed up yet")
        if spec.restore_from is not None:
            no("spec.restoreFrom", "set", "queues on Kubernetes can't be restored yet")
        if spec.metrics is not None and spec.metrics.enabled:
            no("spec.metrics", "set", "queues on Kubernetes have no exporter yet")
        if spec.rotation is not None:
            no("spec.rotation", "set", "passwords of queues on Kubernetes are not rotated on a schedule yet")
        if spec.deletion_policy is DeletionPolicy.SNAPSHOT:
            no("spec.deletionPolicy", "Snapshot", "queues on Kubernetes can't be backed up yet")
        if spec.adopt is not None:
            no("spec.adopt", "set", "workloads that something else made can't be taken over")
        if spec.exposure.allowed_cidrs and spec.exposure.type is not ExposureType.LOAD_BALANCER:
            no("spec.exposure.allowedCidrs", "set", "only a Service of type LoadBalancer can restrict who connects")
        return found

    async def observe(self, ctx: DriverContext, obj: Queue) -> Observation:
        return await (await NatsPods.of(ctx, obj)).observe()

    async def create(self, ctx: DriverContext, obj: Queue) -> None:
        await (await NatsPods.of(ctx, obj)).create()

    async def update(self, ctx: DriverContext, obj: Queue, observed: Observation) -> None:
        await (await NatsPods.of(ctx, obj)).update(observed)

    async def delete(self, ctx: DriverContext, obj: Queue) -> bool:
        return await (await NatsPods.of(ctx, obj)).delete()
