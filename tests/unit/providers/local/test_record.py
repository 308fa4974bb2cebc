"""An instance's record: written once for what belongs together, and before anything relies on it."""

import json
import sys

import pytest

from chandlery.foundation.errors import QuotaExceeded
from chandlery.providers.local import LocalProvider, ProcessSpec, instance
from chandlery.providers.local.tools import run_tool


@pytest.fixture
def made(tmp_path, monkeypatch):
    written = []
    real = instance.write_atomic

    def count(path, *args, **more):
        written.append(path.name)
        return real(path, *args, **more)

    monkeypatch.setattr(instance, "write_atomic", count)
    provider = LocalProvider(tmp_path / "data")
    found = provider.instance("cache-1")
    found.create(kind="Cache", namespace="default", name="a", uid="1")
    written.clear()
    return found, written


def on_disk(found):
    return json.loads((found.root / "record.json").read_text())


def test_what_belongs_together_is_written_once(made):
    found, written = made
    with found.at_once():
        password, port = found.secret("admin"), found.port("client")
        assert written == []
    assert written == ["record.json"]
    assert (on_disk(found)["secrets"], on_disk(found)["ports"]) == ({"admin": password}, {"client": port})


def test_what_was_done_before_a_problem_is_written(made):
    found, _ = made

    def halfway():
        with found.at_once():
            found.secret("admin")
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        halfway()
    assert on_disk(found)["secrets"] == found.record["secrets"]


def test_reading_again_loses_nothing_that_waits(made):
    found, _ = made
    with found.at_once():
        password = found.secret("admin")
        found.reload()
        assert found.secret("admin") == password


async def test_a_process_finds_the_record_written(made):
    """It may be the last thing that this operator does: the next one must know the password that the engine has."""
    found, _ = made
    look = f"import json; print(json.load(open({str(found.root / 'record.json')!r}))['secrets'], flush=True)"
    with found.at_once():
        password = found.secret("admin")
        process = found.process("main")
        await process.start(ProcessSpec([sys.executable, "-c", look]))
        assert on_disk(found)["secrets"] == {"admin": password}
    await process.stop()


async def test_a_tool_finds_the_record_written(made):
    """initdb puts a password into data that stay, whatever becomes of the operator that has made it up."""
    found, _ = made
    with found.at_once():
        password = found.secret("admin")
        done = await run_tool(found, ["/bin/cat", str(found.root / "record.json")])
        assert json.loads(done.output)["secrets"] == {"admin": password}


@pytest.mark.parametrize("words", ["No space left on device", "Disk quota exceeded"])
async def test_a_tool_without_room_is_told_as_that(made, words):
    found, _ = made
    with pytest.raises(QuotaExceeded, match="no room left on the disk while running sh"):
        await run_tool(found, ["/bin/sh", "-c", f"echo 'could not write file: {words}' >&2; exit 1"])


async def test_nothing_comes_back_of_an_instance_that_was_removed_meanwhile(made):
    found, _ = made
    with found.at_once():
        found.secret("admin")
        await found.remove()
    assert not found.root.exists()
