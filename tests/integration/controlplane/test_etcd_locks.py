"""Locks in a real etcd: one holder, growing tokens, an end for holders that died."""

from __future__ import annotations

import asyncio
import socket

import pytest

from chandlery.foundation.clock import SYSTEM
from chandlery.foundation.concurrency import Fence
from chandlery.foundation.concurrency.etcd import EtcdLocks
from chandlery.foundation.context import Context
from chandlery.foundation.errors import Fenced, Timeout, Unavailable
from chandlery.reconcile.leader import Elector

CTX = Context(clock=SYSTEM)


@pytest.fixture
async def pair(etcd, tmp_path):
    """Two processes' views of the same locks."""
    address, prefix = etcd.removeprefix("http://"), f"/{tmp_path.name}/"
    made = EtcdLocks(address, prefix=prefix), EtcdLocks(address, prefix=prefix)
    yield made
    for each in made:
        await each.close()


async def test_one_holder_whose_tokens_grow(pair):
    one, two = pair
    first = await one.try_acquire(CTX, "lead", "a", 60)
    assert first is not None
    assert await two.try_acquire(CTX, "lead", "b", 60) is None
    again = await one.try_acquire(CTX, "lead", "a", 60)
    assert again == first
    await one.renew(CTX, first)
    other = await two.try_acquire(CTX, "other", "b", 60)
    assert other is not None, "another name is another lock"
    await one.release(CTX, first)
    second = await two.try_acquire(CTX, "lead", "b", 60)
    assert second.token > first.token
    fence = Fence()
    fence.admit("lead", second.token)
    with pytest.raises(Fenced):
        fence.admit("lead", first.token)


async def test_who_lost_it_is_told_and_cannot_take_it_from_the_next(pair):
    one, two = pair
    old = await one.try_acquire(CTX, "lead", "a", 60)
    await one.release(CTX, old)
    new = await two.try_acquire(CTX, "lead", "b", 60)
    with pytest.raises(Fenced, match="no longer held by a"):
        await one.renew(CTX, old)
    await one.release(CTX, old)  # nothing happens
    await two.renew(CTX, new)


async def test_of_many_who_try_at_once_one_gets_it(pair):
    found = await asyncio.gather(*(pair[n % 2].try_acquire(CTX, "lead", f"h{n}", 60) for n in range(12)))
    assert len([hold for hold in found if hold is not None]) == 1


async def test_a_dead_holder_blocks_nobody_for_long(pair):
    one, two = pair
    dead = await one.try_acquire(CTX, "lead", "a", 1)
    heir = await two.acquire(CTX.child(timeout=60), "lead", "b", 1)
    assert heir.token > dead.token
    with pytest.raises(Fenced):
        await one.renew(CTX, dead)


async def test_waiting_ends_at_the_deadline(pair):
    one, two = pair
    assert await one.try_acquire(CTX, "lead", "a", 60)
    with pytest.raises(Timeout):
        await two.acquire(CTX.child(timeout=0.2), "lead", "b", 0.5)


async def test_the_elector_leads_by_them_too(pair):
    one, two = (Elector(locks, "lead", holder, ttl=60) for locks, holder in zip(pair, "ab", strict=True))
    await one.acquire()
    assert one.leading
    waiting = asyncio.create_task(two.acquire())
    await one.release()
    await asyncio.wait_for(waiting, 90)
    assert two.leading
    await two.release()


async def test_an_etcd_that_is_away_is_unavailable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    locks = EtcdLocks(f"127.0.0.1:{port}")
    with pytest.raises(Unavailable, match="etcd can't be asked"):
        await locks.try_acquire(CTX, "lead", "a", 1)
    await locks.close()
