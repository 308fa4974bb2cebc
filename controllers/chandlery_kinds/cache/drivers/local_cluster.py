"""A sharded cache: Valkey's or Redis's own cluster mode, on processes of this machine.

A shard is a group of processes `shard-S-node-R`, one of which is its primary. The cluster keeps its topology itself;
the driver starts processes, introduces them to one another, gives out slots, moves them when the number of shards
changes, and names a new primary at once where the cluster would take seconds to agree on one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chandlery.driver.protocol import Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, EngineFailed, Unavailable
from chandlery.model.base import Condition, ConditionStatus, Endpoint
from chandlery.providers.local import Instance
from chandlery.providers.local.background import Job
from chandlery.providers.local.backups import Backups
from chandlery.providers.local.driver import crash_loop
from chandlery.providers.local.files import remove_tree
from chandlery.providers.local.tls_front import Front, FrontState
from chandlery_kinds.cache import acl, cluster
from chandlery_kinds.cache.binding import Address
from chandlery_kinds.cache.drivers.local_backup import all_answer, take
from chandlery_kinds.cache.drivers.local_front import HOST
from chandlery_kinds.cache.drivers.local_nodes import DRIFT_POLL, STARTING_POLL, Node, ValkeyNodes
from chandlery_kinds.cache.drivers.slots import SlotMover
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.cache.resp import info
from chandlery_kinds.cache.valkey import NodeConfig

WATCHING_POLL = 5.0
"""The end of a process is told at once, and a node that hangs is given up by the cluster itself."""
MOVING_POLL = 0.1
FAILOVER_SECONDS = 5.0
STEP_POLL = 0.02
_NAME = re.compile(r"^shard-(\d+)-node-(\d+)$")
FIRST = "shard-0-node-0"


class ClusterServers(ValkeyNodes):
    """Everything that one pass does with one sharded cache."""

    def __init__(self, ctx: DriverContext, obj: Cache, instance: Instance) -> None:
        super().__init__(ctx, obj, instance)
        self.shards = obj.spec.primaries
        self.group = 1 + obj.spec.replicas_per_primary
        self.backups = Backups(ctx, obj, instance, self._take_backup)
        self.views: dict[str, cluster.View] = {}
        """What each node that answers sees."""
        self.introducing = False
        """Nodes are telling one another of one another."""
        self.moving = ""
        """What is on its way from shard to shard, in words."""

    # -- what is on record

    def wanted_settings(self) -> dict[str, str]:
        """A copy stays in its shard: which process belongs where is the driver's to say.

        The driver sees at once when a process ends; the cluster's own timeout is for one that hangs, and a machine
        under load must not look like that.
        """
        own = {"cluster-allow-replica-migration": "no", "cluster-node-timeout": "3000"}
        return {**own, **super().wanted_settings()}

    def names(self) -> list[str]:
        return [f"shard-{shard}-node-{number}" for shard in range(self.shards) for number in range(self.group)]

    def known_names(self) -> list[str]:
        """Every process there is or should be, also of shards that are to go."""
        started = [name for name in self.instance.process_names() if _NAME.match(name)]
        return sorted({*self.names(), *started}, key=_place)

    @staticmethod
    def shard_of(name: str) -> int:
        return _place(name)[0]

    @staticmethod
    def port_key(name: str) -> str:
        return "client" if name == FIRST else name

    def node(self, name: str) -> Node:
        process = self.instance.process(name)
        return Node(name, process, self.claimed(self.port_key(name)), process.state(), _place(name)[1])

    @property
    def ids(self) -> dict[str, str]:
        """Process name -> the id that the cluster knows it by."""
        found: dict[str, str] = self.instance.record.setdefault("node_ids", {})
        return found

    def node_config(self, node: Node) -> NodeConfig:
        return NodeConfig(
            port=node.port,
            data_dir=self.data_dir(node),
            acl_file=str(self.instance.config_dir / "users.acl"),
            replication_password=self.admin_password,
            cluster_port=self.bus_port(node.name),
            announce=(HOST, self.public(self.port_key(node.name)) if self.certificates is not None else None),
        )

    def bus_port(self, name: str) -> int:
        return self.instance.port(f"bus-{name}")

    def fronts(self) -> list[Front]:
        """Clients are sent from node to node, so that each needs a front."""
        return self.tls_fronts([self.port_key(name) for name in self.known_names()])

    def address(self) -> Address:
        found = self.address_of("client")
        nodes = [f"{HOST}:{self.public(self.port_key(name))}" for name in self.names()]
        return Address(found.host, found.port, found.tls, found.plain_port, nodes)

    # -- create

    async def create(self) -> None:
        self.versions.keep()
        await self.restore.prepare()
        users = await self.users()
        self.write_acl(users)
        # A backup may be of more shards than are wanted: these give their slots away and leave again.
        more = [f"shard-{shard}-node-0" for shard in range(self.shards, len(self.restore.slots))]
        for name in [*self.names(), *more]:
            await self.start(self.node(name))
        self.remember_acl(users, None)
        front = self.front()
        if front is not None:
            await front.apply()

    # -- observe

    async def observe(self) -> Observation:
        self.instance.reload()
        nodes = {name: self.node(name) for name in self.known_names()}
        states: dict[str, Mapping[str, str]] = {}
        asked = await asyncio.gather(*(self.ask(node, "CLUSTER NODES", "CLUSTER INFO") for node in nodes.values()))
        for name, answers in zip(nodes, asked, strict=True):
            view = cluster.parse(answers[0]) if answers else None
            if view is not None:
                self.views[name] = view
                states[name] = info(answers[1])
        self._remember_ids()
        front = await self.observe_front()
        wanted = [nodes[name] for name in self.names()]
        differences = [*await self._differences(nodes, states), *front.differences]
        # A shard that has no slots yet, because it is only coming, keeps nobody from being served.
        owned = self.owned()
        serving = [node for node in wanted if self.shard_of(node.name) in owned] or wanted
        disagree = any(states.get(node.name, {}).get("cluster_state", "ok") != "ok" for node in serving)
        forming = disagree or bool(cluster.unowned(owned.values()))
        behind = [node for node in serving if node.answers and node.role == "replica" and not node.in_step]
        silent = [node for node in serving if not node.answers]
        serves = front.ready and not forming and not silent and await self.client_works(wanted[0].port)
        ready = serves and not behind
        even = not self.moving and not differences
        backups = await self.backups.look(serves=ready and even and not self.restore.loading)
        differences += [*self.rotation.differences(), *self.restore.difference(wanted), *backups.differences]
        reason, message = self._explain(wanted, silent, forming, behind, front)
        return Observation(
            exists=any(_NAME.match(name) for name in self.instance.process_names()),
            ready=ready,
            reason="" if ready else reason,
            message="" if ready else message,
            differences=tuple(differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=HOST, port=self.endpoint_port),
            binding=self.binding(acl.DEFAULT, self.instance.secret("password")),
            user_bindings=await self.user_bindings(),
            facts={**self._facts(nodes, wanted), "users": self.user_facts(ready=ready), **backups.facts},
            conditions=(self._balanced(), *backups.conditions),
            poll_after=self.rotation.poll(backups.poll(self._poll_after(ready, differences, wanted))),
        )

    def _balanced(self) -> Condition:
        """Whether the keys are spread as the spec asks; clients are served either way."""
        even = not self.moving and not cluster.moves(self.owned(), self.shards)
        return Condition(
            type="SlotsBalanced",
            status=ConditionStatus.TRUE if even else ConditionStatus.FALSE,
            reason="Even" if even else "Moving",
            message="" if even else self.moving or "slots are about to move",
        )

    def _remember_ids(self) -> None:
        seen = {name: view.me.id for name, view in self.views.items()}
        if any(self.ids.get(name) != known for name, known in seen.items()):
            self.ids.update(seen)
            self.instance.save()

    def _poll_after(self, ready: bool, differences: list[Difference], nodes: list[Node]) -> float:
        if ready and not differences and not self.moving:
            return WATCHING_POLL if self.group > 1 else DRIFT_POLL
        if ready and self.moving:
            return MOVING_POLL
        waits = [node.state.wait for node in nodes if not node.state.running]
        return max(STARTING_POLL, min(waits, default=0.0))

    def _explain(
        self, nodes: list[Node], silent: list[Node], forming: bool, behind: list[Node], front: FrontState
    ) -> tuple[str, str]:
        for node in nodes:
            looping = crash_loop(node.name, node.process, node.state)
            if looping is not None:
                return looping
        if silent:
            why = next((f" ({node.error})" for node in silent if node.error), "")
            return "Starting", f"waiting for {', '.join(node.name for node in silent)} to answer{why}"
        if not front.ready:
            return front.reason, front.message
        if forming:
            return "Forming", "the shards have not agreed yet on who owns which keys"
        if behind:
            return "Replicating", f"{', '.join(node.name for node in behind)} still copying from the primary"
        return "Starting", "the cluster does not accept the binding's credentials yet"

    def _facts(self, nodes: Mapping[str, Node], wanted: list[Node]) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": f"shard {node.role}" if node.answers else "unknown",
                "ready": node.answers and (node.role == "primary" or node.in_step),
                "address": f"{HOST}:{self.public(self.port_key(node.name))}",
                **({"version": node.version} if node.answers else {}),
                **({"message": node.error} if node.error else {}),
            }
            for node in nodes.values()
            if node.state.running or node in wanted
        ]
        owners = {name for name, view in self.views.items() if view.me.is_primary and view.me.slots}
        facts: dict[str, Any] = {
            "engine": self.spec.engine.value,
            "instances": len(members),
            "readyInstances": sum(1 for member in members if member["ready"]),
            "members": members,
            "shards": len(owners),
            "replicas": self.group - 1,
        }
        version = next((node.version for node in wanted if node.answers), "")
        more = {"version": version, "availableVersion": self.versions.available}
        return {**facts, **{name: value for name, value in more.items() if value}}

    # -- who is who

    def _peer(self, name: str) -> cluster.Peer | None:
        """What is known of a node: by itself, or by the one of the others that knows the latest."""
        if name in self.views:
            return self.views[name].me
        known = [view.peers[self.ids[name]] for view in self.views.values() if self.ids.get(name) in view.peers]
        return max(known, key=lambda peer: peer.epoch, default=None)

    def _primary_of(self, shard: int) -> str | None:
        """The process that owns the shard's slots; before there are any, the first one."""
        names = [name for name in self.known_names() if self.shard_of(name) == shard]
        peers = {name: peer for name in names if (peer := self._peer(name)) is not None and peer.is_primary}
        owners = [name for name, peer in peers.items() if peer.slots]
        if owners:
            return max(owners, key=lambda name: peers[name].epoch)
        return next(iter(sorted(peers, key=_place)), None)

    def owned(self) -> dict[int, set[int]]:
        """Shard -> its slots."""
        found: dict[int, set[int]] = {}
        for name in self.known_names():
            peer = self._peer(name)
            if peer is not None and peer.is_primary and peer.slots:
                found.setdefault(self.shard_of(name), set()).update(peer.slots)
        return found

    # -- differences

    async def _differences(
        self, nodes: Mapping[str, Node], states: Mapping[str, Mapping[str, str]]
    ) -> list[Difference]:
        found = self._stopped(nodes)
        if not self.views:
            return found
        strangers = self._strangers()
        if strangers or self.introducing:
            return [*found, *strangers]
        found += self._followers(nodes)
        if not found:
            found += await self._slots(states)
        if not found and not self.moving:
            found += [
                Difference("spec.shards" if self.shard_of(name) >= self.shards else "spec.replicas", "absent", name,
                           payload=("remove", name))
                for name in self.known_names()
                if name not in self.names()
            ]  # fmt: skip
        found += self.port_differences("client")
        for name in self.names():
            if nodes[name].answers:
                found += [*self.settings_of(nodes[name]), *self.version_difference(nodes[name])]
        found += self.carried_differences(list(nodes.values()))
        return [*found, *self.acl_differences(await self.users(), [n for n in nodes.values() if n.answers])]

    def _stopped(self, nodes: Mapping[str, Node]) -> list[Difference]:
        """Processes to start; a primary that has an heir is started only when it isn't one any more.

        It may come back with nothing, where nothing is kept on disk, and its copies would follow it in that.
        """
        found = []
        for name, node in nodes.items():
            if node.state.running or not self._is_needed(name):
                continue
            peer = self._peer(name)
            heirs = [n for n in nodes.values() if self._can_follow(n, name)]
            if peer is not None and peer.is_primary and peer.slots and heirs:
                heir = max(heirs, key=lambda n: n.offset)
                change = ("failover", heir.name)
                found.append(Difference(f"primary of shard {self.shard_of(name)}", heir.name, name, payload=change))
            elif node.state.wait <= 0:
                found.append(Difference(f"instance {name}", "running", "stopped", payload=("start", name)))
        return found

    def _is_needed(self, name: str) -> bool:
        """Wanted by the spec, or still the owner of slots that have to leave it first."""
        peer = self._peer(name)
        return name in self.names() or (peer is not None and bool(peer.slots))

    def _can_follow(self, node: Node, name: str) -> bool:
        view = self.views.get(node.name)
        return (
            view is not None
            and self.shard_of(node.name) == self.shard_of(name)
            and view.me.primary_id == self.ids.get(name)
            and node.offset > 0
            and node.info.get("master_sync_in_progress") != "1"
        )

    def _strangers(self) -> list[Difference]:
        """Nodes that don't know one another yet. All are introduced to the one that knows most."""
        seed = max(self.views, key=lambda name: (len(self._met(name)), [-part for part in _place(name)]))
        met = self._met(seed)
        found = [
            Difference(f"member {name}", "in the cluster", "alone", payload=("meet", seed, name))
            for name, view in self.views.items()
            if view.me.id not in met
        ]
        if found:
            return found
        mine = {view.me.id for view in self.views.values()}
        self.introducing = any(not mine <= self._met(name) for name in self.views)
        return []

    def _met(self, name: str) -> set[str]:
        return {known for known, peer in self.views[name].peers.items() if not peer.in_handshake}

    def _followers(self, nodes: Mapping[str, Node]) -> list[Difference]:
        found = []
        for name, view in self.views.items():
            primary = self._primary_of(self.shard_of(name))
            if primary is None or primary == name or view.me.slots or name not in self.names():
                continue
            wanted = self.ids.get(primary, "")
            if wanted and view.me.primary_id != wanted:
                actual = "primary" if view.me.is_primary else "replica of another"
                found.append(Difference(f"role of {name}", f"replica of {primary}", actual, payload=("follow", name)))
        return found

    async def _slots(self, states: Mapping[str, Mapping[str, str]]) -> list[Difference]:
        owned = self.owned()
        claims = [peer.slots for view in self.views.values() for peer in view.peers.values()]
        free = cluster.unowned([*owned.values(), *claims])
        if free:
            change = ("assign",)
            return [Difference("slots", "all have an owner", f"{len(free)} without", payload=change)]
        mover = self._mover()
        self.moving = await mover.busy()
        if self.moving:
            return []
        moves = cluster.moves(owned, self.shards)
        if not moves and not mover.open_slots():
            return []
        shards = {shard for move in moves for shard in (move.source, move.target)}
        if shards - mover.primaries.keys() or any(state.get("cluster_state") != "ok" for state in states.values()):
            self.moving = f"{sum(len(move.slots) for move in moves)} slots wait until the shards agree again"
            return []
        count = sum(len(move.slots) for move in moves)
        return [Difference("spec.shards", f"{self.shards} even shards", f"{count} slots to move", payload=("move",))]

    def _mover(self) -> SlotMover:
        primaries = {shard: name for shard in self._all_shards() if (name := self._primary_of(shard)) is not None}
        return SlotMover(self, primaries, self.views)

    def _all_shards(self) -> list[int]:
        return sorted({self.shard_of(name) for name in self.known_names()})

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says. Everything here may be repeated, and goes on where another pass was cut off."""
        await self._look()
        restart: list[str] = []
        if self.apply_rotation(observed):
            await self.load_acl([n for n in map(self.node, self.known_names()) if n.state.running])
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "failover":
                await self._fail_over(rest[0])
                return  # everything else looks different now
            if what == "start":
                await self.start(self.node(rest[0]))
            elif what == "meet":
                await self._meet(*rest)
            elif what == "follow":
                await self._follow(rest[0])
            elif what == "assign":
                await self._assign()
            elif what == "move":
                await self._mover().move(cluster.moves(self.owned(), self.shards))
            elif what == "remove":
                await self._remove(rest[0])
            elif what == "backup":
                self.backups.start(rest[0])
            elif what == "restored":
                self.restore.finish()
            elif what == "public-port":
                self.claim_public("client")
            elif what == "acl":
                await self.load_acl([n for n in map(self.node, self.known_names()) if n.state.running])
            elif what == "carried":
                self.forget_carried(rest[0])
            elif what == "version" or (what == "set" and change.disruption >= Disruption.RESTART):
                restart.append(rest[0])
            elif what == "set":
                await self.set_live(self.node(rest[0]), rest[1], change)
        self.forget_defaults(observed)
        for name in self.known_names():
            self.write_config(self.node(name))
        if restart:
            await self._roll(restart)
        await self.update_front(observed)

    async def _look(self) -> None:
        """The present views: those of observe belong to another pass."""
        names = self.known_names()
        asked = await asyncio.gather(*(self.ask(self.node(name), "CLUSTER NODES") for name in names))
        for name, answers in zip(names, asked, strict=True):
            view = cluster.parse(answers[0]) if answers else None
            if view is not None:
                self.views[name] = view
        self._remember_ids()

    async def _fail_over(self, heir: str) -> None:
        """Name a new primary now: by the others' votes, or, where most primaries are gone, without."""
        primaries = [name for shard in self._all_shards() if (name := self._primary_of(shard)) is not None]
        alive = [name for name in primaries if name in self.views]
        ways = ["FORCE", "TAKEOVER"] if 2 * len(alive) > len(primaries) else ["TAKEOVER"]
        node, clock = self.node(heir), self.ctx.base.clock
        for way in ways:
            async with await self.connect(node.port) as client:
                await client.command("CLUSTER", "FAILOVER", way)
                deadline = clock.monotonic() + FAILOVER_SECONDS
                while clock.monotonic() < deadline:
                    view = cluster.parse(await client.command("CLUSTER", "NODES"))
                    if view is not None and view.me.is_primary:
                        shard = self.shard_of(heir)
                        self.ctx.event("Warning", "FailedOver", f"{heir} is the primary of shard {shard} now")
                        return
                    await clock.sleep(STEP_POLL)
        raise EngineFailed(f"{heir} did not become primary within {FAILOVER_SECONDS:.0f} s", retry_after=0.5)

    async def _meet(self, seed: str, name: str) -> None:
        async with await self.connect(self.node(seed).port) as client:
            await client.command("CLUSTER", "MEET", HOST, self.node(name).port, self.bus_port(name))

    async def _follow(self, name: str) -> None:
        primary = self._primary_of(self.shard_of(name))
        if primary is None or primary == name:
            return
        async with await self.connect(self.node(name).port) as client:
            await client.command("CLUSTER", "REPLICATE", self.ids[primary])

    async def _assign(self) -> None:
        """Give slots that nobody has to shards."""
        owned = self.owned()
        claims = [peer.slots for view in self.views.values() for peer in view.peers.values()]
        free = cluster.unowned([*owned.values(), *claims])
        for shard, slots in self._shares(free, owned).items():
            primary = self._primary_of(shard)
            if primary is None or primary not in self.views:
                raise Unavailable(f"shard {shard} has no primary yet", retry_after=0.05)
            async with await self.connect(self.node(primary).port) as client:
                await client.command("CLUSTER", "ADDSLOTSRANGE", *cluster.range_words(slots))

    def _shares(self, free: set[int], owned: Mapping[int, set[int]]) -> dict[int, list[int]]:
        """Which shard gets which: of a restored backup as they were, for the keys are there already."""
        given = {int(shard): free & cluster.in_ranges(words) for shard, words in self.restore.slots.items()}
        if self.restore.loading and any(given.values()):
            return {shard: sorted(slots) for shard, slots in given.items() if slots}
        return cluster.fill(free, owned, self.shards)

    # -- backups

    async def _take_backup(self, folder: Path, job: Job) -> Mapping[str, Any]:
        await self._look()
        owners = {shard: name for shard in self._all_shards() if (name := self._primary_of(shard)) is not None}
        nodes = {}
        for shard, name in owners.items():
            nodes[f"shard-{shard}-node-0.rdb"] = node = self.node(name)
            await self.ask(node)
        slots = {str(shard): cluster.range_words(owned) for shard, owned in self.owned().items()}
        return {**await take(self, nodes, folder, job), "slots": slots}

    async def last_backup(self) -> bool:
        """True when there is a backup that began after the deletion did."""
        await self._look()
        names = [self._primary_of(shard) or f"shard-{shard}-node-0" for shard in self._all_shards()]
        return await all_answer(self, [self.node(name) for name in names]) and await self.backups.last()

    async def _remove(self, name: str) -> None:
        """An empty node leaves: it stops, and the others forget it before word of it comes round again."""
        node = self.node(name)
        known = self.ids.get(name)
        await node.process.stop()
        if known is not None:
            for other in self.names():
                await self._forget(other, known)
        node.process.forget()
        remove_tree(self.instance.data_dir / name)
        (self.instance.config_dir / f"{name}.conf").unlink(missing_ok=True)
        self.ids.pop(name, None)
        for key in (self.port_key(name), f"bus-{name}", f"tls-{self.port_key(name)}"):
            self.instance.release_port(key)
        self.instance.save()

    async def _forget(self, other: str, known: str) -> None:
        if not self.node(other).state.running:
            return
        async with await self.connect(self.node(other).port) as client:
            try:
                await client.command("CLUSTER", "FORGET", known)
            except ChandleryError as error:
                if "Unknown node" not in error.message:
                    raise

    async def _roll(self, names: list[str]) -> None:
        """Restart one process at a time: copies first; a primary hands over to a copy before."""
        everybody = [self.node(name) for name in self.names()]
        for node in everybody:
            await self.ask(node)
        self.check_version([node for node in everybody if node.answers])
        self.versions.keep()
        late = [node.name for node in everybody if not node.answers or (node.role == "replica" and not node.in_step)]
        if late:
            raise Unavailable(f"waiting for {', '.join(late)} to be in step before the next restart", retry_after=0.1)
        due = sorted((node for node in everybody if node.name in names), key=lambda node: (node.role, node.name))
        node = next((node for node in due if node.role == "replica"), due[0])
        shard = self.shard_of(node.name)
        heirs = [heir for heir in everybody if heir.role == "replica" and self.shard_of(heir.name) == shard]
        if node.role == "primary" and heirs:
            await self._hand_over(heirs[0])
            return  # it is a copy now, and restarted as one by the next pass
        await self.restart(node)

    async def _hand_over(self, heir: Node) -> None:
        """The present primary stops writes, waits for the copy, and lets it take over: nothing is lost."""
        clock = self.ctx.base.clock
        async with await self.connect(heir.port) as client:
            await client.command("CLUSTER", "FAILOVER")
            deadline = clock.monotonic() + FAILOVER_SECONDS
            while clock.monotonic() < deadline:
                view = cluster.parse(await client.command("CLUSTER", "NODES"))
                if view is not None and view.me.is_primary:
                    return
                await clock.sleep(STEP_POLL)
        raise Unavailable(f"{heir.name} did not take over yet", retry_after=0.5)


def _place(name: str) -> tuple[int, int]:
    """(shard, number within it)."""
    match = _NAME.match(name)
    assert match is not None, name
    return int(match[1]), int(match[2])
