"""Many objects on one machine: all come up, none fails on the way, and all go again.

    python tests/bench/many.py [--caches 200] [--databases 50] [--minutes 15]

Applies all at once to a fresh `chandlery up`, waits until each is Ready, has a client use each, kills the operator and
sees that no engine was disturbed, deletes all, and looks for what was left. Conditions that speak of a failure on the
way are printed. Ends with code 1 when something wasn't as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg

from chandlery.app import manifests
from chandlery.app.show import binding
from chandlery.app.up import condition, connect, is_ready
from chandlery.providers.local import pids
from chandlery.providers.local.process import MARK
from chandlery_kinds.cache.resp import RespClient

BIN = Path(sys.executable).parent
USUAL = {
    "",
    "Settled",
    "Starting",
    "Progressing",
    "Replicating",
    "Creating",
    "Configuring",
    "Reconciling",
    "Available",
    "InstallingEngine",
}


class Many:
    def __init__(self, home: Path, wanted: dict[str, int], seconds: float) -> None:
        self.home = home
        self.wanted = wanted
        self.deadline = time.monotonic() + seconds
        self.problems: Counter[str] = Counter()
        self.api = connect(home / "kubeconfig")

    async def apply(self) -> None:
        limit = asyncio.Semaphore(16)

        async def one(kind: str, number: int) -> None:
            where = next(t for t in manifests.our_types() if t.kind == kind)
            spec: dict[str, Any] = {"memory": "16Mi"} if kind == "Cache" else {}
            meta = {"name": f"{kind.lower()}-{number}", "namespace": "default"}
            body = {"apiVersion": where.api_version, "kind": kind, "metadata": meta, "spec": spec}
            async with limit:
                await self.api.create(where, body)

        await asyncio.gather(*(one(kind, n) for kind, count in self.wanted.items() for n in range(count)))

    async def objects(self) -> list[dict[str, Any]]:
        found = []
        for where in manifests.our_types():
            for obj in (await self.api.list(where)).items:
                found.append({**obj, "kind": where.kind})
        return found

    async def ready(self) -> list[dict[str, Any]]:
        said = 0
        while True:
            objects = await self.objects()
            done = [obj for obj in objects if is_ready(obj)]
            for obj in objects:
                for kind in ("Ready", "Stalled", "Reconciling"):
                    found = condition(obj, kind)
                    if found.get("reason", "") not in USUAL and (found["status"] == "True") == (kind == "Stalled"):
                        self.problems[f"{obj['kind']}: {found['reason']}: {found.get('message', '')[:200]}"] += 1
            if len(done) == sum(self.wanted.values()):
                return objects
            if time.monotonic() > self.deadline:
                left = [o["metadata"]["name"] for o in objects if not is_ready(o)]
                raise SystemExit(f"not ready in time: {len(left)} of {len(objects)}, as {left[:5]}; {self.problems}")
            if len(done) - said >= 50:
                said = len(done)
                print(f"  {said} Ready", flush=True)
            await asyncio.sleep(0.5)

    async def use(self, objects: list[dict[str, Any]]) -> None:
        limit = asyncio.Semaphore(8)

        async def one(obj: dict[str, Any]) -> None:
            async with limit:
                entries = await binding(self.api, obj)
                if obj["kind"] == "Cache":
                    client = await RespClient.connect(
                        entries["host"], int(entries["port"]), password=entries["password"]
                    )
                    async with client:
                        await client.command("SET", "many", obj["metadata"]["name"])
                        assert await client.command("GET", "many") == obj["metadata"]["name"]
                    return
                connection = await asyncpg.connect(entries["uri"], timeout=30)
                try:
                    await connection.execute("CREATE TABLE IF NOT EXISTS many (n int)")
                    assert await connection.fetchval("SELECT count(*) FROM many") == 0
                finally:
                    await connection.close()

        await asyncio.gather(*(one(obj) for obj in objects))

    async def delete(self) -> None:
        limit = asyncio.Semaphore(16)
        where = {t.kind: t for t in manifests.our_types()}

        async def one(obj: dict[str, Any]) -> None:
            async with limit:
                await self.api.delete(where[obj["kind"]], "default", obj["metadata"]["name"])

        await asyncio.gather(*(one(obj) for obj in await self.objects()))
        while left := await self.objects():
            if time.monotonic() > self.deadline:
                raise SystemExit(f"{len(left)} objects are not gone")
            await asyncio.sleep(0.5)

    def kept(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.home / "run" / "keeper.json").read_text())["children"]
        return state

    def engines(self) -> dict[int, str]:
        found = {}
        for pid in pids.all_pids():
            env = pids.environ(pid)
            if env.get("HOME", "").startswith(str(self.home)) and MARK in env and os.getsid(pid) == pid:
                found[pid] = env[MARK]
        return found

    def memory(self) -> str:
        return ", ".join(f"{name} {_rss(child['pid']):.0f} MiB" for name, child in self.kept().items())


def _rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def run(home: Path, wanted: dict[str, int], seconds: float) -> int:
    many = Many(home, wanted, seconds)
    began = time.monotonic()
    await many.apply()
    print(f"{sum(wanted.values())} objects applied after {time.monotonic() - began:.1f} s", flush=True)
    objects = await many.ready()
    print(f"all Ready after {time.monotonic() - began:.1f} s; {many.memory()}", flush=True)
    await many.use(objects)
    before = many.engines()
    print(f"each served a client; {len(before)} engine processes", flush=True)
    os.kill(many.kept()["operator"]["pid"], signal.SIGKILL)
    await asyncio.sleep(1)
    await many.ready()
    while many.kept()["operator"]["pid"] is None:
        await asyncio.sleep(0.1)
    await asyncio.sleep(10)
    disturbed = set(before) ^ set(many.engines())
    print(f"operator killed: {len(disturbed)} engines disturbed; {many.memory()}", flush=True)
    restarts = {name: child["restarts"] for name, child in many.kept().items()}
    began = time.monotonic()
    await many.delete()
    print(f"all gone after {time.monotonic() - began:.1f} s", flush=True)
    left = [*many.engines().values(), *(path.name for path in (home / "instances").iterdir())]
    await many.api.close()
    for problem, count in many.problems.most_common(10):
        print(f"seen {count} times: {problem}")
    print(f"left behind: {len(left)} {left[:5]}; restarts: {restarts}")
    return 1 if left or disturbed or restarts != {"controlplane": 0, "operator": 1} or many.problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caches", type=int, default=200)
    parser.add_argument("--databases", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=15.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "d"
        chandlery = [str(BIN / "chandlery")]
        where = ["--data-dir", str(home), "--quiet"]
        subprocess.run([*chandlery, "up", "--detach", *where], check=True, stdout=subprocess.DEVNULL)
        try:
            wanted = {"Cache": options.caches, "Database": options.databases}
            return asyncio.run(run(home, wanted, options.minutes * 60))
        finally:
            subprocess.run([*chandlery, "down", *where], check=True)


if __name__ == "__main__":
    sys.exit(main())
