"""`chandlery engines`: which engines there are, which are here, and whether they are sound."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from chandlery.app.options import DataDir, Output, OutputOption, home_of
from chandlery.foundation.errors import ChandleryError

if TYPE_CHECKING:
    from chandlery.app.progress import Progress
    from chandlery.providers.local.engines import EngineEntry, Engines

app = typer.Typer(
    name="engines",
    help="The engines that run on this machine: list, install, verify, remove.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[ENGINE[@VERSION]]...", help="As in qemu or valkey@9.0. Default: all.")
]


def engines_of(data_dir: Path | None) -> Engines:
    """The engines that a data directory has, or its cache."""
    from chandlery.app.settings import LocalSettings
    from chandlery.foundation.config import load
    from chandlery.providers.local.engines import Engines

    home = home_of(data_dir)
    return Engines((load(LocalSettings).cache_dir or home.root) / "engines")


def _chosen(engines: Engines, names: list[str] | None) -> list[EngineEntry]:
    """The catalogue's entries that the arguments mean; a name without a version means its newest."""
    from chandlery.providers.local.engines import catalogue

    if not names:
        return list(catalogue())
    return [engines.entry(name, version or None) for name, _, version in (text.partition("@") for text in names)]


@app.command("list")
def list_engines(
    here: Annotated[bool, typer.Option("--here", help="Only those that are installed.")] = False,
    data_dir: DataDir = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the catalogue: what is here, where it is, and where the rest comes from."""
    from chandlery.app.show import print_table

    engines = engines_of(data_dir)
    rows = [row for entry in _chosen(engines, None) if (row := _row(engines, entry))["state"] == "here" or not here]
    if output == "json":
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows, columns=("engine", "version", "kinds", "state", "source", "licence", "path"))
        print(f"\nLimits: {_limits(data_dir)}")


def _limits(data_dir: Path | None) -> str:
    """Who holds engines to their limits of memory and CPU here."""
    from chandlery.providers.local.cgroups import Cgroups

    return str(Cgroups.find(home_of(data_dir).root))


def _row(engines: Engines, entry: EngineEntry) -> dict[str, str]:
    sources = engines.sources(entry)
    found = engines.look(entry)
    state = "here" if found is not None else "can be installed" if sources else "not for this platform"
    if found is None and sources and all(source.type == "path" for source in sources):
        state = "not found on PATH"
    return {
        "engine": entry.name,
        "version": entry.version,
        "kinds": ",".join(entry.kinds),
        "state": state,
        "source": str(found.source) if found is not None else " or ".join(map(str, sources)),
        "licence": entry.licence,
        "path": str(found.binary) if found is not None else "",
    }


@app.command()
def install(
    names: Annotated[list[str], typer.Argument(metavar="ENGINE[@VERSION]...", help="As in qemu or valkey@9.0.")],
    force: Annotated[bool, typer.Option("--force", help="Install anew what is there already.")] = False,
    data_dir: DataDir = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Install engines into the data directory. Needs no rights; nothing on the system is changed."""
    from chandlery.app.progress import Progress

    engines = engines_of(data_dir)
    entries = _chosen(engines, names)
    if force:
        for entry in entries:
            engines.remove(entry)
    progress = Progress(quiet=quiet or output == "json")
    rows = asyncio.run(_install(engines, entries, progress))
    if output == "json":
        print(json.dumps(rows, indent=2))
    if any(row["error"] for row in rows):
        for row in rows:
            if row["error"] and output != "json":
                sys.stderr.write(f"error: {row['engine']} {row['version']}: {row['error']}\n")
        sys.exit(1)


async def _install(engines: Engines, entries: list[EngineEntry], progress: Progress) -> list[dict[str, str]]:
    rows = []
    for entry in entries:
        row = {"engine": entry.name, "version": entry.version, "path": "", "error": ""}
        try:
            work = asyncio.ensure_future(engines.ensure(entry.name, entry.version))
            while not work.done():
                job = engines.installing(entry.name, entry.version)
                if job is not None:
                    progress.waiting(job.message)
                await asyncio.wait([work], timeout=0.1)
            engine = work.result()
            row["path"] = str(engine.binary)
            progress.done(f"{entry} is here: {engine.binary}")
        except ChandleryError as error:
            row["error"] = error.condition_message()
            progress.failed(f"{entry} could not be installed")
        rows.append(row)
    return rows


@app.command()
def verify(names: Names = None, data_dir: DataDir = None, output: OutputOption = Output.TABLE) -> None:
    """Check engines that are here: every file's checksum, and that they start and are the version they should be."""
    from chandlery.app.show import print_table

    engines = engines_of(data_dir)
    entries = _chosen(engines, names)
    if not names:
        entries = [entry for entry in entries if engines.look(entry) is not None]
    rows = asyncio.run(_verify(engines, entries))
    if output == "json":
        print(json.dumps(rows, indent=2))
    else:
        print_table(
            [{**row, "problems": "; ".join(row["problems"])} for row in rows],
            columns=("engine", "version", "found", "sound", "problems"),
        )
    if any(row["problems"] for row in rows):
        sys.exit(1)


async def _verify(engines: Engines, entries: list[EngineEntry]) -> list[dict[str, Any]]:
    rows = []
    for entry in entries:
        found, problems = await engines.verify(entry)
        sound = "no" if problems else "yes"
        rows.append(
            {"engine": entry.name, "version": entry.version, "found": found, "sound": sound, "problems": problems}
        )
    return rows


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(metavar="ENGINE[@VERSION]...", help="As in qemu or valkey@9.0.")],
    data_dir: DataDir = None,
) -> None:
    """Remove engines that were installed into the data directory. What runs goes on until it is stopped."""
    engines = engines_of(data_dir)
    for entry in _chosen(engines, names):
        if engines.remove(entry):
            print(f"{entry} removed")
            continue
        found = engines.look(entry)
        where = f"it is part of {found.source}" if found is not None else "it isn't here"
        _fail(f"{entry} was not installed into {engines.directory}; {where}")


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(1)
