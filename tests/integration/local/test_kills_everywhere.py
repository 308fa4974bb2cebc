"""Kill -9 of engines, operator, control plane or all at once, in the middle of create, update, failover and delete.

CHANDLERY_KILLS=200 kills at two hundred random points, CHANDLERY_KILLS_SEED names the random numbers (without it they
are others in each such run, and the same in each short one), and CHANDLERY_KILLS_KINDS the kinds. Whatever is killed
when: it converges, nothing that was acknowledged is lost (clients write all the time), and nothing is left over of what
was deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from checking_writers import CacheWriter, CopiedCacheWriter, DatabaseWriter, MachineWriter, QueueWriter, Writer
from local_harness import shared_cache

from chandlery.app import manifests
from chandlery.app.show import binding
from chandlery.app.up import connect, is_ready
from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local import pids
from chandlery.providers.local.engines.apt import available
from chandlery.providers.local.ports import DEFAULT_RANGE, Ports, is_free
from chandlery.providers.local.process import MARK

KILLS = int(os.environ.get("CHANDLERY_KILLS", "4"))
SEED = int(os.environ.get("CHANDLERY_KILLS_SEED", "0")) or (
    random.SystemRandom().randrange(1, 10**6) if "CHANDLERY_KILLS" in os.environ else 1
)
SECONDS = 90.0
PORTS = Ports(lambda: (), (DEFAULT_RANGE[1] - 4000, DEFAULT_RANGE[1] - 3001))
VICTIMS = ("engine", "operator", "controlplane", "everything")
VERBS = ("create", "update", "failover", "delete")

Spec = dict[str, Any]


class Service:
    """One object that lives through it all, its client, and the changes that can be made to it."""

    def __init__(
        self,
        kind: str,
        name: str,
        spec: Spec,
        changes: list[Spec],
        writer: type[Writer] | None = None,
        primary: str = "",
    ) -> None:
        self.kind = kind
        self.name = name
        self.spec = spec
        self.changes = changes
        self.writer_type = writer
        self.copied = bool(primary)
        self.writer: Writer | None = None


def services(port: int, target: int) -> list[Service]:
    balanced: Spec = {
        "listeners": [{"name": "web", "port": port, "protocol": "HTTP", "pool": "app"}],
        "pools": [{"name": "app", "targets": [{"name": "a", "address": "127.0.0.1", "port": target}]}],
    }
    more = [{"name": "app", "targets": [{"name": n, "address": "127.0.0.1", "port": target} for n in "ab"]}]
    kept: Spec = {"mode": "append-only", "storage": {"size": "1Gi"}}
    copied = {"mode": "replicated", "replicas": 2, "memory": "32Mi", "persistence": kept}
    both = {"mode": "synchronous"}
    found = [
        Service(
            "Cache",
            "one",
            {"memory": "32Mi", "persistence": kept},
            [{"memory": "48Mi"}, {"memory": "32Mi"}],
            CacheWriter,
        ),
        Service(
            "Queue",
            "jobs",
            {"storage": {"size": "64Mi"}, "acknowledgementTimeout": "2s"},
            [{"maxDeliveries": 90}, {"maxDeliveries": 80, "users": [{"name": "other"}]}],
            QueueWriter,
        ),
        Service("LoadBalancer", "web", balanced, [{"pools": more}, {"pools": balanced["pools"]}]),
        Service(
            "Cache", "copied", copied, [{"memory": "64Mi"}, {"replicas": 1}, {"replicas": 2}], CopiedCacheWriter, "node"
        ),
        Service(
            "Database",
            "single",
            {},
            [
                {"configuration": {"work_mem": "8MB"}},
                {"configuration": {"max_connections": "90"}},
                {"configuration": None},
            ],
            DatabaseWriter,
        ),
        Service(
            "Database",
            "pair",
            {"instances": 2, "replication": both},
            [{"configuration": {"work_mem": "8MB"}}, {"configuration": {"max_connections": "120"}}],
            DatabaseWriter,
            "node",
        ),
    ]
    machine: Spec = {
        "memory": "96Mi",
        "image": {"name": "tiny"},
        "disks": [{"name": "safe", "size": "16Mi"}],
        "network": {"forwards": [{"name": "http", "guestPort": 80}]},
        "cloudInit": {"userData": MachineWriter.USER_DATA},
        "shutdownTimeout": "10s",
    }
    forwards = [*machine["network"]["forwards"], {"name": "other", "guestPort": 81}]
    if not available():
        changes = [{"network": {"forwards": forwards}}, {"network": machine["network"]}, {"memory": "128Mi"}]
        found.append(Service("VirtualMachine", "machine", machine, changes, MachineWriter))
    named = os.environ.get("CHANDLERY_KILLS_KINDS", "*" if KILLS > 20 else "Cache,Queue,LoadBalancer")
    few = found if KILLS > 20 else found[:4]
    return [s for s in few if named == "*" or s.kind in named.split(",")]


class World:
    """One `chandlery up`, as kubectl and the operating system see it."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root = root
        self.rng = rng
        self.count = 0
        self.retained: dict[str, str] = {}

    async def up(self) -> None:
        argv = ["-c", "from chandlery.app.entry import main; main()", "up", "--detach", "--quiet"]
        argv += ["--data-dir", str(self.root)]
        env = {**os.environ, "CHANDLERY_LOCAL_CACHE_DIR": str(shared_cache())}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *argv, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()

    async def ask(self, call: Callable[[Any], Awaitable[Any]], seconds: float = SECONDS) -> Any:
        """Ask the API server, again and again while it is away."""
        deadline = time.monotonic() + seconds
        while True:
            api = None
            try:
                api = connect(self.root / "kubeconfig")
                async with asyncio.timeout(10):
                    return await call(api)
            except (ChandleryError, OSError, TimeoutError, aiohttp.ClientError) as error:
                fatal = isinstance(error, ChandleryError) and error.terminal
                if fatal or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
            finally:
                if api is not None:
                    await api.close()

    # -- objects

    @staticmethod
    def where(kind: str) -> Any:
        return next(t for t in manifests.our_types() if t.kind == kind)

    async def apply(self, kind: str, name: str, spec: Spec) -> dict[str, Any]:
        where = self.where(kind)
        body = {
            "apiVersion": where.api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": "default"},
            "spec": spec,
        }
        found: dict[str, Any] = await self.ask(lambda api: api.apply(where, body, manager="kills"))
        return found

    async def get(self, kind: str, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self.ask(lambda api: api.get(self.where(kind), "default", name))
        return found

    async def ready(self, kind: str, name: str, generation: int = 0) -> dict[str, Any]:
        """Wait until it is Ready in this generation."""
        deadline, obj = time.monotonic() + SECONDS, None
        while True:
            obj = await self.get(kind, name)
            if obj is not None and is_ready(obj) and obj["status"]["observedGeneration"] >= generation:
                return obj
            assert time.monotonic() < deadline, f"{kind} {name} never ready: {json.dumps(obj and obj.get('status'))}"
            await asyncio.sleep(0.05)

    async def gone(self, kind: str, name: str) -> None:
        deadline = time.monotonic() + SECONDS
        while (obj := await self.get(kind, name)) is not None:
            assert time.monotonic() < deadline, f"{kind} {name} never gone: {json.dumps(obj.get('status'))}"
            await asyncio.sleep(0.05)

    def entries(self, kind: str, name: str) -> Callable[[], Awaitable[Any]]:
        async def read() -> Any:
            async def look(api: Any) -> Any:
                obj = await api.get(self.where(kind), "default", name)
                return await binding(api, {**obj, "kind": kind})

            return await self.ask(look)

        return read

    # -- processes

    def engines(self, uid: str = "") -> dict[int, str]:
        """Pid and mark of every engine process of this data directory, or of one object."""
        found = {}
        for pid in pids.all_pids():
            env = pids.environ(pid)
            mark = env.get(MARK, "")
            if (
                mark
                and env.get("HOME", "").startswith(str(self.root) + os.sep)
                and uid in mark
                and pids.start_time(pid)
            ):
                found[pid] = mark
        return found

    def kept(self) -> dict[str, int]:
        try:
            state = json.loads((self.root / "run" / "keeper.json").read_text())
        except (OSError, ValueError):
            return {}
        found = {name: child["pid"] for name, child in state["children"].items() if child["pid"]}
        return {**found, "keeper": state["pid"]}

    async def kill(self, victim: str, uid: str) -> str:
        if victim == "engine":
            alive = self.engines(uid) or self.engines()
            if not alive:
                return "nobody"
            pid = self.rng.choice(sorted(alive))
            _end(pid)
            return alive[pid]
        kept = self.kept()
        if victim == "everything":
            for name in ("keeper", "operator", "controlplane"):
                _end(kept.get(name, 0))
            for pid in self.engines():
                _end(pid)
            await self.up()
            return "everything"
        _end(kept.get(victim, 0))
        return victim

    # -- what must hold

    async def nothing_left_over(self) -> None:
        """Each directory has its object, each process its directory."""
        deadline = time.monotonic() + SECONDS
        while True:
            live = set()
            for where in manifests.our_types():
                page = await self.ask(lambda api, where=where: api.list(where))
                for obj in page.items:
                    adopt = obj["spec"].get("adopt")
                    live.add(adopt["externalName"] if adopt else f"{where.kind.lower()}-{obj['metadata']['uid']}")
            homes = {home.name for home in (self.root / "instances").iterdir()}
            stray = homes - live - set(self.retained)
            lost = {mark for mark in self.engines().values() if mark.partition("/")[0] not in live}
            if not stray and not lost:
                return
            assert time.monotonic() < deadline, f"left over: directories {stray}, processes {lost}"
            await asyncio.sleep(0.1)


def _end(pid: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Story:
    """Round after round."""

    def __init__(self, world: World, rng: random.Random, all_services: list[Service]) -> None:
        self.world = world
        self.rng = rng
        self.services = all_services
        self.passing: list[tuple[Service, str]] = []
        """Objects that were made on the way, to be deleted on the way."""
        self.told: list[str] = []

    async def begin(self) -> None:
        await self.world.up()
        for service in self.services:
            await self.world.apply(service.kind, service.name, service.spec)
        for service in self.services:
            await self.world.ready(service.kind, service.name)
            if service.writer_type is not None:
                service.writer = service.writer_type(
                    f"{service.kind} {service.name}", self.world.entries(service.kind, service.name)
                )
                service.writer.start()

    async def round(self, number: int) -> None:
        verb = VERBS[number % 4] if KILLS < 20 else self.rng.choice(VERBS)
        victim = self.rng.choice(VICTIMS)
        pause = self.rng.random() ** 2 * 1.5
        if verb in ("create", "delete"):
            service = self.rng.choice([s for s in self.services if s.kind != "LoadBalancer"])
        elif verb == "failover":
            service = self.rng.choice([s for s in self.services if s.copied] or self.services)
        else:
            service = self.rng.choice(self.services)
        self.told.append(f"{number}: {verb} {service.kind} {service.name}, {victim} after {pause:.2f} s")
        print(self.told[-1], flush=True)
        began = time.monotonic()
        await getattr(self, verb)(service, victim, pause)
        for other in self.services:
            await self.world.ready(other.kind, other.name)
            if other.writer is not None:
                await other.writer.more(1)
        print(f"   {time.monotonic() - began:.1f} s", flush=True)

    async def create(self, service: Service, victim: str, pause: float) -> None:
        self.world.count += 1
        name = f"passing-{self.world.count}"
        made = await self.world.apply(service.kind, name, service.spec)
        await asyncio.sleep(pause)
        await self.world.kill(victim, made["metadata"]["uid"])
        await self.world.ready(service.kind, name)
        await self._serves(service, name)
        self.passing.append((service, name))
        if len(self.passing) > 2:
            await self.delete(service, "", 0)

    async def _serves(self, service: Service, name: str) -> list[int]:
        """A client writes a little and finds it."""
        assert service.writer_type is not None
        writer = service.writer_type(name, self.world.entries(service.kind, name))
        writer.start()
        try:
            await writer.more(2)
        finally:
            await writer.stop()
        assert await writer.lost() == []
        return writer.acknowledged

    async def update(self, service: Service, victim: str, pause: float) -> None:
        change = self.rng.choice(service.changes)
        service.spec = {key: value for key, value in {**service.spec, **change}.items() if value is not None}
        made = await self.world.apply(service.kind, service.name, service.spec)
        await asyncio.sleep(pause)
        await self.world.kill(victim, made["metadata"]["uid"])
        await self.world.ready(service.kind, service.name, made["metadata"]["generation"])

    async def failover(self, service: Service, victim: str, pause: float) -> None:
        obj = await self.world.get(service.kind, service.name)
        assert obj is not None
        uid = obj["metadata"]["uid"]
        primary = obj["status"].get("primary", "")
        for pid, mark in self.world.engines(uid).items():
            if not primary or mark.endswith(primary):
                _end(pid)
        await asyncio.sleep(pause)
        await self.world.kill(victim, uid)
        await self.world.ready(service.kind, service.name)

    async def delete(self, service: Service, victim: str, pause: float) -> None:
        if not self.passing:
            await self.create(service, "", 0)
        service, name = self.passing.pop(0)
        retain = self.rng.random() < 0.3
        if retain:
            patch = {"spec": {"deletionPolicy": "Retain"}}
            where = self.world.where(service.kind)
            made = await self.world.ask(lambda api: api.merge_patch(where, "default", name, patch))
            await self.world.ready(service.kind, name, made["metadata"]["generation"])
        obj = await self.world.get(service.kind, name)
        assert obj is not None
        uid, external = obj["metadata"]["uid"], obj["status"]["externalName"]
        home = self.world.root / "instances" / external
        ports = json.loads((home / "record.json").read_text())["ports"]
        written = await self._serves(service, name) if retain else []
        if retain:
            self.world.retained[external] = name
        await self.world.ask(lambda api: api.delete(self.world.where(service.kind), "default", name))
        await asyncio.sleep(pause)
        if victim:
            await self.world.kill(victim, uid)
        await self.world.gone(service.kind, name)
        deadline = time.monotonic() + SECONDS
        while self.world.engines(uid) or not all(is_free(port) for port in ports.values()) or home.exists() != retain:
            assert time.monotonic() < deadline, (
                f"left of {external}: {self.world.engines(uid)}, {home.exists()}, {ports}"
            )
            await asyncio.sleep(0.05)
        if retain:
            await self._adopted(service, name, external, written)

    async def _adopted(self, service: Service, name: str, external: str, written: list[int]) -> None:
        """What was retained is found where it was said to be, by an object that takes it over."""
        again = name if service.kind == "Queue" else f"{name}-again"
        await self.world.apply(service.kind, again, {**service.spec, "adopt": {"externalName": external}})
        await self.world.ready(service.kind, again)
        assert service.writer_type is not None
        if service.kind != "Queue":  # there the reader has taken what it saw
            reader = service.writer_type(name, self.world.entries(service.kind, again))
            reader.acknowledged = written
            assert await reader.lost() == []
        del self.world.retained[external]
        self.passing.append((service, again))

    async def check(self) -> None:
        for service in self.services:
            if service.writer is not None:
                lost = await service.writer.lost()
                assert lost == [], f"{service.writer.name} lost {lost[:10]} of {len(service.writer.acknowledged)}"
        await self.world.nothing_left_over()

    async def end(self) -> None:
        for service in self.services:
            if service.writer is not None:
                await service.writer.stop()


@pytest.fixture
async def target():
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    port = PORTS.choose()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path / "d", random.Random(SEED))
    yield made
    kept = made.kept()
    for name in ("keeper", "operator", "controlplane"):  # the keeper first, or it would start the others again
        _end(kept.get(name, 0))
    for pid in made.engines():
        _end(pid)
    deadline = time.monotonic() + 30
    while made.engines() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(120 + KILLS * 60)
async def test_killed_at_random_points(world, target):
    rng = world.rng
    port = PORTS.choose()
    story = Story(world, rng, services(port, target))
    print(f"CHANDLERY_KILLS_SEED={SEED}")
    try:
        await story.begin()
        for number in range(KILLS):
            await story.round(number)
            if number % 10 == 9:
                await story.check()
        if any(service.kind == "LoadBalancer" for service in story.services):
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
                assert await answer.text() == "hello"
        for service, _ in list(story.passing):
            await story.delete(service, "", 0)
        await story.check()
    except BaseException:
        print("\n".join(story.told[-5:]))
        raise
    finally:
        await story.end()
