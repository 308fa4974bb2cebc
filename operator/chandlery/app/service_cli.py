"""The commands of `chandlery service`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chandlery.app.options import Apply, DataDir, EtcdServers, Port, Store, StoreOption, home_of

if TYPE_CHECKING:
    from chandlery.app.up import UpOptions

app = typer.Typer(
    name="service",
    help="Have systemd run Chandlery: from login to logout, or from boot on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Kubeconfig = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Run the engines here for this cluster's API instead.")
]


def _options(
    data_dir: Path | None,
    port: int,
    store: Store,
    etcd_servers: str,
    kubeconfig: Path | None,
    apply: list[Path] | None,
) -> UpOptions:
    from chandlery.app.up import UpOptions, check

    root = home_of(data_dir).root
    config = kubeconfig.expanduser().absolute() if kubeconfig else None
    options = UpOptions(
        data_dir=root,
        detach=True,
        port=port,
        store=store,
        etcd_servers=etcd_servers,
        kubeconfig=config,
        apply=list(apply or ()),
    )
    check(options)
    return options


@app.command("print")
def print_unit(
    data_dir: DataDir = None,
    port: Port = 0,
    store: StoreOption = Store.SQLITE,
    etcd_servers: EtcdServers = "",
    kubeconfig: Kubeconfig = None,
    apply: Apply = None,
) -> None:
    """Print the unit that `install` would write."""
    from chandlery.app.service import unit

    print(unit(_options(data_dir, port, store, etcd_servers, kubeconfig, apply)), end="")


@app.command()
def install(
    data_dir: DataDir = None,
    port: Port = 0,
    store: StoreOption = Store.SQLITE,
    etcd_servers: EtcdServers = "",
    kubeconfig: Kubeconfig = None,
    apply: Apply = None,
    start: Annotated[bool, typer.Option(help="Start it now, and at each login or boot.")] = True,
) -> None:
    """Write the unit (of the user, for root of the system), and start it."""
    from chandlery.app import service

    for note in service.install(_options(data_dir, port, store, etcd_servers, kubeconfig, apply), start=start):
        print(note)


@app.command()
def uninstall() -> None:
    """Stop the service and remove its unit. Data stay."""
    from chandlery.app import service

    for note in service.uninstall():
        print(note)
