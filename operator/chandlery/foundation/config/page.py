"""Settings for people: what is in force, what was mistyped, and the reference page."""

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from chandlery.foundation.config.reading import read
from chandlery.foundation.config.sections import PREFIX, SECTIONS, Row, Section, text_of
from chandlery.foundation.errors import InvalidConfiguration
from chandlery.foundation.secret import Secret

# Variables that aren't settings of a room: of the scripts in hack/, the tests and the command line's first step.
OTHERS: Final = frozenset({"CHANDLERY_DATA_DIR", "CHANDLERY_PYTHON", "CHANDLERY_VENV"})
_OTHER_PREFIXES: Final = ("CHANDLERY_TEST_", "CHANDLERY_E2E_", "CHANDLERY_INSTANCE", "CHANDLERY_SERVICE_")


def current(own: Section) -> list[tuple[Row, str, str]]:
    """Every setting of a section with its value as text and where that comes from; never raises."""
    rows = own.rows()
    result: list[tuple[Row, str, str]] = []
    for row in rows:
        source = next((name for name in (row.env, f"{row.env}_FILE") if name in os.environ), None)
        if source is None:
            result.append((row, row.default_text, "default"))
        elif row.secret:
            result.append((row, str(Secret("")), source))
        else:
            try:
                result.append((row, text_of(read(own, [row], {})[row.path]), source))
            except InvalidConfiguration as error:
                result.append((row, f"wrong: {error}", source))
    return result


def unknown(environ: Mapping[str, str] | None = None) -> list[tuple[str, str | None]]:
    """Variables that look like ours and mean nothing, each with the name that was probably meant."""
    known = {row.env for each in SECTIONS.values() for row in each.rows()} | OTHERS
    names = (os.environ if environ is None else environ).keys()
    return [
        (name, next(iter(get_close_matches(name, known, n=1)), None))
        for name in sorted(names)
        if name.startswith(PREFIX) and not name.startswith(_OTHER_PREFIXES) and name.removesuffix("_FILE") not in known
    ]


def render_markdown(sections: Iterable[Section]) -> str:
    """The reference page: one table per section."""
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable; a flag of the same name goes before it. `chandlery config` shows",
        "the values in force. Lists are separated by commas. Seconds can also be written as `30s`, `5m`, `1h`.",
        "Secrets can also be read from a file: add `_FILE` to the variable's name.",
    ]
    for each in sections:
        lines += ["", f"## {each.title}", "", "| variable | value | default | meaning |", "|---|---|---|---|"]
        for row in each.rows():
            default = (
                f"`{row.default_text}`"
                if row.default_text and not row.default_text.startswith("(")
                else row.default_text
            )
            cells = (f"`{row.env}`", row.kind, default, row.doc)
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
