"""MariaDB's option file from a spec. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.settings import TABLES

ADMIN = "chandlery"
"""The driver's own user; it can come by the socket only."""

_MIB = 1024 * 1024
DEFAULT_MEMORY = 256 * _MIB
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"^(-?\d+)\s*([kmgt]?)i?b?$", re.IGNORECASE)


def settings(spec: DatabaseSpec, *, memory: int | None = None) -> dict[str, str]:
    """What the spec asks for, by MariaDB's own names; without what belongs to one instance (port, paths, TLS)."""
    buffers = max(16 * _MIB, (memory or DEFAULT_MEMORY) // 4)
    found = {
        "character_set_server": spec.initialization.encoding or "utf8mb4",
        "innodb_buffer_pool_size": str(buffers),
        "max_connections": "100",
        "skip_name_resolve": "ON",
        "time_zone": "+00:00",
        **({"collation_server": spec.initialization.locale} if spec.initialization.locale else {}),
        **spec.configuration,
    }
    return {name: plain(name, value) for name, value in found.items()}


def plain(name: str, value: str) -> str:
    """A value as both the option file and SET GLOBAL read it: sizes in bytes."""
    setting = TABLES["mariadb"].get(name)
    size = _SIZE.match(value) if setting is not None and setting.type == "size" else None
    return str(int(size[1]) * _UNITS[size[2].lower()]) if size else value


def dynamic(name: str) -> bool:
    """Whether the engine takes a new value while it runs."""
    return TABLES["mariadb"].effect(name) == "reload"


def sql_value(name: str, value: str | None) -> str:
    """A value for SET GLOBAL; None: the engine's default."""
    if value is None:
        return "DEFAULT"
    setting = TABLES["mariadb"].get(name)
    kind = setting.type if setting is not None else "text"
    if kind in {"int", "float", "size"} and re.fullmatch(r"-?\d+(\.\d+)?([eE]-?\d+)?", value):
        return value
    if kind == "duration" and re.fullmatch(r"\d+(\.\d+)?", value):
        return value
    if kind == "bool":
        return "ON" if value.lower() in {"yes", "on", "true", "1"} else "OFF"
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def render(values: Mapping[str, str]) -> str:
    """The option file. Every value is quoted; inside, a backslash is an escape."""
    lines = ["[mariadbd]\n"]
    for name, value in sorted(values.items()):
        name = "default_time_zone" if name == "time_zone" else name  # noqa: PLW2901 - the option's other name
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'{name} = "{quoted}"\n')
    return "".join(lines)
