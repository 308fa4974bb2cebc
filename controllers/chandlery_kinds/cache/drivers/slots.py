"""Moves slots between the shards of a running cluster, without an error for clients and without losing a key.

Valkey 9 moves whole ranges by itself (CLUSTER MIGRATESLOTS): it is told, and watched. Older engines move key by key:
both sides are told of a slot that is open, its keys are sent over, then all learn of the new owner. An operator that
dies in between leaves open slots behind; whoever comes next finishes these first. Source: Valkey's cluster tutorial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chandlery.foundation.errors import ChandleryError, EngineFailed
from chandlery_kinds.cache import acl, cluster
from chandlery_kinds.cache.resp import ReplyError, RespClient, pairs

if TYPE_CHECKING:
    from chandlery_kinds.cache.drivers.local_nodes import Node, ValkeyNodes

KEYS_AT_ONCE = 200
SLOTS_AT_ONCE = 128
PASS_SECONDS = 2.0
"""A pass moves slots key by key for so long, then others get their turn."""
MOVE_SECONDS = 30.0
"""For the keys of one step; large ones take a while."""


class SlotMover:
    """One pass's view of who moves what."""

    def __init__(self, nodes: ValkeyNodes, primaries: Mapping[int, str], views: Mapping[str, cluster.View]) -> None:
        self.nodes = nodes
        self.primaries = {shard: name for shard, name in primaries.items() if name in views}
        self.views = views

    def _node(self, name: str) -> Node:
        found: Node = self.nodes.node(name)  # type: ignore[attr-defined]
        return found

    async def _reach(self, name: str, seconds: float | None = None) -> RespClient:
        """A connection to a node; with a time limit of its own for what takes long."""
        port = self._node(name).port
        return await (self.nodes.connect(port) if seconds is None else self.nodes.connect(port, seconds))

    def _place(self, name: str) -> tuple[str, int]:
        """Where the nodes reach this one."""
        return "127.0.0.1", self._node(name).port

    def _id(self, name: str) -> str:
        return self.views[name].me.id

    async def by_itself(self, client: RespClient) -> bool:
        """Whether the engine moves ranges by itself."""
        try:
            await client.command("CLUSTER", "GETSLOTMIGRATIONS")
        except ReplyError:
            return False
        return True

    async def busy(self) -> str:
        """What the engines are moving by themselves, in words; empty when nothing."""
        for name in self.primaries.values():
            async with await self._reach(name) as client:
                for job in await self._jobs(client):
                    if job.get("state") not in ("success", "failed", "cancelled"):
                        return f"{name} moves slots {job.get('slot_ranges', '')}: {job.get('state')}"
        return ""

    @staticmethod
    async def _jobs(client: RespClient) -> list[dict[str, Any]]:
        try:
            reply = await client.command("CLUSTER", "GETSLOTMIGRATIONS")
        except ReplyError:
            return []
        jobs = [pairs(job) for job in reply]
        return [job for job in jobs if str(job.get("operation", "")).upper() == "EXPORT"]

    def open_slots(self) -> list[tuple[int, str, str]]:
        """(slot, id of its owner, id of who gets it) of moves that were begun key by key and not finished."""
        found = []
        for name in self.primaries.values():
            me = self.views[name].me
            found += [(slot, me.id, target) for slot, target in me.leaving.items()]
            found += [(slot, source, me.id) for slot, source in me.arriving.items()]
        return sorted(set(found))

    async def move(self, moves: Sequence[cluster.Move]) -> None:
        """Begin what the engine does by itself; else move for a while. Finishes what is open first."""
        clock = self.nodes.ctx.base.clock
        deadline = clock.monotonic() + PASS_SECONDS
        for (source, target), slots in self._open_between().items():
            await self._move_slots(slots, source, target)
        for move in moves:
            if move.source not in self.primaries or move.target not in self.primaries:
                continue
            source, target = self.primaries[move.source], self.primaries[move.target]
            async with await self._reach(source) as client:
                if await self.by_itself(client):
                    await self._order(client, source, move, self._id(target))
                    continue
            for first in range(0, len(move.slots), SLOTS_AT_ONCE):
                if clock.monotonic() > deadline:
                    return
                await self._move_slots(move.slots[first : first + SLOTS_AT_ONCE], self._id(source), self._id(target))

    def _open_between(self) -> dict[tuple[str, str], list[int]]:
        found: dict[tuple[str, str], list[int]] = {}
        for slot, source, target in self.open_slots():
            found.setdefault((source, target), []).append(slot)
        return found

    async def _order(self, client: RespClient, source: str, move: cluster.Move, target: str) -> None:
        words = cluster.range_words(move.slots)
        try:
            await client.command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *words, "NODE", target)
        except ReplyError as error:
            raise EngineFailed(f"{source} did not begin to move slots: {error.message}", retry_after=0.5) from error

    async def _move_slots(self, slots: Sequence[int], source: str, target: str) -> None:
        """Some slots, key by key; may be repeated from any point.

        A command for each slot, but one round trip for all: the engines write their topology to the disk once for it.
        """
        names = {view.me.id: name for name, view in self.views.items()}
        if source not in names or target not in names:
            raise EngineFailed(f"slots {slots[0]}... are open between nodes of which one is gone", retry_after=1.0)
        giver, taker = names[source], names[target]
        there = [slot for slot in slots if slot not in self.views[taker].me.slots]
        async with (
            await self._reach(giver, MOVE_SECONDS) as out,
            await self._reach(taker, MOVE_SECONDS) as into,
        ):
            await into.pipeline([("CLUSTER", "SETSLOT", slot, "IMPORTING", source) for slot in there])
            await out.pipeline([("CLUSTER", "SETSLOT", slot, "MIGRATING", target) for slot in there])
            counts = await out.pipeline([("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in there])
            for slot, count in zip(there, counts, strict=True):
                if count:
                    await self._send_keys(out, slot, taker)
            # The taker first: as long as the giver hasn't heard, it sends clients on.
            owner = [("CLUSTER", "SETSLOT", slot, "NODE", target) for slot in slots]
            await into.pipeline(owner)
            await out.pipeline(owner)
        for name in self.primaries.values():
            if name in (giver, taker):
                continue
            try:
                async with await self._reach(name, MOVE_SECONDS) as client:
                    await client.pipeline(owner)
            except ChandleryError:
                continue  # it hears of it by the cluster's own gossip

    async def _send_keys(self, out: RespClient, slot: int, taker: str) -> None:
        password = self.nodes.admin_password
        while True:
            keys = await out.command("CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE)
            if not keys:
                return
            milliseconds = int(MOVE_SECONDS * 1000)
            where = (*self._place(taker), "", 0, milliseconds, "REPLACE", "AUTH2", acl.ADMIN, password)
            await out.command("MIGRATE", *where, "KEYS", *keys)
