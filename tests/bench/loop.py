"""The loop against a plain kopf operator: CPU, writes and memory per object, on the same objects in the same run.

    python tests/bench/loop.py [--objects 200] [--rounds 3] [--start 0.3] [--only ours|kopf|kopf-waits]

Each operator runs in a process of its own against a fresh embedded control plane; they take turns, so that what else
the machine does meets all of them. All make the same resources in the same simulated world, write a binding Secret,
and keep status. The plain operator is written as kopf's documentation shows it: create, update, resume and delete
handlers, an Event for each, TemporaryError while an engine starts (`kopf`). It is shown a second time with a handler
that waits for the engine instead (`kopf-waits`), which writes less and forgets everything at a restart.

Writes are all requests that change something, Events included. Ours tells what went as asked by status alone;
`--routine-events` lets it write the same three Events as the plain operator.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GROUP, VERSION, PLURAL = "data.chandlery.dev", "v1alpha1", "caches"
NAMESPACE = "bench"


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss() -> float:
    """MiB in memory now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


# The operators: each reports its CPU, memory and writes when it gets a line on its standard input.


async def report(writes: Counter[str]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line.strip():
            return
        print(json.dumps({"cpu": cpu(), "rss": rss(), "writes": writes.total(), "by": dict(writes)}), flush=True)


async def ours(kubeconfig: Path, start: float, *, source: str, routine: bool) -> None:
    from chandlery.foundation.collector import settle
    from chandlery.foundation.logging import configure
    from chandlery.providers.memory import MemoryProvider, World
    from chandlery.reconcile.credentials import from_kubeconfig
    from chandlery.reconcile.operator import Operator, OperatorSettings
    from chandlery.reconcile.settings import LoopSettings
    from chandlery_kinds import KINDS

    configure(level="warning")  # the plain operator's logging isn't set up, which comes to the same
    writes: Counter[str] = Counter()
    providers = {"memory": MemoryProvider(World(start_time=start))}
    kinds = [kind for kind in KINDS if kind.name == "Cache"]
    settings = OperatorSettings(
        loop=LoopSettings(routine_events=routine),
        leader_election=False,
        source="informer" if source == "informer" else "kopf",
    )
    operator = Operator(from_kubeconfig(kubeconfig), kinds, providers, settings=settings)
    count = operator.metrics.request

    def counted(verb: str, plural: str, code: str) -> None:
        if verb not in {"get", "list", "watch"}:
            writes[f"{verb} {plural}"] += 1
        count(verb, plural, code)

    operator.api._on_request = counted
    await operator.start()
    await operator.settled()
    while source == "kopf" and not (operator.source and operator.source.ready):
        await asyncio.sleep(0.05)
    settle()  # as the operator's entry point does
    print("ready", flush=True)
    await report(writes)
    await operator.stop()


async def plain(kubeconfig: Path, start: float, *, wait: bool) -> None:
    import base64

    import aiohttp
    import kopf

    from chandlery.providers.memory import World
    from chandlery.reconcile.credentials import from_kubeconfig

    writes: Counter[str] = Counter()
    world = World(start_time=start)
    credentials = from_kubeconfig(kubeconfig)
    registry = kopf.OperatorRegistry()
    sessions: list[aiohttp.ClientSession] = []

    async def count(_session: Any, _context: Any, params: aiohttp.TraceRequestStartParams) -> None:
        if params.method != "GET":
            path = params.url.path
            kind = next((k for k in ("secrets", "events", "status") if f"/{k}" in path), "object")
            writes[f"{params.method} {kind}"] += 1

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(count)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=credentials.tls or True), trace_configs=[trace]
        )
        sessions.append(session)
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session)

    async def ready(name: str) -> dict[str, Any]:
        while True:
            parts = await world.look(name)
            if parts["instance"].data["state"] == "running":
                return parts["instance"].data
            if not wait:
                raise kopf.TemporaryError("the engine is starting", delay=0.2)
            await asyncio.sleep(0.1)

    async def bind(body: Any, data: dict[str, Any]) -> None:
        meta = body["metadata"]
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "data": {k: base64.b64encode(str(v).encode()).decode() for k, v in data.items()},
        }
        kopf.append_owner_reference(secret, body)
        url = f"{credentials.server}/api/v1/namespaces/{meta['namespace']}/secrets/{meta['name']}"
        async with sessions[0].patch(
            url,
            params={"fieldManager": "plain", "force": "true"},
            data=json.dumps(secret),
            headers={"Content-Type": "application/apply-patch+yaml"},
        ) as response:
            response.raise_for_status()

    def told(patch: kopf.Patch, meta: Any, data: dict[str, Any]) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        patch.status["observedGeneration"] = meta["generation"]
        patch.status["phase"] = "Ready"
        patch.status["endpoint"] = {"host": "127.0.0.1", "port": data["port"]}
        patch.status["conditions"] = [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Available",
                "message": "Serves clients.",
                "lastTransitionTime": now,
                "observedGeneration": meta["generation"],
            }
        ]

    @kopf.on.resume(GROUP, VERSION, PLURAL, registry=registry)
    @kopf.on.create(GROUP, VERSION, PLURAL, registry=registry)
    async def create(spec: Any, uid: str, meta: Any, body: Any, patch: kopf.Patch, **_: Any) -> None:
        name = f"cache-{uid}"
        for part in ("volume", "address", "user"):
            await world.make(part, name, {"password": "x" * 24})
        await world.start(name, {"settings": {"memory": spec["memory"]}})
        data = await ready(name)
        kopf.info(body, reason="Created", message="Made by the plain operator.")
        await bind(body, {"host": "127.0.0.1", "port": data["port"], "password": "x" * 24})
        told(patch, meta, data)

    @kopf.on.update(GROUP, VERSION, PLURAL, field="spec", registry=registry)
    async def update(spec: Any, uid: str, meta: Any, body: Any, patch: kopf.Patch, **_: Any) -> None:
        name = f"cache-{uid}"
        await world.configure(name, {"memory": spec["memory"]}, restart=False)
        told(patch, meta, await ready(name))
        kopf.info(body, reason="Updated", message="Changed spec.memory.")

    @kopf.on.delete(GROUP, VERSION, PLURAL, registry=registry)
    async def delete(uid: str, body: Any, **_: Any) -> None:
        for part in ("instance", "user", "address", "volume"):
            await world.remove(part, f"cache-{uid}")
        kopf.info(body, reason="Deleted", message="All gone.")

    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    stop, started = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=settings,
            clusterwide=True,
            standalone=True,
            stop_flag=stop,
            ready_flag=started,
        )
    )
    await started.wait()
    await asyncio.sleep(1)
    print("ready", flush=True)
    await report(writes)
    stop.set()
    await task


