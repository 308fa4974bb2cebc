"""The catalogue, trees on disk, and work in the background."""

import asyncio

import pytest

from chandlery.foundation.errors import EngineFailed, NotSupported, Unavailable
from chandlery.providers.local.background import Background
from chandlery.providers.local.engines import Engines, catalogue, tree
from chandlery.providers.local.engines.apt import _deb
from chandlery.providers.local.engines.finder import covers, tree_binary
from chandlery.providers.local.engines.installer import _relocate


def test_every_entry_of_the_catalogue_can_be_had_somewhere_and_says_how_it_is_checked():
    seen = set()
    for entry in catalogue():
        assert (entry.name, entry.version) not in seen
        seen.add((entry.name, entry.version))
        assert entry.sources
        assert entry.licence
        for source in entry.sources:
            assert source.type in {"wheel", "path", "debian"}
            if source.type == "wheel":
                assert source.checksums
                assert all(c.startswith("sha256:") and len(c) == 71 for c in source.checksums)
                assert covers(entry.version, source.release)
            if source.type == "debian":
                assert source.packages
                assert source.platforms


@pytest.mark.parametrize(
    ("line", "wanted", "expected"),
    [("9.1", "9", True), ("9.1", "9.1.2", True), ("9.1", "9.0", False), ("18", "18.6", True), ("18", "15", False)],
)
def test_version_lines(line, wanted, expected):
    assert covers(line, wanted) is expected


def test_what_a_platform_can_not_have_is_said_by_name(tmp_path):
    with pytest.raises(NotSupported, match="there is no nats for linux-riscv64"):
        Engines(tmp_path, "linux-riscv64").entry("nats")
    with pytest.raises(NotSupported, match="no engine 'oracle'"):
        Engines(tmp_path).entry("oracle")
    with pytest.raises(NotSupported, match="valkey 3 is not in the catalogue"):
        Engines(tmp_path).entry("valkey", "3")


def test_the_newest_is_taken_unless_another_is_asked_for(tmp_path):
    engines = Engines(tmp_path, "linux-x86_64")
    assert engines.entry("nats").version == "2.15"
    assert engines.entry("nats", "2.14").version == "2.14"


async def test_what_has_no_source_but_path_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineFailed, match="can't be installed by Chandlery"):
        Engines(tmp_path, "darwin-arm64").require("mariadb")


def make_tree(folder):
    (folder / "root/usr/bin").mkdir(parents=True)
    (folder / "root/usr/share/doc/demo").mkdir(parents=True)
    (folder / "root/usr/share/man").mkdir(parents=True)
    binary = folder / "root/usr/bin/demo"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o4750)
    (folder / "root/usr/share/doc/demo/copyright").write_text("free")
    (folder / "root/usr/share/doc/demo/changelog").write_text("long")
    (folder / "root/usr/share/man/demo.1").write_text("manual")


def record(files):
    return tree.Installed("demo", "1", "debian", {"demo": "1.0-1"}, files)


def test_a_tree_keeps_licences_loses_ballast_and_gives_nobody_rights(tmp_path):
    make_tree(tmp_path)
    tree.prune(tmp_path / "root")
    files = tree.checksums(tmp_path / "root")
    assert sorted(files) == ["usr/bin/demo", "usr/share/doc/demo/copyright"]
    assert tree.licences(files) == ("usr/share/doc/demo/copyright",)
    assert (tmp_path / "root/usr/bin/demo").stat().st_mode & 0o7777 == 0o755


def test_a_damaged_file_is_named(tmp_path):
    staged, home = tmp_path / "staged", tmp_path / "engines/demo/1"
    make_tree(staged)
    tree.put(staged, home, record(tree.checksums(staged / "root")))
    known = tree.read(home)
    assert known is not None
    assert tree.damaged(home, known) == []
    with (home / "root/usr/bin/demo").open("a") as file:
        file.write("x")
    (home / "root/usr/share/man/demo.1").unlink()
    found = tree.damaged(home, known)
    assert len(found) == 2
    assert "usr/bin/demo is damaged" in found[0]
    assert "demo.1 can't be read" in found[1]


def test_putting_a_tree_in_place_replaces_the_one_before(tmp_path):
    home = tmp_path / "engines/demo/1"
    for content in ("one", "two"):
        staged = tmp_path / f"staged-{content}"
        make_tree(staged)
        (staged / "root/usr/bin/demo").write_text(content)
        tree.put(staged, home, record(tree.checksums(staged / "root")))
        assert (home / "root/usr/bin/demo").read_text() == content
    assert sorted(path.name for path in home.parent.iterdir()) == ["1"]


def test_scripts_that_hold_their_own_path_are_moved(tmp_path):
    (tmp_path / "usr/lib/erlang/bin").mkdir(parents=True)
    script = tmp_path / "usr/lib/erlang/bin/erl"
    script.write_text("ROOTDIR=/usr/lib/erlang\nOTHER=/opt/usr/lib/x\n")
    _relocate(tmp_path, "usr/lib/erlang/bin/*", tmp_path / "final")
    assert script.read_text() == f"ROOTDIR={tmp_path}/final/usr/lib/erlang\nOTHER=/opt/usr/lib/x\n"


def test_a_package_file_says_its_version():
    deb = _deb("redis-server_5%3a7.0.15-1~deb12u10_amd64.deb", 10, "SHA256:ab")
    assert (deb.package, deb.version, deb.sha256) == ("redis-server", "5:7.0.15-1~deb12u10", "ab")


def test_a_wheels_script_is_found_where_installers_put_it(tmp_path):
    source = next(s for e in catalogue() if e.name == "nats" for s in e.sources)
    assert tree_binary(tmp_path / "none", source) is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nats-server").touch()
    assert tree_binary(tmp_path, source) == tmp_path / "bin/nats-server"


async def test_a_job_runs_once_for_all_who_ask_and_wakes_them():
    background, woken, runs = Background(), [], []
    gate = asyncio.Event()

    async def work(job):
        runs.append(1)
        job.tell("half")
        await gate.wait()
        return 42

    job = background.start("k", "doing", work, lambda: woken.append("a"))
    assert background.start("k", "doing", work, lambda: woken.append("b")) is job
    await asyncio.sleep(0)
    assert job.message == "doing: half"
    gate.set()
    assert await background.wait(job) == 42
    assert (runs, woken) == ([1], ["a", "b"])


async def test_a_job_that_failed_says_why_and_is_not_tried_again_at_once():
    background, runs = Background(), []

    async def work(job):
        runs.append(1)
        raise Unavailable("the mirror is down")

    job = background.start("k", "fetching", work)
    with pytest.raises(Unavailable, match="the mirror is down"):
        await background.wait(job)
    assert background.start("k", "fetching", work) is job
    background.forget("k")
    again = background.start("k", "fetching", work)
    with pytest.raises(Unavailable):
        await background.wait(again)
    assert len(runs) == 2
