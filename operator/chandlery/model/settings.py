"""An engine's own settings: which there are, what values they take, what a change costs, and which the driver owns.

The tables are data in the kinds' folders: `settings/<engine>.tsv`, one setting per line with the columns
name, type, effect, minimum, maximum, values (separated by `|`). Lines that begin with `#` are comments.
A setting that the driver owns has the effect `owned` and, in place of values, the sentence that tells what to use.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import Field

from chandlery.model.words import OneLine

Configuration = Annotated[
    dict[
        Annotated[str, Field(max_length=63)],
        OneLine,
    ],
    Field(max_length=64),
]
"""Settings by their own names, all values as text."""

SettingType = Literal["bool", "int", "float", "size", "duration", "enum", "text"]
Effect = Literal["reload", "restart", "owned"]

PATTERNS: Mapping[str, tuple[str, str]] = {
    "bool": ("(yes|no|on|off|true|false|0|1)", "yes, no, on, off, true or false"),
    "int": ("-?[0-9]{1,20}", "a whole number"),
    "float": ("-?[0-9]{1,15}([.][0-9]{1,15})?([eE]-?[0-9]{1,3})?", "a number"),
    "size": ("-?[0-9]{1,20} ?([kKmMgGtT]?[iI]?[bB]?|8kB)", "a size, such as 64MB or 1gb"),
    "duration": ("-?[0-9]{1,15}([.][0-9]{1,6})? ?(us|ms|s|sec|min|m|h|d|w)?", "a time, such as 30s, 500ms or 5min"),
}
"""Type to pattern and words. Engines differ in spelling; these accept what any of them does."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of an engine."""

    name: str
    type: SettingType
    effect: Effect
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()
    instead: str = ""
    """For owned ones: what to use instead."""

    def problem(self, value: str) -> str:
        """What is wrong with a value, or nothing."""
        if self.type == "enum":
            if value.lower() not in {v.lower() for v in self.values}:
                return f"must be one of {', '.join(self.values)}"
            return ""
        if self.type not in PATTERNS:
            return "" if "\n" not in value and "\r" not in value and "\x00" not in value else "must be on one line"
        pattern, words = PATTERNS[self.type]
        if not re.fullmatch(pattern, value, re.ASCII | re.IGNORECASE):
            return f"must be {words}"
        if self.type in {"int", "float"}:
            number = float(value)
            if self.minimum is not None and number < self.minimum:
                return f"must be {number_text(self.minimum)} or more"
            if self.maximum is not None and number > self.maximum:
                return f"must be {number_text(self.maximum)} or less"
        return ""


def number_text(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


@dataclass(frozen=True, slots=True)
class SettingTable:
    """All settings of one engine."""

    engine: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    custom: str = ""
    """Pattern of names beyond the table that pass as text; they hold a dot, such as `pg_stat_statements.track`."""

    def get(self, name: str) -> Setting | None:
        return self.settings.get(name)

    def effect(self, name: str) -> Effect:
        """What changing it costs; a restart when nobody knows better."""
        found = self.settings.get(name)
        return found.effect if found else "restart"

    def problems(self, configuration: Mapping[str, str]) -> dict[str, str]:
        """Setting to what is wrong with it: unknown (with the nearest one known), owned by the driver, a bad value."""
        out: dict[str, str] = {}
        for name, value in configuration.items():
            found = self.settings.get(name)
            if found is None:
                if not (self.custom and re.fullmatch(self.custom, name)):
                    out[name] = self._unknown(name)
            elif found.effect == "owned":
                out[name] = f"{name} belongs to the driver: {found.instead}"
            elif what := found.problem(value):
                out[name] = f"{name} {what}"
        return out

    def _unknown(self, name: str) -> str:
        usable = [n for n, s in self.settings.items() if s.effect != "owned"]
        near = difflib.get_close_matches(name.lower(), usable, n=1, cutoff=0.7)
        hint = f": did you mean {near[0]}?" if near else ""
        return f"{self.engine} has no setting {name}{hint}"


@lru_cache
def load(package: str, engine: str, custom: str = "") -> SettingTable:
    """Read `<engine>.tsv` beside the settings package of a kind.

    Raises:
        ValueError: a line isn't as it must be; names file and line.
    """
    where = f"{engine}.tsv"
    rows: dict[str, Setting] = {}
    for number, line in enumerate((files(package) / f"{engine}.tsv").read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [*line.split("\t"), "", "", "", "", ""][:6]
        name, kind, effect, low, high, rest = (c.strip() for c in cells)
        if effect not in {"reload", "restart", "owned"} or (kind not in PATTERNS and kind not in {"enum", "text"}):
            raise ValueError(f"{package}: {where}, line {number}: {kind!r}, {effect!r} is no type and effect")
        rows[name] = Setting(
            name,
            kind,  # type: ignore[arg-type]  # checked above
            effect,  # type: ignore[arg-type]
            float(low) if low else None,
            float(high) if high else None,
            tuple(rest.split("|")) if rest and effect != "owned" else (),
            rest if effect == "owned" else "",
        )
    return SettingTable(engine, rows, custom)


def check_configuration(table: SettingTable, configuration: Mapping[str, str]) -> Mapping[str, str]:
    """For a field validator: the map as it is.

    Raises:
        ValueError: says what is wrong with each setting, and which name was probably meant.
    """
    if problems := table.problems(configuration):
        raise ValueError("; ".join(problems[name] for name in sorted(problems)))
    return configuration
