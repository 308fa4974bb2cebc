"""Queues as NATS servers on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.providers.local import Instance
from chandlery.providers.local.driver import LocalDriver
from chandlery_kinds.queue.drivers.local_nats import NatsServers
from chandlery_kinds.queue.model import Queue, QueueEngine


class QueueDriver(LocalDriver):
    """The `local` driver of Queue."""

    def servers(self, ctx: DriverContext, obj: Queue, instance: Instance) -> NatsServers:
        return NatsServers(ctx, obj, instance)

    def refused(self, obj: Queue) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []
        if spec.engine is not QueueEngine.NATS:
            found.append(Unsupported("spec.engine", spec.engine.value, "it is not run on this machine yet"))
        if spec.broker_ref is not None:
            why = "queues on this machine have a broker of their own"
            found.append(Unsupported("spec.brokerRef", spec.broker_ref.name, why))
        if spec.dead_letter is not None and spec.dead_letter.queue is not None:
            why = "dead letters stay with the queue's own broker"
            found.append(Unsupported("spec.deadLetter.queue", spec.dead_letter.queue.name, why))
        return found
