"""An engine's own settings: which there are, what values they take, what a change costs, and which the driver owns.

The tables are data in the kinds' folders: `settings/<engine>.tsv`, one setting per line with the columns
name, type, effect, minimum, maximum, values (separated by `|`). Lines that begin with `#` are comments.
A setting that the driver owns has the effect `owned` and, in place of values, the sentence that tells what to use.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import Field

from chandlery.model.base import CelRule
from chandlery.model.rules import absent

Configuration = Annotated[
    dict[
        Annotated[str, Field(max_length=63)],
        Annotated[str, Field(max_length=1024, pattern=r"^[^\r\n\x00]*$")],
    ],
    Field(max_length=64),
]
"""Settings by their own names, all values as text."""

SettingType = Literal["bool", "int", "float", "size", "duration", "enum", "text"]
Effect = Literal["reload", "restart", "owned"]

_PATTERNS: Mapping[str, tuple[str, str]] = {
    "bool": ("(yes|no|on|off|true|false|0|1)", "yes or no (on, off, true, false)"),
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
        if self.type not in _PATTERNS:
            return "" if "\n" not in value and "\r" not in value and "\x00" not in value else "must be on one line"
        pattern, words = _PATTERNS[self.type]
        if not re.fullmatch(pattern, value, re.ASCII | re.IGNORECASE):
            return f"must be {words}"
        if self.type in {"int", "float"}:
            number = float(value)
            if self.minimum is not None and number < self.minimum:
                return f"must be {_number(self.minimum)} or more"
            if self.maximum is not None and number > self.maximum:
                return f"must be {_number(self.maximum)} or less"
        return ""


def _number(value: float) -> str:
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

    def rules(self, guard: str, path: str = ".configuration") -> tuple[CelRule, ...]:
        """What admission can say of the table: names known, not owned, values of the right type. For the spec's model.

        Args:
            guard: CEL that holds when the rules don't apply: `self.engine != 'valkey'`.
            path: the map's fieldPath.
        """
        map_ = f"self{path}"
        skip = f"{guard} || {absent('configuration')} || " if guard else f"{absent('configuration')} || "
        known = _list(n for n, s in self.settings.items() if s.effect != "owned")
        owned = [s for s in self.settings.values() if s.effect == "owned"]
        unknown = f"!(k in {known} || k in {_list(s.name for s in owned)}"
        # a map's keys have no bound that the API server's estimate of cost would know: no pattern on them
        unknown += " || k.contains('.'))" if self.custom else ")"
        out = [
            CelRule(
                rule=f"{skip}!{map_}.exists(k, {unknown})",
                message=f"{self.engine} has no such setting",
                message_expression=f"'{self.engine} has no setting ' + {map_}.filter(k, {unknown})[0]",
                field_path=path,
            )
        ]
        if owned:
            out.append(
                CelRule(
                    rule=f"{skip}!{map_}.exists(k, k in {_list(s.name for s in owned)})",
                    message="this setting belongs to the driver",
                    message_expression=f"{map_}.filter(k, k in {_list(s.name for s in owned)})[0] + "
                    "' belongs to the driver: the reference tells what to use instead'",
                    field_path=path,
                    reason="FieldValueForbidden",
                )
            )
        out += [rule for kind in _PATTERNS if (rule := self._type_rule(kind, skip, map_, path))]
        out.extend(self._enum_rules(skip, map_, path))
        out.extend(self._bound_rules(skip, map_, path))
        return tuple(out)

    def _type_rule(self, kind: str, skip: str, map_: str, path: str) -> CelRule | None:
        names = _list(s.name for s in self.settings.values() if s.type == kind and s.effect != "owned")
        if names == "[]":
            return None
        pattern, words = _PATTERNS[kind]
        bad = f"k in {names} && !{map_}[k].matches('^(?i:{pattern})$')"
        return CelRule(
            rule=f"{skip}!{map_}.exists(k, {bad})",
            message=f"the value must be {words}",
            message_expression=f"{map_}.filter(k, {bad})[0] + ' must be {words}'",
            field_path=path,
        )

    def _enum_rules(self, skip: str, map_: str, path: str) -> Iterable[CelRule]:
        groups: dict[tuple[str, ...], list[str]] = {}
        for setting in self.settings.values():
            if setting.type == "enum" and setting.effect != "owned":
                groups.setdefault(setting.values, []).append(setting.name)
        for values, names in groups.items():
            bad = f"k in {_list(names)} && !({map_}[k].lowerAscii() in {_list(v.lower() for v in values)})"
            words = f"must be one of {', '.join(values)}".replace("'", "")
            yield CelRule(
                rule=f"{skip}!{map_}.exists(k, {bad})",
                message=f"the value {words}",
                message_expression=f"{map_}.filter(k, {bad})[0] + ' {words}'",
                field_path=path,
            )

    def _bound_rules(self, skip: str, map_: str, path: str) -> Iterable[CelRule]:
        for kind, convert, digits in (
            ("int", "int", "-?[0-9]{1,18}"),
            ("float", "double", "-?[0-9]{1,15}([.][0-9]{1,15})?"),
        ):
            bounded = [
                s for s in self.settings.values() if s.type == kind and s.minimum is not None and s.effect != "owned"
            ]
            if not bounded:
                continue
            table = "{" + ", ".join(f"'{s.name}': {_bounds(s)}" for s in bounded) + "}"
            value = f"{convert}({map_}[k])"
            bad = f"k in b && {map_}[k].matches('^({digits})$') && "
            bad += f"({value} < b[k][0] || (size(b[k]) > 1 && {value} > b[k][1]))"
            yield CelRule(
                # a list of one, so that the table is written once and has a name
                rule=f"{skip}!{map_}.exists(k, [{table}].exists(b, {bad}))",
                message="the value is out of bounds: the reference lists them",
                message_expression=f"{map_}.filter(k, [{table}].exists(b, {bad}))[0] + "
                "' is out of its bounds, which the reference lists'",
                field_path=path,
            )


def _bounds(setting: Setting) -> str:
    shown = [b for b in (setting.minimum, setting.maximum) if b is not None]
    return "[" + ", ".join(str(int(b)) if setting.type == "int" else str(float(b)) for b in shown) + "]"


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{n}'" for n in sorted(names)) + "]"


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
        if effect not in {"reload", "restart", "owned"} or (kind not in _PATTERNS and kind not in {"enum", "text"}):
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


def configuration_rules(tables: Mapping[str, SettingTable], selector: str = "self.engine") -> tuple[CelRule, ...]:
    """The rules of all engines of a kind, each only for its own engine."""
    return tuple(
        rule
        for engine, table in tables.items()
        for rule in table.rules(f"{selector} != '{engine}'" if selector else "")
    )