# The bench: a control plane, an operator, and what happens to the objects.


class Peer:
    """An operator's process."""

    def __init__(self, which: str, kubeconfig: Path, start: float, *more: str) -> None:
        command = [sys.executable, __file__, "--serve", which, "--kubeconfig", str(kubeconfig), "--start", str(start)]
        command += more
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.strip() != "ready":
            raise SystemExit(f"{which} did not start: {line!r}")

    def ask(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


async def bench(which: str, objects: int, start: float, idle: float, *more: str) -> dict[str, Any]:
    import yaml

    from chandlery.reconcile.api import ResourceType
    from chandlery.reconcile.client import HttpApi
    from chandlery.reconcile.credentials import from_kubeconfig

    caches = ResourceType(GROUP, VERSION, PLURAL, "Cache")
    crds = ResourceType("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
    classes = ResourceType("platform.chandlery.dev", "v1alpha1", "resourceclasses", "ResourceClass", False)
    namespaces = ResourceType("", "v1", "namespaces", "Namespace", False)
    with tempfile.TemporaryDirectory() as folder:
        plane = subprocess.Popen(
            [sys.executable, "-m", "chandlery.controlplane", "--data-dir", folder, "--store", "memory"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert plane.stdout is not None
        plane.stdout.readline()
        kubeconfig = Path(folder) / "kubeconfig"
        peer = None
        try:
            async with HttpApi(from_kubeconfig(kubeconfig)) as api:
                for file in sorted((ROOT / "crds").glob("*.yaml")):
                    await api.apply(crds, yaml.safe_load(file.read_text()))
                await api.create(namespaces, {"metadata": {"name": NAMESPACE}})
                await until(lambda: listed(api, classes))
                spec = {"kind": "Cache", "driver": "memory", "default": True}
                await api.create(classes, {"metadata": {"name": "memory"}, "spec": spec})
                peer = Peer(which, kubeconfig, start, *more)
                await warm_up(api, caches)
                marks = [peer.ask()]
                times = []
                for phase in (create_all, update_all, lambda *_: asyncio.sleep(idle), delete_all):
                    began = time.monotonic()
                    await phase(api, caches, objects)
                    times.append(time.monotonic() - began)
                    await asyncio.sleep(0.5 if phase is not delete_all else 2.0)
                    marks.append(peer.ask())
                return result(which, objects, marks, times, idle)
        finally:
            if peer is not None:
                peer.close()
            plane.terminate()
            plane.wait(10)
            plane.stdout.close()


async def until(check: Any, seconds: float = 300.0) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            if await check():
                return
        except Exception as error:
            problem: Any = error
        else:
            problem = None
        await asyncio.sleep(0.1)
    raise SystemExit(f"not within {seconds} s: {problem}")


async def listed(api: Any, kind: Any) -> bool:
    await api.list(kind)
    return True


async def warm_up(api: Any, kind: Any) -> None:
    """Imports and first connections are not what is measured."""
    await create_all(api, kind, 5)
    await update_all(api, kind, 5)
    await delete_all(api, kind, 5)
    await asyncio.sleep(1)


async def create_all(api: Any, kind: Any, count: int) -> None:
    limit = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with limit:
            meta = {"name": f"cache-{number:05}", "namespace": NAMESPACE}
            await api.create(kind, {"metadata": meta, "spec": {"memory": "64Mi"}})

    await asyncio.gather(*(one(number) for number in range(count)))
    await until(lambda: all_ready(api, kind, count, 1))


async def update_all(api: Any, kind: Any, count: int) -> None:
    limit = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with limit:
            await api.merge_patch(kind, NAMESPACE, f"cache-{number:05}", {"spec": {"memory": "128Mi"}})

    await asyncio.gather(*(one(number) for number in range(count)))
    await until(lambda: all_ready(api, kind, count, 2))


async def delete_all(api: Any, kind: Any, count: int) -> None:
    limit = asyncio.Semaphore(16)

    async def one(number: int) -> None:
        async with limit:
            await api.delete(kind, NAMESPACE, f"cache-{number:05}")

    await asyncio.gather(*(one(number) for number in range(count)))
    await until(lambda: none_left(api, kind))


async def all_ready(api: Any, kind: Any, count: int, generation: int) -> bool:
    items = (await api.list(kind, NAMESPACE)).items
    good = 0
    for item in items:
        status = item.get("status") or {}
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
        good += ready and status.get("observedGeneration", 0) >= generation
    return good == count


async def none_left(api: Any, kind: Any) -> bool:
    return not (await api.list(kind, NAMESPACE)).items


def result(which: str, objects: int, marks: list[dict[str, Any]], times: list[float], idle: float) -> dict[str, Any]:
    def used(first: int, last: int, what: str) -> float:
        return float(marks[last][what] - marks[first][what])

    return {
        "operator": which,
        "create ms CPU/object": used(0, 1, "cpu") * 1000 / objects,
        "update ms CPU/object": used(1, 2, "cpu") * 1000 / objects,
        "delete ms CPU/object": used(3, 4, "cpu") * 1000 / objects,
        "total ms CPU/object": (used(0, 4, "cpu") - used(2, 3, "cpu")) * 1000 / objects,
        "writes/object": used(0, 4, "writes") / objects,
        "without events": (used(0, 4, "writes") - events(marks[4]) + events(marks[0])) / objects,
        "idle ms CPU/s": used(2, 3, "cpu") * 1000 / (idle + 0.5),
        "RSS MiB at start": marks[0]["rss"],
        "RSS MiB with all": max(mark["rss"] for mark in marks[1:4]),
        "seconds to Ready": times[0],
        "writes by kind": {
            k: round((v - marks[0]["by"].get(k, 0)) / objects, 2) for k, v in sorted(marks[-1]["by"].items())
        },
    }


def events(mark: dict[str, Any]) -> int:
    return int(sum(count for what, count in mark["by"].items() if "events" in what))


def mean(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of several rounds of one operator."""
    first = rounds[0]
    found = {k: sum(r[k] for r in rounds) / len(rounds) for k, v in first.items() if isinstance(v, float | int)}
    return {**first, **found}


COMPARED = {"CPU": "total ms CPU/object", "writes": "writes/object", "memory": "RSS MiB with all"}


def ratios(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Ours over each of the others; an aim is met at 0.5 for CPU and writes, 1 for memory."""
    mine = next((found for found in results if found["operator"] == "ours"), None)
    others = [found for found in results if found["operator"].startswith("kopf")]
    if mine is None:
        return {}
    words = {**COMPARED, "writes without Events": "without events", "idle CPU": "idle ms CPU/s"}
    return {o["operator"]: {word: mine[key] / (o[key] or 1e-9) for word, key in words.items()} for o in others}


def show(results: list[dict[str, Any]]) -> None:
    names = [key for key in results[0] if key not in {"operator", "writes by kind"}]
    print(f"{'':24}" + "".join(f"{found['operator']:>16}" for found in results))
    for name in names:
        print(f"{name:24}" + "".join(f"{found[name]:16.2f}" for found in results))
    for found in results:
        print(f"{found['operator']}: {found['writes by kind']}")
    for other, compared in ratios(results).items():
        print(f"ours / {other}: " + ", ".join(f"{word} {value:.2f}" for word, value in compared.items()))


OPERATORS = ("ours", "kopf", "kopf-waits", "ours-informer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="each operator so many times, in turn")
    parser.add_argument("--start", type=float, default=0.3, help="seconds that an engine takes to start")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds of doing nothing")
    parser.add_argument("--only", choices=OPERATORS, action="append", help="by default the first three")
    parser.add_argument("--routine-events", action="store_true", help="ours writes Events as the plain operator does")
    parser.add_argument("--json", type=Path, help="also write the results there")
    parser.add_argument("--check", action="store_true", help="fail unless ours keeps to half of the plain operator")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--kubeconfig", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        import uvloop  # as both command lines do

        source = "informer" if given.serve == "ours-informer" else "kopf"
        which: Any = functools.partial(plain, wait=given.serve == "kopf-waits")
        if given.serve.startswith("ours"):
            which = functools.partial(ours, source=source, routine=given.routine_events)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(which(given.kubeconfig, given.start))
        return
    more = ["--routine-events"] if given.routine_events else []
    chosen = given.only or OPERATORS[:3]
    rounds: dict[str, list[dict[str, Any]]] = {which: [] for which in chosen}
    for _ in range(given.rounds):
        for which in chosen:
            rounds[which].append(asyncio.run(bench(which, given.objects, given.start, given.idle, *more)))
    results = [mean(found) for found in rounds.values()]
    show(results)
    found = ratios(results)
    if given.json:
        summary = {"cpus": os.cpu_count(), "results": results, "ratios": found}
        given.json.write_text(json.dumps(summary, indent=2))
    plainly = found.get("kopf", {})
    if given.check and (plainly["CPU"] > 0.5 or plainly["writes"] > 0.5 or plainly["memory"] > 1.0):
        raise SystemExit("more than half of the plain operator's CPU or writes, or more than its memory")


if __name__ == "__main__":
    main()
