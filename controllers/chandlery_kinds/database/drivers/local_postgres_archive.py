"""Continuous archiving: a process that streams the write-ahead log into the destination as it is written.

`pg_receivewal` follows the primary like a copy does, and keeps a replication slot. So what was confirmed is in the
archive a moment later, segments are complete before they get their name, and a destination that is broken harms the
engine in no way: the slot holds the log back up to `max_slot_wal_keep_size` and not beyond. When that is used up, the
archive has a gap; it goes on in a new folder, and a new backup is made at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chandlery.driver.protocol import Difference
from chandlery.driver.schedule import moment
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import Condition, ConditionStatus
from chandlery.providers.local import ProcessSpec
from chandlery.providers.local.background import Job
from chandlery.providers.local.backup_store import Entry, Store
from chandlery.providers.local.backups import hand_over, reachable
from chandlery.providers.local.files import make_dir, os_error, read_json, remove_tree, write_atomic
from chandlery_kinds.database.drivers.local_postgres_node import Node
from chandlery_kinds.database.postgres.configuration import REPLICATOR
from chandlery_kinds.database.postgres.wal import is_segment, needless

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_postgres import PostgresServers

PROCESS = "archiver"
SLOT = "chandlery_archive"
CONDITION = "Archiving"
THROUGH = "through.json"
BEHIND_BYTES = 64 * 1024 * 1024
PAUSE = 10.0
_LOST = "has already been removed"


@dataclass(frozen=True, slots=True)
class ArchiveView:
    differences: tuple[Difference, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Archive:
    """The archive of one database in one pass."""

    def __init__(self, servers: PostgresServers) -> None:
        self._servers = servers
        self._instance = servers.instance
        self.process = servers.instance.process(PROCESS)

    @property
    def wanted(self) -> bool:
        backup = self._servers.spec.backup
        return backup is not None and backup.continuous_archiving

    @property
    def _record(self) -> dict[str, Any]:
        found: dict[str, Any] = self._instance.record.setdefault("archive", {})
        return found

    @property
    def since(self) -> datetime | None:
        """From when on the archive is without a gap; a backup is needed that is newer."""
        text = self._instance.record.get("archive", {}).get("since") if self.wanted else None
        return moment(text) if text else None

    @property
    def folder(self) -> Path:
        return self._servers.backups.store.folder / f"wal-{self._record.get('generation', 1)}"

    # -- looking

    def look(self, primary: Node) -> ArchiveView:
        """What is to be done, and the condition. The primary answers."""
        here = self.process.name in self._instance.process_names()
        if not self.wanted:
            gone = Difference("archive", "absent", "present", payload=("archive", "remove"))
            return ArchiveView((gone,) if here or SLOT in primary.live["slots"] else ())
        state, record = self.process.state(), self._record
        archived = primary.live.get("archived")
        what = self._due(primary, running=state.running, archived=archived)
        now = self._servers.ctx.base.now().timestamp()
        differences = []
        if what and state.wait <= 0 and now >= record.get("not_before", 0.0):
            differences.append(Difference("archive", "complete", what, payload=("archive", what)))
        if archived is not None and archived >= primary.position:
            self._mark(primary.live["moment"])
        return ArchiveView(tuple(differences), (self._condition(primary, archived, running=state.running),))

    def _due(self, primary: Node, *, running: bool, archived: int | None) -> str:
        record = self._record
        lost = SLOT in primary.live["lost"] or (archived is None and _LOST in self.process.log_tail(8))
        if lost:
            return "renew"
        if "since" not in record or SLOT not in primary.live["slots"]:
            return "slot"
        if running and record.get("folder") != str(self.folder):
            return "move"
        return "" if running else "start"

    def _condition(self, primary: Node, archived: int | None, *, running: bool) -> Condition:
        bound = self._servers.settings.applied.get("max_slot_wal_keep_size", "")
        promise = (
            f"The engine goes on and holds back at most {bound} of it; when that is used up, the archive begins anew "
            "with another backup."
        )
        problem = self._record.get("problem", "")
        if not running or archived is None:
            why = problem or self._last_words() or "it is starting"
            text = f"The write-ahead log is not archived now: {why.rstrip('.')}. {promise}"
            return Condition(type=CONDITION, status=ConditionStatus.FALSE, reason="Stopped", message=text)
        if primary.position - archived > BEHIND_BYTES:
            text = f"The archive is behind by more than {BEHIND_BYTES >> 20} MiB. {promise}"
            return Condition(type=CONDITION, status=ConditionStatus.FALSE, reason="Behind", message=text)
        text = f"The write-ahead log goes to {self.folder}."
        return Condition(type=CONDITION, status=ConditionStatus.TRUE, reason="Streaming", message=text)

    def _last_words(self) -> str:
        words = self.process.log_tail(1)
        return words.partition("error: ")[2] or words

    def _mark(self, through: datetime) -> None:
        """Note beside the log up to when it is complete. Not waited for: the destination may be slow."""
        path, text = self.folder / THROUGH, json.dumps({"through": through.isoformat()})

        async def write(_: Job) -> None:
            await asyncio.to_thread(write_atomic, path, text)

        background, key = self._instance.provider.background, ("archive mark", self._instance.name)
        background.forget(key)
        background.start(key, f"writing {path}", write)

    # -- acting

    async def apply(self, what: str) -> None:
        """Do what `look` found. What goes wrong at the destination is kept for the condition, never raised."""
        record = self._record
        try:
            await self._apply(what)
        except ChandleryError as error:
            now = self._servers.ctx.base.now().timestamp()
            record.update({"problem": error.condition_message(), "not_before": now + PAUSE})
        else:
            record.pop("problem", None)
            record.pop("not_before", None)
        self._instance.save()

    async def _apply(self, what: str) -> None:
        match what:
            case "remove":
                await self._remove()
            case "renew":
                await self._renew()
            case "slot":
                await self._slot()
            case "move":
                await self.process.stop()
                await self._start()
            case "start":
                await self._start()

    async def _slot(self) -> None:
        """The slot comes first: what is written from now on is held back for the archive."""
        await self._servers.ask("SELECT pg_create_physical_replication_slot($1, true)", SLOT)
        if "since" not in self._record:
            self._record.update({"generation": self._record.get("generation", 1), "since": self._now()})
        self._instance.save()
        await self._start()

    async def _renew(self) -> None:
        await self.process.stop()
        self.process.log_path.unlink(missing_ok=True)
        await self._drop_slot()
        record = self._record
        record.update({"generation": record.get("generation", 1) + 1, "since": self._now()})
        self._servers.ctx.event(
            "Warning", "ArchiveGap", "Some of the write-ahead log was not archived in time; a new backup is made."
        )
        await self._slot()

    async def _remove(self) -> None:
        await self.process.stop()
        self.process.forget()
        await self._drop_slot()
        self._instance.record.pop("archive", None)

    async def _drop_slot(self) -> None:
        await self._servers.ask(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", SLOT
        )

    async def _start(self) -> None:
        servers, store = self._servers, self._servers.backups.store
        await asyncio.to_thread(store.prepare, servers.backups.owner)
        reachable(self._instance, store.folder)
        make_dir(self.folder)
        hand_over(self._instance, store.folder, self.folder)
        engine = servers.files.engine
        argv = [
            str(engine.tool("pg_receivewal")),
            f"--directory={self.folder}",
            f"--slot={SLOT}",
            f"--dbname={servers.files.conninfo(servers.client_port, REPLICATOR, application_name=SLOT)}",
            "--synchronous",
            "--no-password",
        ]
        await self.process.start(ProcessSpec(argv, env=engine.env, cwd=self._instance.data_dir))
        self._record["folder"] = str(self.folder)

    def _now(self) -> str:
        return self._servers.ctx.base.now().isoformat()

    async def thinned(self, store: Store, entries: Sequence[Entry]) -> None:
        """Remove the log that no backup needs any more."""
        await asyncio.to_thread(prune, store.folder, entries, self.folder if self.wanted else None)


def prune(folder: Path, entries: Sequence[Entry], present: Path | None) -> None:
    """Remove segments from before the oldest backup, and folders of former generations that are empty then."""
    starts = [str(entry.facts["startWal"]) for entry in entries if "startWal" in entry.facts]
    if not starts:
        return
    for archive in archives(folder):
        names = [path.name for path in archive.iterdir()]
        for name in needless(names, starts[0]):
            (archive / name).unlink(missing_ok=True)
        if archive != present and not any(is_segment(path.name) for path in archive.iterdir()):
            remove_tree(archive)


def archives(folder: Path) -> list[Path]:
    """The folders with write-ahead log beside backups, oldest first."""
    try:
        found = [path for path in folder.iterdir() if path.name.startswith("wal-") and path.name[4:].isdigit()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise os_error(error, "reading", folder) from error
    return sorted(found, key=lambda path: int(path.name[4:]))


def complete_through(folder: Path) -> datetime | None:
    """Up to when everything that was confirmed is in the archive, as its driver noted; None when it never did."""
    noted: list[Mapping[str, Any]] = [found for path in archives(folder) if (found := read_json(path / THROUGH))]
    return max((moment(str(found["through"])) for found in noted), default=None)
