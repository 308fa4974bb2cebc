"""Many caches on Kubernetes with workloads that are only simulated: time to Ready, passes, requests per object.

    python tests/bench/kubernetes.py [--caches 1000] [--pause 30] [--check]

Three processes: the embedded control plane, the operator with its kubernetes driver, and this one, which plays the
workload controllers and the engines. An engine here is a few answers in Valkey's protocol: what is measured is the
operator. Phases:

    create    all caches applied at once, until all are Ready
    steady    nothing happens, for as long as --pause says; drift is looked for all the while
    change    a setting of some caches changed, one after the other, each until its status says that it is done
    resync    the operator starts anew, until it has looked at every cache once

Requests are counted in the operator, by verb; without watches, of which there is one for each kind. A pass is one look
at one object with all that it does; `done` is from the answer to the request until status says Ready. CPU is that of
the operator and of the control plane, in a phase. With --check too many requests are an error.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
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
CHANGES = 50
STUCK_SECONDS = 180.0
"""Without any progress in so long, something is wrong; whole phases take as long as the machine needs."""
MOST = {"create": (12.5, 8.5), "steady": (0.0, 0.0), "change": (4.0, 2.5), "resync": (0.5, 0.0)}
"""With --check: requests for an object, and writes. Some caches take a step more when the machine is slow."""
NOT_COUNTED = "resourceclasses"
"""Of which the operator tells now and then how many use them."""


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

    def counted(verb: str, plural: str, code: str) -> None:
        requests[f"{verb} {plural}" if code.startswith("2") or code == "404" else f"{verb} {plural} {code}"] += 1

    operator.api._on_request = counted
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
        busy = operator.core is not None and operator.core.engine.queue.busy()
        print(json.dumps({**told, "rss": used.ru_maxrss / 1024, "busy": busy}), flush=True)
        requests.clear()
        passes.clear()
    await operator.stop()


# The simulator


class Engine:
    """What one server knows, and its answers."""

    def __init__(self, configuration: str, users: str) -> None:
        self.settings: dict[str, str] = {}
        self.users = {line.split()[1]: _worded(line.split()[2:]) for line in users.splitlines()}
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
                self.users[rest[1]] = _worded(rest[3:])
            case "ACL", "DELUSER":
                self.users.pop(rest[1], None)
            case "PING", *_:
                return b"+PONG\r\n"
        return b"+OK\r\n"


def _worded(rules: list[str]) -> str:
    """As an engine prints rules: without those that say nothing."""
    return " ".join(word for word in rules if word not in ("sanitize-payload", "resetkeys"))


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
            async for obj in follow(self.api, STATEFUL_SETS):
                self._begin(obj)

    def _begin(self, obj: Obj) -> None:
        if obj["metadata"]["uid"] not in self._made:
            self._made.add(obj["metadata"]["uid"])
            task = asyncio.create_task(self._made_at_last(obj))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _made_at_last(self, obj: Obj) -> None:
        """As controllers do: what fails comes again."""
        number = next(self._numbers)
        while True:
            with contextlib.suppress(ChandleryError):
                await self._make(obj, number)
                return
            await asyncio.sleep(0.5)

    async def _make(self, obj: Obj, number: int) -> None:
        async with self._room:
            meta, template = obj["metadata"], obj["spec"]["template"]
            ip = f"127.{100 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"
            secret = None
            while secret is None:
                secret = await self.api.get(SECRETS, meta["namespace"], f"{meta['name']}-config")
            files = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
            self.engines[ip] = Engine(files["cache.conf"], files["users.acl"])
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


async def follow(api: HttpApi, kind: ResourceType) -> AsyncIterator[Obj]:
    """Objects as they are, and whenever they are different."""
    while True:
        with contextlib.suppress(ChandleryError):
            page = await api.list(kind)
            for obj in page.items:
                yield obj
            async for event in api.watch(kind, version=page.resource_version):
                if event.type in ("ADDED", "MODIFIED"):
                    yield event.object
        await asyncio.sleep(0.1)


class Watcher:
    """Which caches are Ready at which generation, and since when."""

    def __init__(self) -> None:
        self.ready: dict[str, tuple[int, float]] = {}
        self.last: dict[str, Obj] = {}
        self._news = asyncio.Event()

    async def run(self, api: HttpApi) -> None:
        async for obj in follow(api, CACHES):
            name, status = obj["metadata"]["name"], obj.get("status") or {}
            self.last[name] = obj
            self._news.set()  # whatever it is: something gets on
            generation = status.get("observedGeneration", 0)
            if status.get("phase") == "Ready" and self.ready.get(name, (0, 0.0))[0] < generation:
                self.ready[name] = (generation, time.monotonic())

    def knows(self, name: str, generation: int) -> bool:
        """Whether this one was Ready with that generation of its spec."""
        return self.ready[name][0] >= generation

    async def until(self, done: Callable[[], bool]) -> None:
        """Until it is so; SystemExit when nothing at all gets on."""
        while not done():
            self._news.clear()
            try:
                async with asyncio.timeout(STUCK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                stuck = [obj for obj in self.last.values() if (obj.get("status") or {}).get("phase") != "Ready"]
                status = json.dumps(stuck[0].get("status"), indent=1) if stuck else ""
                raise SystemExit(f"{len(self.ready)} are Ready; stuck: {len(stuck)}, such as {status}") from None


class Process:
    """The operator, and what it says of itself."""

    def __init__(self, kubeconfig: Path, plane: int) -> None:
        argv = [sys.executable, __file__, "--operate", str(kubeconfig)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._loop = asyncio.get_running_loop()
        self._plane = plane
        self._cpu = [0.0, cpu_of(plane)]

    async def line(self) -> str:
        assert self._process.stdout is not None
        found = await self._loop.run_in_executor(None, self._process.stdout.readline)
        if not found:
            raise SystemExit(f"the operator ended ({self._process.wait()})")
        return found

    async def report(self) -> dict[str, Any]:
        """Since the last one."""
        assert self._process.stdin is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(await self.line())
        before, self._cpu = self._cpu, [found["cpu"], cpu_of(self._plane)]
        found["cpu"], found["plane"] = (now - then for now, then in zip(self._cpu, before, strict=True))
        return found

    async def quiet(self) -> None:
        """Until it has asked for nothing for one whole round of looks."""
        while True:
            await asyncio.sleep(1.5 * DRIFT_SECONDS)
            if not (await self.report())["requests"]:
                return

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._loop.run_in_executor(None, self._process.wait)


def cpu_of(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Figures:
    """Prints each phase, and keeps what was too much."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def tell(self, phase: str, seconds: float, found: dict[str, Any], count: int, done: Sequence[float] = ()) -> None:
        calls = {k: v for k, v in found["requests"].items() if not k.startswith("watch")}
        counted = {k: v for k, v in calls.items() if k.split()[1] != NOT_COUNTED}
        writes = {k: v for k, v in counted.items() if k.split()[0] not in READS}
        each, writes_each = sum(counted.values()) / count, sum(writes.values()) / count
        latency = f"   done {spread(sorted(done))}" if done else ""
        print(
            f"{phase:8} {seconds:7.1f} s   requests/object {each:6.2f}   writes/object {writes_each:6.2f}   "
            f"passes {len(found['passes']):6}   pass {spread(found['passes'])}{latency}   CPU {found['cpu']:.1f} s, "
            f"control plane {found['plane']:.1f} s   {found['rss']:.0f} MiB",
            flush=True,
        )
        print("         " + (", ".join(f"{k} {v}" for k, v in sorted(calls.items(), key=lambda kv: -kv[1])) or "none"))
        for what, has, most in (("requests", each, MOST[phase][0]), ("writes", writes_each, MOST[phase][1])):
            if has > most:
                self.problems.append(f"{phase}: {has:.2f} {what} for each object, more than {most}: {counted}")


