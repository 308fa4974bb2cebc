"""Connections as the driver's own user or as a client's, with errors of ours."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Awaitable
from typing import Any

from chandlery.foundation.errors import ChandleryError, Unauthenticated, Unavailable
from chandlery.foundation.fencing import asking
from chandlery_kinds.database.mariadb.configuration import ADMIN

ACCESS_DENIED = 1045


async def connect(
    host: str,
    port: int,
    *,
    password: str,
    database: str = "",
    user: str = ADMIN,
    seconds: float = 2.0,
    tls: ssl.SSLContext | None = None,
) -> Any:
    """An aiomysql connection that commits each statement.

    Args:
        host: address or name.
        port: TCP port.
        password: the user's.
        database: to use; none without.
        user: by name.
        seconds: for the connection to be made.
        tls: how the server's certificate is checked; None: no encryption.

    Raises:
        Unavailable: the server doesn't take connections now.
        Unauthenticated: the password is wrong.
    """
    import aiomysql
    import pymysql

    where = f"{host}:{port}"
    try:
        return await aiomysql.connect(
            host=host,
            port=port,
            user=user,
            password=password,
            db=database or None,
            connect_timeout=seconds,
            autocommit=True,
            charset="utf8mb4",
            ssl=tls,
            program_name="chandlery",
            cursorclass=asking(aiomysql.Cursor, "execute"),
        )
    except pymysql.err.OperationalError as error:
        if error.args and error.args[0] == ACCESS_DENIED:
            raise Unauthenticated(f"{where} refused {user}'s password") from error
        raise Unavailable(f"{where} doesn't take connections: {error.args[-1]}", retry_after=0.5) from error
    except (OSError, TimeoutError, ssl.SSLError, pymysql.err.MySQLError) as error:
        raise Unavailable(f"{where} doesn't take connections: {error or 'no answer'}", retry_after=0.5) from error


def certificate_of(connection: Any) -> str:
    """SHA-256 of the certificate that the server showed; empty without TLS."""
    writer = connection._writer  # noqa: SLF001 - it has no other way
    found = writer.transport.get_extra_info("ssl_object") if writer is not None else None
    shown = found.getpeercert(binary_form=True) if found is not None else None
    return hashlib.sha256(shown).hexdigest() if shown else ""


async def serves(opening: Awaitable[Any]) -> bool:
    """Whether a connection that is being opened comes about, and answers."""
    try:
        connection = await opening
    except (ChandleryError, ssl.SSLError):
        return False
    try:
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT 1")
            return list(await cursor.fetchall()) == [(1,)]
    except Exception:  # noqa: BLE001 - it may go down in any way
        return False
    finally:
        connection.close()
