"""`chandlery logs`: the logs of an object's engine processes, merged line by line as they come."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from pathlib import Path
from typing import Any

from chandlery.app.home import Home
from chandlery.foundation.errors import NotFound

POLL = 0.2


async def show_logs(home: Home, obj: dict[str, Any], *, follow: bool, lines: int) -> None:
    """Print the last lines of each log, then new ones until interrupted.

    Raises:
        NotFound: the object has no logs on this machine.
    """
    name = (obj.get("status") or {}).get("externalName") or f"{obj['kind'].lower()}-{obj['metadata']['uid']}"
    folder = home.root / "instances" / name / "log"
    if not folder.is_dir():
        raise NotFound(f"no logs of {obj['kind'].lower()}/{obj['metadata']['name']} are on this machine")
    offsets: dict[Path, int] = {}
    while True:
        paths = sorted(folder.glob("*.log"))
        for path in paths:
            _print_new(path, offsets, lines, prefix=f"{path.stem}: " if len(paths) > 1 else "")
        if not follow:
            return
        await asyncio.sleep(POLL)


def _print_new(path: Path, offsets: dict[Path, int], lines: int, prefix: str) -> None:
    size = path.stat().st_size
    start = offsets.get(path)
    with path.open("rb") as file:
        if start is None:
            file.seek(max(0, size - 200 * max(lines, 1)))
            new = list(deque(file.read().decode(errors="replace").splitlines(), maxlen=lines))
        else:
            file.seek(start if start <= size else 0, os.SEEK_SET)  # smaller than before: it was rotated
            new = file.read().decode(errors="replace").splitlines()
        offsets[path] = file.tell()
    for line in new:
        print(f"{prefix}{line}", flush=True)
