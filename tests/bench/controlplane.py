#!/usr/bin/env python3
"""Measure any Kubernetes API server, ours or another, by its kubeconfig.

usage: controlplane.py --kubeconfig FILE [--pid PID ...] [--objects 10000] [--seconds 3] [--json OUT] [--only NAME,...]
       controlplane.py --kubeconfig DIR/kubeconfig --start "chandlery controlplane --data-dir DIR"

Prints requests a second and latencies of get, create, patch, status patch and server-side apply (of ConfigMaps and of
a custom resource with a schema and two CEL rules), the time of a LIST of many objects, the latency from
a create to its watch event, latencies at 200 requests a second beside 100 open watches, and the resident memory of
`--pid`. With `--start` it starts the server itself, three times, and tells how long it takes until /readyz
answers. Everything is made in the namespace `bench` and deleted at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shlex
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NS = "bench"
_OBJECTS = (b"apiserver_storage_objects{", b"apiserver_resource_objects{")
GROUP = "bench.example"
CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"loads.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "Load", "plural": "loads"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["engine", "size"],
                                "x-kubernetes-validations": [
                                    {"rule": "self.replicas <= self.size", "message": "replicas may not exceed size"},
                                    {
                                        "rule": "self.engine == oldSelf.engine",
                                        "message": "engine is immutable",
                                    },
                                ],
                                "properties": {
                                    "engine": {"type": "string", "enum": ["a", "b"]},
                                    "size": {"type": "integer", "minimum": 1, "maximum": 1000},
                                    "replicas": {"type": "integer", "default": 1},
                                    "labels": {
                                        "type": "object",
                                        "maxProperties": 20,
                                        "additionalProperties": {"type": "string", "maxLength": 63},
                                    },
                                    "ports": {
                                        "type": "array",
                                        "maxItems": 10,
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": {
                                            "type": "object",
                                            "required": ["name"],
                                            "properties": {
                                                "name": {"type": "string"},
                                                "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                                            },
                                        },
                                    },
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {"phase": {"type": "string"}, "seen": {"type": "integer"}},
                            },
                        },
                    }
                },
            }
        ],
    },
}


def load(name: str, size: int = 5) -> dict[str, Any]:
    ports = [{"name": f"p{n}", "port": 8000 + n} for n in range(3)]
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Load",
        "metadata": {"name": name, "labels": {"app": "bench", "tier": "x"}, "annotations": {"note": "n" * 200}},
        "spec": {"engine": "a", "size": size, "labels": {"x": "y", "z": "w"}, "ports": ports},
    }


def config_map(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "data": {"key": "v" * 300},
    }


class Target:
    """Where the server is and how to speak to it."""

    def __init__(self, kubeconfig: Path) -> None:
        import yaml

        config = yaml.safe_load(kubeconfig.read_text())
        context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
        url = urlsplit(cluster["server"])
        self.host, self.port = url.hostname or "127.0.0.1", url.port or 443
        self.headers = f"Host: {self.host}:{self.port}\r\nUser-Agent: bench/1\r\nAccept: application/json\r\n"
        if user.get("token"):
            self.headers += f"Authorization: Bearer {user['token']}\r\n"
        self.tls = ssl.create_default_context(cadata=_data(cluster, "certificate-authority").decode())
        if "client-certificate-data" in user or "client-certificate" in user:
            with tempfile.NamedTemporaryFile("wb", suffix=".pem") as pem:
                pem.write(_data(user, "client-certificate") + b"\n" + _data(user, "client-key"))
                pem.flush()
                self.tls.load_cert_chain(pem.name)


def _data(source: dict[str, Any], name: str) -> bytes:
    if f"{name}-data" in source:
        return base64.b64decode(source[f"{name}-data"])
    return Path(source[name]).read_bytes()


class Connection:
    """One keep-alive connection; as lean as it can be, for the client must not be what is measured."""

    def __init__(self, target: Target) -> None:
        self.target = target

    async def open(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection(
            self.target.host, self.target.port, ssl=self.target.tls, limit=1 << 20
        )
        return self

    def close(self) -> None:
        self.writer.close()

    def send(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> None:
        head = f"{method} {path} HTTP/1.1\r\n{self.target.headers}"
        if body:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self.writer.write(head.encode() + b"\r\n" + body)

    async def receive(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        lower = head.lower()
        at = lower.find(b"content-length:")
        if at >= 0:
            size = int(lower[at + 15 : lower.index(b"\r\n", at)])
            return status, await self.reader.readexactly(size) if size else b""
        if b"transfer-encoding: chunked" not in lower:
            return status, b""
        parts: list[bytes] = []
        while True:
            size = int((await self.reader.readline()).strip() or b"0", 16)
            parts.append(await self.reader.readexactly(size + 2))
            if size == 0:
                return status, b"".join(part[:-2] for part in parts)

    async def ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(method, path, data, content_type)
        return await self.receive()

    async def lines(self) -> Any:
        """The lines of a chunked stream whose head is still to come."""
        await self.reader.readuntil(b"\r\n\r\n")
        rest = b""
        while True:
            size = int((await self.reader.readline()).strip() or b"0", 16)
            if size == 0:
                return
            rest += (await self.reader.readexactly(size + 2))[:-2]
            *lines, rest = rest.split(b"\n")
            for line in lines:
                yield line


Job = tuple[str, str, bytes, str]


def numbers(samples: list[float]) -> dict[str, float]:
    ordered = sorted(samples)
    return {
        "p50_ms": round(statistics.median(ordered) * 1e3, 3),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3, 3),
    }


PIDS: list[int] = []
"""The server's processes, for what a request costs them."""


