"""The Queues that share a broker, as their broker knows them: a file for each in the owner's directory.

Who shares writes its own file and wakes the owner; the owner reads all of them with every pass. So neither needs the
other in memory, and either may crash at any line.
"""

from __future__ import annotations

import json
from typing import Any

from chandlery.providers.local import Instance
from chandlery.providers.local.files import make_dir, read_json

FOLDER = "guests"


class Guests:
    """The guests of one owner's broker."""

    def __init__(self, owner: Instance) -> None:
        self._owner = owner
        self._folder = owner.config_dir / FOLDER

    def all(self) -> dict[str, dict[str, Any]]:
        """What every guest wrote, by its uid, in the order of the uids."""
        if not self._folder.is_dir():
            return {}
        found = {path.stem: read_json(path) for path in sorted(self._folder.glob("*.json"))}
        return {uid: entry for uid, entry in found.items() if entry is not None}

    def get(self, uid: str) -> dict[str, Any] | None:
        return read_json(self._folder / f"{uid}.json")

    def put(self, uid: str, entry: dict[str, Any]) -> None:
        """Write a guest's own words and wake the owner."""
        make_dir(self._folder)
        self._owner.write_config(f"{FOLDER}/{uid}.json", json.dumps(entry, sort_keys=True) + "\n")
        self._owner.wake()

    def drop(self, uid: str) -> None:
        """Forget a guest and wake the owner; no such guest is fine."""
        path = self._folder / f"{uid}.json"
        if path.exists():
            path.unlink()
            self._owner.wake()
