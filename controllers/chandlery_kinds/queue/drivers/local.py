"""Queues as NATS or RabbitMQ servers on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.foundation.errors import FailedPrecondition
from chandlery.model.base import DeletionPolicy
from chandlery.model.parts import ClientAuthentication
from chandlery.providers.local import Instance, adoption, rotation
from chandlery.providers.local.driver import LocalDriver
from chandlery_kinds.queue.drivers.guests import Guests
from chandlery_kinds.queue.drivers.local_nats import NatsQueue
from chandlery_kinds.queue.drivers.local_nats_broker import NatsBroker
from chandlery_kinds.queue.drivers.local_nats_guest import NatsGuest
from chandlery_kinds.queue.drivers.local_queue import APPLICATION, generated
from chandlery_kinds.queue.drivers.local_rabbit import RabbitQueue
from chandlery_kinds.queue.drivers.local_rabbit_broker import RabbitBroker
from chandlery_kinds.queue.drivers.local_rabbit_guest import RabbitGuest
from chandlery_kinds.queue.drivers.references import sharers
from chandlery_kinds.queue.model import Queue, QueueEngine, QueueSpec


class QueueDriver(LocalDriver):
    """The `local` driver of Queue."""

    adopts_by_name: ClassVar[bool] = True
    own_limits: ClassVar[str] = (
        "RabbitMQ holds publishers back when its share of that memory is used; NATS collects garbage sooner and uses "
        "no more cores at once."
    )
    abilities: ClassVar[frozenset[str]] = frozenset({"rotation", "tls"})

    def does(self, obj: Queue) -> frozenset[str]:
        """Messages of JetStream can be backed up."""
        nats = obj.spec.engine is QueueEngine.NATS
        return self.abilities | ({"backup", "restoreFrom"} if nats else set())

    def servers(self, ctx: DriverContext, obj: Queue, instance: Instance) -> NatsQueue | RabbitQueue:
        if obj.spec.broker_ref is not None:
            return self._guest(ctx, obj, instance)
        if obj.spec.engine is QueueEngine.RABBITMQ:
            return RabbitBroker(ctx, obj, instance)
        return NatsBroker(ctx, obj, instance)

    @staticmethod
    def _guest(ctx: DriverContext, obj: Queue, instance: Instance) -> NatsGuest | RabbitGuest:
        rabbit = obj.spec.engine is QueueEngine.RABBITMQ
        return RabbitGuest(ctx, obj, instance) if rabbit else NatsGuest(ctx, obj, instance)

    def refused(self, obj: Queue) -> Sequence[Unsupported]:
        spec = obj.spec
        found = list(rotation.refused(spec, generated(spec)))
        if spec.engine is QueueEngine.NATS:
            found += self._refused_by_nats(spec)
        if any(user.name == APPLICATION for user in spec.users):
            found.append(Unsupported("spec.users", APPLICATION, "the binding's user has that name: choose another"))
        named = spec.dead_letter.queue if spec.dead_letter is not None else None
        for field, ref in (("spec.brokerRef", spec.broker_ref), ("spec.deadLetter.queue", named)):
            if ref is not None and ref.name == obj.metadata.name:
                found.append(Unsupported(field, ref.name, "a queue can't name itself here"))
        if named is not None and spec.dead_letter is not None and spec.dead_letter.max_age is not None:
            why = "how long messages stay there is for retention.maxAge of that Queue to say"
            found.append(Unsupported("spec.deadLetter.maxAge", str(spec.dead_letter.max_age), why))
        return found

    @staticmethod
    def _refused_by_nats(spec: QueueSpec) -> list[Unsupported]:
        found: list[Unsupported] = []
        if spec.tls is not None and spec.tls.client_authentication is ClientAuthentication.OPTIONAL:
            why = "NATS either asks every client for a certificate or none: choose none or required"
            found.append(Unsupported("spec.tls.clientAuthentication", "optional", why))
        if spec.tls is not None and not spec.tls.required:
            why = "clients of NATS speak plain text wherever a server leaves them the choice, even with tls://"
            found.append(Unsupported("spec.tls.required", "false", why))
        return found

    async def delete(self, ctx: DriverContext, obj: Queue) -> bool:
        """A broker goes only when no other Queue uses it; who shares one leaves only that."""
        instance = self.instance(ctx, obj)
        if not adoption.is_owner(instance, obj):
            return True
        if obj.spec.broker_ref is None:
            if instance.exists:
                await self._unused(ctx, obj, instance)
                servers = self.servers(ctx, obj, instance)
                if isinstance(servers, RabbitBroker) and obj.spec.deletion_policy is DeletionPolicy.DELETE:
                    await servers.end()
            return await super().delete(ctx, obj)
        if instance.exists:
            await self._guest(ctx, obj, instance).leave()
            await instance.remove()
            if obj.spec.deletion_policy is DeletionPolicy.RETAIN:
                kept = f"its messages stay in the broker of Queue {obj.spec.broker_ref.name}"
                ctx.event("Normal", "Retained", kept)
        return True

    async def _unused(self, ctx: DriverContext, obj: Queue, instance: Instance) -> None:
        """Raise while others use the broker.

        Raises:
            FailedPrecondition: these Queues do.
        """
        registered = Guests(instance).all()
        if not registered:
            return
        present = await sharers(ctx, obj)
        using = sorted(present[uid] for uid in registered if uid in present)
        if using:
            raise FailedPrecondition(
                f"the broker is used by Queue {', '.join(using)}",
                field="spec.brokerRef",
                value=obj.metadata.name,
                hint="Delete those first; this one goes by itself then.",
                retry_after=2.0,
            )
