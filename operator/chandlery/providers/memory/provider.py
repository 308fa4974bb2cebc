"""Sessions on the simulated world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from chandlery.driver.provider import ProviderSetup
from chandlery.providers.memory.world import World


@dataclass(slots=True)
class MemorySession:
    """What memory drivers get as `ctx.provider`.

    Attributes:
        world: where everything is.
        owners: uid of the object by name of the resource, so that news about a resource wakes its object.
    """

    world: World
    owners: dict[str, str] = field(default_factory=dict)
    listener: Callable[[str], None] = lambda _name: None


class MemoryProvider:
    """One world for all sessions, or one of its own for each ProviderConfig."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.worlds: dict[str, World] = {"default": self.world}
        self.opened = 0

    async def open(self, setup: ProviderSetup) -> MemorySession:
        """A session; the world outlives it."""
        world = self.worlds.get(setup.name)
        if world is None:
            world = self.worlds[setup.name] = World(
                self.world.clock,
                latency=self.world.latency,
                start_time=self.world.start_time,
                stop_time=self.world.stop_time,
            )
        session = MemorySession(world)

        def tell(name: str) -> None:
            uid = session.owners.get(name)
            if uid is not None:
                setup.notify(uid)

        session.listener = tell
        world.listeners.add(tell)
        self.opened += 1
        return session

    async def close(self, session: MemorySession) -> None:
        session.world.listeners.discard(session.listener)
