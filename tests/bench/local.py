"""From `kubectl apply` to a client that has written and read, beside the raw engine started by hand in the same run.

    python tests/bench/local.py [--runs 5] [--data-dir DIR] [--kind KIND]... [--five] [--check]

Prints, for Valkey, NATS, HAProxy and PostgreSQL, the median of both in milliseconds and the difference, which is what
Chandlery adds. For PostgreSQL that can be less than nothing: new clusters are copied from a template, but for the
first, which is measured apart. Before that the whole of `chandlery up` with three kinds, and what operator and control
plane need when idle; with --five also what they need with all of the quickstart, whose machine takes a minute. Both
sides are asked every 2 ms whether the port is open, and only then by a client, which may have pauses of its own after a
refusal. With --check the exit code is 1 when a figure isn't kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import nats

from chandlery.app import manifests
from chandlery.app.show import binding
from chandlery.app.up import connect, is_ready
from chandlery.providers.local.engines import Engines
from chandlery.providers.local.ports import DEFAULT_RANGE, Ports
from chandlery.reconcile.api import Obj, ResourceType, WatchEvent
from chandlery.reconcile.client import HttpApi
from chandlery_kinds.cache.resp import RespClient

BIN = Path(sys.executable).parent
PORTS = Ports(lambda: (), (DEFAULT_RANGE[1] - 3000, DEFAULT_RANGE[1]))
LIMITS = {"Cache": 150, "Queue": 150, "LoadBalancer": 150, "Database": 300, "first Database": 300}
FIRST = "first "
MOST_SECONDS, MOST_MEMORY, MOST_CPU = 3.0, 160.0, 2.0
REST_SECONDS = 30.0
"""After which what starting took has been given back."""
PAGE = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"


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


async def listens(host: str, port: int) -> None:
    """Until something takes connections there."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()


