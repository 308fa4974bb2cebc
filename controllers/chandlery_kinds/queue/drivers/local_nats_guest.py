"""A queue that shares the NATS servers of another Queue: an account of its own in there.

Nobody in one account sees anything of another: neither streams nor subjects nor answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.driver.protocol import Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, DependencyNotReady, InvalidSpec, NotFound, Unauthenticated
from chandlery.model.base import DeletionPolicy
from chandlery.providers.local import Instance
from chandlery.providers.local.versions import VersionLine
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers.broker_tls import BrokerTls
from chandlery_kinds.queue.drivers.guests import Guests
from chandlery_kinds.queue.drivers.local_nats import NatsQueue, Node
from chandlery_kinds.queue.drivers.local_nats_broker import NatsBroker
from chandlery_kinds.queue.drivers.references import Other, host_of
from chandlery_kinds.queue.model import Queue

WAITING_POLL = 0.1


class NatsGuest(NatsQueue):
    """A queue on the servers of another."""

    def __init__(self, ctx: DriverContext, obj: Queue, instance: Instance) -> None:
        super().__init__(ctx, obj, instance)
        self.prefix = f"{self.name}~"
        self._host: NatsBroker | None = None

    async def find(self) -> NatsGuest:
        """Find the servers first.

        Raises:
            DependencyNotReady: the Queue that has them isn't there yet.
            InvalidSpec: it can't be shared like this.
        """
        self._use(await host_of(self.ctx, self.obj))
        return self

    def _use(self, found: Other) -> None:
        self._host = NatsBroker(self.ctx, found.obj, found.instance)
        have, want = self._host.count, self.spec.replicas
        if want > have:
            raise InvalidSpec(
                f"{want} copies need {want} servers; Queue {self._host.name} has {have}",
                field="spec.replicas",
                value=want,
                hint=f"Set replicas to {have} or fewer.",
            )

    @property
    def host(self) -> NatsBroker:
        assert self._host is not None, "find() comes first"
        return self._host

    @property
    def broker(self) -> str:
        return self.host.name

    @property
    def security(self) -> BrokerTls | None:
        return self.host.security

    @property
    def versions(self) -> VersionLine:
        return self.host.versions

    def version_differences(self, nodes: list[Node], *, in_step: bool) -> list[Difference]:
        return []  # the servers are another's to change

    def nodes(self) -> list[Node]:
        return self.host.nodes()

    def exists(self) -> bool:
        return Guests(self.host.instance).get(self.obj.metadata.uid) is not None

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

    async def leave(self) -> None:
        """Take its own things out of the shared servers; what others have there stays.

        Raises:
            ChandleryError: the servers don't answer, and they are not about to go themselves.
        """
        try:
            found = await host_of(self.ctx, self.obj)
        except (DependencyNotReady, InvalidSpec):
            return  # the servers are gone, and everything in them
        self._host = NatsBroker(self.ctx, found.obj, found.instance)
        if not self.exists():
            return
        if self.spec.deletion_policy is DeletionPolicy.DELETE:
            await self._remove_streams(found)
        Guests(self.host.instance).drop(self.obj.metadata.uid)

    async def _remove_streams(self, found: Other) -> None:
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
