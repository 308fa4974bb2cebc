"""A queue that shares the broker of another Queue: what is the same whatever the engine."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, Protocol, Self, TypeVar

from chandlery.driver.protocol import DriverContext
from chandlery.foundation.errors import DependencyNotReady, InvalidSpec
from chandlery.providers.local import Instance
from chandlery_kinds.queue.drivers.broker_tls import BrokerTls
from chandlery_kinds.queue.drivers.guests import Guests
from chandlery_kinds.queue.drivers.local_queue import LocalQueue
from chandlery_kinds.queue.drivers.references import Other, host_of
from chandlery_kinds.queue.model import Queue


class Host(Protocol):
    """The owner of the broker."""

    name: str
    instance: Instance

    @property
    def count(self) -> int: ...

    @property
    def security(self) -> BrokerTls | None: ...


H = TypeVar("H", bound=Host)


class Guest(LocalQueue, Generic[H]):
    """Before the engine's own class."""

    def __init__(self, ctx: DriverContext, obj: Queue, instance: Instance) -> None:
        super().__init__(ctx, obj, instance)
        self.prefix = f"{self.name}~"
        self._host: H | None = None

    @abstractmethod
    def _host_in(self, found: Other) -> H:
        """The broker of that Queue."""

    @abstractmethod
    async def _remove(self, found: Other) -> None:
        """Take what is its own out of the broker."""

    async def find(self) -> Self:
        """Find the broker first.

        Raises:
            DependencyNotReady: the Queue that has it isn't there yet.
            InvalidSpec: it can't be shared like this.
        """
        host = self._host = self._host_in(await host_of(self.ctx, self.obj))
        want = self.spec.replicas
        if want > host.count:
            raise InvalidSpec(
                f"{want} copies need {want} servers; Queue {host.name} has {host.count}",
                field="spec.replicas",
                value=want,
                hint=f"Set replicas to {host.count} or fewer.",
            )
        return self

    @property
    def host(self) -> H:
        assert self._host is not None, "find() comes first"
        return self._host

    @property
    def broker(self) -> str:
        return self.host.name

    @property
    def security(self) -> BrokerTls | None:
        return self.host.security

    def exists(self) -> bool:
        return Guests(self.host.instance).get(self.obj.metadata.uid) is not None

    async def leave(self) -> None:
        """Take its own things out of the shared broker; what others have there stays.

        Raises:
            ChandleryError: the broker doesn't answer, and it is not about to go itself.
        """
        try:
            found = await host_of(self.ctx, self.obj)
        except (DependencyNotReady, InvalidSpec):
            return  # the broker is gone, and everything in it
        self._host = self._host_in(found)
        if not self.exists():
            return
        await self._remove(found)
        Guests(self.host.instance).drop(self.obj.metadata.uid)
