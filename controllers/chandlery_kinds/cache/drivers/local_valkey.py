"""Valkey and Redis servers of one cache: a primary, and copies that follow it.

Clients connect to one port for as long as the cache lives. When the primary fails, the copy that has most is told to
listen on that port itself, so nobody needs a proxy and no client needs to be told.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, EngineFailed
from chandlery.model.base import Endpoint
from chandlery.providers.local import Instance, Process, ProcessSpec, ProcessState, StopStep
from chandlery.providers.local.driver import crash_loop, password_of, require_port
from chandlery_kinds.cache import acl
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.cache.resp import RespClient, info, pairs
from chandlery_kinds.cache.valkey import (
    RESTART_SETTINGS,
    NodeConfig,
    desired_settings,
    field_of,
    render,
    setting_differences,
)

HOST = "127.0.0.1"
STARTING_POLL = 0.02
ANSWER_SECONDS = 1.0
CATCH_UP_SECONDS = 5.0
REPLICATED_POLL = 1.0
STARTUP_SECONDS = 30.0
"""Loading a large data set takes a while: silence is normal then."""
HUNG_SECONDS = 1.0
"""A primary that is up but hasn't answered for so long, while a copy does, is given up."""
DRIFT_POLL = 10.0
# SIGTERM saves what persistence asks for, then ends; data in memory only is gone in any case.
# It refuses while it writes its first append-only file, and has to be asked again.
STOP = (*[StopStep(signal.SIGTERM, 0.5)] * 20, StopStep(signal.SIGKILL, 5.0))


@dataclass(slots=True)
class Node:
    """One server process and what it said of itself."""

    index: int
    process: Process
    port: int
    state: ProcessState
    info: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    acl: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def name(self) -> str:
        return f"node-{self.index}"

    @property
    def answers(self) -> bool:
        return bool(self.info)

    @property
    def role(self) -> str:
        return "primary" if self.info.get("role") == "master" else "replica"

    @property
    def offset(self) -> int:
        """How much of the primary's stream it has."""
        key = "master_repl_offset" if self.role == "primary" else "slave_repl_offset"
        return int(self.info.get(key, "-1"))


