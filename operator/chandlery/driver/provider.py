"""Providers: the connection that all drivers of one substrate share.

A factory is registered by name (`memory`, `local`, `kubernetes`) where the operator is composed; the loop opens
one session for each ProviderConfig in use, hands it to drivers as `ctx.provider`, opens a new one when the config or
its credentials change, and closes what nobody uses any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, runtime_checkable

from chandlery.driver.parameters import NONE, Parameters
from chandlery.foundation.clock import SYSTEM, Clock

NO_PROVIDER: Final = "none"
"""For drivers that connect to nothing: their `ctx.provider` is None."""


@dataclass(frozen=True, slots=True)
class ProviderSetup:
    """What a session is made from."""

    name: str = "default"
    """Name of the ProviderConfig; `default` when the class names none."""
    settings: Parameters = NONE
    """`spec.parameters` of the ProviderConfig, as the factory's `parameters` declares them."""
    credentials: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Decoded data of the Secret that the ProviderConfig names."""
    notify: Callable[[str], None] = lambda _uid: None
    """Wake the loop for the object with this uid, from any thread: a process exited, an engine answers now."""
    clock: Clock = SYSTEM


@runtime_checkable
class ProviderFactory(Protocol):
    """Opens and closes the sessions of one substrate.

    It may have `parameters: ClassVar[type[Parameters]]`: what a ProviderConfig may say in spec.parameters.
    """

    async def open(self, setup: ProviderSetup) -> Any:
        """A session for drivers.

        Raises:
            ChandleryError: Unavailable, Unauthenticated, InvalidConfiguration ...; the loop tells it on the objects.
        """

    async def close(self, session: Any) -> None:
        """Let go of connections; things made stay as they are (a local engine keeps running)."""


@runtime_checkable
class Leaves(Protocol):
    """A session whose things go on by themselves when their object is gone without having been deleted in order."""

    def owners(self) -> Mapping[str, str]:
        """Uid and kind of every object that something runs for."""

    async def end(self, uids: Collection[str]) -> Sequence[str]:
        """End what runs for these; data stay. Returns the external names."""


def provider_of(driver: Any) -> str:
    """The provider whose session a driver wants: its class attribute `provider`, else its own name."""
    return str(getattr(driver, "provider", "") or driver.name)


ENTRY_POINT_GROUP = "chandlery.providers"
"""Third parties add the provider of their drivers by an entry point of its name: `acme = "acme.cloud:Factory"`."""


def third_party_factories() -> dict[str, ProviderFactory]:
    """Factories that installed packages bring along, by provider."""
    return {entry.name: entry.load()() for entry in entry_points(group=ENTRY_POINT_GROUP)}
