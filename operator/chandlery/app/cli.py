"""The command line: `chandlery`.

Each command is short and imports what it needs when it runs, so that `--help` and shell completion answer at once.
Exit codes: 0 done, 1 an error that was explained, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from chandlery.app.config_cli import config
from chandlery.app.engines_cli import app as engines_app
from chandlery.app.home import Home
from chandlery.app.options import (
    Apply,
    DataDir,
    EtcdServers,
    Namespace,
    Output,
    OutputOption,
    Port,
    Store,
    StoreOption,
    home_of,
)
from chandlery.app.service_cli import app as service_app
from chandlery.foundation.errors import ChandleryError, EngineFailed

if TYPE_CHECKING:
    from chandlery.app.up import UpOptions

T = TypeVar("T")

app = typer.Typer(
    name="chandlery",
    help="Backing services for applications: caches, databases, queues, load balancers and virtual machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(engines_app)
app.add_typer(service_app)
app.command()(config)

Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", metavar="FILE", help="The cluster's kubeconfig. Default: the data directory's own."),
]


def _kubeconfig(home: Home, named: Path | None) -> Path:
    """The file that leads to the API server; ends with what to do when nothing runs."""
    from chandlery.app.keeping import is_kept, kubeconfig

    if named is not None:
        return named
    if not is_kept(home) or not kubeconfig(home).exists():
        _fail(f"nothing runs on {home.root}. Start it with `chandlery up`, or name another directory with --data-dir.")
    return kubeconfig(home)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@app.command()
def up(
    data_dir: DataDir = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is Ready; it goes on running.")
    ] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay attached, even with --detach.")] = False,
    port: Port = 0,
    store: StoreOption = Store.SQLITE,
    etcd_servers: EtcdServers = "",
    kubeconfig: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Run the engines here for this cluster's API, without a control plane."),
    ] = None,
    apply: Apply = None,
    quickstart: Annotated[
        bool,
        typer.Option("--quickstart", help="Apply an example: one of each kind, and an application that uses them."),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for everything to be Ready.")] = 300.0,
    wait: Annotated[bool, typer.Option(help="Wait until what was applied is Ready.")] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be run and applied, and what is wrong with it; do nothing."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")] = False,
) -> None:
    """Start control plane, operator and engines on this machine.

    Runs until Ctrl-C, which stops everything and keeps the data; with --detach it returns when all is Ready.
    """
    from chandlery.app.manifests import data_dir as folder
    from chandlery.app.progress import Progress
    from chandlery.app.show import program
    from chandlery.app.up import Up, UpOptions, check

    home = home_of(data_dir)
    options = UpOptions(
        data_dir=home.root,
        detach=detach and not foreground,
        port=port,
        store=store,
        etcd_servers=etcd_servers,
        kubeconfig=kubeconfig.expanduser().absolute() if kubeconfig else None,
        apply=[*(apply or ()), *([folder("docs/quickstart")] if quickstart else [])],
        timeout=timeout,
        wait=wait,
    )
    check(options)
    if dry_run:
        _dry_run(options)
        return
    progress = Progress(quiet=quiet)
    launch = Up(options, progress)
    launch.read()
    launch.start()
    mine, hopeless = launch.keeper is not None, False
    try:
        applied = _run(launch.bring_up())
        name, where = program(home)
        if applied:
            _run(_print_status(launch.kubeconfig, applied, words=(name, where)))
        else:
            progress.note(f"one of each kind, as an example: {name} up --detach --quickstart{where}")
        if options.detach:
            progress.note(f"stop it with: {name} down{where}")
            return
        progress.note("running until Ctrl-C; data stays")
        if launch.keeper is not None:
            launch.keeper.wait()
    except KeyboardInterrupt:
        progress.note("stopping")
        raise
    except EngineFailed:
        hopeless = True  # what can't even start is not left to try for ever
        raise
    finally:
        # What failed in the foreground must not go on unseen; a detached one stays, to be looked at.
        if mine and (hopeless or not options.detach):
            _stop(home, progress)


def _dry_run(options: UpOptions) -> None:
    from chandlery.app.dry_run import report

    done, problems = report(options)
    for line in done:
        print(line)
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    if problems:
        sys.exit(1)


@app.command()
def down(
    data_dir: DataDir = None,
    purge: Annotated[bool, typer.Option(help="Remove the data directory with everything in it, for good.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Stop engines, operator and control plane. Data stays, and `chandlery up` goes on from there."""
    from chandlery.app.progress import Progress

    home = home_of(data_dir)
    if purge and not yes and home.root.exists():
        typer.confirm(f"Remove {home.root} with all data of all engines?", abort=True, err=True)
    _stop(home, Progress(quiet=quiet))
    if purge and home.root.exists():
        from chandlery.providers.local.files import remove_tree

        if not (home.run / "keeper-spec.json").exists() and any(home.root.iterdir()):
            _fail(f"{home.root} doesn't look like a data directory of Chandlery; it is left as it is")
        remove_tree(home.root)