class ValkeyServers:
    """Everything that one pass does with one cache's servers. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: Cache, instance: Instance) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.instance = instance
        self.count = 1 + obj.spec.replicas_per_primary
        self.settings = desired_settings(obj.spec)

    # -- what is on record

    def port_key(self, index: int) -> str:
        """Under which name a node's port is claimed: `client` is the primary's, whichever node that is."""
        known: dict[str, str] = self.instance.record.get("port_keys", {})
        return known.get(str(index), "client" if index == 0 else f"replica-{index}")

    @property
    def primary_index(self) -> int:
        known: dict[str, str] = self.instance.record.get("port_keys", {})
        return next((int(index) for index, key in known.items() if key == "client"), 0)

    def port(self, index: int) -> int:
        return self.instance.port(self.port_key(index))

    @property
    def admin_password(self) -> str:
        return self.instance.secret("admin")

    def node(self, index: int) -> Node:
        process = self.instance.process(f"node-{index}")
        return Node(index, process, self.port(index), process.state())

    # -- create

    async def create(self) -> None:
        users = await self.users()
        self._write_acl(users)
        for index in range(self.count):
            await self._start(self.node(index))
        self._remember_acl(users, None)

    async def users(self) -> list[acl.AclUser]:
        """All users as they should be.

        Raises:
            DependencyNotReady: a password's Secret isn't there.
        """
        found = [acl.admin(self.admin_password), acl.application([self.instance.secret("password")])]
        for user in self.spec.users:
            found.append(acl.from_spec(user, [await self._user_password(user.name)]))
        return found

    async def _user_password(self, name: str) -> str:
        user = next(u for u in self.spec.users if u.name == name)
        if user.password_secret is None:
            return self.instance.secret(f"user-{name}")
        field = f"spec.users[{name}].passwordSecret"
        return await password_of(self.ctx.reader, self.obj.metadata.namespace, user.password_secret.name, field)

    def _write_acl(self, users: list[acl.AclUser]) -> bool:
        return self.instance.write_config("users.acl", acl.render_file(users))

    def _remember_acl(self, users: list[acl.AclUser], seen: Mapping[str, str] | None) -> None:
        """What was wanted, and how the engine prints it: it words rules in its own way."""
        record = self.instance.record
        before = dict(record.get("acl", {}))
        record["acl"] = {
            "wanted": acl.digest(acl.render_file(users)),
            "seen": acl.fingerprint(seen) if seen else before.get("seen", ""),
        }
        if record["acl"] != before:
            self.instance.save()

    def _write_config(self, node: Node) -> bool:
        primary = None if node.index == self.primary_index else (HOST, self.instance.port("client"))
        (self.instance.data_dir / node.name).mkdir(mode=0o700, exist_ok=True)
        config = NodeConfig(
            port=node.port,
            data_dir=str(self.instance.data_dir / node.name),
            acl_file=str(self.instance.config_dir / "users.acl"),
            primary=primary,
            replication_password=self.admin_password,
        )
        return self.instance.write_config(f"{node.name}.conf", render(self._known_settings(), config, acl.ADMIN))

    @property
    def _defaults(self) -> dict[str, str]:
        """What settings of spec.configuration were before they were set; they go back to it when taken out."""
        found: dict[str, str] = self.instance.record.setdefault("defaults", {})
        return found

    def _known_settings(self) -> dict[str, str]:
        """What may stand in the file: a setting that can be changed live is set live first, to learn its default."""
        configuration = self.spec.configuration
        return {
            name: value
            for name, value in self.settings.items()
            if name not in configuration or name in RESTART_SETTINGS or name in self._defaults
        }

    async def _start(self, node: Node) -> None:
        if not node.state.running:
            require_port(node.port)
        engine = self.instance.engine(self.spec.engine.value, self.spec.version)
        self._write_config(node)
        argv = [str(engine.binary), str(self.instance.config_dir / f"{node.name}.conf")]
        await node.process.start(ProcessSpec(argv, env=engine.env, stop=STOP))

    # -- observe

    async def _ask(self, node: Node) -> Node:
        """Log in as the driver's own user and read everything in one round trip."""
        if not node.state.running:
            return node
        try:
            async with await self._connect(node.port) as client:
                text, config, users = await client.pipeline([("INFO",), ("CONFIG", "GET", "*"), ("ACL", "LIST")])
        except ChandleryError as error:
            node.error = error.message
            return node
        node.info, node.config, node.acl = info(text), pairs(config), acl.parse_list(users)
        return node

    async def _connect(self, port: int) -> RespClient:
        return await RespClient.connect(
            HOST, port, user=acl.ADMIN, password=self.admin_password, seconds=ANSWER_SECONDS
        )

    async def _client_works(self, port: int) -> bool:
        """The real thing: what an application would do, with the binding's own credentials."""
        try:
            async with await RespClient.connect(
                HOST, port, password=self.instance.secret("password"), seconds=ANSWER_SECONDS
            ) as client:
                return bool(await client.command("PING") == "PONG")
        except ChandleryError:
            return False

    async def observe(self) -> Observation:
        self.instance.reload()
        extra = [name for name in self.instance.process_names() if int(name.rpartition("-")[2]) >= self.count]
        nodes = [await self._ask(self.node(index)) for index in range(self.count)]
        differences = await self._differences(nodes)
        differences += [Difference("spec.replicas", "absent", name, payload=("remove", name)) for name in extra]
        primary = nodes[self.primary_index] if self.primary_index < self.count else nodes[0]
        serves = primary.answers and primary.role == "primary" and await self._client_works(primary.port)
        behind = [n for n in nodes if n is not primary and n.info.get("master_link_status") != "up"]
        for node in nodes:
            if node.answers:
                node.process.settled()
        ready = serves and not behind
        reason, message = self._explain(nodes, primary, behind)
        client_port = self.instance.port("client")
        return Observation(
            exists=bool(self.instance.process_names()),
            ready=ready,
            reason="" if ready else reason,
            message="" if ready else message,
            differences=tuple(differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=HOST, port=client_port, **self._read_endpoint(nodes, primary)),
            binding=self._binding(acl.DEFAULT, self.instance.secret("password")),
            user_bindings=await self._user_bindings(),
            facts=self._facts(nodes, primary),
            poll_after=self._poll_after(ready, nodes),
        )

    def _poll_after(self, ready: bool, nodes: list[Node]) -> float:
        if ready:
            return REPLICATED_POLL if self.count > 1 else DRIFT_POLL
        waits = [node.state.wait for node in nodes if not node.state.running]
        return max(STARTING_POLL, min(waits, default=0.0))

    def _explain(self, nodes: list[Node], primary: Node, behind: list[Node]) -> tuple[str, str]:
        for node in nodes:
            looping = crash_loop(node.name, node.process, node.state)
            if looping is not None:
                return looping
        if not primary.answers:
            return "Starting", f"waiting for {primary.name} to answer" + (
                f" ({primary.error})" if primary.error else ""
            )
        if behind:
            return "Replicating", f"{', '.join(n.name for n in behind)} still copying from the primary"
        return "Starting", f"{primary.name} does not accept the binding's credentials yet"

    def _read_endpoint(self, nodes: list[Node], primary: Node) -> dict[str, Any]:
        reader = next((n for n in nodes if n is not primary and n.info.get("master_link_status") == "up"), None)
        return {"read_host": HOST, "read_port": reader.port} if reader else {}

    def _facts(self, nodes: list[Node], primary: Node) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": node.role if node.answers else "unknown",
                "ready": node.answers and (node is primary or node.info.get("master_link_status") == "up"),
                "address": f"{HOST}:{node.port}",
                **({"version": self._version(node)} if node.answers else {}),
                **({"message": node.error} if node.error else {}),
            }
            for node in nodes
        ]
        facts: dict[str, Any] = {
            "engine": self.spec.engine.value,
            "instances": len(nodes),
            "readyInstances": sum(1 for member in members if member["ready"]),
            "members": members,
        }
        if len(nodes) > 1:
            facts |= {"replicas": len(nodes) - 1, "primary": primary.name}
        if primary.answers:
            facts["version"] = self._version(primary)
        return facts

    @staticmethod
    def _version(node: Node) -> str:
        return node.info.get("valkey_version") or node.info.get("redis_version", "")

    def _binding(self, user: str, password: str) -> Binding:
        port = self.instance.port("client")
        name = "" if user == acl.DEFAULT else user
        entries = {
            "host": HOST,
            "port": str(port),
            "username": user,
            "password": password,
            "uri": f"redis://{name}:{password}@{HOST}:{port}/0",
        }
        return Binding("redis", "chandlery", entries)

    async def _user_bindings(self) -> dict[str, Binding]:
        name = self.obj.metadata.name
        return {
            f"{name}-user-{user.name}": self._binding(user.name, await self._user_password(user.name))
            for user in self.spec.users
        }

    # -- differences

    async def _differences(self, nodes: list[Node]) -> list[Difference]:
        found: list[Difference] = []
        primary = nodes[self.primary_index] if self.primary_index < self.count else None
        if primary is None or not primary.state.running or self._hangs(primary):
            heirs = [n for n in nodes if n.answers and n is not primary]
            if heirs:
                heir = max(heirs, key=lambda n: n.offset)
                was = primary.name if primary else f"node-{self.primary_index}"
                # It is no disruption: there is nobody left to disturb.
                return [Difference("primary", heir.name, was, payload=("promote", heir.index))]
        for node in nodes:
            if not node.state.running:
                if node.state.wait <= 0:
                    found.append(
                        Difference(f"instance {node.name}", "running", "stopped", payload=("start", node.index))
                    )
                continue
            if not node.answers:
                continue
            found += self._role_differences(node)
            back = {name: value for name, value in self._defaults.items() if name not in self.settings}
            found += setting_differences({**back, **self.settings}, node.config, node.name)
        found += self._acl_differences(await self.users(), [n for n in nodes if n.answers])
        return found

    def _hangs(self, primary: Node) -> bool:
        """Whether a running primary has been silent for too long. The first silence is kept in the record."""
        record = self.instance.record
        since = record.get("silent_since")
        if primary.answers:
            if since is not None:
                del record["silent_since"]
                self.instance.save()
            return False
        now = self.ctx.base.now().timestamp()
        started = primary.state.started_at or now
        if now - started < STARTUP_SECONDS:
            return False
        if since is None:
            record["silent_since"] = now
            self.instance.save()
            return False
        return bool(now - since >= HUNG_SECONDS)

    def _role_differences(self, node: Node) -> list[Difference]:
        if int(node.info.get("tcp_port", node.port)) != node.port:
            change = ("port", node.index)
            return [Difference(f"port of {node.name}", str(node.port), node.info["tcp_port"], payload=change)]
        should = "primary" if node.index == self.primary_index else "replica"
        follows = (node.info.get("master_host"), node.info.get("master_port"))
        right = node.role == should and (should == "primary" or follows == (HOST, str(self.instance.port("client"))))
        if right:
            return []
        return [Difference(f"role of {node.name}", should, node.role, payload=("role", node.index))]

    def _acl_differences(self, users: list[acl.AclUser], nodes: list[Node]) -> list[Difference]:
        known = self.instance.record.get("acl", {})
        wanted = acl.digest(acl.render_file(users))
        for node in nodes:
            seen = acl.fingerprint(node.acl)
            if not known.get("seen") and known.get("wanted") == wanted:
                self._remember_acl(users, node.acl)  # just started from the file: that is how it prints it
                known = self.instance.record["acl"]
            if known.get("wanted") != wanted or known.get("seen") != seen:
                return [Difference("spec.users", "as in spec", "other rules", Disruption.NONE, True, ("acl",))]
        return []

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says: first who is primary, then processes, then settings."""
        nodes = {f"node-{index}": self.node(index) for index in range(self.count)}
        restart: set[str] = set()
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "promote":
                await self._promote(int(rest[0]))
                return  # everything else looks different now
            if what == "start":
                await self._start(self.node(int(rest[0])))
            elif what == "port":
                await self._move_port(self.node(int(rest[0])), int(change.actual))
            elif what == "role":
                await self._set_role(self.node(int(rest[0])))
            elif what == "remove":
                await self._remove(rest[0])
            elif what == "acl":
                await self._load_acl([n for n in nodes.values() if n.state.running])
            elif change.disruption >= Disruption.RESTART:
                restart.add(rest[0])
            else:
                await self._set(nodes[rest[0]], rest[1], change)
        self._forget_defaults(observed)
        for node in nodes.values():
            self._write_config(node)
        for name in sorted(restart):
            await nodes[name].process.stop()
            await self._start(self.node(nodes[name].index))

    def _forget_defaults(self, observed: Observation) -> None:
        """A setting that is back at its default on every node is no longer ours."""
        pending = {change.payload[2] for change in observed.plan.held if change.payload[0] == "set"}
        for name in [n for n in self._defaults if n not in self.settings and n not in pending]:
            del self._defaults[name]
        self.instance.save()

    async def _set(self, node: Node, name: str, change: Difference) -> None:
        value = change.desired
        if name in self.spec.configuration and name not in self._defaults:
            self._defaults[name] = change.actual
            self.instance.save()
        async with await self._connect(node.port) as client:
            try:
                await client.command("CONFIG", "SET", name, value)
            except ChandleryError as error:
                raise EngineFailed(
                    f"{self.spec.engine.value} refused the value: {error.message}",
                    field=field_of(name),
                    value=value,
                    hint="Correct the value; the engine goes on with its old one.",
                    retry_after=None,
                ) from error

    async def _load_acl(self, nodes: list[Node]) -> None:
        users = await self.users()
        self._write_acl(users)
        seen: Mapping[str, str] | None = None
        for node in nodes:
            async with await self._connect(node.port) as client:
                await client.command("ACL", "LOAD")
                seen = acl.parse_list(await client.command("ACL", "LIST"))
        self._remember_acl(users, seen)

    async def _promote(self, index: int) -> None:
        """Make a copy the primary: on record first, so that whoever comes next goes on from here."""
        old = self.node(self.primary_index)
        if old.state.running:
            await self._catch_up(old, self.node(index))
            # It may hang with the port still open, and must not wake up as a second primary.
            old.process.signal(signal.SIGKILL)
            await old.process.stop((StopStep(signal.SIGKILL, 5.0),))
        heir_port, keys = self.port(index), (self.port_key(index), self.port_key(old.index))
        self.instance.record.setdefault("port_keys", {}).update({str(old.index): keys[0], str(index): keys[1]})
        self.instance.save()
        heir = self.node(index)
        async with await self._connect(heir_port) as client:
            await client.command("REPLICAOF", "NO", "ONE")
        await self._move_port(heir, heir_port)
        self.ctx.event("Warning", "FailedOver", f"{old.name} was lost; {heir.name} is the primary now")

    async def _catch_up(self, old: Node, heir: Node) -> None:
        """While the old primary still answers (it is scaled away), lose nothing: stop writes, wait for the copy."""
        clock = self.ctx.base.clock
        try:
            async with await self._connect(old.port) as source, await self._connect(heir.port) as copy:
                await source.command("CLIENT", "PAUSE", "10000", "WRITE")
                deadline = clock.monotonic() + CATCH_UP_SECONDS
                while clock.monotonic() < deadline:
                    sent = info(await source.command("INFO", "replication"))["master_repl_offset"]
                    if info(await copy.command("INFO", "replication")).get("slave_repl_offset") == sent:
                        return
                    await clock.sleep(0.01)
        except ChandleryError:
            return  # it hangs: there is nothing more to be had from it

    async def _move_port(self, node: Node, now_on: int) -> None:
        async with await self._connect(now_on) as client:
            await client.command("CONFIG", "SET", "port", node.port)

    async def _set_role(self, node: Node) -> None:
        async with await self._connect(node.port) as client:
            if node.index == self.primary_index:
                await client.command("REPLICAOF", "NO", "ONE")
            else:
                await client.command("REPLICAOF", HOST, self.instance.port("client"))

    async def _remove(self, name: str) -> None:
        process = self.instance.process(name)
        await process.stop()
        process.forget()
        self.instance.release_port(f"replica-{name.rpartition('-')[2]}")
