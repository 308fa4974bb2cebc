"""The engines' own settings: which there are, what a change costs, which the driver owns."""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.model.settings import SettingTable, load

TABLES: Mapping[str, SettingTable] = {e: load(__package__, e) for e in ("nats", "rabbitmq")}
