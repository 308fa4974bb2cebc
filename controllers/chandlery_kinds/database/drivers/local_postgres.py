"""PostgreSQL servers of one database on this machine: a primary, and copies that follow it by streaming replication.

Clients connect to one port for as long as the database lives: a copy that takes over is promoted first, and then
started anew on that port.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, EngineFailed
from chandlery.model.base import Endpoint
from chandlery.providers.local import Instance
from chandlery.providers.local.backups import Backups
from chandlery.providers.local.driver import crash_loop, password_of
from chandlery.providers.local.files import remove_tree
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.database.drivers.local_postgres_archive import Archive, ArchiveView
from chandlery_kinds.database.drivers.local_postgres_backup import Restore, take
from chandlery_kinds.database.drivers.local_postgres_node import HOST, Node, NodeFiles
from chandlery_kinds.database.drivers.local_postgres_replication import Copies
from chandlery_kinds.database.drivers.local_postgres_tls import Encryption
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.configuration import REPLICATOR, settings, synchronous_standby_names
from chandlery_kinds.database.postgres.content import Content
from chandlery_kinds.database.postgres.roles import wanted_roles
from chandlery_kinds.database.settings import TABLES

STARTING_POLL = 0.02
DRIFT_POLL = 15.0
REPLICATED_POLL = 1.0
RESTORING_POLL = 1.0


class PostgresServers:
    """Everything that one pass does with one database's servers. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: Database, instance: Instance) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.instance = instance
        self.count = obj.spec.instances
        self.encryption = Encryption(self)
        self.files = NodeFiles(instance, obj.spec, ctx.base.remaining() or 60.0, self.encryption.rules)
        self.copies = Copies(self)
        self.archive = Archive(self)
        self.restore = Restore(self)
        self.backups = Backups(
            ctx, obj, instance, partial(take, self), thinned=self.archive.thinned, needed_since=self.archive.since
        )

    # -- what is on record

    @property
    def _keys(self) -> dict[str, str]:
        keys: dict[str, str] = self.instance.record.get("port_keys", {})
        return keys

    def port_key(self, index: int) -> str:
        """Under which name a node's port is claimed: `client` is the primary's, whichever node that is."""
        return self._keys.get(str(index), "client" if index == 0 else f"standby-{index}")

    @property
    def primary_index(self) -> int:
        return next((int(index) for index, key in self._keys.items() if key == "client"), 0)

    @property
    def client_port(self) -> int:
        return self.instance.port("client")

    def node(self, index: int) -> Node:
        process = self.instance.process(f"node-{index}")
        return Node(index, self.instance.port(self.port_key(index)), process, process.state())

    @property
    def applied(self) -> dict[str, str]:
        """The settings in the servers' files; what a plan holds back isn't among them yet."""
        if "settings" not in self.instance.record:
            self.instance.record["settings"] = self.wanted_settings()
            self.instance.save()
        found: dict[str, str] = self.instance.record["settings"]
        return found

    def wanted_settings(self) -> dict[str, str]:
        limits = self.spec.resources.limits
        memory = limits.memory if limits is not None else None
        return settings(self.spec, memory=memory.bytes if memory is not None else None)

    async def passwords(self) -> dict[str, str]:
        """One for each role with a login.

        Raises:
            DependencyNotReady: a Secret that a role names isn't there.
        """
        found = {}
        for role in wanted_roles(self.spec):
            if not role.login:
                continue
            if role.password_secret is None:
                found[role.name] = self.instance.secret(f"role-{role.name}")
                continue
            field = f"spec.roles[{role.name}].passwordSecret"
            namespace = self.obj.metadata.namespace
            found[role.name] = await password_of(self.ctx.reader, namespace, role.password_secret.name, field)
        return found

    # -- create

    async def create(self) -> None:
        """The primary only; copies are made of it when it serves."""
        node = self.node(self.primary_index)
        if self.spec.restore_from is not None and not self.files.made(node):
            await self.restore.begin(node)
            return
        await self.files.initialise(node)
        await self.encryption.prepare()
        self.files.write(node, self.configuration(node, []))
        await self.files.start(node)

    def configuration(self, node: Node, nodes: list[Node]) -> str:
        own = {}
        if node.index == self.primary_index:
            standbys = [f"node-{i}" for i in range(self.count) if i != self.primary_index]
            in_step = [n.name for n in nodes if n.live.get("streaming")]
            own["synchronous_standby_names"] = synchronous_standby_names(self.spec, standbys, in_step)
        else:
            own["primary_conninfo"] = self.files.conninfo(self.client_port, REPLICATOR, application_name=node.name)
            own["primary_slot_name"] = node.slot
        return self.files.configuration(node, self.applied, {**own, **self.encryption.settings()})

    # -- observe

    async def observe(self) -> Observation:
        self.instance.reload()
        job = self.restore.job
        if job is not None and job.running:
            return Observation(
                exists=True,
                reason="Restoring",
                message=job.message,
                external_name=self.instance.name,
                poll_after=RESTORING_POLL,
            )
        nodes = [await self.files.look(self.node(index)) for index in range(self.count)]
        primary = nodes[self.primary_index] if self.primary_index < self.count else self.node(self.primary_index)
        if primary.index >= self.count:
            primary = await self.files.look(primary)
        passwords = await self.passwords()
        content = Content(self.spec, self._connect, passwords, self.instance.record.setdefault("content", {}))
        differences = self._server_differences(nodes, primary)
        serves = primary.answers and not primary.standby
        inside: list[Difference] = []
        archive = ArchiveView()
        settled = serves and not any(change.payload[0] == "promote" for change in differences)
        if settled:
            differences += self.copies.differences(nodes, primary)
            inside = await content.differences()
            archive = self.archive.look(primary)
        backups = await self.backups.look(serves=settled and bool(self.instance.record.get("replicator")))
        for node in nodes:
            if node.answers:
                node.process.settled()
        behind = [n for n in nodes if n is not primary and not n.live.get("streaming")]
        reader = _reader(nodes, primary)
        tls = await self.encryption.observe(reader.port if reader else None)
        works = serves and not inside and tls.ready and await self._client_works(passwords)
        ready = works and not behind
        reason, message = self._explain(nodes, primary, behind, inside)
        if serves and not tls.ready and tls.message:
            reason, message = tls.reason, tls.message
        return Observation(
            exists=self.files.made(self.node(self.primary_index)),
            ready=ready,
            reason="" if ready else reason,
            message="" if ready else message,
            differences=(*differences, *tls.differences, *inside, *archive.differences, *backups.differences),
            external_name=self.instance.name,
            endpoint=self._endpoint(reader),
            binding=self._binding(self.spec.owner_of(self.spec.databases[0]), passwords),
            user_bindings={
                f"{self.obj.metadata.name}-role-{_secret_part(name)}": self._binding(name, passwords)
                for name in passwords
            },
            facts={**self._facts(nodes, primary), **content.facts(), **backups.facts},
            conditions=(*backups.conditions, *archive.conditions),
            poll_after=backups.poll(self._poll_after(ready, nodes)),
        )

    def _endpoint(self, reader: Node | None) -> Endpoint:
        if reader is None:
            return Endpoint(host=HOST, port=self.encryption.port)
        port = self.instance.port("tls-read") if self.encryption.in_front else reader.port
        return Endpoint(host=HOST, port=self.encryption.port, read_host=HOST, read_port=port)

    async def _connect(self, database: str) -> Any:
        return await self.files.connect(self.client_port, database)

    async def _client_works(self, passwords: Mapping[str, str]) -> bool:
        """The real thing: log in as the binding's role, into the binding's database."""
        item = self.spec.databases[0]
        owner = self.spec.owner_of(item)
        if owner not in passwords:
            return True  # an owner that can't log in: the spec wants no binding by it
        if self.encryption.wanted:
            return await self.encryption.client_works(item.name, owner, passwords[owner])
        try:
            connection = await self.files.connect(self.client_port, item.name, owner, passwords[owner])
        except ChandleryError:
            return False
        try:
            return bool(await connection.fetchval("SELECT 1") == 1)
        finally:
            await connection.close(timeout=2)

    def _poll_after(self, ready: bool, nodes: list[Node]) -> float:
        if ready:
            return REPLICATED_POLL if self.count > 1 else DRIFT_POLL
        waits = [node.state.wait for node in nodes if not node.state.running]
        return max(STARTING_POLL, min(waits, default=0.0))

    def _explain(
        self, nodes: list[Node], primary: Node, behind: list[Node], inside: list[Difference]
    ) -> tuple[str, str]:
        for node in nodes:
            looping = crash_loop(node.name, node.process, node.state)
            if looping is not None:
                return looping
        if not primary.answers:
            return "Starting", f"waiting for {primary.name} to answer" + (
                f" ({primary.error})" if primary.error else ""
            )
        if inside:
            return "Configuring", f"{len(inside)} roles, databases or rights are not as in spec yet"
        if behind:
            return "Replicating", f"{', '.join(node.name for node in behind)} not in step with the primary yet"
        return "Starting", "the binding's role can't log in yet"

    def _facts(self, nodes: list[Node], primary: Node) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": "unknown" if not node.answers else "replica" if node.standby else "primary",
                "ready": node.answers and (node is primary or bool(node.live.get("streaming"))),
                "address": f"{HOST}:{node.port}",
                **({"version": node.live["version"]} if node.answers else {}),
                **({"message": node.error} if node.error else {}),
            }
            for node in nodes
        ]
        facts: dict[str, Any] = {
            "engine": "postgres",
            "instances": len(nodes),
            "readyInstances": sum(1 for member in members if member["ready"]),
            "primary": primary.name,
            "members": members,
        }
        if primary.answers:
            facts |= {"version": primary.live["version"], "timeline": primary.live["timeline"]}
        return facts

    def _binding(self, role: str, passwords: Mapping[str, str]) -> Binding:
        database = next(
            (d.name for d in self.spec.databases if self.spec.owner_of(d) == role), self.spec.databases[0].name
        )
        password, port = passwords.get(role, ""), self.encryption.port
        uri = f"postgresql://{role}:{password}@{HOST}:{port}/{database}"
        jdbc = f"jdbc:postgresql://{HOST}:{port}/{database}"
        entries = {
            "host": HOST,
            "port": str(port),
            "database": database,
            "username": role,
            "password": password,
            "uri": uri,
            "jdbc-uri": jdbc,
            "pgpass": f"{HOST}:{port}:{database}:{role}:{password}",
            **self.encryption.entries(uri, jdbc),
        }
        return Binding("postgresql", "chandlery", entries)

    # -- differences

    def _server_differences(self, nodes: list[Node], primary: Node) -> list[Difference]:
        if not primary.state.running or primary.index >= self.count or self.copies.hangs(primary):
            heir = self.copies.heir(nodes, primary)
            if heir is not None:
                return [Difference("primary", heir.name, primary.name, payload=("promote", heir.index))]
        found = []
        for name, value in sorted(self.wanted_settings().items()):
            if self.applied.get(name) != value:
                found.append(self._setting_difference(name, value))
        for name in sorted(set(self.applied) - set(self.wanted_settings())):
            found.append(self._setting_difference(name, None))
        for node in nodes:
            if not node.state.running and self._may_start(node):
                if node.state.wait <= 0:
                    found.append(
                        Difference(f"instance {node.name}", "running", "stopped", payload=("start", node.index))
                    )
            elif node.answers and not self.files.is_current(node, self.configuration(node, nodes)):
                field = f"configuration of {node.name}"
                found.append(Difference(field, "current", "older", Disruption.RELOAD, payload=("reload", node.index)))
            elif node.live.get("pending_restart"):
                names = ", ".join(node.live["pending_restart"])
                found.append(
                    Difference(
                        f"{names} of {node.name}", "new", "old", Disruption.RESTART, payload=("restart", node.index)
                    )
                )
        nodes_on_record = [name for name in self.instance.process_names() if name.startswith("node-")]
        extra = [name for name in nodes_on_record if int(name.removeprefix("node-")) >= self.count]
        found += [Difference("spec.instances", "absent", name, payload=("remove", name)) for name in extra]
        return found

    def _may_start(self, node: Node) -> bool:
        """A former primary isn't just started: it would go on from where it was, beside the new one."""
        return node.index == self.primary_index or (self.files.made(node) and self.files.follows(node))

    def _setting_difference(self, name: str, value: str | None) -> Difference:
        disruption = Disruption.RELOAD if TABLES["postgres"].effect(name) == "reload" else Disruption.RESTART
        field = f"spec.configuration[{name}]" if name in self.spec.configuration or value is None else name
        actual = self.applied.get(name, "default")
        return Difference(
            field, value if value is not None else "default", actual, disruption, payload=("set", name, value)
        )

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says: who is primary first, then what is inside, then configuration and restarts."""
        inside, reload, restart = [], set(), set()
        before = dict(self.applied)
        for change in observed.plan.changes:
            if not (isinstance(change.payload, tuple) and isinstance(change.payload[0], str)):
                inside.append(change)
                continue
            what, *rest = change.payload
            match what:
                case "promote":
                    await self.copies.promote(int(rest[0]))
                    return  # everything else looks different now
                case "start":
                    await self.start(self.node(int(rest[0])))
                case "set":
                    self._set(rest[0], rest[1])
                    reload |= set(range(self.count))
                    if change.disruption >= Disruption.RESTART:
                        restart |= set(range(self.count))
                case "reload":
                    reload.add(int(rest[0]))
                case "restart":
                    restart.add(int(rest[0]))
                case "replicator":
                    await self.copies.make_replicator()
                case "slot":
                    await self.on_primary("SELECT pg_create_physical_replication_slot($1, true)", rest[0])
                case "unslot":
                    await self.on_primary("SELECT pg_drop_replication_slot($1)", rest[0])
                case "clone":
                    await self.copies.clone(self.node(int(rest[0])))
                case "rejoin":
                    await self.copies.rejoin(self.node(int(rest[0])))
                case "remove":
                    await self._remove(rest[0])
                case "tls-front":
                    nodes = [await self.files.look(self.node(index)) for index in range(self.count)]
                    reader = _reader(nodes, nodes[self.primary_index])
                    await self.encryption.front(reader.port if reader else None).apply()
                case "tls" if rest[0] == "remove":
                    await self.encryption.remove()
                case "tls":
                    await self.encryption.prepare()
                    reload |= set(range(self.count))
                case "archive":
                    await self.archive.apply(rest[0])
                case "backup":
                    self.backups.start(rest[0])
        if inside:
            record = self.instance.record.setdefault("content", {})
            await Content(self.spec, self._connect, await self.passwords(), record).apply(inside)
            self.instance.save()
        try:
            await self._reconfigure(sorted(reload | restart), restart)
        except EngineFailed:
            # A value that it refuses must not wait in the file for the next start, which would fail on it.
            self.instance.record["settings"] = before
            self.instance.save()
            for index in reload | restart:
                self.files.write(self.node(index), self.configuration(self.node(index), []))
            raise

    def _set(self, name: str, value: str | None) -> None:
        if value is None:
            self.applied.pop(name, None)
        else:
            self.applied[name] = value
        self.instance.save()

    async def start(self, node: Node) -> None:
        self.files.write(node, self.configuration(node, []))
        await self.files.start(node)

    async def _reconfigure(self, indices: list[int], restart: set[int]) -> None:
        """Write, let PostgreSQL check what it would read, and only then have it read; copies are restarted first."""
        nodes = [await self.files.look(self.node(index)) for index in range(self.count)]
        order = sorted(indices, key=lambda index: index == self.primary_index)
        for index in order:
            node = nodes[index]
            text = self.configuration(node, nodes)
            self.files.write(node, text)
            if node.answers:
                await self._check(node)
            if index in restart:
                await self._check_start(node)
            if index in restart:
                await node.process.stop()
                await self.files.start(self.node(index))
            elif node.answers:
                connection = await self.files.connect(node.port)
                try:
                    await connection.execute("SELECT pg_reload_conf()")
                finally:
                    await connection.close(timeout=2)

    async def _check(self, node: Node) -> None:
        """Raise when the new file holds a value that PostgreSQL refuses; the server goes on with what it has."""
        connection = await self.files.connect(node.port)
        try:
            row = await connection.fetchrow(
                "SELECT f.name, f.setting, f.error FROM pg_file_settings f LEFT JOIN pg_settings s USING (name) "
                "WHERE f.error IS NOT NULL AND s.context IS DISTINCT FROM 'postmaster' LIMIT 1"
            )
        finally:
            await connection.close(timeout=2)
        if row is not None:
            raise EngineFailed(
                f"PostgreSQL refuses the value: {row['error']}",
                field=f"spec.configuration[{row['name']}]",
                value=row["setting"],
                hint="Correct it; the server goes on with the old value.",
                retry_after=None,
            )

    async def _check_start(self, node: Node) -> None:
        """Raise when the server would not start with the new file; it is still running with the old one."""
        argv = [str(self.files.engine.binary), "-C", "port", "-D", str(self.files.data(node))]
        argv += ["-c", f"config_file={self.files.config_file(node)}"]
        done = await run_tool(self.instance, argv, env=self.files.engine.env, check=False)
        if done.code != 0:
            raise EngineFailed(
                f"PostgreSQL would not start with it: {done.tail()}",
                field="spec.configuration",
                hint="Correct it; the server goes on with the old values.",
                retry_after=None,
            )

    async def on_primary(self, statement: str, *args: Any) -> None:
        connection = await self.files.connect(self.client_port)
        try:
            await connection.execute(statement, *args) if not args else await connection.fetchval(statement, *args)
        finally:
            await connection.close(timeout=2)

    # -- before deletion

    async def last_backup(self) -> bool:
        """True when there is a backup that began after the deletion did, or nothing to back up."""
        node = self.node(self.primary_index)
        if not self.files.made(node):
            return True
        if not node.state.running:
            await self.start(node)
            return False
        node = await self.files.look(node)
        if not node.answers:
            return False
        if not self.instance.record.get("replicator"):
            await self.copies.make_replicator()
        return await self.backups.last()

    async def _remove(self, name: str) -> None:
        process = self.instance.process(name)
        await process.stop()
        process.forget()
        index = int(name.rpartition("-")[2])
        remove_tree(self.instance.data_dir / name)
        self.instance.release_port(self.port_key(index))
        self.instance.record.get("port_keys", {}).pop(str(index), None)
        self.instance.save()


def _reader(nodes: list[Node], primary: Node) -> Node | None:
    """The copy that clients may read from."""
    return next((node for node in nodes if node is not primary and node.live.get("streaming")), None)


def _secret_part(name: str) -> str:
    """A role's name as part of a Secret's name, which knows lower case, digits, `-` and `.` only."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name.lower()).strip("-.") or "x"
