"""Settings that a running server keeps by ALTER SYSTEM: what is different, and the statements that mend it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chandlery.driver.protocol import Difference, Disruption
from chandlery.model.settings import SettingTable
from chandlery_kinds.database.postgres.sql import ident, literal

KEPT: Final = "SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.auto.conf'"
"""What ALTER SYSTEM has set."""
# Lists whose elements PostgreSQL quotes one by one: 'a, b' in one piece would be one element with that name.
_LISTS: Final = frozenset({"search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"})


def setting_differences(
    wanted: Mapping[str, str], kept: Mapping[str, str], given: Mapping[str, str], table: SettingTable
) -> list[Difference]:
    """Settings to set, and to reset because nobody asks for them any more; the payload is (`set`, name, value or None).

    Args:
        wanted: by name.
        kept: what ALTER SYSTEM has set, by name in any case.
        given: those of the spec, which are named by their field.
        table: what a change of each costs.
    """
    found = []
    has = {name.lower(): value for name, value in kept.items()}
    for name, value in sorted(wanted.items()):
        actual = has.pop(name.lower(), None)
        if actual is None or _plain(name, actual) != _plain(name, value):
            field = f"spec.configuration[{name}]" if name in given else name
            found.append(
                Difference(
                    field,
                    value,
                    "default" if actual is None else actual,
                    Disruption.RELOAD,
                    payload=("set", name, value),
                )
            )
    for name, actual in sorted(has.items()):
        cost = Disruption.RELOAD if table.effect(name) == "reload" else Disruption.RESTART
        found.append(Difference(f"spec.configuration[{name}]", "default", actual, cost, payload=("set", name, None)))
    return found


def statement(name: str, value: str | None) -> str:
    """ALTER SYSTEM."""
    where = ".".join(ident(part) for part in name.split("."))
    if value is None:
        return f"ALTER SYSTEM RESET {where}"
    if name in _LISTS:
        return f"ALTER SYSTEM SET {where} = {', '.join(literal(part) for part in _elements(value)) or literal('')}"
    return f"ALTER SYSTEM SET {where} = {literal(value)}"


def _elements(value: str) -> list[str]:
    return [part.strip().strip('"') for part in value.split(",") if part.strip()]


def _plain(name: str, value: str) -> str:
    return ",".join(_elements(value)) if name in _LISTS else value
