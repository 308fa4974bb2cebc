"""Connections to engines, with failures in the project's own words."""

from __future__ import annotations

import asyncio
import ssl

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import Timeout, Unavailable


async def open_stream(
    host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, by TLS with a context.

    Raises:
        Unavailable: nobody listens.
        Timeout: no answer within `seconds`.
    """
    where = f"{host}:{port}"
    try:
        async with ambient().timeout(seconds):
            return await asyncio.open_connection(host, port, ssl=tls)
    except TimeoutError as error:
        raise Timeout(f"no connection to {where} within {seconds:g} s") from error
    except OSError as error:
        raise Unavailable(f"can't connect to {where}: {error.strerror or error}", retry_after=0.05) from error
