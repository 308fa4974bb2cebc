"""The operator as a process: `python -m chandlery.app.run`, also `chandlery operator`.

Kept apart from the command line, whose libraries it would otherwise carry for as long as it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from chandlery.foundation.authorities import import_http
from chandlery.foundation.errors import ChandleryError


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chandlery operator", description="Reconcile all kinds until told to stop.")
    parser.add_argument("--data-dir", type=Path, help="where local engines live; without it there is no local driver")
    parser.add_argument("--kubeconfig", type=Path, help="the API to work on (default: in-cluster, then KUBECONFIG)")
    return parser.parse_args(argv)


READY_SECONDS = 120.0
POLL = 0.02
AT_ONCE, PATIENT_POLL, TELL = 5.0, 1.0, 10.0
"""Who isn't there after the first seconds is asked less often, and whom we wait for is told on standard error."""
TIDY_FIRST, TIDY_LATER = 10.0, 600.0
"""Seconds until memory that is free is given back for the first time, and between later times; each pause in between is
twice the one before, since engines may be installed and images built long after the first."""


async def wait_for_api(options: argparse.Namespace) -> None:
    """Wait until the API server answers and serves our kinds: both may be starting at this very moment.

    Raises:
        Timeout: they are still not there; the message says what is missing.
        InvalidConfiguration: nothing says where the API server is.
    """
    from chandlery.foundation.errors import InvalidConfiguration, Timeout
    from chandlery.reconcile.api import RESOURCE_CLASSES
    from chandlery.reconcile.client import HttpApi
    from chandlery.reconcile.credentials import load

    loop = asyncio.get_running_loop()
    began, problem = loop.time(), None
    deadline, tell = began + READY_SECONDS, began + AT_ONCE
    while (now := loop.time()) < deadline:
        if now >= tell:
            tell = now + TELL
            sys.stderr.write(f"waiting for the API server to serve our kinds: {problem}\n")
        try:
            async with HttpApi(load(options.kubeconfig)) as api:
                await api.list(RESOURCE_CLASSES)
        except (ChandleryError, OSError) as error:
            if isinstance(error, InvalidConfiguration) and options.kubeconfig is None:
                raise  # a file that was named may be written at this very moment
            problem = error
            await asyncio.sleep(POLL if now < began + AT_ONCE else PATIENT_POLL)
        else:
            return
    raise Timeout(
        f"the API server doesn't serve our kinds after {READY_SECONDS:.0f} s: {problem}",
        hint="Install the CustomResourceDefinitions: chandlery crds | kubectl apply --server-side -f -",
    )


def refuse_second(data_dir: Path) -> None:
    """Before anything is served or registered: a second one would only find its directory taken with its first object.

    Raises:
        AlreadyExists: an operator works on the data directory.
    """
    from chandlery.providers.local.provider import LOCK, take

    if (data_dir / LOCK).exists():
        os.close(take(data_dir))


async def tidy() -> None:
    """Give back what starting took, and now and then what a busy time left."""
    from chandlery.foundation.collector import give_back

    pause = TIDY_FIRST
    while True:
        await asyncio.sleep(pause)
        await asyncio.to_thread(give_back)
        pause = min(2 * pause, TIDY_LATER)


async def serve(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 1 when the operator ended by itself."""
    from chandlery.app.compose import make_operator, preload
    from chandlery.foundation.collector import settle

    if options.data_dir is not None:
        refuse_second(options.data_dir)
    preload(options.data_dir)  # now, while the API server starts: it would have to be waited for later

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    waiting = asyncio.ensure_future(wait_for_api(options))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        waiting.cancel()
        return 0
    await waiting
    operator = make_operator(kubeconfig=options.kubeconfig, data_dir=options.data_dir)
    await operator.start()
    settle()
    tidying = asyncio.ensure_future(tidy())
    try:
        await stopping
    finally:
        tidying.cancel()
        await operator.stop()
    return 0


def main(argv: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if argv is None else argv)
    import_http()
    try:
        import uvloop

        return uvloop.run(serve(options))
    except ChandleryError as error:
        sys.stderr.write(f"error: {error.condition_message()}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
