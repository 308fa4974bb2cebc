"""Shards: every object has exactly one replica, also while replicas come, go, stand still and wake up."""

import asyncio
import contextlib
import itertools

import pytest

from chandlery.foundation.clock import FakeClock
from chandlery.foundation.errors import Fenced
from chandlery.reconcile.api import LEASES, Key
from chandlery.reconcile.guard import PRESENT, guarded
from chandlery.reconcile.memory import MemoryApi
from chandlery.reconcile.shards import Shards, owners, shard_of

KEYS = [Key("Cache", "shop", f"c-{number}") for number in range(200)]
TTL = 10.0
COUNT = 16


def test_objects_spread_over_shards_and_always_fall_into_the_same_one():
    found = [shard_of(key, COUNT) for key in KEYS]
    assert set(found) == set(range(COUNT))
    assert shard_of(Key("Cache", "shop", "orders"), 32) == 6


def test_a_replica_that_goes_moves_nothing_but_its_own_shards():
    before, after = owners(["a", "b", "c"], 64), owners(["a", "b"], 64)
    assert set(before.values()) == {"a", "b", "c"}
    assert all(after[shard] == owner for shard, owner in before.items() if owner != "c")
    assert owners([], 64) == {}


class Group:
    """Several replicas on one API server and one clock."""

    def __init__(self):
        self.clock = FakeClock()
        self.api = MemoryApi(self.clock)
        self.members = []
        self._names = (f"replica-{number}" for number in itertools.count())

    def add(self, count=COUNT):
        made = Shards(
            self.api,
            "system",
            "chandlery",
            count=count,
            ttl=TTL,
            clock=self.clock,
            identify=lambda: next(self._names),
        )
        self.members.append(made)
        return made

    async def join(self, count=COUNT):
        made = self.add(count)
        await made.acquire()
        await self.turn(0.1)
        return made

    async def turn(self, seconds):
        """Let time pass in steps that every replica can follow."""
        for _ in range(max(1, round(seconds / 0.25))):
            await self.clock.advance(min(seconds, 0.25))
            for _ in range(60):
                await asyncio.sleep(0)
            self.check()

    def check(self):
        """No shard is anybody's twice."""
        held = [shard for member in self.members for shard in member.held]
        assert len(held) == len(set(held))

    @property
    def shares(self):
        return [len(member.held) for member in self.members]


@pytest.fixture
async def group():
    made = Group()
    yield made
    for member in made.members:
        await member.release()


async def test_alone_a_replica_has_everything_and_a_second_gets_its_share(group):
    first = await group.join()
    assert len(first.held) == COUNT
    second = await group.join()
    await group.turn(TTL)
    assert sum(group.shares) == COUNT
    assert min(group.shares) > 0
    mine = [key for key in KEYS if first.enter(key)]
    theirs = [key for key in KEYS if second.enter(key)]
    assert sorted(mine + theirs) == sorted(KEYS)


async def test_a_pass_under_way_is_finished_before_its_shard_is_handed_over(group):
    first = await group.join()
    moves = [shard for shard, owner in owners(["replica-0", "replica-1"], COUNT).items() if owner == "replica-1"]
    busy = moves[0]
    key = next(k for k in KEYS if shard_of(k, COUNT) == busy)
    assert first.enter(key)  # a pass that lasts
    newcomer = await group.join()
    await group.turn(TTL)
    assert busy in first.held
    assert not first.enter(key)  # no new one begins
    first.leave(key)
    await group.turn(TTL)
    assert busy not in first.held
    assert busy in newcomer.held


async def test_a_replica_that_dies_is_replaced_within_a_lease(group):
    dead, heir = await group.join(), await group.join()
    await group.turn(TTL)
    dead._task.cancel()  # no more renewals, as by kill -9
    gained = []
    heir.gained = gained.append
    await group.turn(2 * TTL)
    assert not dead.leading
    assert len(heir.held) == COUNT
    assert gained
    lost = [key for key in KEYS if any(test(key) for test in gained)]
    assert lost
    assert all(heir.enter(key) for key in KEYS)
    await group.turn(5 * TTL)
    leases = (await group.api.list(LEASES, "system", labels="chandlery.dev/shards=chandlery")).items
    assert sum("member" in lease["metadata"]["name"] for lease in leases) == 1


async def test_one_that_stood_still_finds_its_time_over_and_begins_anew(group):
    frozen, other = await group.join(), await group.join()
    await group.turn(TTL)
    key = next(k for k in KEYS if frozen.enter(k))
    token = PRESENT.set(key)
    assert frozen.fence() >= 1
    frozen._task.cancel()  # stands still: the clock goes on
    await group.turn(2 * TTL)
    assert len(other.held) == COUNT
    with pytest.raises(Fenced):
        frozen.fence()
    PRESENT.reset(token)
    name = frozen.holder
    await frozen.keep()
    await frozen.acquire()
    await group.turn(TTL)
    assert frozen.holder != name
    assert sum(group.shares) == COUNT
    assert min(group.shares) > 0


async def test_while_the_number_of_shards_changes_no_object_has_two_replicas(group):
    old = await group.join()
    assert len(old.held) == COUNT
    new = await group.join(2 * COUNT)
    await group.turn(3 * TTL)
    assert not new.held  # the same object is in a shard of the old one's
    assert len(old.held) == COUNT
    group.members.remove(old)
    await old.release()
    await group.turn(TTL)
    assert len(new.held) == 2 * COUNT


async def test_an_orderly_end_hands_over_at_once(group):
    first, second = await group.join(), await group.join()
    await group.turn(TTL)
    await first.release()
    await group.turn(TTL / 2)
    assert len(second.held) == COUNT


async def test_a_lease_taken_away_ends_the_term(group):
    first = await group.join()
    name = first._member_name(first.holder)
    await group.api.delete(LEASES, "system", name)
    with contextlib.suppress(asyncio.CancelledError):
        waiting = asyncio.create_task(first.keep())
        await group.turn(TTL)
        assert waiting.done()
    assert not first.leading


async def test_passes_are_made_where_the_object_belongs_only(group):
    first, second = await group.join(), await group.join()
    await group.turn(TTL)
    made = []

    async def reconcile(key):
        made.append((PRESENT.get(), key))
        return "done"

    here = guarded(reconcile, first.fence, first, "elsewhere")
    there = guarded(reconcile, second.fence, second, "elsewhere")
    answers = [(await here(key), await there(key)) for key in KEYS]
    assert {tuple(sorted(pair)) for pair in answers} == {("done", "elsewhere")}
    assert all(present == key for present, key in made)
    assert len(made) == len(KEYS)
    assert PRESENT.get() is None
