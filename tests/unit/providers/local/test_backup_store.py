"""Folders of backups: what is listed is whole, what is kept, what is damaged."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from chandlery.foundation.errors import DataLoss, NotFound, Unavailable
from chandlery.model.backup import BackupRetention
from chandlery.providers.local.backup_store import Store, backup_name, folder_name, store_at

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
OWNER = {"kind": "Database", "namespace": "shop", "name": "orders", "uid": "0123456789abcdef"}


def write(store, at, content=b"data"):
    store.prepare(OWNER)
    name, folder = store.begin(at)
    (folder / "base.tar").write_bytes(content)
    store.finish(name, folder, at, at + timedelta(minutes=1), {"engine": "postgres", "version": "18.6"})
    return name


def test_a_backup_is_listed_when_it_is_whole(tmp_path):
    store = Store(tmp_path / "backups" / folder_name(**OWNER))
    store.prepare(OWNER)
    name, folder = store.begin(NOON)
    (folder / "base.tar").write_bytes(b"half")
    assert store.entries() == [], "nothing is there before it is finished"
    name = write(store, NOON)
    (entry,) = store.entries()
    assert (entry.name, entry.size, entry.engine) == ("20261122T120000Z", 4, "postgres")
    assert not [p for p in store.folder.iterdir() if p.name.endswith(".unfinished")], "what was begun before is gone"
    assert write(store, NOON) == f"{name}-2", "a second one within a second"
    assert (store.folder.stat().st_mode & 0o777, (entry.folder / "manifest.json").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )


def test_names_sort_as_the_time_does():
    assert backup_name(NOON, ()) < backup_name(NOON + timedelta(seconds=1), ())
    assert folder_name(**OWNER) == "database.shop.orders.01234567"


def test_a_destination_that_is_not_mounted_is_not_made(tmp_path):
    with pytest.raises(Unavailable, match=r"isn't there") as caught:
        Store(tmp_path / "mnt" / "backups" / "database.a.b.c").prepare(OWNER)
    assert caught.value.retry_after is not None


def test_engines_of_another_user_get_through_a_destination_that_was_made_for_them(tmp_path):
    before = os.umask(0o077)
    try:
        Store(tmp_path / "backups" / "database.a.b.c").prepare(OWNER)
    finally:
        os.umask(before)
    assert (tmp_path / "backups").stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)
    (tmp_path / "given").mkdir(mode=0o750)
    Store(tmp_path / "given" / "database.a.b.c").prepare(OWNER)
    assert (tmp_path / "given").stat().st_mode & 0o777 == 0o750, "a folder of somebody else's stays as it is"


def test_the_newest_is_chosen_or_the_one_that_is_named_or_the_last_before_a_moment(tmp_path):
    store = Store(tmp_path / "x")
    with pytest.raises(NotFound, match="no backup in"):
        store.choose(None)
    first, second = write(store, NOON), write(store, NOON + timedelta(days=1))
    assert store.choose(None).name == second
    assert store.choose(first).name == first
    assert store.choose(None, NOON + timedelta(hours=1)).name == first
    with pytest.raises(NotFound, match="first one that can be restored is 2026-11-22T12:01:01Z") as caught:
        store.choose(None, NOON)
    assert caught.value.retry_after is None
    with pytest.raises(NotFound, match=second) as caught:
        store.choose("20200101T000000Z")
    assert caught.value.field == "spec.restoreFrom.backup"


def test_damage_is_found(tmp_path):
    store = Store(tmp_path / "x")
    write(store, NOON)
    entry = store.choose(None)
    store.verify(entry)
    entry.file("base.tar").write_bytes(b"DATA")
    with pytest.raises(DataLoss, match="isn't what was written"):
        store.verify(entry)
    entry.file("base.tar").unlink()
    with pytest.raises(DataLoss, match="No such file"):
        store.verify(entry)


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (None, 5),
        ({"count": 2}, 2),
        ({"days": 2}, 2),  # those of today and of yesterday
        ({"count": 1, "days": 3}, 3),  # whatever either keeps
        ({"count": 9}, 5),
    ],
)
def test_what_is_kept(tmp_path, retention, left):
    store = Store(tmp_path / "x")
    for day in range(5):
        write(store, NOON - timedelta(days=day))
    rule = BackupRetention.model_validate(retention) if retention else None
    gone = store.thin_out(rule, NOON + timedelta(hours=1))
    assert len(store.entries()) == left
    assert len(gone) == 5 - left


def test_the_newest_is_kept_however_old_it_is(tmp_path):
    store = Store(tmp_path / "x")
    name = write(store, NOON)
    store.thin_out(BackupRetention.model_validate({"days": 1}), NOON + timedelta(days=400))
    assert store.names() == [name]


def test_a_folder_of_several_objects_must_be_named_exactly(tmp_path):
    with pytest.raises(NotFound, match="no backups of a Database"):
        store_at(tmp_path / "nothing", "Database")
    mine = Store(tmp_path / folder_name(**OWNER))
    write(mine, NOON)
    assert store_at(tmp_path, "Database").folder == mine.folder
    assert store_at(mine.folder, "Database").folder == mine.folder
    with pytest.raises(NotFound):
        store_at(tmp_path, "Cache")
    other = {**OWNER, "name": "other"}
    Store(tmp_path / folder_name(**other)).prepare(other)
    with pytest.raises(NotFound, match="backups of 2 objects") as caught:
        store_at(tmp_path, "Database")
    assert str(mine.folder) in caught.value.hint
    assert json.loads((mine.folder / "object.json").read_text())["uid"] == OWNER["uid"]
