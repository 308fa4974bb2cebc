"""Queues as NATS servers on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.protocol import DriverContext, Observation, Unsupported, external_name
from chandlery.foundation.errors import NotSupported
from chandlery.model.base import DeletionPolicy
from chandlery.providers.local import Instance, LocalProvider
from chandlery_kinds.queue.drivers.local_nats import NatsServers
from chandlery_kinds.queue.model import Queue, QueueEngine


class QueueDriver:
    """The `local` driver of Queue."""

    name: ClassVar[str] = "local"

    def unsupported(self, obj: Queue, parameters: Mapping[str, Any]) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []

        def no(field: str, value: object, why: str) -> None:
            found.append(Unsupported(field, str(value), why))

        if spec.engine is not QueueEngine.NATS:
            no("spec.engine", spec.engine.value, "it is not run on this machine yet")
        if spec.broker_ref is not None:
            no("spec.brokerRef", spec.broker_ref.name, "queues on this machine have a broker of their own")
        if spec.dead_letter is not None and spec.dead_letter.queue is not None:
            no("spec.deadLetter.queue", spec.dead_letter.queue.name, "dead letters stay with the queue's own broker")
        if spec.tls is not None and spec.tls.enabled:
            no("spec.tls.enabled", "true", "queues on this machine have no TLS yet")
        if spec.exposure.type.value != "Internal":
            no("spec.exposure.type", spec.exposure.type.value, "engines on this machine listen on loopback only")
        if spec.backup is not None:
            no("spec.backup", "set", "queues on this machine are not backed up yet")
        if spec.restore_from is not None:
            no("spec.restoreFrom", "set", "queues on this machine can't be restored yet")
        if spec.metrics is not None:
            no("spec.metrics", "set", "there is no exporter for this machine")
        if spec.rotation is not None:
            no("spec.rotation", "set", "passwords of queues on this machine are not rotated on a schedule yet")
        return found

    async def observe(self, ctx: DriverContext, obj: Queue) -> Observation:
        instance = _instance(ctx, obj)
        if not instance.exists:
            return Observation(exists=False, external_name=instance.name)
        return await NatsServers(ctx, obj, instance).observe()

    async def create(self, ctx: DriverContext, obj: Queue) -> None:
        instance = _instance(ctx, obj)
        meta = obj.metadata
        instance.create(kind=obj.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid)
        await NatsServers(ctx, obj, instance).create()

    async def update(self, ctx: DriverContext, obj: Queue, observed: Observation) -> None:
        await NatsServers(ctx, obj, _instance(ctx, obj)).update(observed)

    async def delete(self, ctx: DriverContext, obj: Queue) -> bool:
        if obj.spec.deletion_policy is DeletionPolicy.SNAPSHOT:
            raise NotSupported(
                "queues on this machine can't be backed up yet",
                field="spec.deletionPolicy",
                value="Snapshot",
                hint="Set deletionPolicy to Delete, or to Retain to keep the data directory.",
            )
        instance = _instance(ctx, obj)
        keep = obj.spec.deletion_policy is DeletionPolicy.RETAIN
        await instance.remove(keep_data=keep)
        if keep:
            ctx.event("Normal", "Retained", f"the messages stay in {instance.data_dir}")
        return True


def _instance(ctx: DriverContext, obj: Queue) -> Instance:
    provider: LocalProvider = ctx.provider
    return provider.instance(external_name(obj))
