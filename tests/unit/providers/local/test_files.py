"""Files written whole, private, and translated errors."""

import errno

import pytest

from chandlery.foundation.errors import FailedPrecondition, PermissionDenied, QuotaExceeded, Unavailable
from chandlery.providers.local.files import make_dir, os_error, read_json, remove_tree, write_atomic


def test_written_whole_private_and_only_when_changed(tmp_path):
    path = tmp_path / "conf"
    assert write_atomic(path, "a") is True
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.stat().st_ino
    assert write_atomic(path, "a") is False
    assert path.stat().st_ino == before
    assert write_atomic(path, "b") is True
    assert path.read_text() == "b"
    assert [p.name for p in tmp_path.iterdir()] == ["conf"], "no temporary file stays"


def test_a_file_that_lost_its_mode_is_written_again(tmp_path):
    path = tmp_path / "conf"
    write_atomic(path, "a")
    path.chmod(0o644)
    assert write_atomic(path, "a") is True
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_directory_has_exactly_its_mode(tmp_path):
    path = tmp_path / "a" / "b"
    path.parent.mkdir()
    path.mkdir(mode=0o755)
    make_dir(path)
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_damaged_record_is_named_and_not_retried(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("{")
    with pytest.raises(Unavailable, match="is damaged") as caught:
        read_json(path)
    assert caught.value.retry_after is None
    assert read_json(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, QuotaExceeded),
        (errno.EROFS, PermissionDenied),
        (errno.EACCES, PermissionDenied),
        (errno.EIO, Unavailable),
    ],
)
def test_the_operating_systems_errors_become_ours(tmp_path, number, kind):
    import os

    error = os_error(OSError(number, os.strerror(number)), "writing", tmp_path)
    assert type(error) is kind
    assert str(tmp_path) in error.condition_message()


def test_a_link_is_removed_and_what_it_points_to_stays(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "keep").write_text("x")
    link = tmp_path / "link"
    link.symlink_to(target)
    remove_tree(link)
    assert (target / "keep").exists()
    remove_tree(tmp_path / "nothing there")


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    for path in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(FailedPrecondition, match=f"a file is where a directory must be, while making {path}"):
            make_dir(path)
