"""Provider sessions: one for each provider and ProviderConfig in use, opened when first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from chandlery.driver.health import Health
from chandlery.driver.parameters import NOTHING, Reading, parameters_of, read
from chandlery.driver.protocol import Reader
from chandlery.driver.provider import NO_PROVIDER, Leaves, ProviderFactory, ProviderSetup
from chandlery.foundation.clock import Clock
from chandlery.foundation.errors import ProviderError, ProviderUnavailable, Timeout, Unavailable
from chandlery.reconcile.api import Obj
from chandlery.reconcile.classes import Catalogue
from chandlery.reconcile.problems import ProviderNotFound


class Sessions:
    """Opens sessions, and opens them anew when their ProviderConfig changes."""

    def __init__(
        self,
        factories: Mapping[str, ProviderFactory],
        catalogue: Catalogue,
        reader: Reader,
        clock: Clock,
        notify: Callable[[str], None],
        *,
        places: int = 24,
        wake: Callable[[str, bool], None] = lambda _config, _all: None,
    ) -> None:
        self._factories = factories
        self._catalogue = catalogue
        self._reader = reader
        self._clock = clock
        self._notify = notify
        self._readings: dict[tuple[str, str], tuple[str, Reading]] = {}
        self._open: dict[tuple[str, str], tuple[str, Any]] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._health: dict[tuple[str, str], Health] = {}
        self._places = places
        self._wake = wake

    @property
    def providers(self) -> Collection[str]:
        """Those that this operator has."""
        return self._factories.keys()

    @property
    def crowded(self) -> bool:
        """Whether all places at some provider are taken."""
        return any(health.full for health in self._health.values())

    def health(self, provider: str, config: str) -> Health | None:
        """How the provider is; None for drivers that have none. Survives the sessions."""
        if provider == NO_PROVIDER:
            return None
        key = (provider, config)
        found = self._health.get(key)
        if found is None:
            wake = partial(self._wake, config)
            found = self._health[key] = Health(provider, config, self._clock, places=self._places, wake=wake)
        return found

    async def get(self, provider: str, config: str) -> Any:
        """The session.

        Raises:
            ProviderNotFound: no such provider or configuration, or its credentials are missing.
            InvalidParameters: those of the configuration can't be read.
            ProviderUnavailable: it can't be opened now.
        """
        if provider == NO_PROVIDER:
            return None
        version = self._version(provider, config)
        known = self._open.get((provider, config))
        if known is not None and known[0] == version:
            return known[1]
        async with self._locks.setdefault((provider, config), asyncio.Lock()):
            known = self._open.get((provider, config))
            if known is not None and known[0] == version:
                return known[1]
            setup = await self._setup(provider, config)
            health = self.health(provider, config)
            assert health is not None
            async with health.asked():
                session = await self._opened(provider, setup)
            if known is not None:
                await self._factories[provider].close(known[1])
            self._open[provider, config] = (version, session)
            return session

    async def _opened(self, provider: str, setup: ProviderSetup) -> Any:
        try:
            return await self._factories[provider].open(setup)
        except (Unavailable, Timeout, ProviderError) as error:
            if isinstance(error, ProviderUnavailable):
                raise
            said = f"the provider {provider} can't be opened: {error.message}"
            raise ProviderUnavailable(said, hint=error.hint, retry_after=error.retry_after) from error

    def read(self, provider: str, config: str) -> Reading:
        """What a ProviderConfig's parameters say to its provider; nothing where one of them isn't there."""
        obj, factory = self._catalogue.configs.get(config), self._factories.get(provider)
        if obj is None or factory is None:
            return NOTHING
        version = self._of(obj)
        known = self._readings.get((provider, config))
        if known is not None and known[0] == version:
            return known[1]
        given = obj.get("spec", {}).get("parameters")
        found = read(parameters_of(factory), given, reader=f"the provider {provider}", where=f"ProviderConfig {config}")
        self._readings[provider, config] = (version, found)
        return found

    def forget(self, config: str) -> None:
        """The credentials of a configuration changed: the next use opens a new session."""
        for key, (_, session) in list(self._open.items()):
            if key[1] == config:
                self._open[key] = ("", session)

    async def leaving(self) -> list[Leaves]:
        """The open sessions whose things outlive their objects; one that has such from an earlier run is opened."""
        for provider, factory in self._factories.items():
            if getattr(factory, "has_leftovers", False):
                await self.get(provider, "")
        return [session for _, session in self._open.values() if isinstance(session, Leaves)]

    async def close(self) -> None:
        """Close all sessions; what they made stays."""
        for health in self._health.values():
            health.close()
        self._health.clear()
        for (provider, _), (_, session) in list(self._open.items()):
            await self._factories[provider].close(session)
        self._open.clear()

    def _version(self, provider: str, config: str) -> str:
        if provider not in self._factories:
            known = ", ".join(sorted(self._factories)) or "none"
            raise ProviderNotFound(f"this operator has no provider {provider} (it has: {known})")
        if not config:
            return "-"
        found = self._catalogue.configs.get(config)
        if found is None:
            raise ProviderNotFound(
                "there is no ProviderConfig of this name", field="spec.providerConfigRef.name", value=config
            )
        named = found.get("spec", {}).get("provider", provider)
        if named != provider:
            raise ProviderNotFound(
                f"the ProviderConfig is for the provider {named}, the class's driver needs {provider}",
                field="spec.providerConfigRef.name",
                value=config,
            )
        return self._of(found)

    @staticmethod
    def _of(config: Obj) -> str:
        """By generation: a status or a label makes no new session."""
        return str(config["metadata"].get("uid", "")) + "/" + str(config["metadata"].get("generation", ""))

    async def _setup(self, provider: str, config: str) -> ProviderSetup:
        if not config:
            nothing = read(parameters_of(self._factories[provider]), None, reader=f"the provider {provider}").usable()
            return ProviderSetup(settings=nothing, notify=self._notify, clock=self._clock)
        settings = self.read(provider, config).usable()
        spec = self._catalogue.configs[config].get("spec", {})
        credentials: Mapping[str, bytes] = {}
        wanted = spec.get("credentialsSecretRef")
        if wanted:
            found = await self._reader.secret(wanted.get("namespace", ""), wanted["name"])
            if found is None:
                raise ProviderNotFound(
                    f"the ProviderConfig {config} names a Secret that does not exist",
                    value=f"{wanted.get('namespace', '')}/{wanted['name']}",
                    hint="Create the Secret with the provider's credentials; it is looked for again by itself.",
                    retry_after=30.0,
                )
            credentials = found
        return ProviderSetup(config, settings, credentials, self._notify, self._clock)
