"""The connection to the shared server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import redis.asyncio as redis
from pydantic import Field

from chandlery.driver.parameters import Parameters
from chandlery.driver.provider import ProviderSetup
from chandlery.foundation.errors import InvalidConfiguration
from chandlery.model.parts import Port
from chandlery.model.words import Name


@dataclass(frozen=True, slots=True)
class SharedServer:
    """A session: what drivers find as `ctx.provider`."""

    host: str
    port: int
    password: str
    client: Any


class SharedParameters(Parameters):
    """What a ProviderConfig says in spec.parameters; another name or a bad value is refused at admission."""

    host: Annotated[Name, Field(description="Host of the shared server.")]
    port: Annotated[Port, Field(description="Its port.")] = 6379


class SharedServers:
    """Opens a session for each ProviderConfig in use."""

    parameters: ClassVar[type[SharedParameters]] = SharedParameters

    async def open(self, setup: ProviderSetup) -> SharedServer:
        assert isinstance(setup.settings, SharedParameters)
        host, port = setup.settings.host, setup.settings.port
        try:
            password = setup.credentials["password"].decode()
        except KeyError as missing:
            raise InvalidConfiguration(
                f"the ProviderConfig {setup.name} needs a Secret with the key password: {missing} is missing"
            ) from None
        client = redis.Redis(host=host, port=port, password=password, decode_responses=True, socket_timeout=5)
        return SharedServer(host, port, password, client)

    async def close(self, session: SharedServer) -> None:
        await session.client.aclose()
