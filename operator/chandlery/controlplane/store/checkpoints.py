"""Bringing what SQLite's WAL holds into the database file, beside the commits instead of in front of one.

Left to itself SQLite does it in the commit that fills the WAL, which then takes tens of milliseconds, and all that
come after it wait. A second connection does nearly all of it while commits go on; the writer does the rest, which is
little, and begins the WAL anew.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from chandlery.controlplane.store.writer import Writer

log = logging.getLogger(__name__)

PAGES = 4000
"""About how much is written before it is brought in: 16 MB."""
MOST_PAGES = 4 * PAGES
"""When the WAL has so much after all, the writer does it at once (`wal_autocheckpoint` of its connection)."""
_PAGE = 4096
_BESIDES = 3
"""Pages that a commit writes beside those full of rows."""


class Checkpoints:
    """Counts what is written, and sees to checkpoints. Nothing is opened before the first one."""

    def __init__(self, path: Path, synchronous: str, post: Callable[[Callable[[], object]], None]) -> None:
        """`post` has the writer do something after all that was given to it before."""
        self._path, self._synchronous, self._post = path, synchronous, post
        self._pages = 0
        self._under_way = False
        self._thread: Writer | None = None
        self._db: sqlite3.Connection | None = None

    def wrote(self, db: sqlite3.Connection, size: int) -> None:
        """So many bytes were committed through the writer's connection; called in the writer's thread."""
        self._pages += size // _PAGE + _BESIDES
        if self._pages < PAGES or self._under_way:
            return
        self._pages = 0
        self._under_way = True
        if self._thread is None:
            self._thread = Writer("checkpoints")
        self._thread.post(lambda: self._beside(db))

    def close(self) -> None:
        """Finish what is under way; call it before the writer's connection is closed, and not in the loop."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.submit(self._close).result()
            thread.shutdown()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _beside(self, writers: sqlite3.Connection) -> None:
        try:
            if self._db is None:
                self._db = sqlite3.connect(self._path, isolation_level=None)
                self._db.execute(f"PRAGMA synchronous={self._synchronous}")
            _checkpoint(self._db)
        except sqlite3.Error as error:
            log.warning("%s: what was written stays in the WAL for now: %s", self._path, error)
        self._post(lambda: self._rest(writers))

    def _rest(self, db: sqlite3.Connection) -> None:
        try:
            _checkpoint(db)
        except sqlite3.Error as error:
            log.warning("%s: what was written stays in the WAL for now: %s", self._path, error)
        self._under_way = False


def _checkpoint(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
