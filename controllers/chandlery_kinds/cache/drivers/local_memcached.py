"""Memcached on this machine: one process, or several over which clients spread their keys themselves."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import Endpoint
from chandlery.providers.local import Instance, Process, ProcessSpec, ProcessState, StopStep
from chandlery.providers.local.driver import crash_loop, require_port
from chandlery.providers.local.rotation import Rotation
from chandlery.providers.local.tls_front import Front, FrontState
from chandlery_kinds.cache import memcached
from chandlery_kinds.cache.binding import Address, memcached_entries
from chandlery_kinds.cache.drivers.local_front import HOST, Fronted
from chandlery_kinds.cache.model import Cache

STARTING_POLL = 0.02
DRIFT_POLL = 10.0
ANSWER_SECONDS = 1.0
RELOAD_SECONDS = 5.0
AUTH_FILE = "users"
# SIGTERM takes it a second, SIGUSR1 some milliseconds.
STOP = (StopStep(signal.SIGUSR1, 2.0), StopStep(signal.SIGTERM, 3.0), StopStep(signal.SIGKILL, 5.0))


@dataclass(slots=True)
class Node:
    """One process and what it said of itself."""

    index: int
    process: Process
    port: int
    state: ProcessState
    settings: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    works: bool = False
    error: str = ""

    @property
    def name(self) -> str:
        return f"node-{self.index}"


class MemcachedServers(Fronted):
    """Everything that one pass does with one cache's processes. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: Cache, instance: Instance) -> None:
        super().__init__(ctx, obj, instance)
        self.count = obj.spec.primaries

    # -- what is on record

    @staticmethod
    def port_key(index: int) -> str:
        return "client" if index == 0 else f"node-{index}"

    def node(self, index: int) -> Node:
        process = self.instance.process(f"node-{index}")
        return Node(index, process, self.claimed(self.port_key(index)), process.state())

    @property
    def rotation(self) -> Rotation:
        return Rotation(self.ctx, self.obj, self.instance, {memcached.USER: "password"})

    @property
    def password(self) -> str:
        return self.rotation.password(memcached.USER).value

    def fronts(self) -> list[Front]:
        return [*self.tls_fronts([self.port_key(i) for i in range(self.count)]), *self.outside_fronts("client")]

    def address(self) -> Address:
        found = self.address_of("client")
        nodes = [f"{HOST}:{self.public(self.port_key(index))}" for index in range(self.count)]
        return replace(found, nodes=nodes)

    @property
    def _started_with(self) -> dict[str, list[str]]:
        """Port and arguments of each process: what only a restart changes."""
        found: dict[str, list[str]] = self.instance.record.setdefault("arguments", {})
        return found

    # -- create

    async def create(self) -> None:
        for index in range(self.count):
            await self._start(self.node(index))
        self.instance.record["users_loaded"] = self._users_digest
        self.instance.save()
        front = self.front()
        if front is not None:
            await front.apply()

    async def _start(self, node: Node) -> None:
        if node.state.running:
            return
        require_port(node.port)
        engine = self.instance.engine("memcached", self.spec.version)
        self._write_users()
        self._started_with[node.name] = self._lasting(node)
        self.instance.save()
        path = str(self.instance.config_dir / AUTH_FILE)
        argv = [str(engine.binary), *memcached.arguments(self.spec, node.port, path)]
        await node.process.start(ProcessSpec(argv, env=engine.env, stop=STOP))

    def _lasting(self, node: Node) -> list[str]:
        return [str(node.port), *memcached.lasting_arguments(self.spec)]

    def _auth_file(self) -> str:
        return memcached.auth_file(memcached.USER, [each.value for each in self.rotation.passwords(memcached.USER)])

    def _write_users(self) -> None:
        self.instance.write_config(AUTH_FILE, self._auth_file())

    @property
    def _users_digest(self) -> str:
        return hashlib.sha256(self._auth_file().encode()).hexdigest()[:16]

    async def _load_users(self) -> None:
        """Have the processes read the passwords again, and wait until each takes the present one: a second at most."""
        self._write_users()
        running = [node for node in map(self.node, range(self.count)) if node.state.running]
        for node in running:
            node.process.signal(signal.SIGHUP)
        clock = self.ctx.base.clock
        deadline = clock.monotonic() + RELOAD_SECONDS
        for node in running:
            while clock.monotonic() < deadline:
                try:
                    async with await self._connect(node.port):
                        break
                except ChandleryError:
                    await clock.sleep(0.05)
        self.instance.record["users_loaded"] = self._users_digest
        self.instance.save()

    # -- observe

    async def _connect(self, port: int, *, public: bool = False) -> memcached.MemcachedClient:
        tls = self.client_context() if public else None
        return await memcached.MemcachedClient.connect(
            HOST, port, user=memcached.USER, password=self.password, seconds=ANSWER_SECONDS, tls=tls
        )

    async def _ask(self, node: Node) -> None:
        """What it says of itself, and whether a client can write and read, by TLS where it must."""
        if not node.state.running:
            return
        try:
            async with await self._connect(node.port) as client:
                node.settings = await client.statistics("settings")
                node.version = (await client.statistics()).get("version", "")
            public = self.client_context() is not None
            port = self.public(self.port_key(node.index)) if public else node.port
            async with await self._connect(port, public=public) as client:
                node.works = await client.works()
        except ChandleryError as error:
            node.error = error.message
        if node.works:
            node.process.settled()

    async def observe(self) -> Observation:
        self.instance.reload()
        known = [name for name in self.instance.process_names() if name.startswith("node-")]
        nodes = [self.node(index) for index in range(self.count)]
        for node in nodes:
            await self._ask(node)
        front = await self.observe_front()
        extra = [name for name in known if int(name.rpartition("-")[2]) >= self.count]
        differences = [*self._differences(nodes), *front.differences]
        differences += [Difference("spec.shards", "absent", name, payload=("remove", name)) for name in extra]
        ready = front.ready and all(node.works for node in nodes)
        reason, message = ("", "") if ready else self._explain(nodes, front)
        waits = [node.state.wait for node in nodes if not node.state.running]
        entries = memcached_entries(self.address(), memcached.USER, self.password)
        return Observation(
            exists=bool(known),
            ready=ready,
            reason=reason,
            message=message,
            differences=tuple(differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=HOST, port=self.endpoint_port),
            binding=Binding("memcached", "chandlery", entries),
            facts=self._facts(nodes),
            poll_after=self.rotation.poll(DRIFT_POLL if ready else max(STARTING_POLL, min(waits, default=0.0))),
        )

    def _differences(self, nodes: list[Node]) -> list[Difference]:
        found: list[Difference] = []
        for node in nodes:
            if not node.state.running:
                if node.state.wait <= 0:
                    change = ("start", node.index)
                    found.append(Difference(f"instance {node.name}", "running", "stopped", payload=change))
                continue
            wanted, started = self._lasting(node), self._started_with.get(node.name, [])
            if started != wanted:
                text = (" ".join(wanted[1:]) or "defaults", " ".join(started[1:]) or "defaults")
                eviction = {"--disable-evictions"} & ({*wanted} ^ {*started})
                field = "spec.evictionPolicy" if eviction else "spec.configuration"
                found.append(Difference(field, *text, Disruption.RESTART, payload=("restart", node.index)))
            have = node.settings.get("maxbytes")
            limit = memcached.megabytes(self.spec) * memcached.MIB
            if have is not None and int(have) != limit:
                found.append(Difference("spec.memory", str(limit), have, payload=("memory", node.index)))
        if self.instance.record.get("users_loaded") != self._users_digest:
            found.append(Difference("users", "as on record", "older", payload=("users",)))
        found += self.rotation.differences()
        found += self.port_differences("client", Disruption.RESTART)
        return found

    def _explain(self, nodes: list[Node], front: FrontState) -> tuple[str, str]:
        for node in nodes:
            looping = crash_loop(node.name, node.process, node.state)
            if looping is not None:
                return looping
        if not front.ready:
            return front.reason, front.message
        silent = next((node for node in nodes if not node.works), nodes[0])
        return "Starting", f"waiting for {silent.name} to answer" + (f" ({silent.error})" if silent.error else "")

    def _facts(self, nodes: list[Node]) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": "member",
                "ready": node.works,
                "address": f"{HOST}:{self.public(self.port_key(node.index))}",
                **({"version": node.version} if node.version else {}),
                **({"message": node.error} if node.error else {}),
            }
            for node in nodes
        ]
        version = next((node.version for node in nodes if node.version), "")
        return {
            "engine": "memcached",
            "instances": len(nodes),
            "readyInstances": sum(1 for node in nodes if node.works),
            "members": members,
            **({"version": version} if version else {}),
            **({"shards": len(nodes)} if self.count > 1 else {}),
        }

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says."""
        restarted: set[int] = set()
        for payload in [
            change.payload for change in observed.plan.changes if change.payload[0] in ("rotate", "expire")
        ]:
            self.rotation.apply(payload)
        if any(change.payload[0] in ("rotate", "expire", "users") for change in observed.plan.changes):
            await self._load_users()
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "start":
                await self._start(self.node(int(rest[0])))
            elif what == "restart" and int(rest[0]) not in restarted:
                restarted.add(int(rest[0]))
                await self.node(int(rest[0])).process.stop()
                await self._start(self.node(int(rest[0])))
            elif what == "memory":
                async with await self._connect(self.node(int(rest[0])).port) as client:
                    await client.limit_memory(memcached.megabytes(self.spec))
            elif what == "public-port":
                self.claim_public("client")  # where the engine has to move for it, the next pass restarts it
            elif what == "remove":
                await self._remove(rest[0])
        await self.update_front(observed)

    async def _remove(self, name: str) -> None:
        process = self.instance.process(name)
        await process.stop()
        process.forget()
        self._started_with.pop(name, None)
        self.instance.release_port(name)
        self.instance.release_port(f"tls-{name}")
        self.instance.save()
