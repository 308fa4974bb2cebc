from datetime import UTC, datetime
from pathlib import Path

from chandlery.providers.local.backup_store import Entry
from chandlery_kinds.database.drivers.local_postgres_archive import archives, complete_through, prune
from chandlery_kinds.database.postgres.wal import is_history, is_segment, needless, place_of, position, wanted

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def entry(folder, start):
    return Entry("20261122T000000Z", folder / "x", NOW, NOW, "postgres", "18.6", 1, {"startWal": start})


def test_positions_and_the_segments_that_hold_them():
    assert position("0/3002160") == 0x3002160
    assert position("1A/0") == 0x1A00000000
    assert place_of("0/3002160") == "0000000000000003"
    assert place_of("1A/FF000000") == "0000001A000000FF"
    assert is_segment("000000010000000000000003")
    assert is_segment("000000010000000000000003.partial")
    assert not is_segment("through.json")
    assert is_history("00000002.history")


def test_what_lies_before_the_oldest_backup_is_needless_whatever_its_timeline():
    names = ["000000010000000000000001", "000000020000000000000002", "000000020000000000000003", "00000002.history"]
    assert needless(names, "0/3002160") == names[:2]


def test_a_segment_that_was_still_written_counts_unless_the_whole_one_is_there():
    names = [
        "000000010000000000000002",
        "000000010000000000000003",
        "000000010000000000000003.partial",
        "000000010000000000000004.partial",
        "00000002.history",
    ]
    assert wanted(names, "0/3000000") == {
        "000000010000000000000003": "000000010000000000000003",
        "000000010000000000000004": "000000010000000000000004.partial",
        "00000002.history": "00000002.history",
    }


def test_pruning_keeps_what_the_oldest_backup_needs(tmp_path: Path):
    for name, files in {
        "wal-1": ["000000010000000000000001", "through.json"],
        "wal-2": ["000000010000000000000002", "000000010000000000000005"],
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text('{"through": "2026-11-22T10:00:00+00:00"}')
    assert complete_through(tmp_path) == datetime(2026, 11, 22, 10, tzinfo=UTC)
    prune(tmp_path, [], tmp_path / "wal-2")
    assert len(archives(tmp_path)) == 2, "without a backup nobody knows what is needless"
    prune(tmp_path, [entry(tmp_path, "0/4000000")], tmp_path / "wal-2")
    assert [path.name for path in archives(tmp_path)] == ["wal-2"], "a former one that is empty goes"
    assert [path.name for path in (tmp_path / "wal-2").iterdir()] == ["000000010000000000000005"]
