"""The engines' own settings: which there are, what a change costs, which the driver owns."""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.model.settings import SettingTable, load

TABLES: Mapping[str, SettingTable] = {
    # an extension's settings have its name and a dot in front; the engine keeps even those it doesn't know
    "postgres": load(__package__, "postgres", custom="[a-z_][a-z0-9_]*[.][a-z_][a-z0-9_.]*"),
    "mariadb": load(__package__, "mariadb"),
}
