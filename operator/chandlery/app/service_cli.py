"""The commands of `chandlery service`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chandlery.app.home import default_data_dir

if TYPE_CHECKING:
    from chandlery.app.up import UpOptions

app = typer.Typer(
    name="service",
    help="Have systemd run Chandlery: from login to logout, or from boot on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", envvar="CHANDLERY_DATA_DIR", help="Where everything is kept."),
]
Port = Annotated[int, typer.Option(help="Port of the control plane. Default: that of the last run, or a free one.")]
Store = Annotated[str, typer.Option(help="Where the control plane keeps objects: sqlite, memory or etcd.")]
Kubeconfig = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Run the engines here for this cluster's API instead.")
]
Apply = Annotated[
    list[Path] | None, typer.Option(metavar="PATH", help="A manifest or a folder of them to apply at each start.")
]


def _options(
    data_dir: Path | None, port: int, store: str, kubeconfig: Path | None, apply: list[Path] | None
) -> UpOptions:
    from chandlery.app.up import UpOptions

    root = (data_dir or default_data_dir()).expanduser().absolute()
    config = kubeconfig.expanduser().absolute() if kubeconfig else None
    return UpOptions(data_dir=root, detach=True, port=port, store=store, kubeconfig=config, apply=list(apply or ()))


@app.command("print")
def print_unit(
    data_dir: DataDir = None,
    port: Port = 0,
    store: Store = "sqlite",
    kubeconfig: Kubeconfig = None,
    apply: Apply = None,
) -> None:
    """Print the unit that `install` would write."""
    from chandlery.app.service import unit

    print(unit(_options(data_dir, port, store, kubeconfig, apply)), end="")


@app.command()
def install(
    data_dir: DataDir = None,
    port: Port = 0,
    store: Store = "sqlite",
    kubeconfig: Kubeconfig = None,
    apply: Apply = None,
    start: Annotated[bool, typer.Option(help="Start it now, and at each login or boot.")] = True,
) -> None:
    """Write the unit (of the user, for root of the system), and start it."""
    from chandlery.app import service

    for note in service.install(_options(data_dir, port, store, kubeconfig, apply), start=start):
        print(note)


@app.command()
def uninstall() -> None:
    """Stop the service and remove its unit. Data stay."""
    from chandlery.app import service

    for note in service.uninstall():
        print(note)
