"""Building statements for MariaDB. Names and texts are always quoted, so nothing can be injected.

Passwords go to the server as what it stores for them, so that none ever stands in a statement that it might log.
Source: MariaDB Server documentation, "Authentication Plugin - mysql_native_password".
"""

from __future__ import annotations

import hashlib

ANYWHERE = "%"


def ident(name: str) -> str:
    """A quoted name."""
    return "`" + name.replace("`", "``") + "`"


def literal(value: str) -> str:
    """A quoted text; a backslash is an escape here unless sql_mode says otherwise, and doubling it is right in both
    ways only without one, so it is refused.
    """
    if "\\" in value:
        raise ValueError("a backslash can't be quoted independently of sql_mode")
    return "'" + value.replace("'", "''") + "'"


def account(name: str, host: str = ANYWHERE) -> str:
    """A user with the hosts that it may come from."""
    return f"{ident(name)}@{literal(host)}"


def stored(password: str) -> str:
    """What mysql_native_password stores: SHA1 of SHA1, in upper case."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()  # noqa: S324 - its format
