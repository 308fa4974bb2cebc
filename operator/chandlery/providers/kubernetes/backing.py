"""What a pass does about backups that pods make: one on request, what status tells of them, a last one."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Generic

import orjson

from chandlery.driver.objects import ResourceType
from chandlery.driver.protocol import Difference, DriverContext
from chandlery.driver.schedule import due, requested, stamp
from chandlery.foundation.errors import AlreadyExists, DependencyNotReady, EngineFailed, NotSupported
from chandlery.model.base import DeletionPolicy
from chandlery.providers.kubernetes import backup as builders
from chandlery.providers.kubernetes.backup import REQUESTED, RESTORE, SUFFIX
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import R, Workload
from chandlery.providers.kubernetes.engine import EngineWorkload, I
from chandlery.providers.kubernetes.types import CRON_JOBS, JOBS, Obj

ANNOTATION = "chandlery.dev/backup-requested-at"
"""Any text; a new one is a backup."""
DONE = "chandlery.dev/backup-done"
TOLD = "chandlery.dev/backup-failed"
"""Annotations of the workload: the text that was last served, and the Job whose failure was last told."""
PAYLOADS = ("backup", "backup-failed", "restored")
RESTORED = "chandlery.dev/restored"
"""Annotation of the workload: the data of that backup are there."""


class Backed(Workload[R]):
    """A kind gives the pod that makes one backup, and keeps two texts on record."""

    @abstractmethod
    def backup_template(self) -> Obj:
        """The pod that makes one backup."""

    def note_of(self, key: str) -> str:
        """A text on record."""
        return str(((self.stateful or {}).get("metadata", {}).get("annotations") or {}).get(key, ""))

    async def take_note_of(self, key: str, text: str) -> None:
        """On record."""
        live = self.stateful
        if live is not None:
            await self.session.merge(live, {"metadata": {"annotations": {key: text}}})
            await self.there.look()

    @property
    def backup_jobs(self) -> list[Obj]:
        return builders.mine(self.there.all(JOBS))

    def backup_children(self) -> list[Obj]:
        """The CronJob."""
        backup = self.spec.backup
        return builders.cron_job(self.owner, backup, self.backup_template()) if backup is not None else []

    def backup_differences(self, *, serves: bool) -> list[Difference]:
        """A backup that a person asks for, once; and a failure that nobody was told of yet."""
        if self.spec.backup is None:
            return []
        found, done = [], self.note_of(DONE)
        asked = requested(self.obj.metadata.annotations, ANNOTATION, done or None)
        if asked is not None and serves:
            found.append(Difference("backup", asked, done or "none", payload=("backup", asked)))
        for one in self.backup_jobs:
            name = one["metadata"]["name"]
            [entry] = builders.entries([one], self.there.pods)
            if entry["phase"] == "Failed" and name not in self.note_of(TOLD).split():
                words = ("backup-failed", name, entry.get("message") or "its pod said nothing")
                found.append(Difference("backup", "whole", "failed", payload=words))
        return found

    async def act_on_backup(self, payload: Sequence[Any]) -> None:
        """Do what one of `PAYLOADS` says."""
        what, *rest = payload
        if what == "backup":
            await self._begin_backup(str(rest[0]))
            await self.take_note_of(DONE, str(rest[0]))
            return
        if what == "restored":
            await self.take_note_of(RESTORED, "true")
            self.ctx.event("Normal", "Restored", "The data of the backup are there.")
            return
        self.ctx.event("Warning", "BackupFailed", f"{rest[0]}: {rest[1]}")
        there = {one["metadata"]["name"] for one in self.backup_jobs}
        await self.take_note_of(TOLD, " ".join([*(n for n in self.note_of(TOLD).split() if n in there), str(rest[0])]))

    async def _begin_backup(self, asked: str) -> None:
        with contextlib.suppress(AlreadyExists):
            await self.session.create(builders.job(self.owner, self.backup_template(), asked))

    def backup_facts(self) -> dict[str, Any]:
        """`backup` of the status; nothing without one in the spec."""
        backup = self.spec.backup
        if backup is None:
            return {}
        told = builders.facts(self.backup_jobs, self.there.pods, self.there.get(CRON_JOBS, SUFFIX))
        now: datetime = self.ctx.base.now()
        coming = due(
            str(backup.schedule) if backup.schedule else None,
            since=now,
            now=now,
            zone=str(backup.time_zone),
            suspended=backup.suspended,
        ).next
        return {"backup": told | ({"nextScheduledTime": stamp(coming)} if coming is not None else {})}

    def backup_conditions(self, facts: dict[str, Any]) -> tuple[Any, ...]:
        """From `backup_facts`."""
        return (builders.condition(facts["backup"]),) if "backup" in facts else ()

    async def last_backup(self, *, exists: bool) -> bool:
        """Before anything goes: whether a backup that began after the deletion did is whole, or none is wanted.

        Args:
            exists: whether there is still something to back up.

        Raises:
            EngineFailed: it could not be made.
        """
        if self.spec.deletion_policy is not DeletionPolicy.SNAPSHOT or not exists:
            return True  # never made, or already on its way out behind a last backup
        assert self.spec.backup is not None  # else it is refused
        again = self.obj.metadata.annotations.get(ANNOTATION, "")
        asked = f"deletion {self.obj.metadata.deletion_timestamp} {again}".strip()
        for one in self.backup_jobs:
            if (one["metadata"].get("annotations") or {}).get(REQUESTED) != asked:
                continue
            [told] = builders.entries([one], self.there.pods)
            if told["phase"] == "Failed":
                raise last_failed(told.get("message") or one["metadata"]["name"])
            return bool(told["phase"] == "Completed")
        await self._begin_backup(asked)
        return False

    async def delete(self) -> bool:
        """With `Snapshot` a last backup comes first."""
        if not await self.last_backup(exists=self.stateful is not None):
            return False
        return await super().delete()


class BackedEngine(Backed[R], EngineWorkload[R, I], Generic[R, I]):
    """An engine in pods of ours whose StatefulSet tells which backup it began with."""

    kinds: ClassVar[Sequence[ResourceType]] = (*EngineWorkload.kinds, CRON_JOBS, JOBS)

    def __init__(self, ctx: DriverContext, obj: R, there: Children, inputs: I) -> None:
        super().__init__(ctx, obj, there, inputs)
        noted = self.note_of(RESTORE)
        self.inputs = replace(self.inputs, restore=orjson.loads(noted) if noted else None)

    @property
    def restored(self) -> bool:
        """Whether the data of the backup that it begins with are there."""
        return bool(self.note_of(RESTORED))

    async def create(self) -> None:
        if self.spec.restore_from is not None and self.inputs.restore is None:
            # with the StatefulSet it is on record, so that the object whose backup it is may go
            source = await source_of(self.ctx, self.obj)
            self.inputs = replace(self.inputs, restore={**source, "image": self.inputs.tool})
        await super().create()


def last_failed(why: str) -> EngineFailed:
    """What a deletion waits for when its last backup failed."""
    return EngineFailed(
        f"the last backup failed: {why}",
        field="spec.deletionPolicy",
        value="Snapshot",
        hint=f"Mend it and give the annotation {ANNOTATION} another text to have it tried again; or set "
        "deletionPolicy to Delete.",
        retry_after=30.0,
    )


async def source_of(ctx: DriverContext, obj: Any) -> dict[str, str]:
    """Where the backup is that an object begins with: its place, name (the newest without), uid of whose.

    Raises:
        DependencyNotReady: the object that made it isn't there.
        NotSupported: pods don't reach it.
    """
    given = obj.spec.restore_from
    assert given is not None
    destination, field, found = given.destination, "spec.restoreFrom.destination", {}
    if given.object_name is not None:
        field = "spec.restoreFrom.objectName"
        namespace = obj.metadata.namespace
        other = await ctx.reader.get(obj.names.group, obj.names.kind, namespace, given.object_name)
        if other is None:
            raise DependencyNotReady(f"the {obj.kind} {given.object_name} isn't there", field=field)
        backup = type(obj).model_validate(other).spec.backup
        destination = backup.destination if backup is not None else None
        found["object"] = str(given.object_name)
        found["uid"] = str(other["metadata"]["uid"])
    if destination is None or destination.directory is not None:
        raise NotSupported("objects on Kubernetes begin with backups in a claim or a bucket only", field=field)
    place = builders.place_of(destination)
    return {**found, **place, **({"name": str(given.backup)} if given.backup else {})}
