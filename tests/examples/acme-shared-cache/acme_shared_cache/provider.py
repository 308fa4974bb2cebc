"""The connection to the shared server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis

from chandlery.driver.provider import ProviderSetup
from chandlery.foundation.errors import InvalidConfiguration


@dataclass(frozen=True, slots=True)
class SharedServer:
    """A session: what drivers find as `ctx.provider`."""

    host: str
    port: int
    password: str
    client: Any


class SharedServers:
    """Opens a session for each ProviderConfig in use."""

    async def open(self, setup: ProviderSetup) -> SharedServer:
        try:
            host, port = str(setup.settings["host"]), int(setup.settings.get("port", 6379))
            password = setup.credentials["password"].decode()
        except KeyError as missing:
            raise InvalidConfiguration(
                f"the ProviderConfig {setup.name} needs parameters.host and a Secret with the key password: "
                f"{missing} is missing"
            ) from None
        client = redis.Redis(host=host, port=port, password=password, decode_responses=True, socket_timeout=5)
        return SharedServer(host, port, password, client)

    async def close(self, session: SharedServer) -> None:
        await session.client.aclose()
