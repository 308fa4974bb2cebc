"""`python -m chandlery.gen [--check] [--root DIR]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from chandlery.gen.outputs import differences, write


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chandlery.gen", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something would change")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[3], help="root of the repository")
    options = parser.parse_args(argv)
    if options.check:
        found = differences(options.root)
        for line in found:
            sys.stderr.write(f"{line}\n")
        if found:
            sys.stderr.write("Run `python -m chandlery.gen` and commit the result.\n")
        return 1 if found else 0
    for name in write(options.root):
        sys.stdout.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
