"""What every kind on this machine does the same way about spec.backup, spec.restoreFrom and a last backup.

A kind gives one function that writes its data into a folder. Everything else is here: when one is due, the folder,
its name and manifest, what is kept, what status says, and trying again with back-off when the destination is broken.
A pass looks (`look`), the plan holds the due backup as a difference without disruption, `start` begins it in the
background, and the object is woken when it ended.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from chandlery.driver.protocol import Difference, DriverContext, Unsupported
from chandlery.driver.schedule import Due, due, moment, requested, stamp
from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import ChandleryError, NotFound, NotSupported, Unavailable, as_error
from chandlery.model.backup import Backup, BackupDestination, RestoreFrom
from chandlery.model.base import Condition, ConditionStatus, DeletionPolicy
from chandlery.providers.local.background import Job
from chandlery.providers.local.backup_store import Entry, Store, folder_name, store_at
from chandlery.providers.local.instance import Instance
from chandlery.providers.local.privileges import UNPRIVILEGED_USER, passable

ANNOTATION = "chandlery.dev/backup-requested-at"
CONDITION = "BackedUp"
LIST_LENGTH = 20
LOOK_SECONDS = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 900.0


def backup_job(instance: Instance) -> tuple[str, str]:
    """The key of the backup under way."""
    return ("backup", instance.name)


def restore_job(instance: Instance) -> tuple[str, str]:
    """The key of the restore under way."""
    return ("restore", instance.name)


Take = Callable[[Path, Job], Awaitable[Mapping[str, Any]]]
"""Writes one backup into a folder that is there and belongs to the engine's user; says at least engine and version."""
Thinned = Callable[[Store, Sequence[Entry]], Awaitable[None]]
"""Called with what is left after old backups were removed, oldest first."""


