"""Many caches on Kubernetes with workloads that are only simulated: time to Ready, passes, requests per object.

    python tests/bench/kubernetes.py [--caches 1000] [--pause 30]

Three processes: the embedded control plane, the operator with its kubernetes driver, and this one, which plays the
workload controllers and the engines. An engine here is a few answers in Valkey's protocol: what is measured is the
operator. Phases:

    create    all caches applied, until all are Ready
    steady    nothing happens, for as long as --pause says; drift is looked for all the while
    resync    the operator starts anew, until it has looked at every cache once

Requests are counted in the operator, by verb; without watches, of which there is one for each kind.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import functools
import hashlib
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from chandlery.driver.objects import ResourceType
from chandlery.foundation.errors import AlreadyExists, ChandleryError, NotFound
from chandlery.providers.kubernetes.types import CRDS, PODS, SECRETS, STATEFUL_SETS, Obj
from chandlery.reconcile.api import NAMESPACES, RESOURCE_CLASSES, type_of
from chandlery.reconcile.client import HttpApi
from chandlery.reconcile.credentials import from_kubeconfig
from chandlery_kinds.cache import KIND

ROOT = Path(__file__).parents[2]
CACHES = type_of(KIND.names)
READS = {"get", "list", "watch"}
DRIFT_SECONDS = 10.0
PORT = 6379


# The operator: reports when it gets a line on its standard input.


async def operate(kubeconfig: Path) -> None:
    from chandlery.foundation.collector import settle
    from chandlery.foundation.logging import configure
    from chandlery.providers.kubernetes import KubernetesProviderFactory
    from chandlery.reconcile.operator import Operator, OperatorSettings
    from chandlery.reconcile.settings import LoopSettings

    configure(level="error")
    requests: Counter[str] = Counter()
    passes: list[float] = []
    factory = KubernetesProviderFactory()
    settings = OperatorSettings(
        loop=LoopSettings(drift_interval=DRIFT_SECONDS), leader_election=False, source="informer"
    )
    operator = Operator(from_kubeconfig(kubeconfig), [KIND], {"kubernetes": factory}, settings=settings)
    factory.api = operator.api

    def counted(verb: str, plural: str, _code: str) -> None:
        requests[f"{verb} {plural}"] += 1

    operator.api._on_request = counted  # type: ignore[method-assign]
    passed = operator.metrics.passed

    def timed(kind: str, seconds: float, *, failed: bool) -> None:
        passes.append(seconds)
        passed(kind, seconds, failed=failed)

    operator.metrics.passed = timed  # type: ignore[method-assign]
    await operator.start()
    await operator.settled()
    settle()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        used = resource.getrusage(resource.RUSAGE_SELF)
        told = {"requests": dict(requests), "passes": sorted(passes), "cpu": used.ru_utime + used.ru_stime}
        print(json.dumps({**told, "rss": used.ru_maxrss / 1024}), flush=True)
        requests.clear()
        passes.clear()
    await operator.stop()


# The simulator


class Engine:
    """What one server knows, and its answers."""

    def __init__(self, configuration: str) -> None:
        self.settings: dict[str, str] = {}
        self.users: dict[str, str] = {}
        for line in configuration.splitlines():
            name, _, value = line.strip().partition(" ")
            if name and not name.startswith("#"):
                self.settings[name] = value.strip().strip('"')
        self.info = (
            "redis_version:9.1.1\r\nvalkey_version:9.1.1\r\nrole:master\r\nmaster_repl_offset:0\r\nloading:0\r\n"
        )

    def answer(self, words: list[str]) -> bytes:
        command, *rest = words
        match command.upper(), *(word.upper() for word in rest[:1]):
            case "INFO", *_:
                return _bulk(self.info)
            case "CONFIG", "GET":
                return _array([word for pair in self.settings.items() for word in pair])
            case "CONFIG", "SET":
                self.settings[rest[1]] = rest[2]
            case "ACL", "LIST":
                return _array([f"user {name} {rules}" for name, rules in self.users.items()])
            case "ACL", "SETUSER":
                self.users[rest[1]] = " ".join(rest[2:]).removeprefix("reset ")
            case "ACL", "DELUSER":
                self.users.pop(rest[1], None)
            case "PING", *_:
                return b"+PONG\r\n"
        return b"+OK\r\n"


def _bulk(text: str) -> bytes:
    data = text.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def _array(words: list[str]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(_bulk(word) for word in words)


class Simulator:
    """Workload controllers, kubelet and engines; pods get loopback addresses of their own."""

    def __init__(self, api: HttpApi) -> None:
        self.api = api
        self.engines: dict[str, Engine] = {}
        self._made: set[str] = set()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(16)

    async def run(self) -> None:
        server = await asyncio.start_server(self._serve, "0.0.0.0", PORT, backlog=1024)
        async with server:
            page = await self.api.list(STATEFUL_SETS)
            version = page.resource_version
            for obj in page.items:
                self._begin(obj)
            while True:
                with contextlib.suppress(ChandleryError):
                    async for event in self.api.watch(STATEFUL_SETS, version=version):
                        version = event.object["metadata"]["resourceVersion"]
                        if event.type == "ADDED":
                            self._begin(event.object)

    def _begin(self, obj: Obj) -> None:
        if obj["metadata"]["uid"] not in self._made:
            self._made.add(obj["metadata"]["uid"])
            task = asyncio.create_task(self._make(obj))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _make(self, obj: Obj) -> None:
        async with self._room:
            meta, template = obj["metadata"], obj["spec"]["template"]
            number = next(self._numbers)
            ip = f"127.{100 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"
            secret = None
            while secret is None:
                secret = await self.api.get(SECRETS, meta["namespace"], f"{meta['name']}-config")
            texts = [base64.b64decode(value).decode() for key, value in secret["data"].items() if key.endswith(".conf")]
            self.engines[ip] = Engine("\n".join(texts))
            revision = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
            owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": meta["name"], "uid": meta["uid"]}
            body = {
                "metadata": {
                    "name": f"{meta['name']}-0",
                    "namespace": meta["namespace"],
                    "labels": {**template["metadata"]["labels"], "controller-revision-hash": revision},
                    "ownerReferences": [{**owner, "controller": True}],
                },
                "spec": {**template["spec"], "nodeName": "node-1"},
            }
            with contextlib.suppress(AlreadyExists):
                await self.api.create(PODS, body)
            container = template["spec"]["containers"][0]
            state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
            up = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
            told = {
                "phase": "Running",
                "podIP": ip,
                "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{**up, "ready": True, "state": state}],
            }
            await self._tell(PODS, meta["namespace"], f"{meta['name']}-0", told)
            count = {"observedGeneration": meta["generation"], "replicas": 1, "readyReplicas": 1}
            await self._tell(STATEFUL_SETS, meta["namespace"], meta["name"], {**count, "updateRevision": revision})

    async def _tell(self, kind: ResourceType, namespace: str, name: str, status: Obj) -> None:
        path = kind.path(namespace, name, "status")
        content = "application/merge-patch+json"
        with contextlib.suppress(NotFound):
            await self.api._ask("patch", "PATCH", kind, path, {"status": status}, params={}, content=content)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # at the end
            await self._answer(reader, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine = self.engines.get(writer.get_extra_info("sockname")[0])
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while engine is not None and (head := await reader.readline()):
                words = []
                for _ in range(int(head[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2].decode())
                writer.write(engine.answer(words))
                await writer.drain()
        writer.close()


# The measurement


class Process:
    def __init__(self, kubeconfig: Path) -> None:
        argv = [sys.executable, __file__, "--operate", str(kubeconfig)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._loop = asyncio.get_running_loop()

    async def line(self) -> str:
        assert self._process.stdout is not None
        return await self._loop.run_in_executor(None, self._process.stdout.readline)

    async def report(self, *, last: bool = False) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(await self.line())
        if last:
            self._process.stdin.close()
            await self._loop.run_in_executor(None, self._process.wait)
        return found


def tell(phase: str, seconds: float, found: dict[str, Any], count: int) -> None:
    passes = found["passes"] or [0.0]
    calls = {k: v for k, v in found["requests"].items() if not k.startswith("watch")}
    writes = sum(v for k, v in calls.items() if k.split()[0] not in READS)
    p50, p99 = (passes[min(len(passes) - 1, int(len(passes) * share))] * 1000 for share in (0.5, 0.99))
    print(
        f"{phase:8} {seconds:7.1f} s   requests/object {sum(calls.values()) / count:6.2f}   "
        f"writes/object {writes / count:6.2f}   passes {len(found['passes']):6}   "
        f"pass p50 {p50:6.1f} ms p99 {p99:7.1f} ms   CPU {found['cpu']:6.1f} s   {found['rss']:.0f} MiB"
    )
    print("         " + ", ".join(f"{k} {v}" for k, v in sorted(calls.items(), key=lambda kv: -kv[1])))


async def prepare(api: HttpApi) -> None:
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] == "CustomResourceDefinition":
                await api.apply(CRDS, document)
    while True:
        with contextlib.suppress(ChandleryError):
            await api.list(CACHES)
            await api.list(RESOURCE_CLASSES)
            break
        await asyncio.sleep(0.1)
    spec = {"kind": "Cache", "driver": "kubernetes", "default": True, "driftInterval": f"{DRIFT_SECONDS:.0f}s"}
    await api.apply(RESOURCE_CLASSES, {"metadata": {"name": "cache"}, "spec": spec})
    await api.create(NAMESPACES, {"metadata": {"name": "bench"}})


async def ready(api: HttpApi, count: int, seconds: float) -> None:
    """Until all are Ready."""
    ends = time.monotonic() + seconds
    while True:
        items = (await api.list(CACHES, "bench")).items
        done = sum((obj.get("status") or {}).get("phase") == "Ready" for obj in items)
        if done == count:
            return
        if time.monotonic() > ends:
            stuck = next(obj for obj in items if (obj.get("status") or {}).get("phase") != "Ready")
            raise SystemExit(f"{done} of {count} are Ready; {json.dumps(stuck.get('status'), indent=1)}")
        await asyncio.sleep(max(0.5, count / 500))


async def measure(count: int, pause: float) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        argv = ["--data-dir", folder, "--store", "memory"]
        plane = subprocess.Popen(
            [sys.executable, "-m", "chandlery.controlplane", *argv],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        kubeconfig = Path(folder) / "kubeconfig"
        try:
            while not kubeconfig.exists():
                await asyncio.sleep(0.05)
            async with HttpApi(from_kubeconfig(kubeconfig), timeout=300.0) as api:
                await prepare(api)
                simulator = asyncio.create_task(Simulator(api).run())
                operator = Process(kubeconfig)
                await operator.line()
                await operator.report()
                began = time.monotonic()
                room = asyncio.Semaphore(8)

                async def apply(number: int) -> None:
                    meta = {"name": f"c{number:05}", "namespace": "bench"}
                    async with room:
                        await api.create(CACHES, {"metadata": meta, "spec": {"memory": "32Mi"}})

                await asyncio.gather(*(apply(number) for number in range(count)))
                await ready(api, count, 30 + count)
                tell("create", time.monotonic() - began, await operator.report(), count)
                await asyncio.sleep(2 * DRIFT_SECONDS)  # what the last status writes set off
                await operator.report()
                await asyncio.sleep(pause)
                steady = await operator.report(last=True)
                tell("steady", pause, steady, count)
                began = time.monotonic()
                operator = Process(kubeconfig)
                await operator.line()
                await asyncio.sleep(2 * DRIFT_SECONDS)
                tell("resync", time.monotonic() - began, await operator.report(last=True), count)
                simulator.cancel()
                await asyncio.gather(simulator, return_exceptions=True)
                writes = {k: v for k, v in steady["requests"].items() if k.split()[0] not in READS}
                if writes:
                    raise SystemExit(f"a steady state made writes: {writes}")
        finally:
            plane.terminate()
            plane.wait(120)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--caches", type=int, default=1000)
    flags.add_argument("--pause", type=float, default=30.0, help="seconds of the steady phase")
    flags.add_argument("--operate", type=Path, help=argparse.SUPPRESS)
    options = flags.parse_args()
    run = functools.partial(operate, options.operate) if options.operate else None
    asyncio.run(run() if run is not None else measure(options.caches, options.pause))


if __name__ == "__main__":
    main()
