"""NATS servers of one queue on this machine: one, or a cluster that keeps each message on a majority."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, EngineFailed, NotSupported
from chandlery.model.base import Endpoint
from chandlery.providers.local import Instance, Process, ProcessSpec, ProcessState, StopStep
from chandlery.providers.local.driver import crash_loop, password_of, require_port
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers.jetstream_client import JetStream
from chandlery_kinds.queue.model import Queue
from chandlery_kinds.queue.settings import TABLES

HOST = "127.0.0.1"
APPLICATION = "app"
STARTING_POLL = 0.02
DRIFT_POLL = 10.0
DEAD_LETTER_POLL = 2.0
STOP = (StopStep(signal.SIGTERM, 10.0), StopStep(signal.SIGKILL, 5.0))


@dataclass(slots=True)
class Node:
    """One server."""

    index: int
    process: Process
    state: ProcessState
    port: int

    @property
    def name(self) -> str:
        return f"node-{self.index}"


class NatsServers:
    """Everything that one pass does with one queue's servers. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: Queue, instance: Instance) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.instance = instance
        self.name = obj.metadata.name
        self.count = obj.spec.replicas
        self.stream = js.stream_name(self.name)

    def node(self, index: int) -> Node:
        process = self.instance.process(f"node-{index}")
        port = self.instance.port("client" if index == 0 else f"client-{index}")
        return Node(index, process, process.state(), port)

    def nodes(self) -> list[Node]:
        return [self.node(index) for index in range(self.count)]

    # -- configuration

    async def users(self) -> list[js.NatsUser]:
        """All users of the account.

        Raises:
            DependencyNotReady: a Secret that a user names isn't there.
        """
        found = [
            js.NatsUser(js.ADMIN, self.instance.secret("admin")),
            js.application_user(APPLICATION, self.instance.secret("password"), self.name, self.spec),
        ]
        for user in self.spec.users:
            password = await self._password(user.name)
            found.append(js.queue_user(user, password, self.name, self.spec))
        return found

    async def _password(self, name: str) -> str:
        user = next(u for u in self.spec.users if u.name == name)
        if user.password_secret is None:
            return self.instance.secret(f"user-{name}")
        field = f"spec.users[{name}].passwordSecret"
        return await password_of(self.ctx.reader, self.obj.metadata.namespace, user.password_secret.name, field)

    def _render(self, node: Node, users: list[js.NatsUser]) -> str:
        cluster: dict[str, Any] = {}
        secret = ""
        if self.count > 1:
            secret = self.instance.secret("cluster")
            routes = [
                f"nats://route:{secret}@{HOST}:{self.instance.port(f'cluster-{index}')}"
                for index in range(self.count)
                if index != node.index
            ]
            cluster = {
                "cluster": self.instance.name,
                "cluster_port": self.instance.port(f"cluster-{node.index}"),
                "routes": tuple(routes),
            }
        server = js.Server(node.name, HOST, node.port, str(self.instance.data_dir / node.name), **cluster)
        return js.render(self.spec, server, users, secret)

    async def _check(self, text: str) -> None:
        """NATS's own opinion of a configuration, before any server sees it."""
        self.instance.write_config("next.conf", text)
        engine = self.instance.engine("nats", self.spec.version)
        argv = [str(engine.binary), "-t", "-c", str(self.instance.config_dir / "next.conf")]
        done = await run_tool(self.instance, argv, env=engine.env, check=False)
        (self.instance.config_dir / "next.conf").unlink(missing_ok=True)
        if done.code != 0:
            raise EngineFailed(
                f"NATS refuses the configuration: {done.tail(1)}",
                field="spec.configuration",
                hint="What runs goes on as it is.",
                retry_after=None,
            )

    # -- create

    async def create(self) -> None:
        self.instance.record.setdefault("replicas", self.count)
        users = await self.users()
        for node in self.nodes():
            await self._start(node, users)
        self._reloaded(users)

    async def _start(self, node: Node, users: list[js.NatsUser]) -> None:
        if node.state.running:
            return
        require_port(node.port)
        engine = self.instance.engine("nats", self.spec.version)
        self.instance.write_config(f"{node.name}.conf", self._render(node, users))
        argv = [str(engine.binary), "-c", str(self.instance.config_dir / f"{node.name}.conf")]
        await node.process.start(ProcessSpec(argv, env=engine.env, stop=STOP))

    # -- observe

    async def _connect(self, node: Node, user: str = js.ADMIN) -> JetStream:
        secret = {js.ADMIN: "admin", APPLICATION: "password"}[user]
        return await JetStream.connect(HOST, node.port, user, self.instance.secret(secret))

    async def observe(self) -> Observation:
        self.instance.reload()
        nodes, users = self.nodes(), await self.users()
        problems: dict[str, str] = {}
        live: dict[str, Any] = {}
        for node in nodes:
            if not node.state.running:
                continue
            try:
                async with await self._connect(node) as api:
                    node.process.settled()
                    if not live:
                        live = await self._read(api)
            except ChandleryError as error:
                problems[node.name] = error.message
        differences = self._server_differences(nodes, users)
        if live:
            differences += self._content_differences(live)
        running = [node for node in nodes if node.state.running and node.name not in problems]
        works = bool(live) and not differences and len(running) == self.count and await self._client_works(nodes[0])
        reason, message = ("", "") if works else self._explain(nodes, problems)
        return Observation(
            exists=bool(self.instance.process_names()),
            ready=works,
            reason=reason,
            message=message,
            differences=tuple(differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=HOST, port=nodes[0].port),
            binding=self._binding(APPLICATION, self.instance.secret("password"), nodes),
            user_bindings={
                f"{self.name}-user-{user.name}": self._binding(user.name, await self._password(user.name), nodes)
                for user in self.spec.users
            },
            facts=self._facts(nodes, problems, live),
            poll_after=self._poll_after(works, nodes),
        )

    async def _read(self, api: JetStream) -> dict[str, Any]:
        found: dict[str, Any] = {
            "version": api.server_version,
            "stream": await api.stream(self.stream),
            "consumer": await api.consumer(self.stream, js.CONSUMER),
        }
        if self.spec.dead_letter is not None:
            dead, given_up = js.dead_name(self.name), js.given_up_name(self.name)
            found["dead"] = await api.stream(dead)
            found["dead-consumer"] = await api.consumer(dead, js.DEAD_CONSUMER)
            found["given-up"] = await api.stream(given_up)
            found["mover"] = await api.consumer(given_up, "mover")
        return found

    async def _client_works(self, node: Node) -> bool:
        """The real thing: log in with the binding's credentials and ask for the queue."""
        try:
            async with await self._connect(node, APPLICATION) as api:
                return await api.consumer(self.stream, js.CONSUMER) is not None
        except ChandleryError:
            return False

    def _poll_after(self, ready: bool, nodes: list[Node]) -> float:
        if ready:
            return DEAD_LETTER_POLL if self.spec.dead_letter is not None else DRIFT_POLL
        waits = [node.state.wait for node in nodes if not node.state.running]
        return max(STARTING_POLL, min(waits, default=0.0))

    def _explain(self, nodes: list[Node], problems: Mapping[str, str]) -> tuple[str, str]:
        for node in nodes:
            looping = crash_loop(node.name, node.process, node.state)
            if looping is not None:
                return looping
        if problems:
            return "Starting", "; ".join(f"{name}: {text}" for name, text in problems.items())
        return "Starting", "the queue isn't there yet, or the binding's credentials don't work yet"

    def _facts(self, nodes: list[Node], problems: Mapping[str, str], live: Mapping[str, Any]) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": "member",
                "ready": node.state.running and node.name not in problems,
                "address": f"{HOST}:{node.port}",
                **({"message": problems[node.name]} if node.name in problems else {}),
            }
            for node in nodes
        ]
        facts: dict[str, Any] = {
            "engine": "nats",
            "broker": self.name,
            "replicas": self.count,
            "readyReplicas": sum(1 for member in members if member["ready"]),
            "members": members,
        }
        if live:
            facts["version"] = live["version"]
        if live.get("stream"):
            state, cluster = live["stream"]["state"], live["stream"].get("cluster") or {}
            facts |= {"messages": state["messages"], "bytes": str(state["bytes"])}
            if cluster.get("leader"):
                facts["leader"] = cluster["leader"]
        if live.get("consumer"):
            facts |= {"unacknowledged": live["consumer"].get("num_ack_pending", 0)}
            facts |= {"consumers": live["consumer"].get("num_waiting", 0)}
        if self.spec.dead_letter is not None:
            facts["deadLetterQueue"] = js.dead_name(self.name)
        return facts

    def _binding(self, user: str, password: str, nodes: list[Node]) -> Binding:
        hosts = ",".join(f"nats://{user}:{password}@{HOST}:{node.port}" for node in nodes)
        entries = {
            "host": HOST,
            "port": str(nodes[0].port),
            "username": user,
            "password": password,
            "uri": f"nats://{user}:{password}@{HOST}:{nodes[0].port}",
            "servers": hosts,
            "stream": self.stream,
            "consumer": js.CONSUMER,
            "subject": js.publish_subject(self.name, self.spec),
        }
        if self.spec.dead_letter is not None:
            entries |= {"dead-letter-stream": js.dead_name(self.name), "dead-letter-consumer": js.DEAD_CONSUMER}
        return Binding("nats", "chandlery", entries)

    # -- differences

    def _server_differences(self, nodes: list[Node], users: list[js.NatsUser]) -> list[Difference]:
        found = []
        made_with = int(self.instance.record.get("replicas", self.count))
        if made_with != self.count:
            change = Difference(
                "spec.replicas", str(self.count), str(made_with), Disruption.REPLACE, payload=("scale",)
            )
            return [change]
        for node in nodes:
            if not node.state.running and node.state.wait <= 0:
                found.append(Difference(f"instance {node.name}", "running", "stopped", payload=("start", node.index)))
        if not found and self.instance.record.get("config") != self._digest(users):
            before, now = self.instance.record.get("fixed"), self._needs_restart()
            if before != now:
                field = "spec.configuration" if self.spec.configuration else "spec.storage.size"
                found.append(Difference(field, "as in spec", "older", Disruption.RESTART, payload=("restart",)))
            else:
                found.append(
                    Difference("users and limits", "as in spec", "older", Disruption.RELOAD, payload=("reload",))
                )
        return found

    def _digest(self, users: list[js.NatsUser]) -> str:
        text = "".join(self._render(node, users) for node in self.nodes())
        return hashlib.sha256(text.encode()).hexdigest()

    def _needs_restart(self) -> str:
        """What a running server doesn't take by a reload."""
        fixed = {k: v for k, v in self.spec.configuration.items() if TABLES["nats"].effect(k) != "reload"}
        return json.dumps({**fixed, "size": self.spec.storage.size if self.spec.storage else ""}, sort_keys=True)

    def _reloaded(self, users: list[js.NatsUser]) -> None:
        self.instance.record["config"] = self._digest(users)
        self.instance.record["fixed"] = self._needs_restart()
        self.instance.save()

    def _wanted(self) -> list[tuple[str, str, dict[str, Any]]]:
        """What should be inside: (what, stream it belongs to, configuration)."""
        spec, nodes = self.spec, self.count
        found = [
            ("stream", self.stream, js.stream(self.name, spec, nodes=nodes)),
            ("consumer", self.stream, js.consumer(spec)),
        ]
        if spec.dead_letter is not None:
            dead, given_up = js.dead_name(self.name), js.given_up_name(self.name)
            found += [
                ("dead", dead, js.dead_stream(self.name, spec, nodes=nodes)),
                ("dead-consumer", dead, {"durable_name": js.DEAD_CONSUMER, "ack_policy": "explicit"}),
                ("given-up", given_up, js.given_up_stream(self.name, spec, nodes=nodes)),
                ("mover", given_up, js.given_up_consumer()),
            ]
        return found

    def _content_differences(self, live: Mapping[str, Any]) -> list[Difference]:
        found = []
        for what, stream, config in self._wanted():
            present = live.get(what)
            if present is None:
                found.append(Difference(f"{what} {stream}", "present", "absent", payload=("put", what, False)))
                continue
            for key, (wanted, actual) in js.differences(config, present["config"]).items():
                field = js.FIELDS.get(key, f"{what} {key}")
                disruption = Disruption.REPLACE if key in js.FIXED else Disruption.NONE
                found.append(Difference(field, str(wanted), str(actual), disruption, payload=("put", what, True)))
        waiting = ((live.get("mover") or {}).get("num_pending", 0)) if self.spec.dead_letter is not None else 0
        if waiting:
            found.append(Difference("dead letters", "moved", f"{waiting} to move", payload=("move",)))
        return found

    # -- update

    async def update(self, observed: Observation) -> None:
        users, puts, move = await self.users(), {}, False
        for change in observed.plan.changes:
            what, *rest = change.payload
            match what:
                case "scale":
                    raise NotSupported(
                        "the servers of a queue on this machine can't be made more or fewer",
                        field="spec.replicas",
                        value=self.count,
                        hint=f"Set replicas back to {change.actual}, or make a new Queue and move the messages.",
                    )
                case "start":
                    await self._start(self.node(int(rest[0])), users)
                case "reload" | "restart":
                    await self._reconfigure(users, restart=what == "restart")
                case "put":
                    puts[rest[0]] = bool(rest[1])
                case "move":
                    move = True
        if puts or move:
            async with await self._connect(self.nodes()[0]) as api:
                await self._put(api, puts)
                if move:
                    await self._move_dead_letters(api)

    async def _put(self, api: JetStream, puts: Mapping[str, bool]) -> None:
        for what, stream, config in self._wanted():
            if what not in puts:
                continue
            if "durable_name" in config:
                await api.put_consumer(stream, config)
            else:
                await api.put_stream(config, exists=puts[what])

    async def _reconfigure(self, users: list[js.NatsUser], *, restart: bool) -> None:
        """A reload keeps every client connected; a restart goes one server after the other."""
        for node in self.nodes():
            text = self._render(node, users)
            await self._check(text)
            self.instance.write_config(f"{node.name}.conf", text)
            if restart:
                await node.process.stop()
                await self._start(self.node(node.index), users)
            else:
                node.process.signal(signal.SIGHUP)
        self._reloaded(users)

    async def _move_dead_letters(self, api: JetStream) -> None:
        """Each message that was given up goes to the dead letters, and only then out of the queue.

        Safe to repeat: the dead-letter stream stores a message of the same id once.
        """
        import nats.errors

        given_up, dead = js.given_up_name(self.name), js.dead_name(self.name)
        subscription = await api.connection.jetstream().pull_subscribe_bind(consumer="mover", stream=given_up)
        try:
            words = await subscription.fetch(100, timeout=1)
        except nats.errors.TimeoutError:
            return
        finally:
            await subscription.unsubscribe()
        for word in words:
            sequence = int(json.loads(word.data)["stream_seq"])
            message = await api.message(self.stream, sequence)
            if message is not None:
                subject, _, data = message
                await api.connection.jetstream().publish(
                    dead,
                    data,
                    headers={"Nats-Msg-Id": f"{self.stream}-{sequence}", "Chandlery-Subject": subject},
                    stream=dead,
                )
                await api.ask(f"STREAM.MSG.DELETE.{self.stream}", {"seq": sequence, "no_erase": True})
            await word.ack()
