"""The keeper: starts, restarts, ends; what a killed one left behind is ended by the next."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from chandlery.app import keeper, keeping
from chandlery.app.home import Home

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


def until(check, seconds=60.0):
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = check()
        except (OSError, ValueError, KeyError):
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


class Running:
    def __init__(self, root, processes):
        self.run, self.log = root / "run", root / "log"
        for directory in (self.run, self.log):
            directory.mkdir(exist_ok=True)
        spec = {"processes": [{"name": name, "argv": argv} for name, argv in processes.items()]}
        (self.run / "keeper-spec.json").write_text(json.dumps(spec))
        self.process = self.start()

    def start(self):
        return subprocess.Popen([sys.executable, "-m", "chandlery.app.keeper", str(self.run), str(self.log)])

    def state(self):
        return json.loads((self.run / "keeper.json").read_text())

    def child(self, name):
        return self.state()["children"][name]

    def pid(self, name):
        return until(lambda: self.child(name)["pid"])


@pytest.fixture
def running(tmp_path):
    made = []

    def start(**processes):
        made.append(Running(tmp_path, processes))
        return made[-1]

    yield start
    for one in made:
        one.process.terminate()
        one.process.wait(30)


def test_starts_and_ends_all(running):
    kept = running(a=SLEEPER, b=SLEEPER)
    pids = [kept.pid("a"), kept.pid("b")]
    kept.process.terminate()
    assert kept.process.wait(30) == 0
    assert [keeper.start_time(pid) for pid in pids] == [None, None]
    assert not (kept.run / "keeper.json").exists()


def test_a_killed_process_is_back_at_once(running):
    kept = running(a=SLEEPER)
    first = kept.pid("a")
    os.kill(first, signal.SIGKILL)
    second = until(lambda: kept.child("a")["pid"] not in (None, first) and kept.child("a")["pid"])
    assert keeper.start_time(second)
    assert kept.child("a") | {"started": 0, "pid": 0} == {
        "pid": 0,
        "started": 0,
        "restarts": 1,
        "lastExit": "killed by signal 9",
    }


def test_a_second_keeper_on_the_directory_is_refused(running):
    kept = running(a=SLEEPER)
    kept.pid("a")
    assert kept.start().wait(30) == keeper.ALREADY_RUNNING


def test_what_a_killed_keeper_left_is_ended_by_the_next(running):
    kept = running(a=SLEEPER)
    orphan = kept.pid("a")
    kept.process.kill()
    kept.process.wait(30)
    assert keeper.start_time(orphan), "it goes on without its keeper"
    kept.process = kept.start()
    until(lambda: keeper.start_time(orphan) is None)
    until(lambda: kept.pid("a") != orphan)


def test_what_a_killed_keeper_left_is_ended_by_down(running):
    kept = running(a=SLEEPER, b=SLEEPER)
    orphans = [kept.pid("a"), kept.pid("b")]
    kept.process.kill()
    kept.process.wait(30)
    home = Home(kept.run.parent)
    assert keeping.stop(home)
    assert [keeper.start_time(pid) for pid in orphans] == [None, None]
    assert not keeping.stop(home), "there is nothing more to be stopped"
    assert not keeping.is_kept(home)


def test_asked_again_it_starts_what_is_new_and_leaves_the_rest(running):
    kept = running(a=SLEEPER)
    first = kept.pid("a")
    spec = {"processes": [{"name": name, "argv": SLEEPER} for name in ("a", "b")]}
    (kept.run / "keeper-spec.json").write_text(json.dumps(spec))
    kept.process.send_signal(signal.SIGHUP)
    until(lambda: kept.pid("b"))
    assert kept.pid("a") == first
