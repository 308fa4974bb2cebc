"""NATS servers of one queue on this machine: one, or a cluster that keeps each message on a majority.

Other Queues may share them: each has an account of its own in here.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import EngineFailed, NotSupported, Unavailable
from chandlery.providers.local import ProcessSpec, StopStep
from chandlery.providers.local.driver import crash_loop, require_port
from chandlery.providers.local.tools import run_tool
from chandlery.providers.local.versions import VersionLine
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers.broker_tls import BrokerTls
from chandlery_kinds.queue.drivers.guests import Guests
from chandlery_kinds.queue.drivers.local_nats import NatsQueue, Node
from chandlery_kinds.queue.drivers.local_queue import HOST
from chandlery_kinds.queue.settings import TABLES

ROOM_TO_GO_ON = 4 << 20
"""Bytes that must be free before a server that found no room is started anew."""
STOP = (StopStep(signal.SIGTERM, 10.0), StopStep(signal.SIGKILL, 5.0))


class NatsBroker(NatsQueue):
    """A queue with servers of its own."""

    @property
    def broker(self) -> str:
        return self.name

    @cached_property
    def security(self) -> BrokerTls | None:
        tls = self.spec.tls
        return BrokerTls(self.ctx, self.obj, self.instance) if tls is not None and tls.enabled else None

    @cached_property
    def versions(self) -> VersionLine:
        return VersionLine(self.instance, "nats", self.spec.version)

    @property
    def count(self) -> int:
        return self.spec.replicas

    def exists(self) -> bool:
        return bool(self.instance.process_names())

    def node(self, index: int) -> Node:
        process = self.instance.process(f"node-{index}")
        port = self.instance.port("client", self.spec.exposure.port) if index == 0 else self._further_port(index)
        return Node(index, process, process.state(), port)

    def _further_port(self, index: int) -> int:
        return self.instance.port(f"client-{index}")

    def nodes(self) -> list[Node]:
        return [self.node(index) for index in range(self.count)]

    # -- configuration

    def tenants(self) -> list[js.Tenant]:
        """The accounts of the Queues that share these servers."""
        found = []
        for entry in Guests(self.instance).all().values():
            users = tuple(
                js.NatsUser(user["name"], user["password"], _subjects(user["publish"]), _subjects(user["subscribe"]))
                for user in entry["users"]
            )
            found.append(js.Tenant(entry["account"], users, entry["maxPayload"]))
        return found

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
        if self.security is not None:
            cluster["tls"] = _tls(self.security)
        server = js.Server(node.name, HOST, node.port, str(self.instance.data_dir / node.name), **cluster)
        return js.render(self.spec, server, users, secret, self.tenants())

    async def _check(self, text: str) -> None:
        """NATS's own opinion of a configuration, before any server sees it."""
        self.instance.write_config("next.conf", text)
        engine = self.instance.engine("nats", self.versions.line)
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

    async def last_backup(self) -> bool:
        self.instance.reload()
        users = await self.users()
        for node in self.nodes():
            await self._start(node, users)
        return await super().last_backup()

    # -- starting

    async def create(self) -> None:
        self.instance.record.setdefault("replicas", self.count)
        self.versions.keep()
        users = await self.users()
        if self.security is not None:
            await self.security.write()
        for node in self.nodes():
            await self._start(node, users)
        self._reloaded(users)

    async def _start(self, node: Node, users: list[js.NatsUser]) -> None:
        if node.state.running:
            return
        require_port(node.port)
        engine = self.instance.engine("nats", self.versions.line)
        self.instance.write_config(f"{node.name}.conf", self._render(node, users))
        argv = [str(engine.binary), "-c", str(self.instance.config_dir / f"{node.name}.conf")]
        await node.process.start(ProcessSpec(argv, env={**engine.env, **self._runtime_limits(node)}, stop=STOP))

    def _runtime_limits(self, node: Node) -> dict[str, str]:
        """What Go's runtime keeps to by itself: it gives memory back before the limit is reached."""
        allowance = self.instance.allowance(node.process.name)
        memory = {"GOMEMLIMIT": str(allowance.memory * 8 // 10)} if allowance.memory is not None else {}
        return memory | ({"GOMAXPROCS": str(math.ceil(allowance.cpu))} if allowance.cpu is not None else {})

    def explain(self, nodes: list[Node], problems: Mapping[str, str]) -> tuple[str, str]:
        for node in nodes:
            looping = crash_loop(node.name, node.process, node.state)
            if looping is not None:
                return looping
        if self.full:
            told = "; ".join(f"{name}: {text}" for name, text in self.full.items())
            return "DiskFull", f"{told}; free some space in {self.instance.root}, it goes on by itself then"
        if problems:
            return "Starting", "; ".join(f"{name}: {text}" for name, text in problems.items())
        return "Starting", "the queue isn't there yet, or the binding's credentials don't work yet"

    # -- differences

    async def server_differences(self, nodes: list[Node], users: list[js.NatsUser]) -> list[Difference]:
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
        if self.full and _free(self.instance.root) >= ROOM_TO_GO_ON:
            found += [
                Difference(f"instance {node.name}", "writing", "stuck", payload=("anew", node.index))
                for node in nodes
                if node.name in self.full
            ]
        if found:
            return found
        if self.security is not None:
            found += await self.security.differences()
            if self.stale and not found:  # whoever wrote the files may have died before it told the servers
                older = f"{', '.join(self.stale)} show another certificate"
                found.append(Difference("spec.tls", "as in spec", older, Disruption.RELOAD, payload=("reload",)))
        wanted, actual = self.spec.exposure.port, self.instance.port("client")
        if wanted is not None and wanted != actual:
            change = Difference("spec.exposure.port", str(wanted), str(actual), Disruption.RESTART, payload=("port",))
            found.append(change)
        elif self.instance.record.get("config") != self._digest(users):
            before, now = self.instance.record.get("fixed"), self._needs_restart()
            if before != now:
                field = "spec.configuration" if self.spec.configuration else "spec.storage.size"
                found.append(Difference(field, "as in spec", "older", Disruption.RESTART, payload=("restart",)))
            else:
                found.append(
                    Difference("users and limits", "as in spec", "older", Disruption.RELOAD, payload=("reload",))
                )
        return found

    def version_differences(self, nodes: list[Node], *, in_step: bool) -> list[Difference]:
        for node in nodes:
            if node.version:
                self.versions.learn(node.version)
        old = [node for node in nodes if node.version and not self.versions.runs(node.version)]
        if not old:
            return []
        change = ("version", old[0].index, in_step and all(node.version for node in nodes))
        return [Difference("spec.version", self.versions.line, old[0].version, Disruption.RESTART, payload=change)]

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

    # -- update

    async def act(self, what: str, rest: list[Any], users: list[js.NatsUser], change: Difference) -> None:
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
            case "anew":
                await self.node(int(rest[0])).process.stop()
                await self._start(self.node(int(rest[0])), users)
            case "reload" | "restart" | "certificates":
                await self._reconfigure(users, restart=what == "restart")
            case "version":
                await self._replace(self.node(int(rest[0])), users, in_step=rest[1])
            case "port":
                assert self.spec.exposure.port is not None
                self.instance.claim_port("client", self.spec.exposure.port)
                await self._reconfigure(users, restart=True)

    async def _replace(self, node: Node, users: list[js.NatsUser], *, in_step: bool) -> None:
        """Start one server as another version, on the data that it has.

        Raises:
            InstallingEngine: it is on its way.
            Unavailable: other servers are not in step yet.
        """
        if not in_step:
            raise Unavailable(f"waiting for every copy to be in step before {node.name} is restarted", retry_after=0.2)
        self.instance.engine("nats", self.versions.line)  # before anything is stopped: it is here
        self.versions.keep()
        await node.process.stop()
        await self._start(self.node(node.index), users)

    async def _reconfigure(self, users: list[js.NatsUser], *, restart: bool) -> None:
        """A reload keeps every client connected; a restart goes one server after the other."""
        if self.security is not None:
            await self.security.write()
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


def _free(path: Path) -> int:
    """Bytes that may still be written there."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _subjects(found: list[str] | None) -> tuple[str, ...] | None:
    return None if found is None else tuple(found)


def _tls(security: BrokerTls) -> dict[str, Any]:
    """The block `tls` of the servers' configuration."""
    certificates = security.certificates
    found: dict[str, Any] = {
        "cert_file": str(certificates.certificate_file),
        "key_file": str(certificates.key_file),
        "min_version": certificates.minimum_version,
    }
    if certificates.requires_clients:
        found |= {"ca_file": str(security.trust_file), "verify": True}
    return found
