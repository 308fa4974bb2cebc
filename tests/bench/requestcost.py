#!/usr/bin/env python3
"""What a request costs the control plane's process: from the bytes of a request to the bytes of its answer.

usage: requestcost.py [--store memory|sqlite] [--synchronous FULL|NORMAL|OFF] [--only NAME,...] [--rounds 60]
                      [--profile]

No sockets and no TLS: the connection's protocol is fed in this process, by 16 clients at once. Microseconds of CPU time
for each request: the least of many short rounds, their median, and `steady`, the median of what each round took
beside a fixed piece of Python before and after it: on a busy machine that alone says which of two versions needs
less. `--profile` samples the stack each millisecond and tells where the time goes, callees included.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import itertools
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from chandlery.controlplane import ControlPlane, ControlPlaneSettings

_spec = importlib.util.spec_from_file_location("bench_objects", Path(__file__).with_name("controlplane.py"))
assert _spec is not None
assert _spec.loader is not None
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)

CLIENTS = 16
YARD = 30.0
"""About what `yardstick` takes on a quiet machine: a unit for `steady`."""
ADMIN = {"subject": ((("organizationName", "system:masters"),), (("commonName", "admin"),))}
FIELDS = "Host: 127.0.0.1\r\nUser-Agent: bench/1\r\nAccept: application/json\r\n"


class Wire(asyncio.Transport):
    """Takes what the server writes, and wakes the client that waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.more = asyncio.Event()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peercert": ADMIN, "peername": ("127.0.0.1", 1)}.get(name, default)

    def write(self, data: Any) -> None:
        self.written += data
        self.more.set()

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    abort = close

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Client:
    def __init__(self, server: Any) -> None:
        self.wire = Wire()
        self.protocol = server()
        self.protocol.connection_made(self.wire)

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = bench.JSON) -> int:
        fields = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n" if body else ""
        self.wire.written = b""
        self.protocol.data_received(f"{method} {path} HTTP/1.1\r\n{FIELDS}{fields}\r\n".encode() + body)
        while True:
            head, end, answer = self.wire.written.partition(b"\r\n\r\n")
            if end:
                at = head.find(b"Content-Length: ") + 16
                if len(answer) >= int(head[at : head.find(b"\r\n", at)]):
                    return int(head[9:12])
            self.wire.more.clear()
            await self.wire.more.wait()


def cases() -> dict[str, tuple[str, Any]]:
    cms, loads = bench.CMS, bench.LOADS
    merge, apply = bench.MERGE, bench.APPLY
    return {
        "get": ("GET", lambda n: (f"{cms}/fixed-{n % 64}", None, "")),
        "list of 5": ("GET", lambda n: (f"{loads}?limit=5", None, "")),
        "create configmap": ("POST", lambda n: (cms, bench.config_map(f"c-{n}"), bench.JSON)),
        "create custom": ("POST", lambda n: (loads, bench.load(f"l-{n}"), bench.JSON)),
        "patch custom": ("PATCH", lambda n: (f"{loads}/fixed-{n % 64}", {"spec": {"size": 5 + n % 900}}, merge)),
        "status patch custom": (
            "PATCH",
            lambda n: (f"{loads}/fixed-{n % 64}/status", {"status": {"phase": "Up", "seen": n}}, merge),
        ),
        "apply custom": (
            "PATCH",
            lambda n: (
                f"{loads}/fixed-{n % 64}?fieldManager=bench&force=true",
                bench.load(f"fixed-{n % 64}", 5 + n % 900),
                apply,
            ),
        ),
    }


async def prepare(client: Client) -> None:
    async def make(path: str, obj: Any) -> None:
        status = await client.ask("POST", path, json.dumps(obj).encode())
        assert status == 201, (path, status)

    await make("/api/v1/namespaces", {"metadata": {"name": bench.NS}})
    await make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", bench.CRD)
    while await client.ask("GET", bench.LOADS) != 200:
        await asyncio.sleep(0.05)
    for number in range(64):
        await make(bench.CMS, bench.config_map(f"fixed-{number}"))
        await make(bench.LOADS, bench.load(f"fixed-{number}"))


