"""RabbitMQ servers of one queue on this machine: one, or a cluster. Other Queues may have virtual hosts in it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
from functools import cached_property
from pathlib import Path
from typing import Any

from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import EngineFailed, NotSupported, Unavailable
from chandlery.foundation.validation import Quantity
from chandlery.providers.local import ProcessSpec, StopStep
from chandlery.providers.local.driver import crash_loop, require_port
from chandlery.providers.local.engines import Engine
from chandlery.providers.local.files import make_dir, remove_tree, write_atomic
from chandlery.providers.local.ports import is_free
from chandlery_kinds.queue import rabbitmq as rabbit
from chandlery_kinds.queue.drivers.broker_tls import BrokerTls
from chandlery_kinds.queue.drivers.local_queue import HOST
from chandlery_kinds.queue.drivers.local_rabbit import Inside, Node, RabbitQueue

EPMD = "epmd"
PLUGINS = "[rabbitmq_management,rabbitmq_shovel].\n"
COOKIE = ".erlang.cookie"
LISTEN_SECONDS = 5.0
STOP = (StopStep(signal.SIGTERM, 30.0), StopStep(signal.SIGKILL, 5.0))
AT_ONCE = (StopStep(signal.SIGKILL, 5.0),)
OWN_USERS = re.compile(r"[^~]+(~\d+)?")
"""A guest's users have its name and a `~` in front of theirs."""


