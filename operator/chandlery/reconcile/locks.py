"""Locks kept in Kubernetes Leases, behind the foundation's `Lock` protocol.

Times in a Lease are another machine's; they are never compared with our clock. A hold has ended when we have watched
it unchanged for as long as it promised to last. Every change of hands raises `leaseTransitions`, which is the fencing
token, and every write carries the resourceVersion that it is based on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.concurrency import Hold
from chandlery.foundation.context import Context
from chandlery.foundation.errors import AlreadyExists, Conflict, Fenced, Timeout
from chandlery.reconcile.api import LEASES, Api, Obj

_RETRY: Final = 1 / 7


@dataclass(slots=True)
class _Seen:
    record: tuple[Any, ...]
    since: float


class LeaseLocks:
    """Each lock is a Lease of its name in one namespace."""

    def __init__(
        self, api: Api, namespace: str, clock: Clock = SYSTEM, jitter: Callable[[], float] = random.random
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._clock = clock
        self._jitter = jitter
        self._seen: dict[str, _Seen] = {}

    async def try_acquire(self, ctx: Context, name: str, holder: str, ttl: float) -> Hold | None:
        """Take the lock if it is free or its hold has ended; None when somebody else has it."""
        ctx.check(f"the lock {name}")
        lease = await self._api.get(LEASES, self._namespace, name)
        if lease is None:
            return await self._create(name, holder, ttl)
        spec = lease.get("spec") or {}
        mine = spec.get("holderIdentity") == holder
        if not mine and not self._free(name, spec):
            return None
        token = int(spec.get("leaseTransitions") or 0) + (0 if mine else 1)
        return await self._take(lease, name, holder, token, ttl, again=mine)

    async def acquire(self, ctx: Context, name: str, holder: str, ttl: float) -> Hold:
        """Wait for the lock, up to the context's deadline (then Timeout)."""
        while True:
            hold = await self.try_acquire(ctx, name, holder, ttl)
            if hold is not None:
                return hold
            await ctx.sleep(ttl * _RETRY * (0.5 + self._jitter()), f"the lock {name}")

    async def renew(self, ctx: Context, hold: Hold) -> None:
        """Start the time to live again; Fenced when the lock is no longer ours."""
        for _ in range(3):
            ctx.check(f"the lock {hold.name}")
            lease = await self._api.get(LEASES, self._namespace, hold.name)
            if lease is None or not _held_by(lease, hold):
                break
            if await self._take(lease, hold.name, hold.holder, hold.token, hold.ttl, again=True) is not None:
                return
        raise Fenced(f"the lock {hold.name} is no longer held by {hold.holder}")

    async def release(self, ctx: Context, hold: Hold) -> None:
        """Give it back; no error when it was lost already."""
        del ctx
        lease = await self._api.get(LEASES, self._namespace, hold.name)
        if lease is None or not _held_by(lease, hold):
            return
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._api.replace(LEASES, {**lease, "spec": spec})
        except Conflict:
            return

    def _free(self, name: str, spec: Obj) -> bool:
        """Nobody holds it, or who holds it has been silent for as long as was promised."""
        if not spec.get("holderIdentity"):
            return True
        record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        seen = self._seen.get(name)
        now = self._clock.monotonic()
        if seen is None or seen.record != record:
            self._seen[name] = _Seen(record, now)
            return False
        return now - seen.since > float(spec.get("leaseDurationSeconds") or 15)

    async def _create(self, name: str, holder: str, ttl: float) -> Hold | None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": self._spec(holder, 1, ttl),
        }
        try:
            await self._api.create(LEASES, body)
        except AlreadyExists:
            return None
        return Hold(name, holder, 1, ttl)

    async def _take(self, lease: Obj, name: str, holder: str, token: int, ttl: float, *, again: bool) -> Hold | None:
        spec = self._spec(holder, token, ttl)
        if again:
            spec["acquireTime"] = lease["spec"].get("acquireTime", spec["acquireTime"])
        try:
            await self._api.replace(LEASES, {**lease, "spec": spec})
        except Conflict:
            return None  # somebody else was faster
        except Timeout:
            if not again:
                raise
            return None
        return Hold(name, holder, token, ttl)

    def _spec(self, holder: str, token: int, ttl: float) -> Obj:
        now = _micro(self._clock.now())
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(ttl)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": token,
        }


def _held_by(lease: Obj, hold: Hold) -> bool:
    spec = lease.get("spec") or {}
    return spec.get("holderIdentity") == hold.holder and int(spec.get("leaseTransitions") or 0) == hold.token


def _micro(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