async def one_round(clients: list[Client], requests: list[tuple[str, str, bytes, str]]) -> float:
    waiting = iter(requests)

    async def work(client: Client) -> None:
        for request in waiting:
            status = await client.ask(*request)
            assert status < 400, (request[:2], status)

    began = time.process_time()
    await asyncio.gather(*(work(client) for client in clients))
    return (time.process_time() - began) / len(requests) * 1e6


_YARD = {f"key{number}": {"a": number, "b": [{"x": other} for other in range(3)]} for number in range(20)}


def yardstick() -> float:
    """Microseconds that a fixed piece of Python takes right now."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(member) for key, member in value.items()}
        return [walk(member) for member in value] if isinstance(value, list) else value

    began = time.process_time()
    for _ in range(40):
        walk(_YARD)
    return (time.process_time() - began) / 40 * 1e6


class Samples:
    """Which functions are on the stack, each millisecond of CPU time."""

    def __init__(self) -> None:
        self.total = 0
        self.found: Counter[str] = Counter()

    def take(self, _signal: int, frame: FrameType | None) -> None:
        self.total += 1
        names: set[str] = set()
        while frame is not None:
            code = frame.f_code
            names.add(f"{code.co_filename.rpartition('controlplane/')[2]}:{code.co_firstlineno} {code.co_name}")
            frame = frame.f_back
        self.found.update(names)

    def __str__(self) -> str:
        return "\n".join(f"{count / self.total:6.1%}  {name}" for name, count in self.found.most_common(60))


async def measure(arguments: argparse.Namespace, folder: Path) -> None:
    settings = ControlPlaneSettings(folder, store=arguments.store, synchronous=arguments.synchronous)
    async with ControlPlane(settings) as plane:
        clients = [Client(plane._http) for _ in range(CLIENTS)]
        await prepare(clients[0])
        numbers: Iterator[int] = itertools.count()
        for name, (method, make) in cases().items():
            if arguments.only and name not in arguments.only.split(","):
                continue
            samples, costs, yards = Samples(), [], []
            for _ in range(arguments.rounds):
                requests = []
                for _ in range(CLIENTS * 4):
                    path, body, kind = make(next(numbers))
                    requests.append((method, path, b"" if body is None else json.dumps(body).encode(), kind))
                before = yardstick()
                if arguments.profile:
                    signal.signal(signal.SIGPROF, samples.take)
                    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
                costs.append(await one_round(clients, requests))
                signal.setitimer(signal.ITIMER_PROF, 0)
                yards.append((before + yardstick()) / 2)
            if arguments.profile:  # while such a timer runs, the kernel tells CPU time by whole ticks: no figures then
                print(f"{name}\n{samples}", flush=True)
                continue
            steady = statistics.median(cost / yard for cost, yard in zip(costs, yards, strict=True)) * YARD
            figures = {"least": min(costs), "median": statistics.median(costs), "steady": steady}
            print(f"{name:24}" + "   ".join(f"{what} {us:5.0f} us" for what, us in figures.items()), flush=True)


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--store", choices=["memory", "sqlite"], default="sqlite")
    flags.add_argument("--synchronous", choices=["FULL", "NORMAL", "OFF"], default="FULL")
    flags.add_argument("--only", default="")
    flags.add_argument("--rounds", type=int, default=60)
    flags.add_argument("--profile", action="store_true")
    arguments = flags.parse_args()
    sys.setswitchinterval(0.0005)  # as the server does
    with tempfile.TemporaryDirectory() as folder:
        try:
            import uvloop
        except ImportError:
            asyncio.run(measure(arguments, Path(folder)))
        else:
            uvloop.run(measure(arguments, Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
