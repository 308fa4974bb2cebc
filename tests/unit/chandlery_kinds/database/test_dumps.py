"""A database on this machine doesn't begin with SQL, and says so."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chandlery.foundation.errors import InvalidSpec
from chandlery.providers.local.backup_store import Entry
from chandlery_kinds.database.drivers.dumps import refuse_dump


def test_a_dump_is_refused_with_the_way_out():
    now = datetime(2026, 11, 22, tzinfo=UTC)
    entry = Entry("20261122T030000Z", Path("/b/one"), now, now, "postgres", "18.6", 1, {"method": "physical"})
    refuse_dump(entry)
    with pytest.raises(InvalidSpec, match="a dump as SQL") as told:
        refuse_dump(replace(entry, facts={"method": "logical"}))
    assert told.value.field == "spec.restoreFrom.backup"
    assert "/b/one/dump.sql" in told.value.hint
