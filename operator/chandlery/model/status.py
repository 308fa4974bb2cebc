"""Parts of a status that several kinds share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from chandlery.model.base import LooseModel


class MemberStatus(LooseModel):
    """One instance of an engine."""

    name: Annotated[str, Field(description="Name of the instance.")]
    role: Annotated[str | None, Field(description="primary, replica, shard primary, member, ...")] = None
    ready: Annotated[bool, Field(description="Whether it serves clients.")] = False
    address: Annotated[str | None, Field(description="host:port of the instance.")] = None
    version: Annotated[str | None, Field(description="Version that it runs.")] = None
    lag: Annotated[
        str | None, Field(description="How far it is behind its primary: seconds or bytes with the unit.")
    ] = None
    message: Annotated[str | None, Field(description="What is wrong, when it isn't ready.")] = None


class BackupEntry(LooseModel):
    name: Annotated[str, Field(description="Name of the backup, for restoreFrom.backup.")]
    phase: Annotated[str | None, Field(description="Running, Completed or Failed.")] = None
    started_at: Annotated[str | None, Field(description="RFC 3339.")] = None
    completed_at: Annotated[str | None, Field(description="RFC 3339.")] = None
    size: Annotated[str | None, Field(description="Size in bytes, as a quantity.")] = None
    message: Annotated[str | None, Field(description="Why it failed.")] = None


class BackupStatus(LooseModel):
    last_successful_time: Annotated[str | None, Field(description="End of the newest good backup, RFC 3339.")] = None
    next_scheduled_time: Annotated[str | None, Field(description="Start of the next one, RFC 3339.")] = None
    first_recoverability_point: Annotated[
        str | None, Field(description="Earliest moment that can be restored, RFC 3339.")
    ] = None
    count: Annotated[int | None, Field(description="How many backups there are.")] = None
    list: Annotated[tuple[BackupEntry, ...], Field(max_length=20, description="The newest backups, newest first.")] = ()


class UserStatus(LooseModel):
    """A user or role inside the engine."""

    name: Annotated[str, Field(description="Name of the user.")]
    secret_name: Annotated[str | None, Field(description="Secret that holds its name, password and uri.")] = None
    ready: Annotated[bool, Field(description="Whether it exists with the rights that spec asks for.")] = False
    last_rotated_time: Annotated[str | None, Field(description="When its password was last replaced, RFC 3339.")] = None
    message: Annotated[str | None, Field(description="What is wrong, when it isn't ready.")] = None
