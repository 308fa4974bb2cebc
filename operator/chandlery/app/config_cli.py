"""`chandlery config`: every setting, its value here and now, and where that comes from."""

from __future__ import annotations

import json
from typing import Annotated

import typer

Output = Annotated[str, typer.Option("--output", "-o", metavar="table|json", help="How to print.")]
Changed = Annotated[bool, typer.Option("--changed", help="Only what is not at its default.")]


def config(output: Output = "table", changed: Changed = False) -> None:
    """Show all settings with their values and defaults; tell of variables that mean nothing."""
    from chandlery.foundation.config import all_sections, current, unknown

    if output not in {"table", "json"}:
        raise typer.BadParameter(f"{output}: table or json", param_hint="--output")
    found = [
        {"section": each.title, "variable": row.env, "value": value, "source": source, "default": row.default_text}
        for each in all_sections()
        for row, value, source in current(each)
        if not (changed and source == "default")
    ]
    if output == "json":
        typer.echo(json.dumps(found, indent=2))
    else:
        _table(found)
    for name, meant in unknown():
        typer.echo(f"{name} is not a setting." + (f" Did you mean {meant}?" if meant else ""), err=True)
    if any(item["value"].startswith("wrong: ") for item in found):
        raise typer.Exit(1)


def _table(found: list[dict[str, str]]) -> None:
    width = max((len(item["variable"]) for item in found), default=0)
    title = ""
    for item in found:
        if item["section"] != title:
            typer.echo(("\n" if title else "") + item["section"])
            title = item["section"]
        origin = "" if item["source"] == "default" else f"  (default: {item['default'] or 'unset'})"
        typer.echo(f"  {item['variable']:{width}}  {item['value'] or '-'}{origin}")