class RabbitBroker(RabbitQueue):
    """A queue with servers of its own."""

    vhost = "/"
    mine = OWN_USERS

    @property
    def broker(self) -> str:
        return self.name

    @property
    def admin_password(self) -> str:
        return self.instance.secret("admin")

    @property
    def count(self) -> int:
        return self.spec.replicas

    @cached_property
    def security(self) -> BrokerTls | None:
        tls = self.spec.tls
        return BrokerTls(self.ctx, self.obj, self.instance) if tls is not None and tls.enabled else None

    def exists(self) -> bool:
        return bool(self.instance.process_names())

    # -- servers

    def _port(self, what: str, index: int) -> int:
        return self.instance.port(what if index == 0 else f"{what}-{index}", self._preferred(what, index))

    def _preferred(self, what: str, index: int) -> int | None:
        return self.spec.exposure.port if index == 0 and what == self._public else None

    @property
    def _public(self) -> str:
        """Under which name the port is claimed that clients connect to."""
        return "tls" if self.security is not None else "client"

    def node(self, index: int) -> Node:
        process = self.instance.process(f"node-{index}")
        tls = self.spec.tls
        plain = self._port("client", index) if self.security is not None and tls and not tls.required else None
        port, management = self._port(self._public, index), self._port("management", index)
        return Node(index, process, process.state(), port, plain, management)

    def nodes(self) -> list[Node]:
        return [self.node(index) for index in range(self.count)]

    def _render(self, node: Node) -> str:
        peers = tuple(f"node-{index}@localhost" for index in range(self.count)) if self.count > 1 else ()
        config = rabbit.RabbitNode(node.name, self._plain(node), node.management_port, peers, self._tls(node))
        return rabbit.render(self.spec, config, self.admin_password, HOST)

    @staticmethod
    def _plain(node: Node) -> int:
        return node.plain_port if node.plain_port is not None else node.port

    def _tls(self, node: Node) -> rabbit.RabbitTls | None:
        if self.security is None:
            return None
        certificates = self.security.certificates
        return rabbit.RabbitTls(
            port=node.port,
            certificate=str(certificates.certificate_file),
            key=str(certificates.key_file),
            authority=str(self.security.trust_file) if certificates.asks_clients else "",
            demanded=certificates.requires_clients,
            minimum_version=certificates.minimum_version,
            plain_too=node.plain_port is not None,
        )

    def _digest(self, node: Node) -> str:
        return hashlib.sha256((self._render(node) + rabbit.advanced(self.spec)).encode()).hexdigest()

    # -- starting

    async def create(self) -> None:
        self.instance.record.setdefault("replicas", self.count)
        if self.security is not None:
            await self.security.write()
        await self._start_all()

    async def _start_all(self) -> None:
        await self._start_epmd()
        for node in self.nodes():
            await self._start(node)

    async def _start_epmd(self) -> None:
        """Erlang's register of nodes. One of the instance's own, which is known and goes with it."""
        process, port = self.instance.process(EPMD), self._port(EPMD, 0)
        if not process.state().running:
            require_port(port)
            files = _Files(self.instance.engine("rabbitmq", self.spec.version))
            argv = [str(files.erts / "epmd"), "-port", str(port), "-address", HOST]
            await process.start(ProcessSpec(argv, env=files.engine.env, stop=AT_ONCE))
        clock = self.ctx.base.clock
        deadline = clock.monotonic() + LISTEN_SECONDS
        while await asyncio.to_thread(is_free, port):  # a server that finds none would start another
            if clock.monotonic() > deadline:
                raise Unavailable("epmd doesn't listen yet", retry_after=0.5)
            await clock.sleep(0.01)

    async def _start(self, node: Node) -> None:
        if node.state.running:
            return
        for port in {node.port, self._plain(node)} if self.security is not None else {node.port}:
            require_port(port)
        for what in ("management", "distribution"):
            if not is_free(self._port(what, node.index)):
                self.instance.move_port(what if node.index == 0 else f"{what}-{node.index}")
        node = self.node(node.index)
        files = _Files(self.instance.engine("rabbitmq", self.spec.version))
        self._begin_anew(node)
        await asyncio.to_thread(self._require_known_data, node, files)
        self._write(node)
        await node.process.start(ProcessSpec(self._argv(files), env=self._environment(files, node), stop=STOP))
        self.instance.record.setdefault("config", {})[node.name] = self._digest(node)
        self.instance.save()

    def _begin_anew(self, node: Node) -> None:
        """A first start that was cut short leaves a database that RabbitMQ can't go on with. It never held anything."""
        if self.instance.record.get("served") or not node.state.restarts:
            return
        remove_tree(self.instance.data_dir / node.name)

    def _require_known_data(self, node: Node, files: _Files) -> None:
        """An older RabbitMQ doesn't look at what a newer one has enabled: it would begin with nothing, beside the data.

        Raises:
            EngineFailed: the data have features that this RabbitMQ doesn't know.
        """
        files_here = sorted((self.instance.data_dir / node.name).glob("*-feature_flags"))
        used = {flag for path in files_here for flag in re.findall(r"\w+", path.read_text(errors="replace"))}
        unknown = files.unknown_flags(used)
        if unknown:
            names = ", ".join(unknown)
            raise EngineFailed(
                f"a newer RabbitMQ wrote (with {names}) what {node.name} has; its data are left as they are",
                field="spec.version",
                hint="Have the version that wrote them, put back what was there, or make a new Queue from a backup.",
                retry_after=10.0,
            )

    def _write(self, node: Node) -> None:
        self.instance.write_config(f"{node.name}.conf", self._render(node))
        self.instance.write_config("advanced.config", rabbit.advanced(self.spec))
        self.instance.write_config("plugins", PLUGINS)
        for folder in (self.instance.data_dir / node.name, self.instance.log_dir / f"{node.name}.d"):
            make_dir(folder)
            self.instance.provider.privileges.hand_over(folder, self.instance.root)
        owner = self.instance.provider.privileges.owner_of_files(self.instance.root)
        write_atomic(self.instance.data_dir / COOKIE, self.instance.secret("cookie"), 0o400, owner=owner)

    def _argv(self, files: _Files) -> list[str]:
        threads = f"{self._threads()}:{self._threads()}"
        return [
            str(files.erts / "erlexec"),
            *("-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl", "-start_epmd", "false"),
            *("+W", "w", "+S", threads, "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
            *(
                "-kernel",
                "inet_dist_use_interface",
                "{127,0,0,1}",
                "-kernel",
                "prevent_overlapping_partitions",
                "false",
            ),
            *("-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"),
            # certificates that were renewed are read again within so many milliseconds
            *("-ssl", "ssl_pem_cache_clean", "5000"),
        ]

    def _threads(self) -> int:
        limit = self.spec.resources.limits.cpu if self.spec.resources.limits is not None else None
        return max(1, round(float(Quantity(limit)))) if limit else min(2, os.cpu_count() or 1)

    def _environment(self, files: _Files, node: Node) -> dict[str, str]:
        config = self.instance.config_dir
        data, log = self.instance.data_dir / node.name, self.instance.log_dir / f"{node.name}.d"
        return {
            **files.engine.env,
            "ROOTDIR": str(files.erlang),
            "BINDIR": str(files.erts),
            "EMU": "beam",
            "PROGNAME": "erl",
            "ERL_LIBS": str(files.home / "plugins"),
            "ERL_MAX_ETS_TABLES": "50000",
            "ERL_CRASH_DUMP_SECONDS": "0",  # a dump holds what was in memory, passwords among it
            "ERL_EPMD_PORT": str(self._port(EPMD, 0)),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_HOME": str(files.home),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(config / f"{node.name}.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(config / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(config / "plugins"),
            "RABBITMQ_PLUGINS_DIR": str(files.home / "plugins"),
            "RABBITMQ_NODENAME": node.full_name,
            "RABBITMQ_DIST_PORT": str(self._port("distribution", node.index)),
            "RABBITMQ_MNESIA_BASE": str(data),
            "RABBITMQ_LOG_BASE": str(log),
            "SYS_PREFIX": "",
        }

    def explain(self, nodes: list[Node], problem: str) -> tuple[str, str]:
        for node in nodes:
            looping = crash_loop(node.name, node.process, node.state)
            if looping is not None:
                return looping
        if problem:
            return "Starting", problem
        return "Starting", "the queue isn't there yet, or the binding's credentials don't work yet"

    # -- differences

    async def server_differences(self, nodes: list[Node], inside: Inside | None) -> list[Difference]:
        if inside is not None and inside.queue and not self.instance.record.get("served"):
            self.instance.record["served"] = True
            self.instance.save()
        made_with = int(self.instance.record.get("replicas", self.count))
        if made_with != self.count:
            change = ("scale",)
            return [Difference("spec.replicas", str(self.count), str(made_with), Disruption.REPLACE, payload=change)]
        found = []
        epmd = self.instance.process(EPMD).state()
        if not epmd.running and epmd.wait <= 0:
            found.append(Difference(f"instance {EPMD}", "running", "stopped", payload=("start",)))
        for node in nodes:
            if not node.state.running and node.state.wait <= 0:
                found.append(Difference(f"instance {node.name}", "running", "stopped", payload=("start",)))
        if found:
            return found
        if self.security is not None:
            found += await self.security.differences()
        wanted, actual = self.spec.exposure.port, nodes[0].port
        if wanted is not None and wanted != actual:
            change = ("port",)
            return [Difference("spec.exposure.port", str(wanted), str(actual), Disruption.RESTART, payload=change)]
        return found + self._outdated(nodes, inside)

    def _outdated(self, nodes: list[Node], inside: Inside | None) -> list[Difference]:
        """The next server that must read its configuration again; one at a time, while the others serve."""
        known: dict[str, str] = self.instance.record.get("config", {})
        old = [node for node in nodes if known.get(node.name) != self._digest(node)]
        others = [node for node in nodes if old and node is not old[0]]
        if not old or not all(inside is not None and node.full_name in inside.running for node in others):
            return []
        what = f"configuration of {old[0].name}"
        return [Difference(what, "as in spec", "older", Disruption.RESTART, payload=("restart", old[0].index))]

    # -- update

    async def act(self, what: str, rest: list[Any], change: Difference) -> None:
        match what:
            case "scale":
                raise NotSupported(
                    "the servers of a queue on this machine can't be made more or fewer",
                    field="spec.replicas",
                    value=self.count,
                    hint=f"Set replicas back to {change.actual}, or make a new Queue and move the messages.",
                )
            case "start":
                await self._start_all()
            case "certificates":
                assert self.security is not None
                await self.security.write()
            case "port":
                await self._take_port()
            case "restart":
                node = self.node(int(rest[0]))
                await node.process.stop()
                await self._start(self.node(node.index))

    async def _take_port(self) -> None:
        """Stop, so that the port is free where it was one of ours so far; it is started again by itself."""
        wanted = self.spec.exposure.port
        assert wanted is not None
        await self.node(0).process.stop()
        for name in [name for name, port in self.instance.ports.items() if port == wanted and name != self._public]:
            self.instance.move_port(name)
        self.instance.claim_port(self._public, wanted)

    async def end(self) -> None:
        """Its data are not wanted any more: nobody needs to write anything down first."""
        for name in reversed(self.instance.process_names()):
            await self.instance.process(name).stop(AT_ONCE)


class _Files:
    """Where Erlang and RabbitMQ are inside of their tree."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        root = engine.root
        self.erlang = self._one(root / "usr/lib", "erlang") if root is not None else Path("/usr/lib/erlang")
        self.erts = self._one(self.erlang, "erts-*") / "bin"
        base = root / "usr/lib/rabbitmq/lib" if root is not None else Path("/usr/lib/rabbitmq/lib")
        self.home = self._one(base, "rabbitmq_server-*")

    def unknown_flags(self, used: set[str]) -> list[str]:
        """Those feature flags that no part of this RabbitMQ declares: each is an atom in a compiled module."""
        unknown = set(used)
        for module in self.home.glob("plugins/**/*_ff.beam") if unknown else ():
            content = module.read_bytes()
            unknown = {flag for flag in unknown if flag.encode() not in content}
        return sorted(unknown)

    @staticmethod
    def _one(folder: Path, pattern: str) -> Path:
        found = sorted(folder.glob(pattern))
        if not found:
            raise EngineFailed(
                f"{folder} has no {pattern}",
                hint="Run `chandlery engines install --force rabbitmq`.",
                retry_after=10.0,
            )
        return found[-1]
