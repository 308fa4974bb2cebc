"""Settings of a MariaDB: what is different from the file, and how a running server is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import EngineFailed
from chandlery_kinds.database.mariadb.configuration import dynamic
from chandlery_kinds.database.mariadb.content import fetch
from chandlery_kinds.database.model import DatabaseSpec


def is_live(name: str) -> bool:
    """Whether the engine takes a new value while it runs."""
    return name == "require_secure_transport" or dynamic(name)


def differences(spec: DatabaseSpec, wanted: Mapping[str, str], applied: Mapping[str, str]) -> list[Difference]:
    """Between what the spec asks for and what stands in the file; payloads are `("set", name, value or None)`."""
    found = []
    for name in sorted({*wanted, *applied}):
        value, has = wanted.get(name), applied.get(name)
        if has != value:
            field = f"spec.configuration[{name}]" if name in spec.configuration or value is None else name
            cost = Disruption.RELOAD if is_live(name) else Disruption.RESTART
            found.append(Difference(field, value or "default", has or "default", cost, payload=("set", name, value)))
    return found


async def tell(connection: Any, statement: str, change: Difference | None = None) -> None:
    """Run a statement, and close the connection.

    Raises:
        EngineFailed: the server refuses it; names the field of the change.
    """
    import pymysql

    try:
        await fetch(connection, statement)
    except pymysql.err.MySQLError as error:
        raise EngineFailed(
            f"MariaDB refuses the value: {error.args[-1]}",
            field=change.field if change else None,
            value=change.desired if change else None,
            hint="Correct it; the server goes on with the old value.",
            retry_after=None,
        ) from error
    finally:
        connection.close()
