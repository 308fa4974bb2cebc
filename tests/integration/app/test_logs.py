"""`chandlery logs -f`: every line once, in order, while the logs are cut."""

import asyncio
import os

import pytest

from chandlery.app.home import Home
from chandlery.app.logs import show_logs
from chandlery.foundation import logfiles
from chandlery.foundation.errors import NotFound

OBJECT = {"kind": "Cache", "metadata": {"name": "demo", "uid": "u-1"}, "status": {"externalName": "cache-u-1"}}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "instances" / "cache-u-1" / "log"
    made.mkdir(parents=True)
    return made


async def test_the_logs_are_followed_across_cuts_and_new_ones_join(tmp_path, folder, capsys):
    first = os.open(folder / "node-0.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(200):
        os.write(first, f"early {number}\n".encode())
    task = asyncio.create_task(show_logs(Home(tmp_path), OBJECT, follow=True, lines=10))
    said = ""

    async def read_until(words):
        nonlocal said
        async with asyncio.timeout(30):
            while words not in said:
                said += capsys.readouterr().out
                await asyncio.sleep(0.02)

    await read_until("early 199\n")
    assert said.count("\n") == 10
    for number in range(2000):
        os.write(first, f"later {number}\n".encode())
        if number % 700 == 0:
            logfiles.rotate(folder / "node-0.log", 4096)
    await read_until("later 1999\n")
    (folder / "node-1.log").write_text("a second server\n")
    await read_until("node-1: a second server\n")
    os.write(first, b"the last one\n")
    await read_until("node-0: the last one\n")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    os.close(first)
    lines = [line for line in said.splitlines() if line.startswith("later")]
    assert lines == [f"later {number}" for number in range(2000)]


async def test_an_object_without_logs_here_is_named(tmp_path):
    with pytest.raises(NotFound, match="no logs of cache/demo are on this machine"):
        await show_logs(Home(tmp_path), OBJECT, follow=False, lines=10)
