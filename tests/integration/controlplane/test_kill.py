"""Killed with SIGKILL in the middle of writes, again and again: what was acknowledged is there, nothing else was shown.

`CHANDLERY_KILLS` sets how often (the full test is 200).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("CHANDLERY_KILLS", "4"))
CMS = "/api/v1/namespaces/default/configmaps"
WRITERS = 8

_spec = importlib.util.spec_from_file_location(
    "bench_controlplane", Path(__file__).parents[2] / "bench" / "controlplane.py"
)
assert _spec is not None
assert _spec.loader is not None
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)


async def start(folder: Path) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chandlery.controlplane", "--data-dir", str(folder),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    if not line.startswith(b"ready"):
        raise AssertionError((await process.stderr.read()).decode())
    return process


class Progress:
    """Counts what all writers had acknowledged and what the watch showed; wakes whoever waits for more."""

    def __init__(self) -> None:
        self.writes = 0
        self.events = 0
        self._more = asyncio.Event()

    def wrote(self) -> None:
        self.writes += 1
        self._more.set()

    def saw(self) -> None:
        self.events += 1
        self._more.set()

    async def reach(self, writes: int, events: int) -> None:
        async with asyncio.timeout(60):
            while self.writes < writes or self.events < events:
                self._more.clear()
                await self._more.wait()


class Writer:
    """Creates, updates and deletes objects of its own; remembers what was acknowledged and what is in doubt."""

    def __init__(self, number: int, progress: Progress) -> None:
        self.number = number
        self.progress = progress
        self.acknowledged: dict[str, tuple[int, str]] = {}
        """Name -> (revision, value)."""
        self.deleted: set[str] = set()
        self.doubtful: set[str] = set()
        """Names whose last request got no answer."""
        self.count = 0

    async def write(self, target: Any, rng: random.Random) -> None:
        connection = await bench.Connection(target).open()
        try:
            await self._write(connection, rng)
        finally:
            connection.close()

    async def _write(self, connection: Any, rng: random.Random) -> None:
        while True:
            self.count += 1
            value = str(self.count)
            known = sorted(self.acknowledged.keys() - self.doubtful)
            choice = rng.random()
            if known and choice < 0.5:
                name = rng.choice(known)
                request = ("PATCH", f"{CMS}/{name}", {"data": {"v": value}}, "application/merge-patch+json")
            elif known and choice < 0.6:
                name = rng.choice(known)
                request = ("DELETE", f"{CMS}/{name}", None, "application/json")
            else:
                name = f"w{self.number}-{self.count}"
                request = ("POST", CMS, {"metadata": {"name": name}, "data": {"v": value}}, "application/json")
            self.doubtful.add(name)
            status, body = await connection.ask(*request)
            assert status in (200, 201), body
            self.doubtful.discard(name)
            if request[0] == "DELETE":
                del self.acknowledged[name]
                self.deleted.add(name)
            else:
                obj = json.loads(body)
                self.acknowledged[name] = (int(obj["metadata"]["resourceVersion"]), value)
            self.progress.wrote()


async def watch(target: Any, seen: list[tuple[str, str, int, str]], progress: Progress) -> None:
    connection = await bench.Connection(target).open()
    connection.send("GET", f"{CMS}?watch=true")
    try:
        async for line in connection.lines():
            event = json.loads(line)
            meta = event["object"]["metadata"]
            if meta["name"].startswith("w"):
                seen.append((event["type"], meta["name"], int(meta["resourceVersion"]), event["object"]["data"]["v"]))
                progress.saw()
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_nothing_acknowledged_is_lost_and_nothing_unstored_is_shown(tmp_path):
    rng = random.Random(5)
    progress = Progress()
    writers = [Writer(number, progress) for number in range(WRITERS)]
    folder = tmp_path / "data"
    process = await start(folder)
    target = bench.Target(folder / "kubeconfig")
    for _ in range(KILLS):
        seen: list[tuple[str, str, int, str]] = []
        tasks = [asyncio.create_task(writer.write(target, rng)) for writer in writers]
        tasks.append(asyncio.create_task(watch(target, seen, progress)))
        # After so many more acknowledged writes, whatever the machine needs for them; all writers are under way then.
        await progress.reach(progress.writes + rng.randint(20, 200), progress.events + 10)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        broken = [r for r in results if isinstance(r, AssertionError)]
        assert not broken

        process = await start(folder)
        target = bench.Target(folder / "kubeconfig")
        connection = await bench.Connection(target).open()
        status, body = await connection.ask("GET", CMS)
        connection.close()
        assert status == 200
        stored = {
            item["metadata"]["name"]: (int(item["metadata"]["resourceVersion"]), item["data"]["v"])
            for item in json.loads(body)["items"]
            if item["metadata"]["name"].startswith("w")
        }
        for writer in writers:
            for name, known in writer.acknowledged.items():
                if name in writer.doubtful:
                    # The last request was cut off: it may have happened or not, but nothing older may come back.
                    assert name not in stored or stored[name][0] >= known[0]
                else:
                    assert stored.get(name) == known, f"{name} was acknowledged as {known}"
            for name in writer.deleted:
                assert name not in stored, f"{name} was deleted, and came back"
            for name in writer.doubtful:
                if name in stored:
                    writer.acknowledged[name] = stored[name]
                else:
                    writer.acknowledged.pop(name, None)
            writer.doubtful.clear()
        newest: dict[str, tuple[str, int, str]] = {}
        for kind, name, revision, value in seen:
            newest[name] = (kind, revision, value)
        for name, (kind, revision, value) in newest.items():
            if kind == "DELETED":
                assert name not in stored, f"a watch showed {name} as deleted, but it is there"
            elif name in stored:
                assert stored[name][0] >= revision, f"a watch showed {name} at {revision}, newer than what is stored"
                if stored[name][0] == revision:
                    assert stored[name][1] == value
    assert progress.writes >= KILLS * 20
    assert progress.events >= KILLS * 10
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 30) == 0
