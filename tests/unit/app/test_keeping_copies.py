"""A copy of a data directory names the processes of the other one: they are left alone."""

import json
import os
import shutil

from chandlery.app import keeping
from chandlery.app.home import Home
from chandlery.app.keeper import Keeper, identity, start_time


def running(home):
    """As the keeper of this directory would write it: this process is everything in it."""
    keeping.make_directories(home)
    me = {"pid": os.getpid(), "started": start_time(os.getpid())}
    state = {**me, "directory": identity(home.run), "children": {"operator": me}}
    home.keeper_state.write_text(json.dumps(state))


def test_the_keeper_of_the_other_directory_is_nobody_here(tmp_path, monkeypatch):
    home = Home(tmp_path / "one")
    running(home)
    assert keeping.state(home)["pid"] == os.getpid()
    copied = Home(shutil.copytree(home.root, tmp_path / "two"))
    assert keeping.state(copied) is None
    assert not keeping.stop(copied)
    ended = []
    monkeypatch.setattr(Keeper, "_end", lambda _keeper, processes, *, ours: ended.extend(processes))
    Keeper(copied.run, copied.logs).end_leftovers()
    assert not ended
    Keeper(home.run, home.logs).end_leftovers()
    assert [pid for pid, _ in ended] == [os.getpid()]
    moved = Home(home.root.rename(tmp_path / "three"))
    assert keeping.state(moved)["pid"] == os.getpid()


def test_a_copy_whose_original_is_down_becomes_a_directory_of_its_own(tmp_path):
    home = Home(tmp_path / "one")
    keeping.make_directories(home)
    keeping.check_no_copy(home)  # nothing was ever started on it
    instance = home.root / "instances" / "cache-1"
    (instance / "log").mkdir(parents=True)
    found = home.root.stat()
    known = {"path": str(home.root), "device": found.st_dev, "inode": found.st_ino}
    (home.root / "directory.json").write_text(json.dumps(known))
    copied = Home(shutil.copytree(home.root, tmp_path / "two"))
    keeping.check_no_copy(copied)  # nothing runs: from now on it is a directory of its own
    assert json.loads((copied.root / "directory.json").read_text())["path"] == str(copied.root)
