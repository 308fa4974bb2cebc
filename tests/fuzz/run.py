#!/usr/bin/env python3
"""Send inputs that no client should send to a fresh control plane, and tell which it stumbled over.

usage: run.py [--inputs 10000] [--seed 1] [--first 0] [--connections 16] [--store memory] [--keep-failures]

An input fails the server when the answer is its own "failed to handle the request", when there is no answer within
20 seconds, or when the connection breaks. Failures are told by number: `--first N --inputs 1` sends one again.
`--keep-failures` adds it to kept.jsonl, which an integration test sends ever after. The memory at the start and the end
is printed; it must not grow with the number of inputs. Exit 0 when nothing failed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.util
import json
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp

HERE = Path(__file__).parent
OWN_FAULT = "failed to handle the request"


def load(path: Path) -> ModuleType:
    """A script beside this one as a module."""
    spec = importlib.util.spec_from_file_location(f"fuzz_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Target:
    """A server by its kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.url: str = cluster["server"]
        self.tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile("wb", suffix=".pem") as pem:
            pem.write(base64.b64decode(user["client-certificate-data"]))
            pem.write(base64.b64decode(user["client-key-data"]))
            pem.flush()
            self.tls.load_cert_chain(pem.name)

    def session(self, connections: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self.tls, limit=connections)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20))

    async def send(self, session: aiohttp.ClientSession, request: Any) -> tuple[int, str]:
        """(status, what went wrong or "")."""
        headers = {"User-Agent": "fuzz/1", **request.headers}
        try:
            async with session.request(
                request.method,
                self.url + request.path,
                data=request.body,
                headers=headers,
                skip_auto_headers=["Content-Type"],
            ) as answer:
                raw = await answer.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return 0, f"{type(error).__name__}: {error}"
        return answer.status, raw[:300].decode("utf-8", "replace") if OWN_FAULT.encode() in raw else ""


async def fuzz(
    target: Target, inputs: Any, numbers: range, connections: int
) -> tuple[Counter[int], list[tuple[Any, str]]]:
    """Send all inputs; (answers by status, failures)."""
    statuses: Counter[int] = Counter()
    failures: list[tuple[Any, str]] = []
    waiting = iter(numbers)
    setup = list(load(HERE / "inputs.py").setup())

    async def worker(session: aiohttp.ClientSession) -> None:
        for number in waiting:
            if number % 500 == 0:
                for request in setup:
                    await target.send(session, request)
            request = inputs.make(number)
            status, wrong = await target.send(session, request)
            statuses[status] += 1
            if wrong:
                failures.append((request, wrong))

    async with target.session(connections) as session:
        for request in setup:
            await target.send(session, request)
        await asyncio.gather(*(worker(session) for _ in range(connections)))
    return statuses, failures


def memory(pid: int) -> float:
    """Resident memory in MiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--inputs", type=int, default=10_000)
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--first", type=int, default=0)
    flags.add_argument("--connections", type=int, default=16)
    flags.add_argument("--store", default="memory")
    flags.add_argument("--keep-failures", action="store_true")
    args = flags.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chandlery-fuzz-"))
    argv = [sys.executable, "-m", "chandlery.controlplane", "--data-dir", str(folder / "data"), "--store", args.store]
    with (folder / "log").open("wb") as log, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline().startswith(b"ready"):
                sys.exit((folder / "log").read_text())
            inputs = load(HERE / "inputs.py").Inputs(args.seed)
            target = Target(folder / "data" / "kubeconfig")
            asyncio.run(fuzz(target, inputs, range(min(2000, args.inputs)), args.connections))  # caches are full then
            before, started = memory(process.pid), time.monotonic()
            numbers = range(args.first, args.first + args.inputs)
            statuses, failures = asyncio.run(fuzz(target, inputs, numbers, args.connections))
            seconds = time.monotonic() - started
            print(f"{args.inputs} inputs in {seconds:.0f} s, memory {before:.0f} -> {memory(process.pid):.0f} MiB")
            print("answers:", dict(sorted(statuses.items())))
        finally:
            process.terminate()
            process.wait(20)
    for request, wrong in failures:
        print(f"FAILED --seed {args.seed} --first {request.number}: {request.method} {request.path}: {wrong}")
        print("   ", request.body[:300])
    if failures:
        print((folder / "log").read_text()[-8000:])
        if args.keep_failures:
            with (HERE / "kept.jsonl").open("a") as keep:
                keep.writelines(request.line() + "\n" for request, _ in failures)
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
