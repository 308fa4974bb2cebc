"""What goes into a guest: archives, the order of modules, the seed."""

import io
import json
import subprocess
import sys

import pycdlib
import pytest
import yaml

from chandlery.foundation.errors import EngineFailed
from chandlery_kinds.virtualmachine.drivers import local_disks
from chandlery_kinds.virtualmachine.guest import modules
from chandlery_kinds.virtualmachine.guest.cpio import Archive
from chandlery_kinds.virtualmachine.guest.seed import Seed, contents, iso


def entries(data):
    """Reads a newc archive as the kernel does: (name, mode, content) of each entry."""
    found, at = [], 0
    while True:
        assert data[at : at + 6] == b"070701"
        numbers = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = numbers[6], numbers[11]
        start = at + 110
        name = data[start : start + name_size - 1].decode()
        body = start + name_size + -(start + name_size - at) % 4
        if name == "TRAILER!!!":
            return found
        found.append((name, numbers, data[body : body + size]))
        at = body + size + -size % 4


def test_an_archive_reads_back_with_folders_before_what_is_in_them():
    archive = Archive()
    archive.file("a/b/c.txt", b"hello", 0o755)
    archive.link("a/link", "b/c.txt")
    archive.device("dev/console", 5, 1)
    found = entries(archive.finish())
    assert [name for name, _, _ in found] == ["a", "a/b", "a/b/c.txt", "a/link", "dev", "dev/console"]
    by_name = {name: (numbers, content) for name, numbers, content in found}
    assert by_name["a/b/c.txt"][1] == b"hello"
    assert by_name["a/b/c.txt"][0][1] == 0o100755
    assert by_name["a/link"][1] == b"b/c.txt"
    assert by_name["dev/console"][0][1] == 0o020600
    assert by_name["dev/console"][0][9:11] == [5, 1]


def test_the_same_content_makes_the_same_archive():
    def make():
        archive = Archive()
        archive.file("x", b"1")
        return archive.finish()

    assert make() == make()


def module(path, name, depends=""):
    path.mkdir(exist_ok=True)
    (path / f"{name}.ko").write_bytes(b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0")


def test_modules_come_after_what_they_need_whatever_way_names_are_written(tmp_path):
    module(tmp_path, "net", "failover,virtio-ring")
    module(tmp_path, "failover")
    module(tmp_path, "virtio", "virtio_ring")
    module(tmp_path, "virtio_ring")
    order = list(modules.in_order(["net", "virtio", "built-in"], modules.find(tmp_path)))
    assert order == ["failover", "virtio_ring", "net", "virtio"]


def test_a_seed_says_who_the_guest_is():
    files = contents(
        Seed(
            "id-1",
            "web",
            "#!/bin/sh\ntrue\n",
            ["ssh-ed25519 AAAA me: you"],
            "52:54:00:00:00:01",
            nameservers=["1.1.1.1"],
        )
    )
    meta = yaml.safe_load(files["meta-data"])
    assert meta == {"instance-id": "id-1", "local-hostname": "web", "public-keys": ["ssh-ed25519 AAAA me: you"]}
    network = yaml.safe_load(files["network-config"])
    assert network["ethernets"]["nic0"] == {
        "match": {"macaddress": "52:54:00:00:00:01"},
        "dhcp4": True,
        "nameservers": {"addresses": ["1.1.1.1"]},
    }
    fixed = contents(Seed("id-1", "web", mac="52:54:00:00:00:01", address="192.0.2.9/24", gateway="192.0.2.1"))
    nic = yaml.safe_load(fixed["network-config"])["ethernets"]["nic0"]
    assert nic["addresses"] == ["192.0.2.9/24"]
    assert nic["routes"] == [{"to": "default", "via": "192.0.2.1"}]


def test_the_seed_is_a_cd_with_the_label_that_cloud_init_looks_for():
    files = contents(Seed("id-1", "web", "#!/bin/sh\necho hello\n"))
    disc = pycdlib.PyCdlib()
    disc.open_fp(io.BytesIO(iso(files)))
    assert disc.pvd.volume_identifier.decode().strip() == "cidata"
    for name, content in files.items():
        out = io.BytesIO()
        disc.get_file_from_iso_fp(out, rr_path=f"/{name}")
        assert out.getvalue().decode() == content
    disc.close()


def test_the_package_that_makes_cds_stays_out_of_the_operator():
    program = """
import asyncio, json, sys
from chandlery_kinds.virtualmachine.drivers.local_disks import iso_apart
made = asyncio.run(iso_apart(json.load(sys.stdin)))
assert not [name for name in sys.modules if name.partition(".")[0] == "pycdlib"]
sys.stdout.buffer.write(made)
"""
    files = contents(Seed("id-1", "web", "#!/bin/sh\necho h\u00e9llo\n"))
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(files).encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    disc = pycdlib.PyCdlib()
    disc.open_fp(io.BytesIO(done.stdout))
    out = io.BytesIO()
    disc.get_file_from_iso_fp(out, rr_path="/user-data")
    assert out.getvalue().decode() == files["user-data"]
    disc.close()


async def test_a_cd_that_is_not_made_is_told_of(monkeypatch, tmp_path):
    broken = tmp_path / "seed.py"
    broken.write_text("raise SystemExit('no room for it')")
    monkeypatch.setattr(local_disks.seed, "__file__", str(broken))
    with pytest.raises(EngineFailed, match="the seed's CD was not made: no room for it"):
        await local_disks.iso_apart({"user-data": "x"})


def test_the_guests_first_process_is_a_valid_script():
    from importlib.resources import files

    script = files("chandlery_kinds.virtualmachine.guest").joinpath("init.sh").read_bytes()
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("name", ["meta-data", "user-data", "network-config"])
def test_every_file_of_a_seed_is_there_even_when_nothing_was_asked_for(name):
    assert contents(Seed("id", "host"))[name]
