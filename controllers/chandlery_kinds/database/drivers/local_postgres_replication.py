"""Copies of a PostgreSQL primary on this machine: how they are made and kept, and which one takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chandlery.driver.protocol import Difference
from chandlery.foundation.errors import Unavailable
from chandlery_kinds.database.drivers.local_postgres_node import KILL, Node
from chandlery_kinds.database.postgres.configuration import REPLICATOR
from chandlery_kinds.database.postgres.scram import verifier
from chandlery_kinds.database.postgres.sql import ident, literal
from chandlery_kinds.database.spec_parts import Durability, ReplicationMode

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_postgres import PostgresServers

HUNG_SECONDS = 4.0
HUNG_COPY_SECONDS = 20.0
STARTUP_SECONDS = 300.0
"""Crash recovery may take long: a server that is silent so soon after its start isn't given up."""
PROMOTE_SECONDS = 30
GIVEN_UP_SECONDS = 30.0
"""A primary that can't be started for so long is given up, also for a copy that hadn't been in step with it."""
STUCK_SECONDS = 60.0
"""A copy that neither streams nor gets on for so long, while the primary answers, won't by itself."""


class Copies:
    """The copies of one database in one pass."""

    def __init__(self, servers: PostgresServers) -> None:
        self._servers = servers
        self.spec = servers.spec
        self.count = servers.count
        self.instance = servers.instance
        self.files = servers.files
        self.ctx = servers.ctx

    def hangs(self, node: Node) -> bool:
        """Whether a running server has been silent for too long. The first silence is kept in the record.

        One that hasn't answered since it was started may be recovering; one that has, may not be silent again.
        """
        now = self.ctx.base.now().timestamp()
        started = node.state.started_at or now
        answered: dict[str, float] = self.instance.record.setdefault("answered", {})
        silent: dict[str, float] = self.instance.record.setdefault("silent", {})
        before = (answered.get(node.name), silent.get(node.name))
        recovering = answered.get(node.name) != started and now - started < STARTUP_SECONDS
        if node.answers:
            answered[node.name] = started
        if node.answers or recovering or not node.state.running:
            silent.pop(node.name, None)
        else:
            silent.setdefault(node.name, now)
        if before != (answered.get(node.name), silent.get(node.name)):
            self.instance.save()
        patience = HUNG_SECONDS if node.index == self._servers.primary_index else HUNG_COPY_SECONDS
        return now - silent.get(node.name, now) >= patience

    def away(self, primary: Node) -> bool:
        """Whether the primary hasn't answered for as long as spec.replication.failoverDelay allows.

        Meanwhile it is started again, which is over sooner than a failover when it just crashed.
        """
        record, now = self.instance.record, self.ctx.base.now().timestamp()
        if primary.answers or self.count == 1:
            if record.pop("away_since", None) is not None:
                self.instance.save()
            return False
        if "away_since" not in record:
            record["away_since"] = now
            self.instance.save()
        return bool(now - record["away_since"] >= self.spec.replication.failover_delay.seconds)

    def note_followers(self, nodes: list[Node], primary: Node) -> None:
        """Keep on record who follows the primary, for the time when it can't be asked."""
        seen = sorted(node.name for node in nodes if node is not primary and node.live.get("streaming"))
        if self.count > 1 and self.instance.record.get("in_step") != seen:
            self.instance.record["in_step"] = seen
            self.instance.save()

    def heir(self, nodes: list[Node], primary: Node) -> Node | None:
        """The copy that has most, when it is certain that it has everything that was confirmed.

        With synchronous replication each confirmed commit is on n of N copies: whoever has most among N - n + 1 of them
        has it. Fewer, and it is better to wait for the old primary than to lose what was promised. Without it nothing
        is certain, but a copy that had not been following the primary when that was last asked lacks more than the
        last moments. Who is on a later timeline has more, however long the write-ahead log of the others is.
        """
        copies = [node for node in nodes if node is not primary and node.answers and node.standby]
        followed = self.instance.record.get("in_step")
        if self.synchronous:
            copies = copies if len(copies) >= self.needed else []
        elif followed is not None and primary.index < self.count and not self._given_up(primary):
            copies = [node for node in copies if node.name in followed]
        return max(copies, key=lambda node: (node.timeline, node.position), default=None)

    def _given_up(self, primary: Node) -> bool:
        """Whether there is no sense in waiting for a primary any longer: it can't be started."""
        since = self.instance.record.get("away_since")
        late = since is not None and self.ctx.base.now().timestamp() - since >= GIVEN_UP_SECONDS
        return late and not primary.state.running

    @property
    def needed(self) -> int:
        """How many copies must be asked before one can be certain to have everything."""
        return (self.count - 1) - (self.spec.replication.synchronous_instances or 1) + 1 if self.synchronous else 1

    @property
    def synchronous(self) -> bool:
        """Nothing that was confirmed may be lost."""
        replication = self.spec.replication
        return replication.mode is ReplicationMode.SYNCHRONOUS and replication.durability is not Durability.PREFERRED

    # -- a change of primary that has begun

    @property
    def promoting(self) -> int | None:
        """The copy that is on record as the next primary, and may be it already: nobody else may serve meanwhile."""
        found: int | None = self.instance.record.get("promoting")
        return found

    def goes_on(self, nodes: list[Node]) -> list[Difference]:
        """What is to be done for a change of primary that was cut short.

        The old primary has been stopped and is not started again, so what the copies have stays as it is. The next one
        was promoted if it says so, or if it won't start as a copy any more. A copy that can't be asked is ended, which
        settles it: then it is either of these, or another may be chosen.
        """
        index = self.promoting
        if index is None:
            return []
        node = next((n for n in nodes if n.index == index), None) or self._servers.node(index)
        promoted = self.files.made(node) and not self.files.follows(node)
        if node.answers or (promoted and not node.state.running):
            return [Difference("primary", node.name, "being changed", payload=("promote", index))]
        if node.state.running and not self.hangs(node):
            return []
        return [Difference("primary", "certain", f"{node.name} does not answer", payload=("doubt", index))]

    async def settle(self, index: int) -> None:
        """The chosen copy can't be asked: end it, and see what became of it."""
        node = self._servers.node(index)
        await self.fence(node)
        if self.files.made(node) and not self.files.follows(node):
            return  # it was promoted: the next pass goes on with it
        self.instance.record.pop("promoting", None)
        self.instance.save()

    async def fence(self, node: Node) -> None:
        """End a server for certain, with those of its processes that outlived their first one.

        PostgreSQL's processes end by themselves when the first one is gone, but not one that is frozen or hangs.
        """
        await node.process.stop(KILL)
        await self.files.end_leftovers(node)

    def differences(self, nodes: list[Node], primary: Node) -> list[Difference]:
        """Slots and copies that are missing, too many, or on the wrong way. The primary answers."""
        found = []
        others = [node for node in nodes if node is not primary]
        slots = set(primary.live.get("slots", ()))
        wanted = {node.slot for node in others}
        if (others or self.spec.backup is not None) and not self.instance.record.get("replicator"):
            found.append(Difference("replication role", "present", "absent", payload=("replicator",)))
        for slot in sorted(wanted - slots):
            found.append(Difference(f"replication slot {slot}", "present", "absent", payload=("slot", slot)))
        for slot in sorted(s for s in slots - wanted if s.startswith("chandlery_node_")):
            found.append(Difference(f"replication slot {slot}", "absent", "present", payload=("unslot", slot)))
        for node in others:
            if not self.files.made(node):
                found.append(Difference(f"instance {node.name}", "a copy", "absent", payload=("clone", node.index)))
            elif (node.answers and not node.standby) or (not node.state.running and not self.files.follows(node)):
                found.append(Difference(f"role of {node.name}", "replica", "primary", payload=("rejoin", node.index)))
            elif self._left_behind(node, primary):
                found.append(Difference(f"instance {node.name}", "in step", "diverged", payload=("rejoin", node.index)))
            elif self._stuck(node):
                found.append(Difference(f"instance {node.name}", "in step", "stuck", payload=("recopy", node.index)))
        return found

    def _left_behind(self, node: Node, primary: Node) -> bool:
        """A copy that can't follow any more: it has more than the primary, or the log that it needs is gone."""
        if not node.answers or node.live.get("streaming"):
            return False
        tail = node.process.log_tail(8)
        return any(
            words in tail
            for words in ("has already been removed", "forked off this server", "is not in this server's history")
        )

    def _stuck(self, node: Node) -> bool:
        """Whether a copy hasn't followed for long. Since when, and where it was then, is kept in the record."""
        record, now = self.instance.record, self.ctx.base.now().timestamp()
        known = record.get("stuck", {}).get(node.name)
        replayed = node.live.get("replayed")
        if not node.answers or node.live.get("streaming") or replayed is None:
            # one that is silent may be recovering: its time begins when it answers
            if known is not None:
                del record["stuck"][node.name]
                self.instance.save()
            return False
        if known is not None and known[0] == int(replayed):
            return bool(now - known[1] >= STUCK_SECONDS)
        record.setdefault("stuck", {})[node.name] = [int(replayed), now]
        self.instance.save()
        return False

    async def make_replicator(self) -> None:
        """The role that copies, backups and the archive log in as."""
        secret = literal(verifier(self.instance.secret("replication")))
        role = ident(REPLICATOR)
        try:
            await self._servers.ask(f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD {secret}")
        except Exception as error:
            if "already exists" not in str(error):
                raise
            await self._servers.ask(f"ALTER ROLE {role} LOGIN REPLICATION PASSWORD {secret}")
        self.instance.record["replicator"] = True
        self.instance.save()

    async def clone(self, node: Node) -> None:
        """A new copy."""
        await self.files.clone(node, self._servers.client_port)
        await self._servers.start(self._servers.node(node.index))

    async def rejoin(self, node: Node) -> None:
        """A former primary, or a copy that lost its way, follows again: rewound if possible, else copied anew."""
        await node.process.stop()
        node = self._servers.node(node.index)
        self.files.write(node, self._servers.settings.text(node, []))
        if not await self.files.rewind(node, self._servers.client_port):
            await self.files.clone(node, self._servers.client_port)
        await self.files.start(self._servers.node(node.index))

    async def recopy(self, node: Node) -> None:
        """A copy that can't be helped otherwise: its data are of no use, since the primary has all of them."""
        await node.process.stop()
        node = self._servers.node(node.index)
        self.files.write(node, self._servers.settings.text(node, []))
        await self.files.clone(node, self._servers.client_port)
        self.instance.record.get("stuck", {}).pop(node.name, None)
        self.instance.save()
        await self.files.start(self._servers.node(node.index))

    async def promote(self, index: int) -> None:
        """Make a copy the primary. May be repeated from the beginning, wherever it was cut short.

        First the old one is certain not to write any more. Only then the copies are compared: until then it may have
        confirmed more. The choice goes on record before it is carried out, because from then on the old one must not be
        started: its clients would write to what is about to be given up.
        """
        old = self._servers.node(self._servers.primary_index)
        lost = old.index < self.count
        if self.promoting is None:
            if lost:
                await self.fence(old)
            else:
                await old.process.stop()
                await self._wait_for_the_rest(self._servers.node(index))
            index = await self._chosen(old)
            self.instance.record["promoting"] = index
            self.instance.save()
        heir = await self.files.look(self._servers.node(index))
        if heir.standby:
            await self._promote(heir)
        keys = {str(old.index): self._servers.port_key(index), str(index): self._servers.port_key(old.index)}
        self.instance.record.setdefault("port_keys", {}).update(keys)
        self.instance.record.pop("promoting", None)
        self.instance.record["in_step"] = []  # nobody has been seen to follow the new one
        self.instance.save()
        await heir.process.stop()
        await self._servers.start(self._servers.node(index))
        self.ctx.event("Warning", "FailedOver", f"{old.name} was lost; {heir.name} is the primary now")

    async def _chosen(self, old: Node) -> int:
        """Which copy has most, now that there is nothing to come.

        Raises:
            Unavailable: none is certain to have everything; the old primary may be started again.
        """
        nodes = [await self.files.look(self._servers.node(index)) for index in range(self.count)]
        heir = self.heir(nodes, old)
        if heir is None:
            raise Unavailable(f"no copy is certain to have all that {old.name} had", retry_after=0.1)
        return heir.index

    async def _promote(self, heir: Node) -> None:
        connection = await self.files.connect(heir.port)
        try:
            promoted = await connection.fetchval("SELECT pg_promote(true, $1)", PROMOTE_SECONDS)
        finally:
            await connection.close(timeout=2)
        if not promoted:
            raise Unavailable(f"{heir.name} was not promoted within {PROMOTE_SECONDS} s", retry_after=0.1)

    async def _wait_for_the_rest(self, heir: Node) -> None:
        """After an orderly stop the primary has sent everything: wait until the copy has written it down."""
        clock = self.ctx.base.clock
        deadline, last = clock.monotonic() + 10.0, -1
        while clock.monotonic() < deadline:
            node = await self.files.look(self._servers.node(heir.index))
            if node.position == last and not node.live.get("streaming"):
                return
            last = node.position
            await clock.sleep(0.05)
