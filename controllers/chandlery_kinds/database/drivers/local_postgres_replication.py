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
STARTUP_SECONDS = 300.0
"""Crash recovery may take long: a server that is silent so soon after its start isn't given up."""
PROMOTE_SECONDS = 30
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

    def hangs(self, primary: Node) -> bool:
        """Whether a running primary has been silent for too long. The first silence is kept in the record."""
        record, now = self.instance.record, self.ctx.base.now().timestamp()
        since = record.get("silent_since")
        if primary.answers or now - (primary.state.started_at or now) < STARTUP_SECONDS:
            if since is not None:
                del record["silent_since"]
                self.instance.save()
            return False
        if since is None:
            record["silent_since"] = now
            self.instance.save()
            return False
        return bool(now - since >= HUNG_SECONDS)

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

    def heir(self, nodes: list[Node], primary: Node) -> Node | None:
        """The copy that has most, when it is certain that it has everything that was confirmed.

        With synchronous replication each confirmed commit is on n of N copies: whoever has most among N - n + 1 of them
        has it. Fewer, and it is better to wait for the old primary than to lose what was promised.
        """
        copies = [node for node in nodes if node is not primary and node.answers and node.standby]
        if not copies:
            return None
        replication = self.spec.replication
        if replication.mode is ReplicationMode.SYNCHRONOUS and replication.durability is not Durability.PREFERRED:
            needed = (self.count - 1) - (replication.synchronous_instances or 1) + 1
            if len(copies) < needed:
                return None
        return max(copies, key=lambda node: node.position)

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
        """Make a copy the primary: the old one is certain not to write any more, then the record says who it is."""
        old = self._servers.node(self._servers.primary_index)
        lost = old.index < self.count
        await old.process.stop(KILL if lost else None)
        heir = self._servers.node(index)
        if not lost:
            await self._wait_for_the_rest(heir)
        connection = await self.files.connect(heir.port)
        try:
            promoted = await connection.fetchval("SELECT pg_promote(true, $1)", PROMOTE_SECONDS)
        finally:
            await connection.close(timeout=2)
        if not promoted:
            raise Unavailable(f"{heir.name} was not promoted within {PROMOTE_SECONDS} s", retry_after=0.1)
        keys = {str(old.index): self._servers.port_key(index), str(index): self._servers.port_key(old.index)}
        self.instance.record.setdefault("port_keys", {}).update(keys)
        self.instance.save()
        await heir.process.stop()
        await self._servers.start(self._servers.node(index))
        self.ctx.event("Warning", "FailedOver", f"{old.name} was lost; {heir.name} is the primary now")

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