async def serve_pages() -> tuple[asyncio.Server, int]:
    """What a load balancer has behind it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(PAGE)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, int(server.sockets[0].getsockname()[1])


async def use_cache(host: str, port: int, password: str) -> None:
    async with await RespClient.connect(host, port, password=password) as client:
        await client.command("SET", "bench", "1")
        assert await client.command("GET", "bench") == "1"


async def use_queue(uri: str, stream: str = "", subject: str = "bench", consumer: str = "bench") -> None:
    """Write a message and read it; without `stream` both are made first, as users of a raw server do."""

    async def quiet(_: Exception) -> None:
        return None

    where = urlsplit(uri)
    await listens(str(where.hostname), int(where.port or 0))  # a refused client waits two seconds before it says so
    connection = await nats.connect(uri, allow_reconnect=False, connect_timeout=1, error_cb=quiet)
    try:
        js = connection.jetstream(timeout=1)
        if not stream:
            stream = "bench"
            await js.add_stream(name=stream, subjects=[subject])
            await js.add_consumer(stream, durable_name=consumer)
        await js.publish(subject, b"1")
        reader = await js.pull_subscribe_bind(consumer, stream)
        (message,) = await reader.fetch(1, timeout=1)
        await message.ack()
        assert message.data == b"1"
    finally:
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
    try:
        assert (await reader.readline()).split()[1] == b"200"
    finally:
        writer.close()


# -- the raw engines


def raw(engines: Engines, kind: str, home: Path, backend: int) -> tuple[list[str], Callable[[], Awaitable[None]]]:
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
                f"frontend web\n bind 127.0.0.1:{port}\n default_backend app\n"
                f"backend app\n server a 127.0.0.1:{backend}\n"
            )
            (home / "h.cfg").write_text(text)
            argv = [str(engines.find("haproxy").binary), "-W", "-db", "-f", str(home / "h.cfg")]
            return argv, lambda: use_balancer("127.0.0.1", port)
    engine = engines.find("postgres")
    (home / "pw").write_text("secret")
    initdb = f"{engine.tool('initdb')} -D {home}/data -U app --pwfile={home}/pw -A scram-sha-256 --locale=C"
    start = f"exec {engine.binary} -D {home}/data -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
    argv = ["/bin/sh", "-c", f"{initdb} >/dev/null && {start}"]
    if os.geteuid() == 0:
        argv = ["unshare", "-U", "--map-user=1000", "--map-group=1000", "--", *argv]
    return argv, lambda: use_database(f"postgresql://app:secret@127.0.0.1:{port}/postgres")


async def time_raw(engines: Engines, kind: str, backend: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        argv, use = raw(engines, kind, Path(folder), backend)
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
}


async def ready(api: HttpApi, where: ResourceType, obj: Obj) -> Obj:
    """The object once it is Ready; its watch tells, as it tells `kubectl wait`."""
    version = obj["metadata"]["resourceVersion"]
    events = cast("AsyncGenerator[WatchEvent, None]", api.watch(where, "default", version=version, seconds=120))
    async with contextlib.aclosing(events):
        async for event in events:
            if event.object["metadata"].get("uid") == obj["metadata"]["uid"] and is_ready(event.object):
                return event.object
    raise SystemExit(f"{where.kind} was not Ready within two minutes")


async def time_ours(api: HttpApi, kind: str, number: int, backend: int) -> float:
    where = next(t for t in manifests.our_types() if t.kind == kind)
    spec = dict(SPECS.get(kind, {}))
    if kind == "LoadBalancer":
        spec["pools"] = [{"name": "app", "targets": [{"name": "a", "address": "127.0.0.1", "port": backend}]}]
        spec["listeners"] = [{"name": "web", "port": PORTS.choose(), "protocol": "HTTP", "pool": "app"}]
    name = f"bench-{number}"
    body = {
        "apiVersion": where.api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }
    began = time.monotonic()
    obj = await ready(api, where, await api.create(where, body))

    async def used() -> None:
        entries = await binding(api, obj)
        match kind:
            case "Cache":
                await use_cache(entries["host"], int(entries["port"]), entries["password"])
            case "Queue":
                await use_queue(entries["uri"], entries["stream"], entries["subject"], entries["consumer"])
            case "Database":
                await use_database(entries["uri"])
            case _:
                await use_balancer(entries["host"], int(entries["port"]))

    await until(used)
    took = time.monotonic() - began
    await api.delete(where, "default", name)
    while await api.get(where, "default", name) is not None:
        await asyncio.sleep(0.02)
    return took


def idle(home: Path, seconds: float = 10.0) -> tuple[float, float, float]:
    """MB of memory (RSS; PSS, which counts shared pages once) and percent of one core, both processes together."""
    children = json.loads((home / "run" / "keeper.json").read_text())["children"]
    pids = [children[name]["pid"] for name in ("controlplane", "operator")]

    def ticks() -> int:
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
        return sum(int(f[11]) + int(f[12]) for f in fields)

    before = ticks()
    time.sleep(seconds)
    used = (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds * 100
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    shares = [Path(f"/proc/{pid}/smaps_rollup").read_text().split("Pss:")[1].split()[0] for pid in pids]
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, sum(map(int, shares)) * 1024 / 1e6, used


def up(home: Path, paths: list[Path]) -> float:
    """Seconds until what is there is Ready."""
    command = [str(BIN / "chandlery"), "up", "--detach", "--data-dir", str(home), "--quiet", "--timeout", "600"]
    began = time.monotonic()
    subprocess.run([*command, *(f"--apply={path}" for path in paths)], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def down(home: Path) -> None:
    subprocess.run([str(BIN / "chandlery"), "down", "--data-dir", str(home), "--quiet"], check=True)


def tell_idle(what: str, home: Path, settle: float = 0.0) -> list[str]:
    """Print what operator and control plane need, after `settle` seconds of rest; returns what is not kept."""
    time.sleep(settle)
    memory, share, cpu = idle(home)
    told = f"{memory:.0f} MB RSS, {share:.0f} MB PSS (allowed: {MOST_MEMORY:.0f})"
    print(f"{what}: {told}, {cpu:.1f} % of one core (allowed: {MOST_CPU:.0f})", flush=True)
    figures = {"memory": memory > MOST_MEMORY, "cpu": cpu > MOST_CPU}
    return [f"{name} of {what}" for name, wrong in figures.items() if wrong]


def five(quickstart: Path) -> list[str]:
    """All of the quickstart, new and started again; its balancer listens on a port that is free."""
    with tempfile.TemporaryDirectory() as folder:
        copy, home = Path(folder) / "quickstart", Path(folder) / "d"
        shutil.copytree(quickstart, copy)
        balancer = copy / "loadbalancer.yaml"
        balancer.write_text(balancer.read_text().replace("port: 18080", f"port: {PORTS.choose()}"))
        broken = []
        for what in ("five kinds idle", "five kinds idle, started again"):
            try:
                up(home, [copy])
                broken += tell_idle(what, home, REST_SECONDS)
            finally:
                down(home)
        return broken


async def compare(home: Path, runs: int, kinds: list[str]) -> list[str]:
    """Print both sides; returns what is not kept."""
    broken = []
    server, backend = await serve_pages()
    engines = Engines(home / "engines")
    api = connect(home / "kubeconfig")
    try:
        print(f"{'kind':14}{'raw ms':>10}{'ours ms':>10}{'added ms':>10}{'allowed':>10}")
        for kind, allowed in LIMITS.items():
            if kind not in kinds:
                continue
            mine, theirs = [], []
            for number in range(runs):
                theirs.append(await time_raw(engines, kind.removeprefix(FIRST), backend) * 1000)
                if kind.startswith(FIRST):  # nothing is left of what the ones before prepared for it
                    shutil.rmtree(home / "templates", ignore_errors=True)
                mine.append(await time_ours(api, kind.removeprefix(FIRST), number, backend) * 1000)
            a, b = statistics.median(theirs), statistics.median(mine)
            print(f"{kind:14}{a:10.0f}{b:10.0f}{b - a:10.0f}{allowed:10}", flush=True)
            if b - a > allowed:
                broken.append(kind)
    finally:
        server.close()
        await api.close()
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data-dir", type=Path, help="default: a temporary one")
    parser.add_argument("--kind", action="append", choices=list(LIMITS), help="only these")
    parser.add_argument("--five", action="store_true", help="also what all five kinds need when idle")
    parser.add_argument("--check", action="store_true", help="end with 1 when a figure isn't kept")
    options = parser.parse_args()
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        home = options.data_dir or Path(folder) / "d"
        quickstart = Path(__file__).parents[2] / "docs" / "quickstart"
        took = up(home, [quickstart / f"{name}.yaml" for name in ("cache", "database", "queue")])
        print(f"chandlery up, cold data directory, three kinds Ready: {took:.2f} s (allowed: {MOST_SECONDS:.0f} s)")
        broken += ["up"] if took > MOST_SECONDS else []
        try:
            broken += tell_idle("idle", home)
            broken += asyncio.run(compare(home, options.runs, options.kind or list(LIMITS)))
        finally:
            down(home)
    broken += five(quickstart) if options.five else []
    if broken:
        print(f"not kept: {', '.join(broken)}")
    return 1 if broken and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
