"""A queue that shares the NATS servers of another Queue: an account of its own in there.

Nobody in one account sees anything of another: neither streams nor subjects nor answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.driver.protocol import Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, NotFound, Unauthenticated
from chandlery.model.base import DeletionPolicy
from chandlery.providers.local import Instance
from chandlery.providers.local.versions import VersionLine
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers.guests import Guests
from chandlery_kinds.queue.drivers.local_guest import Guest
from chandlery_kinds.queue.drivers.local_nats import NatsQueue, Node
from chandlery_kinds.queue.drivers.local_nats_broker import NatsBroker
from chandlery_kinds.queue.drivers.references import Other
from chandlery_kinds.queue.model import Queue

WAITING_POLL = 0.1


class NatsGuest(Guest[NatsBroker], NatsQueue):
    """A queue on the servers of another."""

    def _host_in(self, found: Other) -> NatsBroker:
        return NatsBroker(self.ctx, found.obj, found.instance)

    @property
    def versions(self) -> VersionLine:
        return self.host.versions

    def version_differences(self, nodes: list[Node], *, in_step: bool) -> list[Difference]:
        return []  # the servers are another's to change

    def nodes(self) -> list[Node]:
        return self.host.nodes()

    # -- the account

    def _entry(self, users: list[js.NatsUser]) -> dict[str, Any]:
        meta = self.obj.metadata
        return {
            "name": meta.name,
            "account": f"{meta.namespace}/{meta.name}",
            "maxPayload": self.spec.max_message_size.bytes,
            "users": [
                {
                    "name": user.name,
                    "password": user.password,
                    "publish": None if user.publish is None else list(user.publish),
                    "subscribe": None if user.subscribe is None else list(user.subscribe),
                }
                for user in users
            ],
        }

    async def server_differences(self, nodes: list[Node], users: list[js.NatsUser]) -> list[Difference]:
        known = Guests(self.host.instance).get(self.obj.metadata.uid)
        if known == self._entry(users):
            return []
        return [
            Difference(
                "users and limits",
                "as in spec",
                "older" if known else "absent",
                Disruption.RELOAD,
                sensitive=True,
                payload=("register",),
            )
        ]

    async def act(self, what: str, rest: list[Any], users: list[js.NatsUser], change: Difference) -> None:
        if what == "register":
            self._register(users)

    def _register(self, users: list[js.NatsUser]) -> None:
        Guests(self.host.instance).put(self.obj.metadata.uid, self._entry(users))

    # -- verbs

    async def create(self) -> None:
        await self.find()
        self._register(await self.users())

    async def observe(self) -> Observation:
        await self.find()
        return await super().observe()

    async def update(self, observed: Observation) -> None:
        await self.find()
        await super().update(observed)

    def explain(self, nodes: list[Node], problems: Mapping[str, str]) -> tuple[str, str]:
        running = [node for node in nodes if node.state.running]
        if not running:
            return "WaitingForBroker", f"the servers of Queue {self.broker} don't run"
        if problems:
            words = "; ".join(dict.fromkeys(problems.values()))
            return "WaitingForBroker", f"the servers of Queue {self.broker} don't know this one yet: {words}"
        return "Starting", "the queue isn't there yet, or the binding's credentials don't work yet"

    def _poll_after(self, ready: bool, nodes: list[Node]) -> float:
        return super()._poll_after(ready, nodes) if ready else WAITING_POLL

    async def _remove(self, found: Other) -> None:
        if self.spec.deletion_policy is not DeletionPolicy.DELETE:
            return
        try:
            async with await self.connect_any() as api:
                for stream in (self.stream, js.dead_name(self.name), js.given_up_name(self.name)):
                    await api.remove_stream(stream)
        except (Unauthenticated, NotFound):
            return  # never known to the servers: nothing can be there
        except ChandleryError:
            if not found.goes:
                raise


async def queue_of(ctx: DriverContext, obj: Queue, instance: Instance) -> NatsQueue:
    """Another Queue, with its servers found."""
    if obj.spec.broker_ref is None:
        return NatsBroker(ctx, obj, instance)
    return await NatsGuest(ctx, obj, instance).find()
