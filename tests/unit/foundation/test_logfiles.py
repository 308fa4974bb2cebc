"""Logs are cut while others append to them: nothing is lost, nothing comes twice, and readers follow."""

import os
import threading

import pytest

from chandlery.foundation import logfiles
from chandlery.foundation.logreader import Follower

LINE = "line {:08d} of a log that somebody writes without ever opening it again\n"


class Appender:
    """A program with its log open, as an engine has its standard output."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.count = 0

    def write(self, lines):
        for _ in range(lines):
            os.write(self.fd, LINE.format(self.count).encode())
            self.count += 1

    def close(self):
        os.close(self.fd)


@pytest.fixture
def log(tmp_path):
    made = Appender(tmp_path / "node-0.log")
    yield made, tmp_path / "node-0.log"
    made.close()


def everything(path):
    """All that is kept, oldest first."""
    data, number = b"", 1
    parts = [path]
    while logfiles.older(path, number).exists():
        parts.insert(0, logfiles.older(path, number))
        number += 1
    for part in parts:
        with part.open("rb") as file:
            file.seek(logfiles.begins_at(file.fileno()))
            data += file.read()
    return data.decode().splitlines(keepends=True)


def without(monkeypatch, *modes):
    """A file system that can't do this."""
    real = logfiles._fallocate
    monkeypatch.setattr(logfiles, "_fallocate", lambda fd, mode, *rest: mode not in modes and real(fd, mode, *rest))


@pytest.mark.parametrize("lacking", [(), (logfiles._COLLAPSE,), (logfiles._COLLAPSE, logfiles._PUNCH)])
def test_what_is_cut_is_kept_and_the_rest_goes_on(log, monkeypatch, lacking):
    appender, path = log
    without(monkeypatch, *lacking)
    appender.write(1000)
    assert not logfiles.rotate(path, 1 << 20)
    for _ in range(2):
        assert logfiles.rotate(path, 16384)
        appender.write(1000)
    assert everything(path) == [LINE.format(number) for number in range(3000)]
    assert logfiles.older(path, 1).stat().st_mode & 0o777 == 0o600
    assert logfiles.rotate(path, 16384)
    assert not logfiles.older(path, 3).exists()
    assert path.stat().st_blocks * 512 <= 16384
    assert everything(path)[-1] == LINE.format(2999)


@pytest.mark.parametrize("lacking", [(), (logfiles._COLLAPSE,)])
def test_nothing_is_lost_while_somebody_writes(log, monkeypatch, lacking):
    appender, path = log
    without(monkeypatch, *lacking)
    thread = threading.Thread(target=appender.write, args=(20000,))
    follower = Follower(path)
    seen = follower.last(0)
    thread.start()
    while thread.is_alive():
        logfiles.rotate(path, 65536, keep=50)
        seen += follower.new()
    thread.join()
    seen += follower.new()
    assert everything(path) == [LINE.format(number) for number in range(20000)]
    assert [f"{line}\n" for line in seen] == everything(path)


@pytest.mark.parametrize("lacking", [(), (logfiles._COLLAPSE,), (logfiles._COLLAPSE, logfiles._PUNCH)])
def test_a_follower_reads_what_was_cut_between_two_looks(log, monkeypatch, lacking):
    appender, path = log
    without(monkeypatch, *lacking)
    appender.write(100)
    follower = Follower(path)
    assert follower.last(10) == [LINE.format(number).strip() for number in range(90, 100)]
    os.write(appender.fd, b"half a li")
    assert follower.new() == []
    os.write(appender.fd, b"ne\n")
    assert follower.new() == ["half a line"]
    appender.write(500)
    logfiles.rotate(path, 8192)
    appender.write(300)
    logfiles.rotate(path, 8192)
    appender.write(7)
    assert follower.new() == [LINE.format(number).strip() for number in range(100, 907)]
    assert follower.new() == []


def test_the_last_lines_reach_into_what_was_cut(log):
    appender, path = log
    appender.write(1000)
    logfiles.rotate(path, 4096)
    appender.write(2)
    assert Follower(path).last(200) == [LINE.format(number).strip() for number in range(802, 1002)]
    assert Follower(path.with_name("none.log")).last(5) == []


def test_a_full_disk_drops_what_is_old_rather_than_grow(log, monkeypatch):
    appender, path = log
    appender.write(1000)
    assert logfiles.rotate(path, 8192)
    appender.write(1000)
    real = os.pread

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pread", full)
    assert logfiles.rotate(path, 8192)
    monkeypatch.setattr(os, "pread", real)
    assert not logfiles.older(path, 1).exists()
    assert path.stat().st_size <= 8192
    assert everything(path)[-1] == LINE.format(1999)


def test_a_log_that_somebody_empties_is_read_from_its_beginning(log):
    appender, path = log
    appender.write(10)
    follower = Follower(path)
    follower.last(1)
    os.truncate(path, 0)
    appender.write(1)
    assert follower.new() == [LINE.format(10).strip()]
