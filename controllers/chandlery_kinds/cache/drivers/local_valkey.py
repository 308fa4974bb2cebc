"""Valkey and Redis servers of one cache: a primary, and copies that follow it.

Clients connect to one port for as long as the cache lives. When the primary fails, the copy that has most is told to
listen on that port itself, so nobody needs a proxy and no client needs to be told.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chandlery.driver.protocol import Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, Unavailable
from chandlery.model.base import Endpoint
from chandlery.providers.local import Instance, StopStep
from chandlery.providers.local.background import Job
from chandlery.providers.local.backups import Backups
from chandlery.providers.local.driver import crash_loop
from chandlery.providers.local.tls_front import PAYLOAD as FRONT
from chandlery.providers.local.tls_front import Front, FrontState
from chandlery_kinds.cache import acl
from chandlery_kinds.cache.binding import Address
from chandlery_kinds.cache.drivers.local_backup import all_answer, take
from chandlery_kinds.cache.drivers.local_front import HOST
from chandlery_kinds.cache.drivers.local_nodes import ANSWER_SECONDS, DRIFT_POLL, STARTING_POLL, Node, ValkeyNodes
from chandlery_kinds.cache.model import Cache, PersistenceMode
from chandlery_kinds.cache.resp import info
from chandlery_kinds.cache.valkey import NodeConfig

CATCH_UP_SECONDS = 5.0
REPLICATED_POLL = 1.0
STARTUP_SECONDS = 30.0
"""Loading a large data set takes a while: silence is normal then."""
GIVEN_UP_SECONDS = 30.0
"""A primary that can't be started for so long is given up, also for a copy that hadn't all of its data."""
SECOND_ANSWER_SECONDS = 0.75
HUNG_SECONDS = 1.0
"""A primary that is up but hasn't answered for so long, while a copy does, is given up."""


