"""`chandlery logs`: the logs of an object's engine processes, merged line by line as they come."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from chandlery.app.home import Home
from chandlery.foundation.errors import NotFound
from chandlery.foundation.logreader import Follower

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
    followers: dict[Path, Follower] = {}
    while True:
        paths = sorted(folder.glob("*.log"))
        for path in paths:
            new = path not in followers
            follower = followers.setdefault(path, Follower(path))
            for line in follower.last(lines) if new else follower.new():
                print(f"{path.stem}: {line}" if len(paths) > 1 else line, flush=True)
        if not follow:
            return
        await asyncio.sleep(POLL)