def _stop(home: Home, progress: Any) -> None:
    from chandlery.app import keeping
    from chandlery.app.up import counted
    from chandlery.providers.local import LocalProvider

    if keeping.stop(home):
        progress.done("operator and control plane stopped")
    if not home.root.is_dir():
        return
    provider = LocalProvider(home.root)
    provider.open()
    try:
        count = _run(provider.stop_all())
        if count:
            progress.done(f"{counted(count, 'engine process', 'engine processes')} stopped")
    finally:
        provider.close()


@app.command()
def status(
    data_dir: DataDir = None,
    kubeconfig: Kubeconfig = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only this namespace.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what runs, what is Ready, and how to connect."""
    from chandlery.app.show import program

    home = home_of(data_dir)
    config = _kubeconfig(home, kubeconfig)
    name, where = program(home)
    where = f" --kubeconfig {shlex.quote(str(kubeconfig))}" if kubeconfig is not None else where
    _run(_print_status(config, None, namespace=namespace, output=output, words=(name, where)))


async def _print_status(
    kubeconfig: Path,
    objects: list[dict[str, Any]] | None,
    *,
    namespace: str = "",
    output: str = "table",
    words: tuple[str, str],
) -> None:
    from chandlery.app import manifests, show
    from chandlery.app.up import connect

    api = connect(kubeconfig)
    try:
        if objects is None:
            found = await show.everything(api, namespace)
        else:
            found = []
            for obj in objects:
                meta = obj["metadata"]
                live = await api.get(manifests.type_of_object(obj), meta["namespace"], meta["name"])
                if live is not None:
                    found.append(live)
        rows = await show.rows(api, found, words)
    finally:
        await api.close()
    if output == "json":
        print(show.as_json(rows))
    elif not rows:
        print(f"nothing there yet; one of each kind, as an example: {words[0]} up --detach --quickstart{words[1]}")
    else:
        show.print_table(
            rows, columns=("kind", "namespace", "name", "ready", "phase", "endpoint", "message", "connect")
        )


@app.command()
def binding(
    target: Annotated[str, typer.Argument(metavar="KIND/NAME", help="The object, as in cache/demo.")],
    key: Annotated[
        str, typer.Argument(help="One entry (uri, host, port, username, password, ...); without it all.")
    ] = "",
    namespace: Namespace = "default",
    data_dir: DataDir = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print what an application needs to connect. Shows secrets: mind who looks over your shoulder."""
    entries = _entries(target, namespace, _kubeconfig(home_of(data_dir), kubeconfig))
    if key and key not in entries:
        _fail(f"the binding of {target} has no {key}; it has {', '.join(sorted(entries))}")
    for name in [key] if key else sorted(entries):
        print(entries[name] if key else f"{name}={entries[name]}")


def _entries(target: str, namespace: str, config: Path) -> dict[str, str]:
    """What an object's binding says; ends the program where there is none."""
    from chandlery.app.show import binding as read_binding

    async def read() -> dict[str, str]:
        api, obj = await _find(target, namespace, config)
        try:
            return dict(await read_binding(api, obj))
        finally:
            await api.close()

    return _run(read()) or _fail(f"{target} has no binding yet; `chandlery status` says why")


@app.command(context_settings={"allow_interspersed_args": False})
def connect(
    target: Annotated[str, typer.Argument(metavar="KIND/NAME", help="The object, as in database/demo.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]", help="More arguments for the client.")
    ] = None,
    namespace: Namespace = "default",
    data_dir: DataDir = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Start the engine's own client (psql, valkey-cli, nats, curl ...) on an object, with its binding."""
    from chandlery.app.connect import run as run_client
    from chandlery.app.engines_cli import engines_of

    entries = _entries(target, namespace, _kubeconfig(home_of(data_dir), kubeconfig))
    rest = list(words or ())
    sys.exit(run_client(entries, rest[1:] if rest[:1] == ["--"] else rest, engines_of(data_dir), target))


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARGS]", help="The program to run.")],
    bind: Annotated[
        list[str] | None, typer.Option(metavar="KIND/NAME", help="A binding that the program needs; repeatable.")
    ] = None,
    namespace: Namespace = "default",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the bindings.")] = 300.0,
    data_dir: DataDir = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Run a program with bindings as files below $SERVICE_BINDING_ROOT (servicebinding.io)."""
    from chandlery.app.bind import run as run_bound
    from chandlery.app.keeping import kubeconfig as leading

    home = home_of(data_dir)
    run_bound(home, kubeconfig or leading(home), namespace, bind or [], command, timeout)


async def _find(target: str, namespace: str, kubeconfig: Path) -> tuple[Any, dict[str, Any]]:
    from chandlery.app.bind import parse_target
    from chandlery.app.up import connect

    kind, name = parse_target(target)
    api = connect(kubeconfig)
    obj = await api.get(kind, namespace, name)
    if obj is None:
        await api.close()
        _fail(f"there is no {kind.kind.lower()} {name} in namespace {namespace}")
    obj.setdefault("kind", kind.kind)
    return api, obj


@app.command()
def logs(
    target: Annotated[str, typer.Argument(metavar="KIND/NAME", help="The object, as in database/demo.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--tail", help="Begin with so many lines of each log.")] = 100,
    namespace: Namespace = "default",
    data_dir: DataDir = None,
) -> None:
    """Show the engine's own log."""
    from chandlery.app.logs import show_logs

    home = home_of(data_dir)
    _, obj = _run(_find_and_close(target, namespace, _kubeconfig(home, None)))
    _run(show_logs(home, obj, follow=follow, lines=lines))


async def _find_and_close(target: str, namespace: str, kubeconfig: Path) -> tuple[None, dict[str, Any]]:
    api, obj = await _find(target, namespace, kubeconfig)
    await api.close()
    return None, obj


@app.command()
def console(
    target: Annotated[str, typer.Argument(metavar="vm/NAME", help="The virtual machine.")],
    namespace: Namespace = "default",
    data_dir: DataDir = None,
) -> None:
    """Connect this terminal to a virtual machine's serial console. Ctrl-] leaves it."""
    from chandlery.app import console as serial

    home = home_of(data_dir)
    name = target.partition("/")[2] if target.startswith(("vm/", "cvm/")) else target.removeprefix("virtualmachine/")
    _, obj = _run(_find_and_close(f"virtualmachine/{name}", namespace, _kubeconfig(home, None)))
    path = serial.socket_of(home, obj)
    serial.note(f"the console of virtualmachine/{name}; Ctrl-] leaves it")
    serial.attach(path)


@app.command()
def crds() -> None:
    """Print the CustomResourceDefinitions, for `kubectl apply -f -`."""
    from chandlery.app.manifests import data_dir as folder

    for path in sorted(folder("crds").glob("*.chandlery.dev_*.yaml")):
        text = path.read_text()
        print(text if text.startswith("---") else f"---\n{text}", end="")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def controlplane(context: typer.Context) -> None:
    """Run the embedded control plane alone (see `chandlery controlplane --help`)."""
    _controlplane(context.args)


def _controlplane(args: list[str]) -> NoReturn:
    from chandlery.controlplane.__main__ import main as serve

    sys.exit(serve(args))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def operator(context: typer.Context) -> None:
    """Run the operator alone, as in a cluster (see `chandlery operator --help`)."""
    from chandlery.app.run import main as serve

    sys.exit(serve(context.args))


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(f"chandlery {installed('chandlery')}")


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(1)


def main() -> None:
    """The entry point. Errors of ours are explained in a sentence; a traceback means a fault of ours."""
    try:
        app()
    except ChandleryError as error:
        _fail(error.condition_message())
    except KeyboardInterrupt:
        sys.exit(130)
