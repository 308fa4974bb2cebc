"""Backups and restores, the same for every kind that holds data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from chandlery.model.base import CelRule, LocalRef, Model, Name
from chandlery.model.rules import one_of
from chandlery.model.scalars import Cron, Timestamp, TimeZone
from chandlery.model.words import AbsolutePath, BucketName, HttpUrl, ObjectPrefix, Region, RelativePath


class S3Destination(Model):
    """A bucket of an S3-compatible store."""

    bucket: Annotated[BucketName, Field(description="Name of the bucket.")]
    prefix: Annotated[ObjectPrefix, Field(description="Start of the objects' names within the bucket.")] = ""
    endpoint: Annotated[HttpUrl | None, Field(description="URL of the store. Default: AWS, by region.")] = None
    region: Annotated[Region | None, Field(description="Region of the bucket.")] = None
    credentials_secret: Annotated[
        LocalRef | None,
        Field(description="Secret with access-key-id and secret-access-key. Default: the identity of the workload."),
    ] = None


class VolumeDestination(Model):
    """A PersistentVolumeClaim in the same namespace."""

    claim_name: Annotated[Name, Field(description="Name of the PersistentVolumeClaim.")]
    path: Annotated[RelativePath, Field(description="Folder within the volume, without a leading slash.")] = ""


class DirectoryDestination(Model):
    """A folder of the machine that runs the operator; for laptops and single servers."""

    path: Annotated[AbsolutePath, Field(description="Absolute path of the folder.")]


class BackupDestination(Model):
    """Where backups go: exactly one of these."""

    cel_rules = (one_of(("s3", "volume", "directory"), "give exactly one destination: s3, volume or directory"),)

    s3: Annotated[S3Destination | None, Field(description="A bucket of an S3-compatible store.")] = None
    volume: Annotated[VolumeDestination | None, Field(description="A PersistentVolumeClaim.")] = None
    directory: Annotated[DirectoryDestination | None, Field(description="A folder of the machine, for laptops.")] = None


class BackupRetention(Model):
    """Which backups are kept. A backup that either rule keeps is kept; the newest good one always is."""

    cel_rules = (
        CelRule(
            rule="has(self.count) || has(self.days)", message="give count, days or both: otherwise leave retention out"
        ),
    )

    count: Annotated[int | None, Field(ge=1, le=10000, description="Keep this many of the newest backups.")] = None
    days: Annotated[int | None, Field(ge=1, le=3650, description="Keep backups of this many days.")] = None


class Backup(Model):
    """Backups on a schedule, and on request by the annotation chandlery.dev/backup-requested-at."""

    schedule: Annotated[
        Cron | None, Field(description="When backups are taken, as a cron schedule. Without it: on request only.")
    ] = None
    time_zone: Annotated[TimeZone, Field(description="Time zone of the schedule.")] = TimeZone("UTC")
    suspended: Annotated[bool, Field(description="While true no scheduled backup starts.")] = False
    destination: Annotated[BackupDestination, Field(description="Where backups go.")]
    retention: Annotated[BackupRetention | None, Field(description="Which backups are kept. Default: all.")] = None


class RestoreFrom(Model):
    """Begin with the data of a backup. It is read once, at creation."""

    cel_rules = (
        one_of(("objectName", "destination"), "give exactly one source: objectName (of the same kind) or destination"),
    )

    object_name: Annotated[
        Name | None, Field(description="Name of an object of the same kind and namespace whose backups are used.")
    ] = None
    destination: Annotated[
        BackupDestination | None, Field(description="Where the backups are, when the object that made them is gone.")
    ] = None
    backup: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            description="Name of the backup, as in status.backup.list. Default: the newest.",
        ),
    ] = None


class PointInTimeRestore(RestoreFrom):
    """A restore that can end at a moment between two backups."""

    point_in_time: Annotated[
        Timestamp | None, Field(description="Restore everything committed up to this moment (RFC 3339). Default: all.")
    ] = None