def spread(values: Sequence[float]) -> str:
    """Of sorted seconds."""
    values = values or [0.0]
    p50, p99 = (values[min(len(values) - 1, int(len(values) * share))] * 1000 for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms p99 {p99:.1f} ms"


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


async def phases(api: HttpApi, kubeconfig: Path, plane: int, count: int, pause: float) -> list[str]:
    figures, caches = Figures(), Watcher()
    helpers = [asyncio.create_task(Simulator(api).run()), asyncio.create_task(caches.run(api))]
    names = [f"c{number:05}" for number in range(count)]
    operator = Process(kubeconfig, plane)
    await operator.line()
    await operator.report()

    began = time.monotonic()
    room, asked = asyncio.Semaphore(8), {}

    async def apply(name: str) -> None:
        async with room:
            await api.create(CACHES, {"metadata": {"name": name, "namespace": "bench"}, "spec": {"memory": "32Mi"}})
            asked[name] = time.monotonic()

    await asyncio.gather(*map(apply, names))
    try:
        await caches.until(lambda: len(caches.ready) == count)
    except SystemExit as stuck:
        raise SystemExit(f"{stuck}\nthe operator's requests: {(await operator.report())['requests']}") from None
    took = [caches.ready[name][1] - asked[name] for name in names]
    figures.tell("create", time.monotonic() - began, await operator.report(), count, took)

    await operator.quiet()
    await asyncio.sleep(pause)
    figures.tell("steady", pause, await operator.report(), count)

    began, took = time.monotonic(), []
    chosen = names[:: max(1, count // CHANGES)][:CHANGES]
    for name in chosen:
        made = await api.merge_patch(CACHES, "bench", name, {"spec": {"evictionPolicy": "allkeys-lru"}})
        assert made is not None
        at, generation = time.monotonic(), made["metadata"]["generation"]
        await caches.until(partial(caches.knows, name, generation))
        took.append(caches.ready[name][1] - at)
    figures.tell("change", time.monotonic() - began, await operator.report(), len(chosen), took)
    await operator.end()

    began, operator = time.monotonic(), Process(kubeconfig, plane)
    await operator.line()
    total: dict[str, Any] = {"requests": Counter(), "passes": [], "cpu": 0.0, "plane": 0.0}
    while True:
        found = await operator.report()
        for key in total:
            total[key] += Counter(found[key]) if key == "requests" else found[key]
        if len(total["passes"]) >= count and not found["busy"]:
            break
        await asyncio.sleep(0.5)
    total |= {"passes": sorted(total["passes"]), "rss": found["rss"]}
    figures.tell("resync", time.monotonic() - began, total, count)
    await operator.end()
    for helper in helpers:
        helper.cancel()
    await asyncio.gather(*helpers, return_exceptions=True)
    return figures.problems


async def measure(count: int, pause: float) -> list[str]:
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
                if plane.poll() is not None:
                    raise SystemExit("the control plane ended")
                await asyncio.sleep(0.05)
            async with HttpApi(from_kubeconfig(kubeconfig), timeout=300.0) as api:
                await prepare(api)
                return await phases(api, kubeconfig, plane.pid, count, pause)
        finally:
            plane.terminate()
            plane.wait(120)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--caches", type=int, default=1000)
    flags.add_argument("--pause", type=float, default=30.0, help="seconds of the steady phase")
    flags.add_argument("--check", action="store_true", help="fail when an object costs more requests than it should")
    flags.add_argument("--operate", type=Path, help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.operate:
        asyncio.run(operate(options.operate))
        return
    problems = asyncio.run(measure(options.caches, options.pause))
    print("\n".join(problems))
    if problems and options.check:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