def cpu_seconds() -> float:
    ticks = 0
    for pid in PIDS:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def throughput(target: Target, connections: int, seconds: float, jobs: Iterator[Job]) -> dict[str, float]:
    """Requests a second over some connections, each sending the next as soon as the last is answered."""
    opened = [await Connection(target).open() for _ in range(connections)]
    samples: list[float] = []
    failed: list[int] = []
    end = time.perf_counter() + seconds

    async def run(connection: Connection) -> None:
        while time.perf_counter() < end:
            method, path, body, kind = next(jobs)
            at = time.perf_counter()
            connection.send(method, path, body, kind)
            status, _ = await connection.receive()
            samples.append(time.perf_counter() - at)
            if status >= 400:
                failed.append(status)

    begin, cpu = time.perf_counter(), cpu_seconds()
    await asyncio.gather(*(run(connection) for connection in opened))
    took = time.perf_counter() - begin
    cpu = cpu_seconds() - cpu
    for connection in opened:
        connection.close()
    result = {"per_second": round(len(samples) / took), **numbers(samples)}
    if PIDS:
        result["cpu_us_each"] = round(cpu / len(samples) * 1e6)
    if failed:
        result["failed"] = len(failed)
    return result


async def prepare(target: Target) -> Connection:
    admin = await Connection(target).open()
    await admin.ask("POST", "/api/v1/namespaces", {"metadata": {"name": NS}})
    await admin.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
    for _ in range(200):
        status, _ = await admin.ask("GET", f"/apis/{GROUP}/v1/namespaces/{NS}/loads")
        if status == 200:
            return admin
        await asyncio.sleep(0.1)
    raise SystemExit("the custom resource is not served")


async def clean(target: Target) -> None:
    admin = await Connection(target).open()
    await admin.ask("DELETE", f"/api/v1/namespaces/{NS}/configmaps")
    await admin.ask("DELETE", f"/apis/{GROUP}/v1/namespaces/{NS}/loads")
    await admin.ask("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/loads.{GROUP}")
    await admin.ask("DELETE", f"/api/v1/namespaces/{NS}")
    for _ in range(300):
        status, _ = await admin.ask("GET", f"/api/v1/namespaces/{NS}")
        if status == 404:
            break
        await asyncio.sleep(0.1)
    admin.close()


CMS = f"/api/v1/namespaces/{NS}/configmaps"
LOADS = f"/apis/{GROUP}/v1/namespaces/{NS}/loads"
JSON, MERGE, APPLY = "application/json", "application/merge-patch+json", "application/apply-patch+yaml"


async def speeds(target: Target, seconds: float, wanted: Callable[[str], bool]) -> dict[str, Any]:
    admin = await prepare(target)
    found: dict[str, Any] = {}
    for n in range(64):
        await admin.ask("POST", CMS, config_map(f"fixed-{n}"))
        await admin.ask("POST", LOADS, load(f"fixed-{n}"))
    ids = count()

    def spread(method: str, make: Callable[[int], tuple[str, Any, str]]) -> Iterator[Job]:
        while True:
            path, body, kind = make(next(ids))
            yield method, path, b"" if body is None else json.dumps(body).encode(), kind

    cases: list[tuple[str, str, Callable[[int], tuple[str, Any, str]]]] = [
        ("get", "GET", lambda n: (f"{CMS}/fixed-{n % 64}", None, JSON)),
        ("create configmap", "POST", lambda n: (CMS, config_map(f"c-{n}"), JSON)),
        ("create custom", "POST", lambda n: (LOADS, load(f"l-{n}"), JSON)),
        ("patch custom", "PATCH", lambda n: (f"{LOADS}/fixed-{n % 64}", {"spec": {"size": 5 + n % 900}}, MERGE)),
        (
            "status patch custom",
            "PATCH",
            lambda n: (f"{LOADS}/fixed-{n % 64}/status", {"status": {"phase": "Up", "seen": n}}, MERGE),
        ),
        (
            "apply custom",
            "PATCH",
            lambda n: (
                f"{LOADS}/fixed-{n % 64}?fieldManager=bench&force=true",
                load(f"fixed-{n % 64}", 5 + n % 900),
                APPLY,
            ),
        ),
    ]
    for name, method, make in cases:
        if wanted(name):
            for connections in (1, 16):
                found[f"{name}, {connections} conn"] = await throughput(
                    target, connections, seconds, spread(method, make)
                )
                show(f"{name}, {connections} conn", found[f"{name}, {connections} conn"])
    admin.close()
    return found