@dataclass(frozen=True, slots=True)
class View:
    """What one look at the backups found."""

    differences: tuple[Difference, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    wait: float | None = None
    """Seconds until something is due; None: never."""
    entries: tuple[Entry, ...] = ()
    """Oldest first."""

    def poll(self, seconds: float) -> float:
        """The pause until the next look, when it would be so many seconds without backups."""
        return seconds if self.wait is None else max(0.05, min(seconds, self.wait))


class Backups:
    """The backups of one object in one pass."""

    def __init__(
        self,
        ctx: DriverContext,
        obj: Any,
        instance: Instance,
        take: Take,
        *,
        thinned: Thinned | None = None,
        needed_since: datetime | None = None,
    ) -> None:
        self.ctx = ctx
        self.obj = obj
        self.instance = instance
        self.spec: Backup | None = obj.spec.backup
        self._take = take
        self._thinned = thinned
        self._needed_since = needed_since
        """One is due as soon as there is none that began after this moment; None: only by schedule or request."""

    @property
    def _record(self) -> MutableMapping[str, Any]:
        found: dict[str, Any] = self.instance.record.setdefault("backup", {})
        return found

    @property
    def _key(self) -> tuple[str, str]:
        return backup_job(self.instance)

    @property
    def store(self) -> Store:
        """Where the object's own backups go."""
        assert self.spec is not None
        assert self.spec.destination.directory is not None
        meta = self.obj.metadata
        name = folder_name(self.obj.kind, meta.namespace, meta.name, meta.uid)
        return Store(Path(self.spec.destination.directory.path) / name)

    @property
    def owner(self) -> dict[str, str]:
        """Whose backups they are, as the store notes it."""
        meta = self.obj.metadata
        return {"kind": self.obj.kind, "namespace": meta.namespace, "name": meta.name, "uid": meta.uid}

    # -- looking

    async def look(self, *, serves: bool) -> View:
        """What is there and what is due. `serves`: whether the engine can be backed up now."""
        if self.spec is None:
            if self.instance.record.pop("backup", None) is not None:
                self.instance.save()
            return View()
        now, job = self.ctx.base.now(), self.instance.provider.background.get(self._key)
        running = job if job is not None and job.running else None
        entries, problem = await self._entries()
        since = self._since(now)
        found = due(self.spec.schedule, since=since, now=now, zone=self.spec.time_zone, suspended=self.spec.suspended)
        reason = self._reason(found, entries, problem)
        pause = max(0.0, self._record.get("not_before", 0.0) - now.timestamp())
        if requested(self.obj.metadata.annotations, ANNOTATION, self._record.get("tried")) and reason:
            pause = 0.0  # somebody asks anew: the cause may be mended
        differences = []
        if reason and serves and running is None and not pause:
            differences.append(Difference("backup", reason, "none since", payload=("backup", reason)))
        return View(
            differences=tuple(differences),
            facts={"backup": self._status(entries, found, running)},
            conditions=(self._condition(entries, problem),),
            wait=pause if reason else found.wait(now),
            entries=tuple(entries),
        )

    async def _entries(self) -> tuple[list[Entry], str]:
        """The backups that are there, and why they can't be looked at. A dead network folder blocks nobody else."""
        background, key = self.instance.provider.background, ("backup list", self.instance.name)
        store = self.store

        async def scan(_: Job) -> list[Entry]:
            return await asyncio.to_thread(store.entries)

        background.forget(key)
        job = background.start(key, f"looking into {store.folder}", scan)
        try:
            async with ambient().timeout(LOOK_SECONDS):
                return await background.wait(job), ""
        except TimeoutError:
            return [], f"{store.folder} does not answer"
        except ChandleryError as error:
            return [], error.condition_message()

    def _since(self, now: datetime) -> datetime:
        """Up to when the schedule is satisfied; a new schedule begins to count when it is first seen."""
        assert self.spec is not None
        record, schedule = self._record, f"{self.spec.schedule} {self.spec.time_zone}"
        if record.get("schedule") != schedule or "since" not in record:
            record.update({"schedule": schedule, "since": now.isoformat()})
            self.instance.save()
        return moment(record["since"])

    def _reason(self, found: Due, entries: Sequence[Entry], problem: str) -> str:
        text = requested(self.obj.metadata.annotations, ANNOTATION, self._record.get("requested"))
        if text is not None:
            return f"requested: {text}"
        if found.at is not None:
            return f"scheduled for {stamp(found.at)}"
        needed = self._needed_since
        if needed is not None and not problem and not any(entry.started >= needed for entry in entries):
            return "the first one" if not entries else f"none since {stamp(needed)}"
        return ""

    def _status(self, entries: Sequence[Entry], found: Due, running: Job | None) -> dict[str, Any]:
        listed: list[dict[str, Any]] = [
            {
                "name": entry.name,
                "phase": "Completed",
                "startedAt": stamp(entry.started),
                "completedAt": stamp(entry.completed),
                "size": str(entry.size),
            }
            for entry in reversed(entries)
        ]
        failed = self._record.get("failed")
        if running is not None and running.result not in {entry.name for entry in entries}:  # else it only tidies up
            listed.insert(0, {"name": running.progress or "backup", "phase": "Running"})
        elif failed:
            listed.insert(0, {"name": failed["name"], "phase": "Failed", **failed})
        status: dict[str, Any] = {"count": len(entries), "list": listed[:LIST_LENGTH]}
        if entries:
            status["lastSuccessfulTime"] = stamp(entries[-1].completed)
            status["firstRecoverabilityPoint"] = stamp(entries[0].completed)
        if found.next is not None:
            status["nextScheduledTime"] = stamp(found.next)
        return status

    def _condition(self, entries: Sequence[Entry], problem: str) -> Condition:
        failed = self._record.get("failed")
        why = problem or (failed["message"] if failed else "")
        if why:
            return Condition(type=CONDITION, status=ConditionStatus.FALSE, reason="Failed", message=why)
        if not entries:
            return Condition(
                type=CONDITION, status=ConditionStatus.UNKNOWN, reason="None", message="There is no backup yet."
            )
        message = f"{len(entries)} in {self.store.folder}, the newest is {entries[-1].name}."
        return Condition(type=CONDITION, status=ConditionStatus.TRUE, reason="Completed", message=message)

    # -- acting

    def start(self, reason: str) -> Job:
        """Begin a backup; the one under way, if there is one."""

        async def work(job: Job) -> str:
            return await self._make(job, reason)

        title = f"backing up {self.obj.metadata.name}"
        self.instance.provider.background.forget(self._key)  # the back-off is ours, and on record
        return self.instance.provider.background.start(self._key, title, work, self.instance.wake)

    async def _make(self, job: Job, reason: str) -> str:
        assert self.spec is not None
        started, text = self.ctx.base.now(), self.obj.metadata.annotations.get(ANNOTATION, "").strip()
        name = ""
        try:
            name = await self._write(job, started)
        except Exception as error:
            self._failed(name or stamp(started), as_error(error))
            raise
        record = self._record
        record.update({"since": started.isoformat(), "failures": 0, "not_before": 0.0})
        record.pop("failed", None)
        if text:
            record["requested"] = text
        if reason == "last":
            record["last"] = name
        self.instance.save()
        self.ctx.event("Normal", "BackedUp", f"The backup {name} is in {self.store.folder}.")
        return name

    async def _write(self, job: Job, started: datetime) -> str:
        assert self.spec is not None
        store, owner = self.store, self.owner
        await asyncio.to_thread(store.prepare, owner)
        reachable(self.instance, store.folder)
        name, folder = await asyncio.to_thread(store.begin, started)
        job.tell(name)
        hand_over(self.instance, store.folder, folder)
        facts = await self._take(folder, job)
        await asyncio.to_thread(store.finish, name, folder, started, self.ctx.base.now(), {**owner, **facts})
        job.result = name
        gone = await asyncio.to_thread(store.thin_out, self.spec.retention, self.ctx.base.now())
        if self._thinned is not None:
            await self._thinned(store, await asyncio.to_thread(store.entries))
        if gone:
            self.ctx.base.logger.info("backups removed", names=gone)
        return name

    def _failed(self, name: str, error: ChandleryError) -> None:
        record, now = self._record, self.ctx.base.now()
        failures = int(record.get("failures", 0)) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1))
        message = error.condition_message()
        if record.get("failed", {}).get("message") != message:
            self.ctx.event("Warning", "BackupFailed", message)
        record.update(
            {
                "failures": failures,
                "not_before": now.timestamp() + pause,
                "tried": self.obj.metadata.annotations.get(ANNOTATION, "").strip(),
                "failed": {"name": name, "startedAt": stamp(now), "message": message},
            }
        )
        self.instance.save()

    async def last(self) -> bool:
        """The backup before the object goes: True when there is one that began after its deletion did.

        Raises:
            ChandleryError: why the last attempt failed; the object stays until one succeeds.
        """
        record = self._record
        if record.get("last"):
            return True
        job = self.instance.provider.background.get(self._key)
        if job is not None and not job.running and job.error is not None:
            pause = record.get("not_before", 0.0) - self.ctx.base.now().timestamp()
            if pause > 0:
                raise Unavailable(
                    f"the last backup failed: {job.error.message}",
                    field="spec.deletionPolicy",
                    value="Snapshot",
                    hint=f"{job.error.hint} Or set deletionPolicy to Delete or Retain.".strip(),
                    retry_after=pause,
                )
        if job is None or not job.running:
            self.start("last")
        return False


