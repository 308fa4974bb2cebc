"""What applications connect to a PostgreSQL with."""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.driver.protocol import Binding
from chandlery_kinds.database.model import DatabaseSpec


def binding(spec: DatabaseSpec, host: str, port: int, role: str, passwords: Mapping[str, str]) -> Binding:
    """For one role: into the first database that it owns, else into the first one of all."""
    database = next((d.name for d in spec.databases if spec.owner_of(d) == role), spec.databases[0].name)
    password = passwords.get(role, "")
    entries = {
        "host": host,
        "port": str(port),
        "database": database,
        "username": role,
        "password": password,
        "uri": f"postgresql://{role}:{password}@{host}:{port}/{database}",
        "jdbc-uri": f"jdbc:postgresql://{host}:{port}/{database}",
        "pgpass": f"{host}:{port}:{database}:{role}:{password}",
    }
    return Binding("postgresql", "chandlery", entries)


def encrypted(made: Binding, authority: str, *, own: bool) -> Binding:
    """The same by TLS.

    Args:
        made: without.
        authority: the CA's certificate; empty for a public one.
        own: whether the certificate is for our names. The URIs check no names: they can't carry the CA.
    """
    mode = "verify-full" if own else "verify-ca" if authority else "require"
    entries = {
        **made.entries,
        "sslmode": mode,
        "uri": f"{made.entries['uri']}?sslmode=require",
        "jdbc-uri": f"{made.entries['jdbc-uri']}?ssl=true&sslmode=require",
        **({"ca.crt": authority} if authority else {}),
    }
    return Binding(made.type, made.provider, entries)


def secret_part(name: str) -> str:
    """A role's name as part of a Secret's name, which knows lower case, digits, `-` and `.` only."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name.lower()).strip("-.") or "x"
