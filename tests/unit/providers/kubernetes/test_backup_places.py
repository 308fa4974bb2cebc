"""What our own program does with backups that are in a bucket, and where they are for pods. The bucket is a folder."""

from __future__ import annotations

import json
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chandlery.foundation.errors import DataLoss, NotFound
from chandlery.model.backup import BackupDestination
from chandlery.providers.kubernetes import backup, backup_program

OWNER = {"kind": "Cache", "namespace": "shop", "name": "orders", "uid": "0123456789"}


class Folder:
    """As a `Bucket`."""

    shown = "s3://ships/shop"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: list[str] = []
        self.removed: list[str] = []

    async def names(self):
        return sorted(p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())

    async def read(self, name, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path / name, target)

    async def write(self, name, source):
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.path / name)
        self.written.append(name)

    async def remove(self, name):
        (self.path / name).unlink()
        self.removed.append(name)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    made = Folder(tmp_path / "bucket")
    made.path.mkdir()

    @asynccontextmanager
    async def opened(_task):
        yield made

    monkeypatch.setattr(backup_program, "_bucket", opened)
    return made


def task(tmp_path, name, **more):
    """Each pod has room of its own."""
    return {"folder": str(tmp_path / name), "told": str(tmp_path / "told"), "owner": OWNER, **more}


async def taken(tmp_path, pod, text, **more):
    async def write(folder):
        (folder / "data").mkdir()
        (folder / "data" / "a").write_text(text)
        return {"engine": "valkey", "version": "9.1.0"}

    return await backup_program.take(task(tmp_path, pod, **more), write)


FROM = {"kind": "Cache", "namespace": "shop"}


async def test_a_backup_is_whole_in_the_bucket_before_it_is_listed_and_old_ones_go_unlisted_first(tmp_path, bucket):
    first = await taken(tmp_path, "one", "1", retention={"count": 1})
    assert bucket.written[-1].endswith(f"{first}/manifest.json")
    second = await taken(tmp_path, "two", "2", retention={"count": 1})
    assert second != first
    assert [name.rpartition("/")[2] for name in bucket.removed] == ["manifest.json", "a"]
    assert all(f"/{first}/" in name for name in bucket.removed)
    entry = await backup_program.choose({**task(tmp_path, "three"), **FROM})
    assert entry.name == second
    assert entry.file("data/a").read_text() == "2"


async def test_what_is_missing_or_spoilt_in_a_bucket_is_told_by_its_place_there(tmp_path, bucket):
    with pytest.raises(NotFound, match=r"no backups of a Cache \(s3://ships/shop\)"):
        await backup_program.choose({**task(tmp_path, "none"), **FROM})
    whose = {**FROM, "object": "orders", "uid": OWNER["uid"]}
    with pytest.raises(NotFound, match="s3://ships/shop"):
        await backup_program.choose({**task(tmp_path, "neither"), **whose})
    name = await taken(tmp_path, "one", "1")
    folder = bucket.path / "cache.shop.orders.01234567"
    (folder / name / "data" / "a").write_text("2")
    with pytest.raises(DataLoss, match="damaged"):
        await backup_program.choose({**task(tmp_path, "two"), **whose, "name": name})


@pytest.mark.parametrize("evil", ["../../../out", "/tmp/out"])
async def test_whoever_writes_into_the_bucket_can_not_write_elsewhere_in_a_pod(tmp_path, bucket, evil):
    name = await taken(tmp_path, "one", "1")
    manifest = bucket.path / "cache.shop.orders.01234567" / name / "manifest.json"
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**said, "files": {evil: {"size": 1, "sha256": "0"}}}))
    with pytest.raises(DataLoss, match="leads out"):
        await backup_program.choose({**task(tmp_path, "two"), **FROM})


def test_places_are_what_destinations_mean():
    volume = BackupDestination.model_validate({"volume": {"claimName": "safe", "path": "a/b"}})
    place = backup.place_of(volume)
    assert backup.task_of(place) == {"folder": "/backups/a/b"}
    assert backup.mounts(place, read_only=True) == [{"name": "backups", "mountPath": "/backups", "readOnly": True}]
    s3 = {"bucket": "ships", "prefix": "shop/", "credentialsSecret": {"name": "store"}}
    place = backup.place_of(BackupDestination.model_validate({"s3": s3}))
    told = backup.task_of(place)
    assert told["s3"] == {"bucket": "ships", "prefix": "shop"}
    assert "store" not in str(told)
    assert backup.known_place({**place, "image": "x", "name": "y"}) == place
