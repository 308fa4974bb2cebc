"""The `chandlery` script. The control plane starts without the command line's libraries: half its time is theirs."""

from __future__ import annotations

import sys


def main() -> None:
    """Dispatch to the control plane or the command line."""
    if len(sys.argv) > 1 and sys.argv[1] == "controlplane":
        from chandlery.controlplane.__main__ import main as serve

        sys.exit(serve(sys.argv[2:]))
    from chandlery.app.cli import main as command_line

    command_line()
