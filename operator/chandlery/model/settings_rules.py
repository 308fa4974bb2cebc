"""What admission can say of `configuration` by CEL: names known, names not the driver's, values of the right type.

Whether a name is known depends on the engine. What its value must be mostly doesn't: where engines agree there is one
rule for all of them, without asking for the engine, because the API server compiles and costs each rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from chandlery.model.base import CelRule
from chandlery.model.rules import absent
from chandlery.model.settings import PATTERNS, Setting, SettingTable, number_text

_PATH = ".configuration"
_MAP = f"self{_PATH}"
_ABSENT = absent("configuration")


def configuration_rules(tables: Mapping[str, SettingTable], selector: str = "self.engine") -> tuple[CelRule, ...]:
    """All rules for a spec with a field `configuration`.

    Args:
        tables: by engine.
        selector: CEL for the engine; empty when there is one only.
    """
    out: list[CelRule] = []
    shared: dict[str, Setting] = {}
    apart: dict[str, list[Setting]] = {engine: [] for engine in tables}
    for engine, table in tables.items():
        out.extend(_name_rules(table, _skip(engine, selector)))
        for setting in table.settings.values():
            if setting.effect == "owned":
                continue
            if _value(shared.setdefault(setting.name, setting)) != _value(setting):
                apart[engine].append(setting)
    conflicts = {s.name for settings in apart.values() for s in settings}
    for engine, table in tables.items():
        settings = [table.settings[n] for n in sorted(conflicts & table.settings.keys())]
        out.extend(_value_rules([s for s in settings if s.effect != "owned"], _skip(engine, selector)))
    out.extend(_value_rules([s for n, s in sorted(shared.items()) if n not in conflicts], f"{_ABSENT} || "))
    return tuple(out)


def _skip(engine: str, selector: str) -> str:
    return (f"{selector} != '{engine}' || " if selector else "") + f"{_ABSENT} || "


def _value(setting: Setting) -> tuple[object, ...]:
    return (setting.type, setting.minimum, setting.maximum, setting.values)


def _name_rules(table: SettingTable, skip: str) -> Iterator[CelRule]:
    owned = _list(n for n, s in table.settings.items() if s.effect == "owned")
    known = _list(table.settings)
    # a map's keys have no bound that the API server's estimate of cost would know: no pattern on them
    unknown = f"!(k in {known} || k.contains('.'))" if table.custom else f"!(k in {known})"
    yield CelRule(
        rule=f"{skip}!{_MAP}.exists(k, {unknown})",
        message=f"{table.engine} has no such setting",
        message_expression=f"'{table.engine} has no setting ' + {_MAP}.filter(k, {unknown})[0]"
        " + ': the reference page lists those that there are'",
        field_path=_PATH,
    )
    if owned != "[]":
        yield CelRule(
            rule=f"{skip}!{_MAP}.exists(k, k in {owned})",
            message="this setting belongs to the driver",
            message_expression=_said(f"k in {owned}", f"' belongs to the driver: ' + {_instead(table)}"),
            field_path=_PATH,
            reason="FieldValueForbidden",
        )


def _value_rules(settings: list[Setting], skip: str) -> Iterator[CelRule]:
    for kind, (pattern, words) in PATTERNS.items():
        names = _list(s.name for s in settings if s.type == kind)
        if names != "[]":
            bad = f"k in {names} && !{_MAP}[k].matches('^(?i:{pattern})$')"
            yield _rule(skip, bad, f"the value must be {words}", f"' must be {words}'")
    groups: dict[tuple[str, ...], list[str]] = {}
    for setting in settings:
        if setting.type == "enum":
            groups.setdefault(setting.values, []).append(setting.name)
    for values, members in groups.items():
        bad = f"k in {_list(members)} && !({_MAP}[k].lowerAscii() in {_list(v.lower() for v in values)})"
        words = f"must be one of {', '.join(values)}"
        yield _rule(skip, bad, f"the value {words}", f"' {words}'")
    yield from _bound_rules(settings, skip)


def _bound_rules(settings: list[Setting], skip: str) -> Iterator[CelRule]:
    for kind, convert, digits in (
        ("int", "int", "-?[0-9]{1,18}"),
        ("float", "double", "-?[0-9]{1,15}([.][0-9]{1,15})?"),
    ):
        bounded = [s for s in settings if s.type == kind and s.minimum is not None]
        if not bounded:
            continue
        # a list of one, so that the table is written once and has a name
        table = "[{" + ", ".join(f"'{s.name}': {_bounds(s)}" for s in bounded) + "}]"
        value = f"{convert}({_MAP}[k])"
        bad = f"{table}.exists(b, k in b && {_MAP}[k].matches('^({digits})$') && "
        bad += f"({value} < b[k][0] || (size(b[k]) > 1 && {value} > b[k][1])))"
        words = "{" + ", ".join(f"'{s.name}': '{_bounds_in_words(s)}'" for s in bounded) + "}[k]"
        yield _rule(skip, bad, "the value is out of bounds", f"' must be ' + {words}")


def _rule(skip: str, bad: str, message: str, words: str) -> CelRule:
    """`words` is CEL for what follows the setting's name."""
    return CelRule(
        rule=f"{skip}!{_MAP}.exists(k, {bad})",
        message=message,
        message_expression=_said(bad, f"{words} + ' (got ' + {_MAP}[k] + ')'"),
        field_path=_PATH,
    )


def _said(bad: str, words: str) -> str:
    """The first setting that is bad, and what is said of it."""
    return f"{_MAP}.filter(k, {bad}).map(k, k + {words})[0]"


def _instead(table: SettingTable) -> str:
    """CEL for what to use instead of the owned setting k."""
    groups: dict[str, list[str]] = {}
    for setting in table.settings.values():
        if setting.effect == "owned":
            groups.setdefault(setting.instead, []).append(setting.name)
    first, *others = sorted(groups, key=lambda words: -len(groups[words]))
    return (
        "("
        + "".join(f"k in {_list(groups[words])} ? '{_quoted(words)}' : " for words in others)
        + f"'{_quoted(first)}')"
    )


def _quoted(words: str) -> str:
    return words.replace("\\", "\\\\").replace("'", "\\'")


def _bounds(setting: Setting) -> str:
    shown = [b for b in (setting.minimum, setting.maximum) if b is not None]
    return "[" + ", ".join(str(int(b)) if setting.type == "int" else str(float(b)) for b in shown) + "]"


def _bounds_in_words(setting: Setting) -> str:
    low, high = (number_text(b) if b is not None else "" for b in (setting.minimum, setting.maximum))
    return f"from {low} to {high}" if high else f"{low} or more"


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{n}'" for n in sorted(names)) + "]"
