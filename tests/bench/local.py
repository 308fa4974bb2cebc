"""From `kubectl apply` to a client that has written and read, beside the raw engine started by hand in the same run.

    python tests/bench/local.py [--runs 5] [--data-dir DIR]

Prints, for Valkey, NATS, HAProxy and PostgreSQL, the median of both in milliseconds and the difference, which is what
Chandlery adds. Then the whole of `chandlery up` with four kinds, and what operator and control plane need when idle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import nats

from chandlery.app import manifests
from chandlery.app.show import binding
from chandlery.app.up import connect
from chandlery.providers.local.engines import Engines
from chandlery.providers.local.ports import DEFAULT_RANGE, Ports
from chandlery_kinds.cache.resp import RespClient

BIN = Path(sys.executable).parent
PORTS = Ports(lambda: (), (DEFAULT_RANGE[1] - 3000, DEFAULT_RANGE[1]))
LIMITS = {"Cache": 150, "Queue": 150, "LoadBalancer": 150, "Database": 300}


async def until(check: Callable[[], Awaitable[Any]], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await check()
        except Exception:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.002)


# -- what a client does


async def use_cache(host: str, port: int, password: str) -> None:
    async with await RespClient.connect(host, port, password=password) as client:
        await client.command("SET", "bench", "1")
        assert await client.command("GET", "bench") == "1"


async def use_queue(uri: str) -> None:
    async def quiet(_: Exception) -> None:
        return None

    connection = await nats.connect(uri, allow_reconnect=False, connect_timeout=1, error_cb=quiet)
    await connection.flush()
    await connection.close()


async def use_database(uri: str) -> None:
    connection = await asyncpg.connect(uri, timeout=1)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS bench (n int); INSERT INTO bench VALUES (1)")
        assert await connection.fetchval("SELECT count(*) FROM bench")
    finally:
        await connection.close()


async def use_balancer(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.")
    writer.close()


# -- the raw engines


def raw(engines: Engines, kind: str, home: Path) -> tuple[list[str], Callable[[], Awaitable[None]]]:
    """The command that starts an engine, and the use that shows it is there."""
    port = PORTS.choose()
    match kind:
        case "Cache":
            (home / "v.conf").write_text(f"bind 127.0.0.1\nport {port}\nrequirepass secret\ndir {home}\nsave ''\n")
            return [str(engines.find("valkey").binary), str(home / "v.conf")], lambda: use_cache(
                "127.0.0.1", port, "secret"
            )
        case "Queue":
            config = {"listen": f"127.0.0.1:{port}", "jetstream": {"store_dir": str(home)}}
            (home / "n.conf").write_text(json.dumps(config | {"authorization": {"user": "a", "password": "secret"}}))
            uri = f"nats://a:secret@127.0.0.1:{port}"
            return [str(engines.find("nats").binary), "-c", str(home / "n.conf")], lambda: use_queue(uri)
        case "LoadBalancer":
            text = (
                "defaults\n mode http\n timeout client 5s\n timeout connect 5s\n timeout server 5s\n"
                f"frontend web\n bind 127.0.0.1:{port}\n default_backend app\nbackend app\n server a 127.0.0.1:9 \n"
            )
            (home / "h.cfg").write_text(text)
            argv = [str(engines.find("haproxy").binary), "-W", "-db", "-f", str(home / "h.cfg")]
            return argv, lambda: use_balancer("127.0.0.1", port)
    engine = engines.find("postgres")
    (home / "pw").write_text("secret")
    initdb = f"{engine.tool('initdb')} -D {home}/data -U app --pwfile={home}/pw -A scram-sha-256 --locale=C -N"
    start = f"exec {engine.binary} -D {home}/data -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
    argv = ["/bin/sh", "-c", f"{initdb} >/dev/null && {start}"]
    if os.geteuid() == 0:
        argv = ["unshare", "-U", "--map-user=1000", "--map-group=1000", "--", *argv]
    return argv, lambda: use_database(f"postgresql://app:secret@127.0.0.1:{port}/postgres")


async def time_raw(engines: Engines, kind: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        argv, use = raw(engines, kind, Path(folder))
        began = time.monotonic()
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await until(use)
            return time.monotonic() - began
        finally:
            process.terminate()
            process.wait(30)


# -- Chandlery


SPECS: dict[str, dict[str, Any]] = {
    "Cache": {"memory": "64Mi"},
    "Database": {},
    "Queue": {"storage": {"size": "64Mi"}},
    "LoadBalancer": {
        "pools": [{"name": "app", "targets": [{"name": "a", "address": "127.0.0.1", "port": 9}]}],
    },
}


async def time_ours(api: Any, kind: str, number: int) -> float:
    where = next(t for t in manifests.our_types() if t.kind == kind)
    spec = dict(SPECS[kind])
    if kind == "LoadBalancer":
        spec["listeners"] = [{"name": "web", "port": PORTS.choose(), "protocol": "HTTP", "pool": "app"}]
    body = {
        "apiVersion": where.api_version,
        "kind": kind,
        "metadata": {"name": f"bench-{number}", "namespace": "default"},
        "spec": spec,
    }
    began = time.monotonic()
    await api.create(where, body)

    async def used() -> None:
        obj = await api.get(where, "default", body["metadata"]["name"])
        assert next(c for c in obj["status"]["conditions"] if c["type"] == "Ready")["status"] == "True"
        entries = await binding(api, obj)
        match kind:
            case "Cache":
                await use_cache(entries["host"], int(entries["port"]), entries["password"])
            case "Queue":
                await use_queue(entries["uri"])
            case "Database":
                await use_database(entries["uri"])
            case _:
                await use_balancer(entries["host"], int(entries["port"]))

    await until(used)
    took = time.monotonic() - began
    await api.delete(where, "default", body["metadata"]["name"])
    return took


def idle(home: Path, seconds: float = 10.0) -> tuple[float, float]:
    """MiB of memory and percent of one core of operator and control plane together."""
    children = json.loads((home / "run" / "keeper.json").read_text())["children"]
    pids = [children[name]["pid"] for name in ("controlplane", "operator")]

    def ticks() -> int:
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
        return sum(int(f[11]) + int(f[12]) for f in fields)

    before = ticks()
    time.sleep(seconds)
    used = (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds * 100
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, used


async def compare(home: Path, runs: int) -> None:
    engines = Engines(home / "engines")
    api = connect(home / "kubeconfig")
    try:
        print(f"{'kind':14}{'raw ms':>10}{'ours ms':>10}{'added ms':>10}{'allowed':>10}")
        for kind, allowed in LIMITS.items():
            mine, theirs = [], []
            for number in range(runs):
                theirs.append(await time_raw(engines, kind) * 1000)
                mine.append(await time_ours(api, kind, number) * 1000)
            a, b = statistics.median(theirs), statistics.median(mine)
            print(f"{kind:14}{a:10.0f}{b:10.0f}{b - a:10.0f}{allowed:10}")
    finally:
        await api.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data-dir", type=Path, help="default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = options.data_dir or Path(folder) / "d"
        command = [str(BIN / "chandlery"), "up", "--detach", "--data-dir", str(home), "--quiet"]
        quickstart = Path(__file__).parents[2] / "docs" / "quickstart"
        for name in ("cache", "database", "queue"):
            command += ["--apply", str(quickstart / f"{name}.yaml")]
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"chandlery up, cold data directory, three kinds Ready: {time.monotonic() - began:.2f} s (allowed: 3 s)")
        try:
            memory, cpu = idle(home)
            print(f"idle: {memory:.0f} MiB (allowed: 160), {cpu:.1f} % of one core (allowed: 2)")
            asyncio.run(compare(home, options.runs))
        finally:
            subprocess.run([str(BIN / "chandlery"), "down", "--data-dir", str(home), "--quiet"], check=True)


if __name__ == "__main__":
    main()
