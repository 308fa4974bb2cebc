"""PostgreSQL servers of one database on this machine: a primary, and copies that follow it by streaming replication.

Clients connect to one port for as long as the database lives: a copy that takes over is promoted first, and then
started anew on that port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, InvalidSpec, NotSupported
from chandlery.model.base import Condition, Endpoint
from chandlery.providers.local import Instance
from chandlery.providers.local.backups import Backups
from chandlery.providers.local.files import remove_tree
from chandlery.providers.local.ports import is_free
from chandlery_kinds.database.drivers.local_postgres_archive import Archive, ArchiveView
from chandlery_kinds.database.drivers.local_postgres_backup import Restore, take
from chandlery_kinds.database.drivers.local_postgres_beginning import Beginning
from chandlery_kinds.database.drivers.local_postgres_node import HOST, Node, NodeFiles
from chandlery_kinds.database.drivers.local_postgres_pooler import PORT as POOLER_PORT
from chandlery_kinds.database.drivers.local_postgres_pooler import Pooler
from chandlery_kinds.database.drivers.local_postgres_replication import Copies
from chandlery_kinds.database.drivers.local_postgres_settings import Settings
from chandlery_kinds.database.drivers.local_postgres_tls import Encryption
from chandlery_kinds.database.drivers.local_postgres_upgrade import Upgrade
from chandlery_kinds.database.drivers.local_postgres_view import entries_of, explain, facts_of, reader_of
from chandlery_kinds.database.drivers.local_roles import passwords, rotation_of, secret_part, with_times
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.content import Content
from chandlery_kinds.database.postgres.scripts import Scripts

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
        self.beginning = Beginning(self)
        self.settings = Settings(self)
        self.pooler = Pooler(self)
        self.rotation = rotation_of(ctx, obj, instance)
        self.copies = Copies(self)
        self.archive = Archive(self)
        self.restore = Restore(self)
        self.upgrade = Upgrade(self)
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
        """The primary's own port."""
        return self.port_of("client")

    @property
    def public_key(self) -> str:
        """The name of the port that the binding leads to, and that spec.exposure.port means."""
        return POOLER_PORT if self.pooler.wanted else "tls" if self.encryption.in_front else "client"

    def port_of(self, key: str) -> int:
        """The port of this name; the public one as the spec says, where it is free."""
        return self.instance.port(key, self.spec.exposure.port if key == self.public_key else None)

    def node(self, index: int) -> Node:
        process = self.instance.process(f"node-{index}")
        return Node(index, self.port_of(self.port_key(index)), process, process.state())

    # -- create

    async def create(self) -> None:
        """The primary only; copies are made of it when it serves."""
        node = self.node(self.primary_index)
        self.scripts.begin()
        if self.spec.restore_from is not None and not self.files.made(node):
            await self.restore.begin(node)
            return
        await self.beginning.make(node)
        to_disk = asyncio.create_task(self.beginning.bring_to_disk())  # while the server starts
        try:
            await self.encryption.prepare()
            await self.start(self.node(node.index))
        finally:
            await to_disk

    async def start(self, node: Node) -> None:
        """Start a node with the configuration that it should have."""
        if not self.instance.record.get("served") and not self.spec.exposure.port and not is_free(node.port):
            # Nobody has been told of this port yet: whoever took it since it was chosen may keep it.
            self.instance.move_port(self.port_key(node.index))
            node = self.node(node.index)
        self.files.write(node, self.settings.text(node, []))
        await self.files.start(node)

    # -- observe

    async def observe(self) -> Observation:
        async with self.files.one_pass():
            return await self._observe()

    async def _observe(self) -> Observation:
        self.instance.reload()
        self.upgrade.resume()
        for job, reason in ((self.restore.job, "Restoring"), (self.upgrade.job, "Upgrading")):
            if job is None or not job.running:
                continue
            return Observation(
                exists=True,
                reason=reason,
                message=job.message,
                external_name=self.instance.name,
                poll_after=RESTORING_POLL,
            )
        nodes = [await self.files.look(self.node(index)) for index in range(self.count)]
        primary = nodes[self.primary_index] if self.primary_index < self.count else self.node(self.primary_index)
        if primary.index >= self.count:
            primary = await self.files.look(primary)
        if not self.beginning.on_disk:
            return self._unfinished(primary)
        upgrade = self.upgrade.look()
        secrets = await passwords(self.ctx, self.obj, self.instance)
        content = self._content(secrets)
        differences = self._server_differences(nodes, primary)
        serves = primary.answers and not primary.standby
        inside: list[Difference] = []
        archive, scripts, initialized = ArchiveView(), list[Difference](), tuple[Condition, ...]()
        settled = serves and self.copies.promoting is None and not any(_is(change, "promote") for change in differences)
        if settled:
            self.copies.note_followers(nodes, primary)
            differences += self.beginning.differences()
            differences += self.copies.differences(nodes, primary)
            inside = await content.differences()
            self.beginning.taken(content.catalog.databases)
            archive = self.archive.look(primary)
            scripts, initialized = self.scripts.look()
            differences += self.rotation.differences()
        backups = await self.backups.look(serves=settled and bool(self.instance.record.get("replicator")))
        for node in nodes:
            if node.answers:
                node.process.settled()
        behind = [n for n in nodes if n is not primary and not n.live.get("streaming")]
        reader, pooler = reader_of(nodes, primary), self.pooler.look()
        tls = await self.encryption.observe(reader.port if reader else None)
        fronts = tls.ready and pooler.ready
        works = serves and not inside and fronts and not scripts and await self._client_works(secrets)
        ready = works and not behind
        known = bool(self.instance.record.get("served"))
        if ready and not known:
            self.instance.record["served"] = True
            self.instance.save()
        reason, message = explain(nodes, primary, behind, inside, self.copies.needed)
        if serves and not ready:
            told = [(view.reason, view.message) for view in (tls, pooler) if view.message and not view.ready]
            told += [("Initializing", c.message) for c in initialized if scripts]
            reason, message = told[0] if told else (reason, message)
        changes = (
            *upgrade.differences,
            *differences,
            *tls.differences,
            *pooler.differences,
            *inside,
            *archive.differences,
        )
        names = {name: f"{self.obj.metadata.name}-role-{secret_part(name)}" for name in secrets}
        facts = {
            **facts_of(nodes, primary),
            **with_times(content.facts(), self.rotation.times(), names),
            **backups.facts,
        }
        if self.pooler.wanted:
            facts["poolerReady"] = pooler.ready
        if ready and known:  # the first time nobody should wait for it
            newer, more = await self.upgrade.minor(nodes, primary)
            changes, facts = (*changes, *newer), {**facts, **more}
        return Observation(
            exists=self.files.made(self.node(self.primary_index)),
            ready=ready,
            reason="" if ready else reason,
            message="" if ready else message,
            differences=(*changes, *(scripts if not inside else ()), *backups.differences),
            external_name=self.instance.name,
            endpoint=self._endpoint(reader),
            binding=self._binding(self.spec.owner_of(self.spec.databases[0]), secrets),
            user_bindings={names[name]: self._binding(name, secrets) for name in secrets},
            facts=facts,
            conditions=(*upgrade.conditions, *backups.conditions, *archive.conditions, *initialized),
            poll_after=self.rotation.poll(backups.poll(self._poll_after(ready, nodes))),
        )

    def _unfinished(self, primary: Node) -> Observation:
        """A new cluster that isn't on the disk yet: an earlier operator was cut short."""
        change = Difference("data", "on the disk", "in memory", payload=("to-disk",))
        return Observation(
            exists=self.beginning.lasts(primary),
            reason="Starting",
            message="its data are brought to the disk",
            differences=(change,),
            external_name=self.instance.name,
            poll_after=STARTING_POLL,
        )

    def _content(self, secrets: Mapping[str, str]) -> Content:
        record = self.instance.record.setdefault("content", {})
        return Content(self.spec, self._connect, secrets, record, spare=self.beginning.spare)

    @property
    def scripts(self) -> Scripts:
        """The scripts of the beginning, as they are on record now."""
        record = self.instance.record.setdefault("scripts", {})
        return Scripts(self.ctx, self.obj, record, self._save, self._connect)

    async def _save(self) -> None:
        self.instance.save()

    async def _connect(self, database: str, role: str = "", password: str = "") -> Any:
        """As the driver's own user, or as a client does."""
        if role:
            return await self.connect_as_client(database, role, password)
        return await self.files.connect(self.client_port, database)

    def _endpoint(self, reader: Node | None) -> Endpoint:
        public = self.port_of(self.public_key)
        if reader is None:
            return Endpoint(host=HOST, port=public)
        port = self.port_of("tls-read") if self.encryption.in_front else reader.port
        return Endpoint(host=HOST, port=public, read_host=HOST, read_port=port)

    async def connect_as_client(self, database: str, role: str, password: str) -> Any:
        """Log in to the engine as an application does.

        Raises:
            Unavailable, Unauthenticated: it doesn't work.
        """
        if self.encryption.wanted:
            return await self.encryption.connect(database, role, password)
        return await self.files.connect(self.client_port, database, role, password)

    async def _client_works(self, secrets: Mapping[str, str]) -> bool:
        """The real thing: log in as the binding's role, into the binding's database."""
        item = self.spec.databases[0]
        owner = self.spec.owner_of(item)
        if owner not in secrets or self.encryption.shuts_us_out:
            return True  # an owner that can't log in, or nobody without a certificate
        try:
            connection = await self.connect_as_client(item.name, owner, secrets[owner])
            try:
                works = await connection.fetchval("SELECT 1") == 1
            finally:
                await connection.close(timeout=2)
            return bool(works and (not self.pooler.wanted or await self.pooler.works(item.name, owner, secrets[owner])))
        except ChandleryError:
            return False

    def _poll_after(self, ready: bool, nodes: list[Node]) -> float:
        if ready:
            return REPLICATED_POLL if self.count > 1 else DRIFT_POLL
        waits = [node.state.wait for node in nodes if not node.state.running]
        return max(STARTING_POLL, min(waits, default=0.0))

    def _binding(self, role: str, secrets: Mapping[str, str]) -> Binding:
        names = [d.name for d in self.spec.databases if self.spec.owner_of(d) == role]
        database, password = (names or [self.spec.databases[0].name])[0], secrets.get(role, "")
        entries = self.encryption.encrypted(entries_of(role, password, database, self.encryption.port))
        if self.pooler.wanted:
            direct = {"direct-port": entries["port"], "direct-uri": entries["uri"]}
            pooled = entries_of(role, password, database, self.pooler.port)
            entries = {**self.encryption.encrypted(pooled, pooled=True), **direct}
        return Binding("postgresql", "chandlery", entries)

    # -- differences

    def _server_differences(self, nodes: list[Node], primary: Node) -> list[Difference]:
        if self.copies.promoting is not None:
            return self.copies.goes_on(nodes)
        watched = [*nodes, primary] if self.count > 1 or primary.index >= self.count else []
        hung = {node.index for node in watched if self.copies.hangs(node)}
        gone = not primary.state.running or primary.index in hung
        if primary.index >= self.count or (self.copies.away(primary) and gone):
            heir = self.copies.heir(nodes, primary)
            if heir is not None:
                return [Difference("primary", heir.name, primary.name, payload=("promote", heir.index))]
        found = self.settings.differences() + self._port_differences()
        for node in nodes:
            if not node.state.running and self._may_start(node):
                if node.state.wait <= 0:
                    change = ("start", node.index)
                    found.append(Difference(f"instance {node.name}", "running", "stopped", payload=change))
            elif node.state.running and not node.answers:
                if (at := self.files.listens(node)) not in (None, node.port):
                    change = ("anew", node.index)  # nobody who looks for it finds it there
                    found.append(Difference(f"port of {node.name}", str(node.port), str(at), payload=change))
                elif node.index in hung and node is not primary:
                    change = ("hung", node.index)
                    found.append(Difference(f"instance {node.name}", "answering", "silent", payload=change))
            elif node.answers and (of_node := self.settings.of_node(node, nodes)) is not None:
                found.append(of_node)
        nodes_on_record = [name for name in self.instance.process_names() if name.startswith("node-")]
        extra = [name for name in nodes_on_record if int(name.removeprefix("node-")) >= self.count]
        found += [Difference("spec.instances", "absent", name, payload=("remove", name)) for name in extra]
        return found

    def _port_differences(self) -> list[Difference]:
        wanted, actual = self.spec.exposure.port, self.port_of(self.public_key)
        if wanted is None or wanted == actual:
            return []
        cost = Disruption.RELOAD if self.public_key == "tls" else Disruption.RESTART
        return [Difference("spec.exposure.port", str(wanted), str(actual), cost, payload=("port", wanted))]

    def _may_start(self, node: Node) -> bool:
        """A former primary isn't just started: it would go on from where it was, beside the new one."""
        return node.index == self.primary_index or (self.files.made(node) and self.files.follows(node))

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says: who is primary first, then what is inside, then configuration and restarts."""
        async with self.files.one_pass():
            await self._update(observed)

    async def _update(self, observed: Observation) -> None:
        inside, late, rotated = [], [], False
        reload: set[int] = set()
        restart: set[int] = set()
        before, everyone = dict(self.settings.applied), set(range(self.count))
        upgrade = [change.payload[1] for change in observed.plan.changes if _is(change, "upgrade")]
        refused: ChandleryError | None = None
        for what in upgrade:
            try:
                await self.upgrade.apply(what)
            except (InvalidSpec, NotSupported) as error:
                refused = error  # told after the rest: what runs is to go on meanwhile
        if upgrade and refused is None:
            return  # everything else looks different now
        for change in observed.plan.changes:
            if not (isinstance(change.payload, tuple) and isinstance(change.payload[0], str)):
                inside.append(change)
                continue
            what, *rest = change.payload
            match what:
                case "promote":
                    await self.copies.promote(int(rest[0]))
                    return  # everything else looks different now
                case "doubt":
                    await self.copies.settle(int(rest[0]))
                    return
                case "set":
                    self.settings.note(rest[0], rest[1])
                    reload |= everyone
                    if change.disruption >= Disruption.RESTART:
                        restart |= everyone
                case "reload":
                    reload.add(int(rest[0]))
                case "restart":
                    restart.add(int(rest[0]))
                case "port":
                    restart |= await self._take_port(rest[0])
                    reload |= everyone
                case "tls" if rest[0] == "remove":
                    await self.encryption.remove()
                case "tls":
                    await self.encryption.prepare()
                    reload |= everyone
                case "rotate" | "expire":
                    self.rotation.apply(change.payload)
                    rotated = True
                case "script" | "archive" | "backup" | "pooler" | "tls-front":
                    late.append((what, rest))
                case _:
                    await self._do(what, rest)
        await self._inside(inside, rotated=rotated)
        await self.settings.apply(before, reload, restart)
        for what, rest in late:
            await self._do_late(what, rest)
        if refused is not None:
            raise refused

    async def _inside(self, changes: list[Difference], *, rotated: bool) -> None:
        """What is in the databases; `rotated`: passwords on record have changed since it was looked at."""
        secrets = await passwords(self.ctx, self.obj, self.instance)
        content = self._content(secrets)
        if changes:
            await content.apply(changes)
        if rotated:
            await content.apply(await content.differences())
        if changes or rotated:
            self.instance.save()

    async def _do(self, what: str, rest: list[Any]) -> None:
        match what:
            case "start":
                await self.start(self.node(int(rest[0])))
            case "anew":
                await self.node(int(rest[0])).process.stop()
                await self.start(self.node(int(rest[0])))
            case "hung":
                await self.copies.fence(self.node(int(rest[0])))
                await self.start(self.node(int(rest[0])))
            case "to-disk":
                await self.beginning.bring_to_disk()
            case "own-password":
                await self.beginning.own_password()
            case "replicator":
                await self.copies.make_replicator()
            case "slot":
                await self.ask("SELECT pg_create_physical_replication_slot($1, true)", rest[0])
            case "unslot":
                await self.ask("SELECT pg_drop_replication_slot($1)", rest[0])
            case "clone":
                await self.copies.clone(self.node(int(rest[0])))
            case "rejoin":
                await self.copies.rejoin(self.node(int(rest[0])))
            case "recopy":
                await self.copies.recopy(self.node(int(rest[0])))
            case "remove":
                await self._remove(rest[0])

    async def _do_late(self, what: str, rest: list[Any]) -> None:
        """What is around the servers, once they are as they should be."""
        match what:
            case "tls-front":
                nodes = [await self.files.look(self.node(index)) for index in range(self.count)]
                reader = reader_of(nodes, nodes[self.primary_index])
                await self.encryption.front(reader.port if reader else None).apply()
            case "pooler":
                await self.pooler.apply(rest[0], rest[1])
            case "script":
                await self.scripts.run(rest[0], rest[1], await passwords(self.ctx, self.obj, self.instance))
            case "archive":
                await self.archive.apply(rest[0])
            case "backup":
                self.backups.start(rest[0])

    async def _take_port(self, wanted: int) -> set[int]:
        """Have the public port that the spec names; returns which nodes must be started anew for it.

        Raises:
            Unavailable: another program, or another object, has it.
        """
        public = self.public_key
        restart = {self.primary_index} if public == "client" else set()
        for key in ("client", "tls"):
            if key != public and self.instance.ports.get(key) == wanted:
                self.instance.move_port(key)
                if key == "client":  # it goes on at another one, and must let go of this one first
                    await self.node(self.primary_index).process.stop()
                    restart = {self.primary_index}
                else:
                    await self.encryption.remove()
        self.instance.claim_port(public, wanted)
        if public == POOLER_PORT:
            await self.pooler.stop()
        return restart

    async def ask(self, statement: str, *args: Any) -> Any:
        """Run one statement on the primary; the first value of its answer."""
        connection = await self.files.connect(self.client_port)
        try:
            return await connection.fetchval(statement, *args)
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


def _is(change: Difference, what: str) -> bool:
    return isinstance(change.payload, tuple) and change.payload[0] == what
