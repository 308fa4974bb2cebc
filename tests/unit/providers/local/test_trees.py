"""Directories of data, copied and brought to the disk."""

import errno
import os

import pytest

from chandlery.foundation.errors import QuotaExceeded, Unavailable
from chandlery.providers.local import trees
from chandlery.providers.local.trees import copy_tree, sync_tree


@pytest.fixture
def source(tmp_path):
    home = tmp_path / "source"
    (home / "a" / "b").mkdir(parents=True)
    (home / "a" / "b" / "large").write_bytes(os.urandom(3 << 20))
    (home / "a" / "empty").touch(mode=0o644)
    (home / "link").symlink_to("/etc/hostname")
    (home / "log").write_text("left out")
    return home


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fast", [True, False])
def test_a_copy_has_the_same_files_for_its_owner_alone(source, tmp_path, monkeypatch, fast):
    def refuse(*_):
        raise OSError(errno.EXDEV, "between two file systems")

    if not fast:
        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    copied = copy_tree(source, tmp_path / "target", lambda name: name == "log")
    had = {name: content for name, content in files(source).items() if name not in ("log", "link")}
    assert files(tmp_path / "target") == had
    assert (copied.files, copied.bytes) == (2, 3 << 20)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "target").rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert (tmp_path / "target" / "a").stat().st_mode & 0o777 == 0o700


def test_a_full_disk_is_told_as_one(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(trees, "_copy_content", full)
    with pytest.raises(QuotaExceeded, match="target"):
        copy_tree(source, tmp_path / "target")


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_there_is_synced(source, monkeypatch, at_once):
    synced = []
    if at_once:
        monkeypatch.setattr(trees, "_syncfs", lambda: synced.append)
    else:
        (source / "link").unlink()
        monkeypatch.setattr(trees, "_syncfs", lambda: None)
        monkeypatch.setattr(os, "fsync", synced.append)
    sync_tree(source)
    assert len(synced) == (1 if at_once else 7)  # three files, three directories, and the one that they are in


def test_the_real_call_works_and_its_failure_is_told(source, tmp_path):
    sync_tree(source)
    with pytest.raises(Unavailable, match="gone"):
        sync_tree(tmp_path / "gone")
