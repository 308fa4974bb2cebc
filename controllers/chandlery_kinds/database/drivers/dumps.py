"""Backups as SQL, which pods make and databases on this machine don't begin with."""

from __future__ import annotations

from chandlery.foundation.errors import InvalidSpec
from chandlery.providers.local.backup_store import Entry


def refuse_dump(entry: Entry) -> None:
    """Raise when a backup is one.

    Raises:
        InvalidSpec: it is, and what to do instead.
    """
    if entry.facts.get("method") == "logical":
        raise InvalidSpec(
            f"the backup {entry.name} is a dump as SQL, and a database on this machine begins with copies of files",
            field="spec.restoreFrom.backup",
            value=entry.name,
            hint=f"Name one with method physical, or load {entry.file('dump.sql')} into a new Database yourself.",
        )
