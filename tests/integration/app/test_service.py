"""The systemd unit: what systemd itself says of it, and its commands run as systemd would."""

import configparser
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from local_harness import shared_cache

from chandlery.app import keeping, service
from chandlery.app.home import Home
from chandlery.app.up import UpOptions, processes
from chandlery.foundation.errors import AlreadyExists, NotFound


def parsed(text):
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read_string(text)
    return parser


def command(text, key):
    """The words of a command line, with systemd's own escapes undone."""
    return [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(parsed(text)["Service"][key])]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the unit goes in this test."""
    monkeypatch.setattr(service, "unit_path", lambda: tmp_path / "units" / service.UNIT)
    return tmp_path / "units" / service.UNIT


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("name", ["plain", "with space", "with%percent and $dollar"])
def test_systemd_has_no_objection(tmp_path, name):
    options = UpOptions(data_dir=tmp_path / name, apply=[tmp_path / "some manifests"])
    path = tmp_path / service.UNIT
    path.write_text(service.unit(options))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    later = "Unknown key 'DelegateSubgroup'"  # by versions before 254, which go on without it
    objections = [line for line in done.stderr.splitlines() if "chandlery" in line and later not in line]
    if done.returncode != 0 and not objections:
        pytest.skip(f"systemd-analyze can't work here: {done.stderr.strip()}")
    assert objections == []
    assert command(service.unit(options), "ExecStart")[-2] == str(tmp_path / name / "run")


@pytest.mark.engine
@pytest.mark.timeout(180)
def test_the_units_commands_start_and_stop_it_all(tmp_path):
    home = Home(tmp_path / "a b")
    options = UpOptions(data_dir=home.root)
    text = service.unit(options)
    keeping.make_directories(home)
    keeping.write_spec(home, processes(options, home))
    section = text.splitlines()
    given = [shlex.split(line.removeprefix("Environment="))[0] for line in section if line.startswith("Environment=")]
    env = {**os.environ, **dict(line.split("=", 1) for line in given)}
    env["CHANDLERY_LOCAL_CACHE_DIR"] = str(shared_cache())
    keeper = subprocess.Popen(command(text, "ExecStart"), env=env)
    try:
        subprocess.run(command(text, "ExecStartPost"), env=env, check=True, timeout=120)
        assert home.kubeconfig.exists()
        assert keeping.is_kept(home)
        subprocess.run(command(text, "ExecStop"), env=env, check=True, timeout=120)
        assert keeper.wait(60) == 0
    finally:
        keeper.kill()
        keeper.wait(60)
    deadline = time.monotonic() + 30
    while keeping.is_kept(home):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_installed_without_a_start_and_removed(tmp_path, place):
    options = UpOptions(data_dir=tmp_path / "d")
    notes = service.install(options, start=False)
    assert f"{place} is written" in notes
    assert place.read_text() == service.unit(options)
    assert (tmp_path / "d/run/keeper-spec.json").stat().st_mode & 0o777 == 0o600
    service.install(options, start=False)
    with pytest.raises(AlreadyExists, match="is for another data directory"):
        service.install(UpOptions(data_dir=tmp_path / "other"), start=False)


def test_what_is_not_there_can_not_be_removed(place):
    with pytest.raises(NotFound, match="there is no"):
        service.uninstall()


def test_without_systemd_the_way_out_is_named(tmp_path, place):
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here")
    code = "from chandlery.app.entry import main; main()"
    argv = [sys.executable, "-c", code, "service", "install", "--data-dir", str(tmp_path / "d")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "chandlery up --detach" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "d").exists()