def hand_over(instance: Instance, *paths: Path) -> None:
    """Give folders (not what is in them) to the user that the instance's engine runs as."""
    owner = instance.provider.privileges.owner_of_files(instance.root)
    if owner is not None:
        for path in paths:
            os.chown(path, *owner)


def reachable(instance: Instance, folder: Path) -> None:
    """Raise when the engine runs as another user, who can't get at a folder.

    Raises:
        Unavailable: with the way out.
    """
    if instance.provider.privileges.owner_of_files(instance.root) is not None and not passable(folder):
        raise Unavailable(
            f"the engine runs as {UNPRIVILEGED_USER}, who can't reach this folder",
            field="spec.backup.destination.directory.path",
            value=str(folder.parent),
            hint="Make its parents passable (chmod o+x), or name a folder elsewhere.",
        )


# -- restoring


async def source_of(ctx: DriverContext, obj: Any, restore: RestoreFrom) -> Store:
    """The backups that spec.restoreFrom means.

    Raises:
        NotFound: the object, or the folder with its backups, isn't there.
        NotSupported: they are in a place that this machine can't read.
    """
    if restore.destination is not None:
        return await asyncio.to_thread(store_at, Path(_directory(restore.destination, "spec.restoreFrom")), obj.kind)
    assert restore.object_name is not None
    meta, field = obj.metadata, "spec.restoreFrom.objectName"
    group = obj.api_version.partition("/")[0]
    found = await ctx.reader.get(group, obj.kind, meta.namespace, restore.object_name)
    if found is None:
        raise NotFound(
            f"there is no {obj.kind} of this name in {meta.namespace}",
            field=field,
            value=restore.object_name,
            hint="When it is gone for good, name the folder with its backups in spec.restoreFrom.destination.",
            retry_after=5.0,
        )
    backup = found.get("spec", {}).get("backup")
    if backup is None:
        raise NotFound(f"this {obj.kind} has no spec.backup", field=field, value=restore.object_name, retry_after=10.0)
    path = _directory(BackupDestination.model_validate(backup["destination"]), field)
    uid = found["metadata"].get("uid", "")
    return Store(Path(path) / folder_name(obj.kind, meta.namespace, restore.object_name, uid))


def _directory(destination: BackupDestination, field: str) -> str:
    if destination.directory is None:
        raise NotSupported(
            "only backups in a directory can be read on this machine",
            field=field,
            hint="Copy the backups into a folder and name it in spec.restoreFrom.destination.directory.",
        )
    return str(destination.directory.path)


def refused_backups(spec: Any) -> list[Unsupported]:
    """What specs can say of backups and no driver of this machine does."""
    found = []
    backup, restore = getattr(spec, "backup", None), getattr(spec, "restore_from", None)
    for path, destination in (
        ("spec.backup.destination", backup.destination if backup else None),
        ("spec.restoreFrom.destination", restore.destination if restore else None),
    ):
        if destination is not None and destination.directory is None:
            kind = "s3" if destination.s3 is not None else "volume"
            found.append(Unsupported(f"{path}.{kind}", "set", "backups of this machine go to a directory"))
    if spec.deletion_policy is DeletionPolicy.SNAPSHOT and backup is None:
        found.append(Unsupported("spec.deletionPolicy", "Snapshot", "a last backup needs spec.backup.destination"))
    return found


__all__ = [
    "ANNOTATION",
    "CONDITION",
    "Backups",
    "Entry",
    "Store",
    "Take",
    "View",
    "backup_job",
    "hand_over",
    "reachable",
    "refused_backups",
    "restore_job",
    "source_of",
]
