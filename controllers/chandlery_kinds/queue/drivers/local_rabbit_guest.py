"""A queue that shares the RabbitMQ broker of another Queue: a virtual host of its own in there."""

from __future__ import annotations

import re
from typing import Any, Self
from urllib.parse import quote

from chandlery.driver.protocol import Difference, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, InvalidSpec
from chandlery.model.base import DeletionPolicy
from chandlery.providers.local import Instance
from chandlery_kinds.queue.drivers.guests import Guests
from chandlery_kinds.queue.drivers.local_guest import Guest
from chandlery_kinds.queue.drivers.local_rabbit import Inside, Node, RabbitQueue
from chandlery_kinds.queue.drivers.local_rabbit_broker import RabbitBroker
from chandlery_kinds.queue.drivers.references import Other
from chandlery_kinds.queue.model import Queue


class RabbitGuest(Guest[RabbitBroker], RabbitQueue):
    """A queue in the broker of another."""

    def _host_in(self, found: Other) -> RabbitBroker:
        return RabbitBroker(self.ctx, found.obj, found.instance)

    async def find(self) -> Self:
        await super().find()
        host = self.host
        for field, mine, theirs in (
            ("maxMessageSize", self.spec.max_message_size, host.spec.max_message_size),
            ("acknowledgementTimeout", self.spec.acknowledgement_timeout, host.spec.acknowledgement_timeout),
        ):
            if mine != theirs:
                raise InvalidSpec(
                    f"RabbitMQ has one {field} for a broker, and Queue {host.name} says {theirs}",
                    field=f"spec.{field}",
                    value=mine,
                    hint="Give both the same, or this one a broker of its own.",
                )
        return self

    @property
    def vhost(self) -> str:
        return f"{self.obj.metadata.namespace}.{self.name}"

    @property
    def mine(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.prefix) + ".+")

    @property
    def admin_password(self) -> str:
        return self.host.admin_password

    def nodes(self) -> list[Node]:
        return self.host.nodes()

    async def server_differences(self, nodes: list[Node], inside: Inside | None) -> list[Difference]:
        return []

    async def act(self, what: str, rest: list[Any], change: Difference) -> None:
        """Nothing but the virtual host is its own."""

    def explain(self, nodes: list[Node], problem: str) -> tuple[str, str]:
        if not any(node.state.running for node in nodes):
            return "WaitingForBroker", f"the servers of Queue {self.broker} don't run"
        return "WaitingForBroker", problem or "the queue isn't there yet"

    # -- verbs

    async def create(self) -> None:
        await self.find()
        Guests(self.host.instance).put(self.obj.metadata.uid, {"name": self.name})

    async def observe(self) -> Observation:
        await self.find()
        return await super().observe()

    async def update(self, observed: Observation) -> None:
        await self.find()
        await super().update(observed)

    async def _remove(self, found: Other) -> None:
        try:
            async with await self.api() as api:
                for user in (await api.get("definitions"))["users"]:
                    if self.mine.fullmatch(user["name"]):
                        await api.delete(f"users/{quote(user['name'], safe='')}")
                if self.spec.deletion_policy is DeletionPolicy.DELETE:
                    await api.delete(f"vhosts/{quote(self.vhost, safe='')}")
        except ChandleryError:
            if not found.goes:
                raise


async def queue_of(ctx: DriverContext, obj: Queue, instance: Instance) -> RabbitQueue:
    """Another Queue, with its servers found."""
    if obj.spec.broker_ref is None:
        return RabbitBroker(ctx, obj, instance)
    return await RabbitGuest(ctx, obj, instance).find()
