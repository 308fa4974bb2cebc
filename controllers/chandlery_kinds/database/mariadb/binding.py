"""What applications connect to a MariaDB with."""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.driver.protocol import Binding
from chandlery_kinds.database.model import DatabaseSpec


def binding(spec: DatabaseSpec, host: str, port: int, role: str, passwords: Mapping[str, str]) -> Binding:
    """For one role: into the first database that it owns, else into the first one of all."""
    database = next((d.name for d in spec.databases if spec.owner_of(d) == role), spec.databases[0].name)
    password = passwords.get(role, "")
    client = {"host": host, "port": str(port), "user": role, "password": password, "database": database}
    entries = {
        "host": host,
        "port": str(port),
        "database": database,
        "username": role,
        "password": password,
        "uri": f"mysql://{role}:{password}@{host}:{port}/{database}",
        "jdbc-uri": f"jdbc:mariadb://{host}:{port}/{database}",
        "my.cnf": _options(client),
    }
    return Binding("mysql", "chandlery", entries)


def encrypted(made: Binding, authority: str, *, own: bool) -> Binding:
    """The same by TLS.

    Args:
        made: without.
        authority: the CA's certificate; empty for a public one.
        own: whether the certificate is for our names. URIs and option file check no names: they can't carry the CA.
    """
    entries = {
        **made.entries,
        "ssl-mode": "VERIFY_IDENTITY" if own else "VERIFY_CA" if authority else "REQUIRED",
        "uri": f"{made.entries['uri']}?ssl-mode=REQUIRED",
        "jdbc-uri": f"{made.entries['jdbc-uri']}?sslMode=trust",
        "my.cnf": made.entries["my.cnf"] + 'ssl = "on"\nssl-verify-server-cert = "off"\n',
        **({"ca.crt": authority} if authority else {}),
    }
    return Binding(made.type, made.provider, entries)


def _options(client: Mapping[str, str]) -> str:
    return "[client]\n" + "".join(f'{key} = "{value}"\n' for key, value in client.items())
