"""Building statements. Identifiers are always quoted, so that case and `-` are kept and nothing can be injected."""

from __future__ import annotations

from collections.abc import Iterable


def ident(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A quoted string; a backslash means itself (standard_conforming_strings has been on since PostgreSQL 9.1)."""
    return "'" + value.replace("'", "''") + "'"


def idents(names: Iterable[str]) -> str:
    return ", ".join(ident(name) for name in names)