def show(name: str, values: dict[str, Any]) -> None:
    print(f"{name:34}" + "  ".join(f"{key} {value:,}" for key, value in values.items()), flush=True)


async def lists(target: Target, objects: int) -> dict[str, Any]:
    """LIST of many small ConfigMaps, whole and the first 500."""
    admin = await prepare(target)
    await admin.ask("DELETE", CMS)
    opened = [await Connection(target).open() for _ in range(16)]
    ids = iter(range(objects))

    async def fill(connection: Connection) -> None:
        for n in ids:
            await connection.ask("POST", CMS, config_map(f"many-{n}"))

    await asyncio.gather(*(fill(connection) for connection in opened))
    found: dict[str, Any] = {}
    for name, query in ((f"list {objects}", ""), ("list limit=500", "?limit=500")):
        samples, size = [], 0
        for _ in range(7):
            at = time.perf_counter()
            status, body = await admin.ask("GET", CMS + query)
            samples.append(time.perf_counter() - at)
            size = len(body)
            assert status == 200
        found[name] = {**numbers(samples), "bytes": size}
        show(name, found[name])
    for connection in [admin, *opened]:
        connection.close()
    return found


async def watch_latency(target: Target, rate: int, seconds: float) -> dict[str, Any]:
    """From sending a create to its event, at a rate of creates a second."""
    admin = await prepare(target)
    watcher = await Connection(target).open()
    _, listed = await admin.ask("GET", LOADS + "?limit=1")
    version = json.loads(listed)["metadata"]["resourceVersion"]
    watcher.send("GET", f"{LOADS}?watch=true&resourceVersion={version}")
    sent: dict[str, float] = {}
    samples: list[float] = []

    async def follow() -> None:
        async for line in watcher.lines():
            event = json.loads(line)
            at = sent.get(event["object"]["metadata"]["name"])
            if event["type"] == "ADDED" and at is not None:
                samples.append(time.perf_counter() - at)

    task = asyncio.create_task(follow())
    for n in range(int(rate * seconds)):
        at = time.perf_counter()
        name = f"w-{n}"
        body = json.dumps(load(name)).encode()
        sent[name] = time.perf_counter()
        await admin.ask("POST", LOADS, body)
        await asyncio.sleep(max(0.0, 1 / rate - (time.perf_counter() - at)))
    await asyncio.sleep(0.5)
    task.cancel()
    admin.close()
    watcher.close()
    found = {f"create to watch, {rate}/s": {**numbers(samples), "events": len(samples)}}
    for name, values in found.items():
        show(name, values)
    return found


async def mixed(target: Target, rate: int, watches: int, seconds: float) -> dict[str, Any]:
    """Latencies of every verb at a total rate beside open watches."""
    admin = await prepare(target)
    for n in range(64):
        await admin.ask("POST", LOADS, load(f"fixed-{n}"))
    watchers = [await Connection(target).open() for _ in range(watches)]
    for watcher in watchers:
        watcher.send("GET", f"{LOADS}?watch=true")

    async def drain(watcher: Connection) -> None:
        while await watcher.reader.read(1 << 16):
            pass

    drains = [asyncio.create_task(drain(watcher)) for watcher in watchers]
    await asyncio.sleep(1)
    samples: dict[str, list[float]] = {}
    pool = [await Connection(target).open() for _ in range(8)]
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in pool:
        free.put_nowait(connection)
    verbs: list[tuple[str, Callable[[Connection, int], Awaitable[Any]]]] = [
        ("get", lambda c, n: c.ask("GET", f"{LOADS}/fixed-{n % 64}")),
        ("list", lambda c, n: c.ask("GET", f"{LOADS}?limit=50")),
        ("create", lambda c, n: c.ask("POST", LOADS, load(f"m-{n}"))),
        ("patch", lambda c, n: c.ask("PATCH", f"{LOADS}/fixed-{n % 64}", {"spec": {"size": 5 + n % 900}}, MERGE)),
        (
            "status",
            lambda c, n: c.ask("PATCH", f"{LOADS}/fixed-{n % 64}/status", {"status": {"seen": n}}, MERGE),
        ),
    ]

    async def one(n: int) -> None:
        name, call = verbs[n % len(verbs)]
        at = time.perf_counter()
        connection = await free.get()
        try:
            await call(connection, n)
        finally:
            free.put_nowait(connection)
        samples.setdefault(name, []).append(time.perf_counter() - at)

    running: set[asyncio.Task[None]] = set()
    begin, cpu = time.perf_counter(), cpu_seconds()
    for n in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + n / rate - time.perf_counter()))
        task = asyncio.create_task(one(n))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    busy = (cpu_seconds() - cpu) / (time.perf_counter() - begin)
    for task in drains:
        task.cancel()
    for connection in [admin, *watchers, *pool]:
        connection.close()
    found = {f"{name} at {rate}/s, {watches} watches": numbers(values) for name, values in sorted(samples.items())}
    for name, values in found.items():
        show(name, values)
    if PIDS:
        found["cores used"] = {"cores": round(busy, 2)}
        show("cores used", found["cores used"])
    return found


