"""The default store: one SQLite file in WAL mode, one thread that writes, commits shared by what waits.

Writes that arrive while a commit is under way go into the next one together: under load the cost of a
sync to disk is divided among dozens of writes. Nothing is acknowledged or shown before its commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import closing
from functools import cache
from pathlib import Path

from chandlery.controlplane.store.base import Change, Conflict, LocalStore, Make, Publish, StoreError
from chandlery.controlplane.store.checkpoints import MOST_PAGES, Checkpoints
from chandlery.controlplane.store.writer import Writer
from chandlery.controlplane.types import Obj

FORMAT = 2
"""The layout of the file; kept in `PRAGMA user_version`."""
_APPLICATION = 0x43484E44  # "CHND"
_LEVELS = ("FULL", "NORMAL", "OFF", "EXTRA")

_SCHEMA = """
CREATE TABLE log (rev INTEGER PRIMARY KEY, key TEXT NOT NULL, deleted INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO facts VALUES ('compacted', 0), ('revision', 0);
"""
_SINCE_1 = """
DROP INDEX log_key;
"""
"""From format 1: its index cost every commit as many pages as the rows themselves, and only compaction used it."""

Row = tuple[int, str, int, bytes]

Batch = list[tuple[Change, asyncio.Future[None]]]

_AT_ONCE = 64
"""Rows of one statement: 4 parameters each, of the 999 that any SQLite takes."""
_ENOUGH = 8
"""Writes that are committed without a look for more: others make theirs while these go to the disk."""
_QUIET = 2
"""Rounds of the loop without another write, after which those that are there are committed."""
_FORGOTTEN_AT_ONCE = 500
"""Rows that a compaction deletes before commits get their turn."""


@cache
def _insert(rows: int) -> str:
    places = ",".join(["(?,?,?,?)"] * rows)
    return f"INSERT INTO log (rev, key, deleted, value) VALUES {places}"  # noqa: S608 - nothing but question marks


def plain(error: sqlite3.Error, path: Path) -> str:
    """An SQLite error in words that say what to do."""
    text = str(error)
    if "full" in text:
        return f"there is no room left on the disk that holds {path}: make room, then try again"
    if "malformed" in text or "not a database" in text:
        return f"{path} is damaged ({text}): restore it from a backup, or move it away to start empty"
    if "readonly" in text or "unable to open" in text:
        return f"{path} can't be written ({text}): check its permissions and those of its folder"
    return f"{path}: {text}"


class SqliteStore(LocalStore):
    """See the module's text. `synchronous` is SQLite's pragma: FULL survives a power cut, NORMAL only a crash."""

    def __init__(self, path: Path, *, synchronous: str = "FULL") -> None:
        super().__init__()
        if synchronous not in _LEVELS:
            raise ValueError(f"synchronous: {synchronous}: must be one of {', '.join(_LEVELS)}")
        self.path = path
        self._synchronous = synchronous
        self._publish: Publish | None = None
        self._db: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._checkpoints: Checkpoints | None = None
        self._batch: Batch = []
        self._seen = self._quiet = 0
        self._flushing = False
        self._superseded = array("q")
        """Pairs: a revision, and one that nobody needs any more once history begins after the first."""
        self._idle: asyncio.Future[None] | None = None

    async def open(self, publish: Publish) -> Iterable[Change]:
        writer = self._writer = Writer("store")
        self._checkpoints = Checkpoints(self.path, self._synchronous, writer.post)
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._writer, self._open)
        except sqlite3.Error as error:
            raise StoreError(plain(error, self.path)) from error
        self._publish = publish
        changes = [Change(rev, key, value, bool(deleted)) for rev, key, deleted, value in rows]
        for change in changes:
            self._remember(change)
        self._assigned = self.revision
        return changes

    def _open(self) -> list[Row]:
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        if fresh:
            self.path.touch(mode=0o600)
        db = sqlite3.connect(self.path, isolation_level=None, cached_statements=64)
        self._db = db
        db.execute("PRAGMA busy_timeout=5000")
        if fresh:
            # Room is given back to the disk a little at a time after compactions.
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(f"{self.path} can't be used in WAL mode (it is {mode}): use a local disk")
        db.execute(f"PRAGMA synchronous={self._synchronous}")
        db.execute(f"PRAGMA wal_autocheckpoint={MOST_PAGES}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        application = db.execute("PRAGMA application_id").fetchone()[0]
        if version == 0 and application == 0:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(f"{self.path} is some other SQLite database: choose another --data-dir")
            self._bring_up(db, _SCHEMA)
        elif application != _APPLICATION:
            raise StoreError(f"{self.path} is some other SQLite database: choose another --data-dir")
        elif version > FORMAT:
            raise StoreError(
                f"{self.path} was written by a newer Chandlery (format {version}, this one knows {FORMAT}): "
                "use that version, or restore a backup from before the upgrade"
            )
        elif version < FORMAT:
            self._bring_up(db, _SINCE_1)
        facts = dict(db.execute("SELECT name, value FROM facts"))
        self.compacted = facts["compacted"]
        rows: list[Row] = db.execute("SELECT rev, key, deleted, value FROM log ORDER BY rev").fetchall()
        self.revision = max(facts["revision"], rows[-1][0] if rows else 0)
        return rows

    @staticmethod
    def _bring_up(db: sqlite3.Connection, statements: str) -> None:
        db.execute("BEGIN IMMEDIATE")
        for statement in statements.strip().split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id={_APPLICATION}")
        db.execute(f"PRAGMA user_version={FORMAT}")
        db.execute("COMMIT")

    def _remember(self, change: Change) -> None:
        before = self._latest.get(change.key)
        if before is not None:
            self._superseded.extend((change.rev, before))
        if change.deleted:
            self._superseded.extend((change.rev, change.rev))
        super()._remember(change)

    async def txn(
        self,
        key: str,
        expect: int,
        make: Make,
        *,
        deleted: bool = False,
        obj: Obj | None = None,
        tag: object = None,
    ) -> int:
        while key in self._busy:
            await self._free(key)
        if self._latest.get(key, 0) != expect:
            raise Conflict(key)
        if self._publish is None:
            raise StoreError("the store is closed", 503, "ServiceUnavailable")
        self._assigned = rev = self._assigned + 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._batch.append((Change(rev, key, make(rev), deleted, obj, tag), done))
        self._busy[key] = None
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        await done  # of this request alone: a request that is cancelled is written all the same
        return rev

    def _flush(self) -> None:
        """Commit what waits; unless more is on its way, which a few rounds of the loop tell.

        A round in which nobody writes takes microseconds, a commit half a millisecond of disk and two dozen turns of
        the interpreter's lock: requests that are handled right now are worth waiting for.
        """
        batch = self._batch
        if len(batch) < _ENOUGH:
            self._quiet = self._quiet + 1 if len(batch) == self._seen else 0
            if self._quiet < _QUIET:
                self._seen = len(batch)
                asyncio.get_running_loop().call_soon(self._flush)
                return
        self._batch = []
        self._seen = self._quiet = 0
        if not batch or self._writer is None:
            self._flushing = False
            return
        rows = [(change.rev, change.key, int(change.deleted), change.value) for change, _ in batch]
        loop = asyncio.get_running_loop()
        self._writer.post(lambda: self._commit_and_tell(rows, batch, loop))

    def _commit_and_tell(self, rows: list[Row], batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        failure: Exception | None = None
        try:
            self._commit(rows)
        except Exception as error:  # noqa: BLE001 - whatever it was, somebody waits to hear of it
            failure = error
        if self._checkpoints is not None and self._db is not None:
            self._checkpoints.wrote(self._db, sum([len(row[3]) for row in rows]))
        loop.call_soon_threadsafe(self._committed, failure, batch)

    def _commit(self, rows: list[Row]) -> None:
        db = self._db
        assert db is not None
        try:
            if len(rows) <= _AT_ONCE:
                # One statement is a transaction of its own. The interpreter's lock is let go and asked for again around
                # each step of a statement, and beside a busy loop each asking is a wait: one step instead of dozens.
                db.execute(_insert(len(rows)), [cell for row in rows for cell in row])
            else:
                db.execute("BEGIN IMMEDIATE")
                for first in range(0, len(rows), _AT_ONCE):
                    some = rows[first : first + _AT_ONCE]
                    db.execute(_insert(len(some)), [cell for row in some for cell in row])
                db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _committed(self, failure: Exception | None, batch: Batch) -> None:
        if failure is None:
            changes = [change for change, _ in batch]
            self.revision = changes[-1].rev
            for change in changes:
                self._remember(change)
                self._let_go(change.key)
            assert self._publish is not None
            self._publish(changes)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)
        else:
            text = plain(failure, self.path) if isinstance(failure, sqlite3.Error) else str(failure)
            for change, done in batch:
                self._let_go(change.key)
                if not done.done():
                    done.set_exception(StoreError(text))
                    done.exception()  # a cancelled writer has nobody left to ask
        if self._batch:
            self._flush()
        else:
            self._flushing = False
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)

    async def compact(self, rev: int) -> None:
        rev = min(rev, self.revision)
        if rev <= self.compacted or self._writer is None:
            return
        pairs = self._superseded
        loop = asyncio.get_running_loop()
        try:
            # First of all: once rows begin to go, the history up to here has gaps.
            await loop.run_in_executor(self._writer, self._set_compacted, rev)
            self.compacted = rev
            # In the order in which they were superseded: a deletion must not go before what it deleted.
            while self._writer is not None and pairs and pairs[0] <= rev:
                some = pairs[: 2 * _FORGOTTEN_AT_ONCE]
                old = some[1 : 2 * bisect_right(some[::2], rev) : 2]
                await loop.run_in_executor(self._writer, self._forget, old)
                del pairs[: 2 * len(old)]
        except sqlite3.Error as error:
            raise StoreError(plain(error, self.path)) from error

    def _set_compacted(self, rev: int) -> None:
        db = self._db
        assert db is not None
        # The newest row may go (a deletion): the counter must not go back.
        db.execute(
            "UPDATE facts SET value = CASE name WHEN 'compacted' THEN ? ELSE max(value, ?) END", (rev, self.revision)
        )

    def _forget(self, revisions: array[int]) -> None:
        db = self._db
        assert db is not None
        places = ",".join("?" * len(revisions))
        db.execute(f"DELETE FROM log WHERE rev IN ({places})", revisions.tolist())  # noqa: S608 - nothing but question marks
        db.execute("PRAGMA incremental_vacuum(2000)")

    async def close(self) -> None:
        if self._writer is None:
            return
        if self._flushing:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        self._publish = None
        writer, self._writer = self._writer, None
        if self._checkpoints is not None:
            await asyncio.to_thread(self._checkpoints.close)
        await asyncio.get_running_loop().run_in_executor(writer, self._close)
        writer.shutdown()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def backup(source: Path, target: Path) -> int:
    """Copy the store at `source` to `target`, while a control plane may be writing to it; the bytes of the copy.

    The copy is one moment's state, complete and checked. Raises StoreError in plain words.
    """
    if not source.exists():
        raise StoreError(f"there is no store at {source}: is this the right --data-dir?")
    if target.exists():
        raise StoreError(f"{target} is already there: choose another name, or remove it first")
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        partial.touch(mode=0o600)
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as live,
            closing(sqlite3.connect(partial)) as copy,
        ):
            live.backup(copy)
            # The copy stands alone: no WAL beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
            verdict = copy.execute("PRAGMA quick_check").fetchone()[0]
            if verdict != "ok":
                raise StoreError(f"the copy of {source} is damaged: {verdict}")
    except sqlite3.Error as error:
        partial.unlink(missing_ok=True)
        raise StoreError(plain(error, source)) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(target)
    return target.stat().st_size
