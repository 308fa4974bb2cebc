"""Connections as the driver's own user or as a client's, with errors of ours."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Awaitable
from typing import Any

from chandlery.foundation.errors import ChandleryError, Unauthenticated, Unavailable
from chandlery.foundation.fencing import asking
from chandlery_kinds.database.postgres.configuration import ADMIN


async def connect(
    host: str,
    port: int,
    *,
    password: str,
    database: str = "postgres",
    user: str = ADMIN,
    seconds: float = 2.0,
    command_seconds: float = 60.0,
    tls: ssl.SSLContext | None = None,
    pooled: bool = False,
) -> Any:
    """An asyncpg connection.

    Args:
        host: address or name.
        port: TCP port.
        password: the user's.
        database: to connect to.
        user: the role.
        seconds: for the connection to be made.
        command_seconds: for each statement.
        tls: how the server's certificate is checked; None: no encryption.
        pooled: by a pooler, where prepared statements don't outlive a transaction.

    Raises:
        Unavailable: the server doesn't take connections now.
        Unauthenticated: the password is wrong.
    """
    import asyncpg

    try:
        return await asyncpg.connect(
            host=host,
            port=port,
            user=user,
            password=password,
            database=database,
            timeout=seconds,
            command_timeout=command_seconds,
            ssl=tls or False,
            statement_cache_size=0 if pooled else 100,
            server_settings={"application_name": "chandlery"},
            connection_class=asking(asyncpg.Connection, "execute", "executemany", "fetch", "fetchrow", "fetchval"),
        )
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise Unauthenticated(f"{host}:{port} refused {user}'s password") from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(f"{host}:{port} doesn't take connections: {error or 'no answer'}", retry_after=0.5) from error


def certificate_of(connection: Any) -> str:
    """SHA-256 of the certificate that the server showed; empty without TLS."""
    found = connection._transport.get_extra_info("ssl_object")  # noqa: SLF001 - it has no other way
    shown = found.getpeercert(binary_form=True) if found is not None else None
    return hashlib.sha256(shown).hexdigest() if shown else ""


async def serves(opening: Awaitable[Any]) -> bool:
    """Whether a connection that is being opened comes about, and answers."""
    try:
        connection = await opening
    except (ChandleryError, ssl.SSLError):
        return False
    try:
        return bool(await connection.fetchval("SELECT 1") == 1)
    except Exception:  # noqa: BLE001 - it may go down in any way
        return False
    finally:
        await connection.close(timeout=2)