_targets: dict[tuple[Path, float], Target] = {}


async def answers(kubeconfig: Path) -> bool:
    """Whether /readyz answers 200; cheap to ask again and again, for it runs beside what is measured."""
    try:
        key = (kubeconfig, kubeconfig.stat().st_mtime)
        target = _targets[key] = _targets.get(key) or Target(kubeconfig)
        connection = await Connection(target).open()
        status, _ = await connection.ask("GET", "/readyz")
        connection.close()
    except (OSError, ValueError, KeyError, asyncio.IncompleteReadError):
        return False
    return status == 200


async def start(command: str, kubeconfig: Path, times: int = 3) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    """The last of several starts, and how long they took (the first has cold caches and certificates to make)."""
    took: list[float] = []
    while True:
        at = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*shlex.split(command), stdout=asyncio.subprocess.DEVNULL)
        while not await answers(kubeconfig):
            if process.returncode is not None or time.perf_counter() - at > 120:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
                raise SystemExit(f"the server did not become ready, asked by {kubeconfig}: {command}")
            await asyncio.sleep(0.01)
        took.append(round(time.perf_counter() - at, 3))
        if len(took) == times:
            return process, {"seconds": took[-1], "first": took[0]}
        process.terminate()
        await process.wait()


async def stored(target: Target) -> dict[str, Any]:
    """How many objects the server keeps just now, by its own metrics."""
    connection = await Connection(target).open()
    _, page = await connection.ask("GET", "/metrics")
    connection.close()
    counts = [float(line.rpartition(b" ")[2]) for line in page.splitlines() if line.startswith(_OBJECTS)]
    return {"objects": int(sum(counts))}


def memory(pids: list[int]) -> dict[str, Any]:
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return {"rss_mb": round(total / 1024, 1)} if total else {}


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if not arguments.start:
        return await measure(arguments)
    process, ready = await start(arguments.start, arguments.kubeconfig)
    show("start to ready", ready)
    arguments.pid = [process.pid]
    try:
        await asyncio.sleep(2)
        return {"start to ready": ready, **await measure(arguments)}
    finally:
        process.terminate()
        await process.wait()


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    target = Target(arguments.kubeconfig)
    PIDS.extend(arguments.pid)
    only = [name for name in arguments.only.split(",") if name]

    def wanted(name: str) -> bool:
        return not only or any(name.startswith(prefix) for prefix in only)

    found: dict[str, Any] = {"idle": memory(arguments.pid)}
    show("idle", found["idle"])
    try:
        found |= await speeds(target, arguments.seconds, wanted)
        if wanted("watch"):
            found |= await watch_latency(target, 200, arguments.seconds)
        if wanted("mixed"):
            found |= await mixed(target, 200, 100, arguments.seconds * 2)
        if wanted("list"):
            found |= await lists(target, arguments.objects)
            found["with all objects"] = {**await stored(target), **memory(arguments.pid)}
            show("with all objects", found["with all objects"])
    finally:
        await clean(target)
    return found


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kubeconfig", type=Path, default=Path(os.environ.get("KUBECONFIG", "")))
    flags.add_argument("--start", default="", help="the command that starts the server")
    flags.add_argument("--pid", type=int, action="append", default=[])
    flags.add_argument("--objects", type=int, default=10_000)
    flags.add_argument("--seconds", type=float, default=3.0)
    flags.add_argument("--json", type=Path)
    flags.add_argument("--only", default="")
    arguments = flags.parse_args()
    try:
        import uvloop
    except ImportError:
        found = asyncio.run(run(arguments))
    else:
        found = uvloop.run(run(arguments))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