class ValkeyServers(ValkeyNodes):
    """Everything that one pass does with one cache's servers: a primary and its copies."""

    def __init__(self, ctx: DriverContext, obj: Cache, instance: Instance) -> None:
        super().__init__(ctx, obj, instance)
        self.count = 1 + obj.spec.replicas_per_primary
        self.backups = Backups(ctx, obj, instance, self._take_backup)

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
        """Where the engine itself listens."""
        return self.claimed(self.port_key(index))

    def node(self, index: int) -> Node:
        process = self.instance.process(f"node-{index}")
        return Node(process.name, process, self.port(index), process.state(), index)

    # -- create

    async def create(self) -> None:
        self.versions.keep()
        await self.restore.prepare()
        users = await self.users()
        self.write_acl(users)
        for index in range(self.count):
            await self.start(self.node(index))
        self.remember_acl(users, None)
        front = self.front()
        if front is not None:
            await front.apply()

    def node_config(self, node: Node) -> NodeConfig:
        primary = None if node.index == self.primary_index else (HOST, self.claimed("client"))
        return NodeConfig(
            port=node.port,
            data_dir=self.data_dir(node),
            acl_file=str(self.instance.config_dir / "users.acl"),
            primary=primary,
            replication_password=self.admin_password,
        )

    def fronts(self) -> list[Front]:
        """One for each port of an engine: which engine has it may change, the front doesn't."""
        keys = [self.port_key(index) for index in range(self.count)]
        return [*self.tls_fronts(keys), *self.outside_fronts("client")]

    def address(self) -> Address:
        return self.address_of("client")

    # -- observe

    async def observe(self) -> Observation:
        self.instance.reload()
        servers = [name for name in self.instance.process_names() if name.startswith("node-")]
        extra = [name for name in servers if int(name.rpartition("-")[2]) >= self.count]
        nodes = [self.node(index) for index in range(self.count)]
        for node in nodes:
            await self.ask(node, seconds=SECOND_ANSWER_SECONDS if self._was_silent(node) else ANSWER_SECONDS)
        front = await self.observe_front()
        differences = await self._differences(nodes)
        differences += [Difference("spec.replicas", "absent", name, payload=("remove", name)) for name in extra]
        differences += [*self.port_differences("client"), *front.differences]
        primary = nodes[self.primary_index] if self.primary_index < self.count else nodes[0]
        serves = primary.answers and primary.role == "primary" and front.ready and await self.client_works(primary.port)
        behind = [n for n in nodes if n is not primary and not n.in_step]
        ready = serves and not behind
        backups = await self.backups.look(serves=ready and not self.restore.loading)
        differences += [*self.rotation.differences(), *self.restore.difference(nodes), *backups.differences]
        reason, message = self._explain(nodes, primary, behind, front)
        return Observation(
            exists=bool(servers),
            ready=ready,
            reason="" if ready else reason,
            message="" if ready else message,
            differences=tuple(differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=HOST, port=self.endpoint_port, **self._read_endpoint(nodes, primary)),
            binding=self.binding(acl.DEFAULT, self.instance.secret("password")),
            user_bindings=await self.user_bindings(),
            facts={**self._facts(nodes, primary), "users": self.user_facts(ready=ready), **backups.facts},
            conditions=backups.conditions,
            poll_after=self.rotation.poll(backups.poll(self._poll_after(ready, nodes))),
        )

    def _poll_after(self, ready: bool, nodes: list[Node]) -> float:
        if ready:
            return REPLICATED_POLL if self.count > 1 else DRIFT_POLL
        waits = [node.state.wait for node in nodes if not node.state.running]
        return max(STARTING_POLL, min(waits, default=0.0))

    def _explain(self, nodes: list[Node], primary: Node, behind: list[Node], front: FrontState) -> tuple[str, str]:
        for node in nodes:
            looping = crash_loop(node.name, node.process, node.state)
            if looping is not None:
                return looping
        if not primary.answers:
            return "Starting", f"waiting for {primary.name} to answer" + (
                f" ({primary.error})" if primary.error else ""
            )
        if not front.ready:
            return front.reason, front.message
        if behind:
            return "Replicating", f"{', '.join(n.name for n in behind)} still copying from the primary"
        return "Starting", f"{primary.name} does not accept the binding's credentials yet"

    def _read_endpoint(self, nodes: list[Node], primary: Node) -> dict[str, Any]:
        reader = next((n for n in nodes if n is not primary and n.in_step), None)
        return {"read_host": HOST, "read_port": self.public(self.port_key(reader.index))} if reader else {}

    def _facts(self, nodes: list[Node], primary: Node) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": node.role if node.answers else "unknown",
                "ready": node.answers and (node is primary or node.in_step),
                "address": f"{HOST}:{self.public(self.port_key(node.index))}",
                **({"version": node.version} if node.answers else {}),
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
            facts["version"] = primary.version
        if self.versions.available:
            facts["availableVersion"] = self.versions.available
        return facts

    # -- differences

    async def _differences(self, nodes: list[Node]) -> list[Difference]:
        found: list[Difference] = []
        primary = nodes[self.primary_index] if self.primary_index < self.count else None
        self._note_followers(nodes, primary)
        if primary is None or not primary.state.running or self._hangs(primary):
            heir = self._heir(nodes, primary)
            if heir is not None:
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
            found += [*self.settings_of(node), *self.version_difference(node)]
        found += self.carried_differences(nodes)
        found += self.acl_differences(await self.users(), [n for n in nodes if n.answers])
        return found

    def _heir(self, nodes: list[Node], primary: Node | None) -> Node | None:
        """The copy that has most of what the primary had.

        A copy that followed when the primary was last seen, and holds the same stream of writes, lacks the last moments
        at most; one that was away or just being copied to lacks more, or has nothing. Where the data are on the disk
        too, it is better to wait for the primary than to go back to such a copy, unless the primary can't be started.
        """
        stream, names = self.instance.record.get("followers", (None, ()))
        copies = [n for n in nodes if n.answers and n is not primary and n.info.get("loading") == "0"]
        kept = self.spec.persistence.mode is not PersistenceMode.NONE
        if primary is not None and kept and stream is not None and not self._given_up(primary):
            copies = [n for n in copies if n.stream == stream and n.name in names]
        return max(copies, key=lambda n: (n.stream == stream, n.offset), default=None)

    def _note_followers(self, nodes: list[Node], primary: Node | None) -> None:
        """Keep on record who has the primary's data, for the time when it can't be asked."""
        record = self.instance.record
        before = (record.get("followers"), record.get("away_since"))
        if primary is not None and primary.answers:
            record.pop("away_since", None)
            if primary.role == "primary" and self.count > 1:
                names = sorted(n.name for n in nodes if n is not primary and n.answers and n.in_step)
                record["followers"] = [primary.stream, names]
        elif self.count > 1:
            record.setdefault("away_since", self.ctx.base.now().timestamp())
        if before != (record.get("followers"), record.get("away_since")):
            self.instance.save()

    def _forget_followers(self) -> None:
        """From now on the primary writes another stream, and nobody has been seen to follow it."""
        if "followers" in self.instance.record:
            self.instance.record["followers"] = ["", []]

    def _given_up(self, primary: Node) -> bool:
        """Whether there is no sense in waiting for a primary any longer: it can't be started."""
        since = self.instance.record.get("away_since")
        late = since is not None and self.ctx.base.now().timestamp() - since >= GIVEN_UP_SECONDS
        return late and not primary.state.running

    def _hangs(self, primary: Node) -> bool:
        """Whether a running primary has been silent for too long. The first silence is kept in the record.

        One that hasn't answered since it was started may be loading; one that has, may not be silent again.
        """
        record, now = self.instance.record, self.ctx.base.now().timestamp()
        since, started = record.get("silent_since"), primary.state.started_at or now
        if primary.answers:
            if since is not None or record.get("answered_since") != started:
                record.pop("silent_since", None)
                record["answered_since"] = started
                self.instance.save()
            return False
        if record.get("answered_since") != started and now - started < STARTUP_SECONDS:
            return False
        if since is None:
            record["silent_since"] = now - ANSWER_SECONDS  # for so long it was waited for
            self.instance.save()
            return False
        return bool(now - since >= HUNG_SECONDS)

    def _was_silent(self, node: Node) -> bool:
        """The primary, and it didn't answer when it was asked last."""
        return node.index == self.primary_index and "silent_since" in self.instance.record

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

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says: first who is primary, then processes, then settings."""
        nodes = {f"node-{index}": self.node(index) for index in range(self.count)}
        restart: list[str] = []
        if self.apply_rotation(observed):
            await self.load_acl([n for n in nodes.values() if n.state.running])
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "promote":
                await self._promote(int(rest[0]))
                return  # everything else looks different now
            if what == "start":
                if int(rest[0]) == self.primary_index:
                    self._forget_followers()  # saved with what is known of its process, before it has a client
                await self.start(self.node(int(rest[0])))
            elif what == "port":
                await self._move_port(self.node(int(rest[0])), int(change.actual))
            elif what == "role":
                await self._set_role(self.node(int(rest[0])))
            elif what == "remove":
                await self._remove(rest[0])
            elif what == "public-port":
                self.claim_public("client")
            elif what == "backup":
                self.backups.start(rest[0])
            elif what == "restored":
                self.restore.finish()
            elif what in (FRONT, "remove-front", "rotate", "expire"):
                continue
            elif what == "acl":
                await self.load_acl([n for n in nodes.values() if n.state.running])
            elif what == "carried":
                self.forget_carried(rest[0])
            elif what == "version" or change.disruption >= Disruption.RESTART:
                restart.append(rest[0])
            else:
                await self.set_live(nodes[rest[0]], rest[1], change)
        self.forget_defaults(observed)
        for node in nodes.values():
            self.write_config(node)
        await self.update_front(observed)
        if restart:
            await self._roll([nodes[name] for name in sorted(set(restart))])

    async def _roll(self, nodes: list[Node]) -> None:
        """Restart one process: copies first, each in step again before the next; the primary hands over before."""
        everybody = [self.node(index) for index in range(self.count)]
        for node in everybody:
            await self.ask(node)
        self.check_version([node for node in everybody if node.answers])
        self.versions.keep()
        copies = [node for node in everybody if node.index != self.primary_index]
        late = [node.name for node in copies if not node.in_step]
        if late:
            raise Unavailable(f"waiting for {', '.join(late)} to be in step before the next restart", retry_after=0.1)
        due = {node.name for node in nodes}
        first = next((copy for copy in copies if copy.name in due), None)
        if first is None and copies:
            await self._promote(max(copies, key=lambda copy: copy.offset).index, planned=True)
            return  # the old primary is started again as a copy by the next pass
        await self.restart(first or everybody[self.primary_index])

    # -- backups

    async def _take_backup(self, folder: Path, job: Job) -> Mapping[str, Any]:
        primary = self.node(self.primary_index)
        await self.ask(primary)
        return await take(self, {"node-0.rdb": primary}, folder, job)

    async def last_backup(self) -> bool:
        """True when there is a backup that began after the deletion did."""
        return await all_answer(self, [self.node(self.primary_index)]) and await self.backups.last()

    # -- who is primary

    async def _promote(self, index: int, *, planned: bool = False) -> None:
        """Make a copy the primary: on record first, so that whoever comes next goes on from here."""
        old = self.node(self.primary_index)
        if old.state.running:
            if not self._was_silent(old):
                await self._catch_up(old, self.node(index))
            # It may hang with the port still open, and must not wake up as a second primary.
            old.process.signal(signal.SIGKILL)
            await old.process.stop((StopStep(signal.SIGKILL, 5.0),))
        if not planned:
            index = await self._chosen(old, index)
        heir_port, keys = self.port(index), (self.port_key(index), self.port_key(old.index))
        self.instance.record.setdefault("port_keys", {}).update({str(old.index): keys[0], str(index): keys[1]})
        self._forget_followers()
        self.instance.save()
        heir = self.node(index)
        async with await self.connect(heir_port) as client:
            await client.command("REPLICAOF", "NO", "ONE")
        await self._move_port(heir, heir_port)
        kind, why = ("Normal", "gave way") if planned else ("Warning", "was lost")
        self.ctx.event(kind, "FailedOver", f"{old.name} {why}; {heir.name} is the primary now")

    async def _chosen(self, old: Node, index: int) -> int:
        """Which copy has most, now that nothing more can come: until its end the old primary may have told others."""
        nodes = [self.node(i) for i in range(self.count)]
        for node in nodes:
            await self.ask(node)
        heir = self._heir(nodes, nodes[old.index] if old.index < self.count else None)
        return heir.index if heir is not None else index

    async def _catch_up(self, old: Node, heir: Node) -> None:
        """While the old primary still answers (it is scaled away), lose nothing: stop writes, wait for the copy.

        Raises:
            Unavailable: the copy is too far behind; the primary goes on for now.
        """
        clock = self.ctx.base.clock
        try:
            async with await self.connect(old.port) as source, await self.connect(heir.port) as copy:
                await source.command("CLIENT", "PAUSE", "10000", "WRITE")
                deadline = clock.monotonic() + CATCH_UP_SECONDS
                while clock.monotonic() < deadline:
                    sent = info(await source.command("INFO", "replication"))["master_repl_offset"]
                    if info(await copy.command("INFO", "replication")).get("slave_repl_offset") == sent:
                        return
                    await clock.sleep(0.01)
                await source.command("CLIENT", "UNPAUSE")
        except ChandleryError:
            return  # it hangs: there is nothing more to be had from it
        raise Unavailable(
            f"{heir.name} is still behind {old.name}, which stays primary until it isn't", retry_after=1.0
        )

    async def _move_port(self, node: Node, now_on: int) -> None:
        async with await self.connect(now_on) as client:
            await client.command("CONFIG", "SET", "port", node.port)
        self.listens(node, node.port)

    async def _set_role(self, node: Node) -> None:
        async with await self.connect(node.port) as client:
            if node.index == self.primary_index:
                await client.command("REPLICAOF", "NO", "ONE")
            else:
                await client.command("REPLICAOF", HOST, self.claimed("client"))

    async def _remove(self, name: str) -> None:
        process = self.instance.process(name)
        await process.stop()
        process.forget()
        key = f"replica-{name.rpartition('-')[2]}"
        self.instance.release_port(key)
        self.instance.release_port(f"tls-{key}")
