"""The operator as a process: `python -m chandlery.app.run`, also `chandlery operator`.

Kept apart from the command line, whose libraries it would otherwise carry for as long as it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from chandlery.foundation.errors import ChandleryError


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chandlery operator", description="Reconcile all kinds until told to stop.")
    parser.add_argument("--data-dir", type=Path, help="where local engines live; without it there is no local driver")
    parser.add_argument("--kubeconfig", type=Path, help="the API to work on (default: in-cluster, then KUBECONFIG)")
    return parser.parse_args(argv)


async def serve(options: argparse.Namespace) -> int:
    from chandlery.app.compose import make_operator

    operator = make_operator(kubeconfig=options.kubeconfig, data_dir=options.data_dir)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await operator.start()
    try:
        failed = asyncio.ensure_future(operator.wait_failed())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({failed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        code = 1 if failed.done() else 0
        failed.cancel()
        stopped.cancel()
    finally:
        await operator.stop()
    return code


def main(argv: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if argv is None else argv)
    try:
        import uvloop

        return uvloop.run(serve(options))
    except ChandleryError as error:
        sys.stderr.write(f"error: {error.condition_message()}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
