"""Control groups on trees of files that look like the kernel's: where they are made, and what is written into them."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from chandlery.providers.local import cgroups
from chandlery.providers.local.cgroups import Allowance, Cgroups

DATA = Path("/var/lib/chandlery")
NAME = f"chandlery-{hashlib.sha256(os.fsencode(DATA)).hexdigest()[:10]}"
V2 = {"memory.max": "max", "cpu.max": "max 100000", "cgroup.procs": "", "cgroup.controllers": "cpu memory"}


def group(path, files, **more):
    """A group with its files, as the kernel makes them with the directory."""
    path.mkdir(parents=True, exist_ok=True)
    for name, text in {**files, **more}.items():
        (path / name).write_text(text)
    return path


@pytest.fixture
def system(tmp_path):
    """Writes /proc/self as the kernel has it: mounts of control groups, and the group that we are in."""

    def make(mounts, own):
        proc = tmp_path / "proc"
        (proc / "self").mkdir(parents=True)
        lines = [
            f"{n} 1 0:{n} {root} {point} rw,relatime - {kind} {kind} rw,{options}"
            for n, (point, root, kind, options) in enumerate(mounts, 30)
        ]
        (proc / "self/mountinfo").write_text("\n".join(["1 1 8:1 / / rw - ext4 /dev/vda rw", *lines, ""]))
        (proc / "self/cgroup").write_text("\n".join([*own, ""]))
        return proc

    return make


def v2_tree(top, *levels, enabled=""):
    """Groups below one another, with what the trial needs below the last that is given."""
    path = top
    for level in ("", *levels):
        path = path / level
        group(path, V2, **{"cgroup.subtree_control": enabled})
    return path


def ready(base):
    """What the kernel would make with the directories of a trial."""
    group(base / NAME, V2, **{"cgroup.subtree_control": "cpu memory"})
    group(base / NAME / "trial", V2)


def test_version_2_in_its_own_group_when_that_can_give_controllers(system, tmp_path):
    top = tmp_path / "cgroup"
    own = v2_tree(top, "user.slice", "chandlery.service", enabled="cpu memory")
    ready(own)
    proc = system([(top, "/", "cgroup2", "nsdelegate")], ["0::/user.slice/chandlery.service"])
    found = Cgroups.find(DATA, proc)
    assert not found.why
    assert {each.parent for each in found.controllers.values()} == {own / NAME}
    assert {each.version for each in found.controllers.values()} == {2}
    (path,) = found.paths("cache-1", "node-0")
    group(path, V2)
    assert found.prepare("cache-1", "node-0", Allowance(64 << 20, 0.5)) == [path]
    assert (path / "memory.max").read_text() == str(64 << 20)
    assert (path / "memory.swap.max").read_text() == "0"
    assert (path / "cpu.max").read_text() == "50000 100000"
    assert cgroups.limits([path]) == Allowance(64 << 20, 0.5)
    cgroups.set_limits([path], Allowance())
    assert cgroups.limits([path]) == Allowance()


def test_version_2_goes_up_to_the_group_that_gives_controllers(system, tmp_path, monkeypatch):
    """Who is in a group with processes can't have groups with controllers below it; its parent can."""
    top = tmp_path / "cgroup"
    own = v2_tree(top, "app.slice", "chandlery.service", "operator")
    ready(own.parent)
    real = Path.write_text

    def write(self, text, *args, **kwargs):
        if self == own / "cgroup.subtree_control":
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return real(self, text, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", write)
    proc = system([(top, "/", "cgroup2", "nsdelegate")], ["0::/app.slice/chandlery.service/operator"])
    found = Cgroups.find(DATA, proc)
    assert {each.parent for each in found.controllers.values()} == {own.parent / NAME}
    assert (own.parent / "cgroup.subtree_control").read_text() in {"+memory", "+cpu"}


def test_version_2_that_is_not_delegated_is_told(system, tmp_path, monkeypatch):
    top = tmp_path / "cgroup"
    own = v2_tree(top, "session.scope")
    monkeypatch.setattr(os, "access", lambda *_: False)
    proc = system([(top, "/", "cgroup2", "nsdelegate")], ["0::/session.scope"])
    found = Cgroups.find(DATA, proc)
    assert found.controllers == {}
    assert found.why == dict.fromkeys(("memory", "cpu"), f"{own} isn't delegated to this user")
    assert "isn't delegated" in str(found)


def test_version_2_without_the_controller_is_told(system, tmp_path):
    top = tmp_path / "cgroup"
    own = v2_tree(top, "user.slice", enabled="memory")
    ready(own)
    (own / "cgroup.controllers").write_text("memory pids")
    found = Cgroups.find(DATA, system([(top, "/", "cgroup2", "rw")], ["0::/user.slice"]))
    assert set(found.controllers) == {"memory"}
    assert found.why["cpu"] == f"the controller cpu isn't given to {own}"


V1_MEMORY = {
    "memory.limit_in_bytes": "9223372036854771712",
    "memory.memsw.limit_in_bytes": "9223372036854771712",
    "cgroup.procs": "",
}
V1_CPU = {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000", "cgroup.procs": ""}


def test_version_1_has_a_directory_for_each_controller_and_sees_through_a_container(system, tmp_path):
    memory, cpu = tmp_path / "memory", tmp_path / "cpu,cpuacct"
    # a container sees its own group as the mount's root
    group(memory / NAME / "trial", V1_MEMORY)
    group(cpu / "own" / NAME / "trial", V1_CPU)
    proc = system(
        [(memory, "/docker/1", "cgroup", "memory"), (cpu, "/", "cgroup", "cpu,cpuacct")],
        ["5:memory:/docker/1", "4:cpu,cpuacct:/own", "0::/"],
    )
    found = Cgroups.find(DATA, proc)
    assert found.controllers["memory"].parent == memory / NAME
    assert found.controllers["cpu"].parent == cpu / "own" / NAME
    for path, files in zip(found.paths("cache-1", "node-0"), (V1_MEMORY, V1_CPU), strict=True):
        group(path, files)
    paths = found.prepare("cache-1", "node-0", Allowance(64 << 20, 2))
    assert cgroups.limits(paths) == Allowance(64 << 20, 2)
    assert (paths[0] / "memory.memsw.limit_in_bytes").read_text() == str(64 << 20)
    cgroups.set_limits(paths, Allowance(cpu=0.0001))
    assert cgroups.limits(paths) == Allowance(None, cgroups.LEAST_QUOTA / cgroups.PERIOD)


def test_a_system_without_control_groups(system):
    found = Cgroups.find(DATA, system([], []))
    assert found.controllers == {}
    assert "no control groups for memory" in str(found)
    assert found.paths("cache-1", "node-0") == []


def test_version_2_keeps_a_limit_that_would_kill_at_once(tmp_path):
    path = group(tmp_path / "g", V2)
    (path / "memory.current").write_text(str(100 << 20))
    (path / "memory.stat").write_text(f"file {60 << 20}\nshmem {10 << 20}\n")
    assert cgroups.held(path) == 50 << 20, "what is on the disk anyway can be forgotten; shared memory can't"
    cgroups.set_limits([path], Allowance(memory=64 << 20))
    with pytest.raises(OSError, match="more is in use") as caught:
        cgroups.set_limits([path], Allowance(memory=40 << 20))
    assert caught.value.errno == errno.EBUSY
    assert cgroups.limits([path]) == Allowance(64 << 20)


@pytest.mark.parametrize(
    ("files", "count", "by_limit"),
    [
        ({"memory.events": "oom 2\noom_kill 1\n"}, 1, True),
        ({"memory.events": "oom 0\noom_kill 1\n"}, 1, False),
        (
            {
                "memory.oom_control": "oom_kill_disable 0\noom_kill 3\n",
                "memory.max_usage_in_bytes": "100000000",
                "memory.limit_in_bytes": "100003840",
            },
            3,
            True,
        ),
        (
            {
                "memory.oom_control": "oom_kill 3\n",
                "memory.max_usage_in_bytes": "50000000",
                "memory.limit_in_bytes": "100003840",
            },
            3,
            False,
        ),
    ],
)
def test_whose_limit_it_was_is_known(tmp_path, files, count, by_limit):
    found = cgroups.kills([group(tmp_path / "g", files)])
    assert (found.count, found.by_limit) == (count, by_limit)


def test_groups_of_instances_that_are_gone_are_removed(tmp_path):
    parent = tmp_path / NAME
    for name in ("cache-1.node-0", "cache-2.node-0", "cache-2.with.dots.node-0"):
        (parent / name).mkdir(parents=True)
    found = Cgroups({"memory": cgroups.Controller("memory", 2, parent)}, {})
    found.sweep({"cache-1", "cache-2.with.dots"})
    assert sorted(path.name for path in parent.iterdir()) == ["cache-1.node-0", "cache-2.with.dots.node-0"]
    found.sweep(set())
    assert not parent.exists()
