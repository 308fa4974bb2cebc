"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from chandlery.app.home import Home, default_data_dir

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="CHANDLERY_DATA_DIR",
        help="Where everything is kept. Default: /var/lib/chandlery for root, else ~/.local/share/chandlery.",
    ),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the object.")]
Port = Annotated[
    int,
    typer.Option(
        min=0,
        max=65535,
        show_default=False,
        help="Port of the control plane. Default: that of the last run, or a free one.",
    ),
]
EtcdServers = Annotated[
    str, typer.Option(metavar="URLS", help="Where etcd is, with --store etcd: URLs with commas between them.")
]
Apply = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", exists=True, help="A manifest or a folder of them to apply; repeatable."),
]


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


class Store(StrEnum):
    """Where the control plane keeps objects."""

    SQLITE = "sqlite"
    MEMORY = "memory"
    ETCD = "etcd"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
StoreOption = Annotated[Store, typer.Option(help="Where the control plane keeps objects.")]


def home_of(data_dir: Path | None) -> Home:
    """The data directory that a command works on."""
    return Home((data_dir or default_data_dir()).expanduser().absolute())
