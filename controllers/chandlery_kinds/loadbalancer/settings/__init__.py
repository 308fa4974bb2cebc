"""HAProxy's own global settings: which there are, and which the driver owns. A change is a hitless reload."""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.model.settings import SettingTable, load

TABLES: Mapping[str, SettingTable] = {"haproxy": load(__package__, "haproxy")}
