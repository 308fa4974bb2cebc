"""The engines' own settings: which there are, what a change costs, which the driver owns."""

from __future__ import annotations

from collections.abc import Mapping

from chandlery.model.settings import SettingTable, load

TABLES: Mapping[str, SettingTable] = {e: load(__package__, e) for e in ("valkey", "redis", "memcached")}


def memcached_arguments(configuration: Mapping[str, str]) -> list[str]:
    """Memcached's own command line: names with a `-` are options, the others go behind `-o`; switches have no value."""
    out = []
    for name, value in sorted(configuration.items()):
        setting = TABLES["memcached"].get(name)
        switch = setting is not None and setting.type == "bool"
        if switch and value.lower() not in {"yes", "on", "true", "1"}:
            continue
        text = name if switch else f"{name}={value}"
        out += [f"--{text}"] if "-" in name or name == "threads" else ["-o", text]
    return out
