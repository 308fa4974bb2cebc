"""Several replicas share the work: objects fall into shards, and each shard belongs to exactly one replica.

    chandlery-member-<identity>   a Lease that its replica renews: as long as it does, it lives
    chandlery-shard-<n>           a Lease that says which replica has the shard; written when it changes hands only

Every replica looks at all Leases a few times within a Lease's length and computes, alike, who should have which shard
(rendezvous hashing: when a replica comes or goes, only its own share moves). It lets go what it shouldn't have, when
no pass of that shard is under way any more, and takes what it should have and nobody living holds.

A replica trusts itself for two thirds of the length of its own Lease, counted by its own clock from before the last
renewal; others give it up when they have watched the Lease unchanged for the whole length. So between the two there is
always a gap, and a replica that stood still finds that its time is over before it can write (see `guard`). It then
begins anew under another name: nothing that it held is held by that name.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Final

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import AlreadyExists, ChandleryError, Conflict, Fenced
from chandlery.reconcile.api import LEASES, Api, Key, Obj
from chandlery.reconcile.guard import PRESENT
from chandlery.reconcile.leader import identity

LABEL: Final = "chandlery.dev/shards"
"""On all Leases of one group of replicas: the group's name."""
COUNT: Final = "chandlery.dev/shard-count"
"""Annotation of a replica's Lease. With another count an object may be in two shards: see `_round`."""
_RENEW_AT: Final = 1 / 4
_TRUST: Final = 2 / 3
_FORGET: Final = 4.0
"""Lengths after which the Lease of a replica that is gone is taken away."""


def shard_of(key: Key, count: int) -> int:
    """The shard of an object: the same in every replica and every version."""
    text = f"{key.kind}/{key.namespace}/{key.name}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % count


def owners(members: Iterable[str], count: int) -> dict[int, str]:
    """Which member should have which shard: the one that draws the highest number for it."""
    known = sorted(members)

    def draw(shard: int, member: str) -> bytes:
        return hashlib.blake2b(f"{shard}/{member}".encode(), digest_size=8).digest()

    return {shard: max(known, key=lambda m: draw(shard, m)) for shard in range(count)} if known else {}


@dataclass(slots=True)
class _Seen:
    record: Any
    since: float


@dataclass(slots=True)
class _Term:
    """From joining the group until our own time is over."""

    holder: str
    until: float
    held: dict[int, int] = field(default_factory=dict)
    """Shard to fencing token."""
    leaving: set[int] = field(default_factory=set)
    """Held, but no new pass begins."""


class Shards:
    """One replica's part. Has the elector's verbs: `acquire`, `keep`, `release`, `fence`, `leading`.

    Args:
        api: where the Leases are.
        namespace: of the Leases.
        name: of the group; also the start of the Leases' names.
        count: how many shards there are; the same in every replica.
        ttl: seconds that a replica's Lease lasts without renewal.
        clock: the only source of time.
        identify: makes a new name for a term.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        *,
        count: int = 32,
        ttl: float = 10.0,
        clock: Clock = SYSTEM,
        identify: Callable[[], str] = identity,
    ) -> None:
        self._identify = identify
        self._api = api
        self._namespace = namespace
        self._name = name
        self._count = count
        self._ttl = ttl
        self._clock = clock
        self._term: _Term | None = None
        self._last = ""
        self._seen: dict[str, _Seen] = {}
        self._busy: Counter[int] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._logger = Context(clock=clock).logger.bind(group=name)
        self.gained: Callable[[Callable[[Key], bool]], None] = lambda _mine: None
        """Told of new shards, with a test for the objects in them."""

    # what the rest of the operator asks

    @property
    def leading(self) -> bool:
        """Whether our own time isn't over."""
        return self._term is not None and self._clock.monotonic() < self._term.until

    @property
    def holder(self) -> str:
        return self._term.holder if self._term is not None else ""

    @property
    def held(self) -> frozenset[int]:
        return frozenset(self._term.held) if self._term is not None and self.leading else frozenset()

    def enter(self, key: Key) -> bool:
        """Whether a pass over this object may begin here."""
        shard, term = shard_of(key, self._count), self._term
        if term is None or shard not in term.held or shard in term.leaving or not self.leading:
            return False
        self._busy[shard] += 1
        return True

    def leave(self, key: Key) -> None:
        self._busy[shard_of(key, self._count)] -= 1

    def fence(self) -> int:
        """The fencing token of the present object's shard.

        Raises:
            Fenced: another replica has it, or may have it by now.
        """
        key, term = PRESENT.get(), self._term
        token = term.held.get(shard_of(key, self._count)) if term is not None and key is not None else None
        if token is None or not self.leading:
            raise Fenced("another replica works on this object", hint="Nothing to do: that one carries on.")
        return token

    # a term

    async def acquire(self) -> int:
        """Join the group, and begin to take shards."""
        while True:
            began, holder = self._clock.monotonic(), self._identify()
            try:
                if self._last:  # our time under that name is over: others needn't wait for what it held
                    await self._api.delete(LEASES, self._namespace, self._member_name(self._last))
                    self._last = ""
                await self._api.create(LEASES, self._member(holder))
            except ChandleryError as error:
                self._logger.info("the group can't be joined yet", error=error)
                await self._clock.sleep(self._ttl / 7)
                continue
            self._last = holder
            self._term = _Term(holder, began + self._ttl * _TRUST)
            self._logger.info("joined", holder=holder)
            self._task = asyncio.create_task(self._rounds(self._term))
            return 0

    async def keep(self) -> None:
        """Wait until our time is over."""
        if self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled() and self._task.exception() is not None:
                self._logger.error("the shards' task ended", exc_info=self._task.exception())
        self._term = None

    async def release(self) -> None:
        """Hand everything over at once, as at an orderly shutdown."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        term, leading = self._term, self.leading
        self._term, self._last = None, ""
        if term is None or not leading:
            return
        try:
            leases = await self._leases()
            for shard in term.held:
                lease = leases.get(self._shard_name(shard))
                if lease is not None and _holder(lease) == term.holder:
                    await self._write(lease, "", _transitions(lease))
            await self._api.delete(LEASES, self._namespace, self._member_name(term.holder))
        except ChandleryError as error:
            self._logger.info("the shards can't be handed over: their Lease runs out", error=error)

    async def _rounds(self, term: _Term) -> None:
        while self.leading:
            try:
                await self._round(term)
            except Fenced as error:
                self._logger.warning("out of the group", why=error.message)
                break
            except ChandleryError as error:
                self._logger.info("the leases can't be read or written yet", error=error)
                await self._clock.sleep(self._ttl / 15)
                continue
            # a shard that is being left is handed over as soon as its passes are done
            await self._clock.sleep(self._ttl / 15 if term.leaving else self._ttl * _RENEW_AT)
        term.until = float("-inf")
        self._logger.warning("no longer in the group", holder=term.holder)

    async def _round(self, term: _Term) -> None:
        leases = await self._leases()
        await self._renew(term, leases)
        alive = self._alive(term, leases)
        peers = frozenset(m for m in alive if self._count_of(m, leases) == self._count)
        if peers == alive:
            wanted = owners(peers, self._count)
        else:  # the count is being changed: whoever has something keeps it, nobody takes more
            self._logger.warning("replicas with another number of shards", holders=sorted(alive - peers))
            wanted = dict.fromkeys(term.held, term.holder)
        for shard in [s for s in term.held if wanted[s] != term.holder]:
            term.leaving.add(shard)
            if not self._busy[shard]:
                await self._let_go(term, shard, leases)
        term.leaving = {shard for shard in term.leaving if shard in term.held and wanted[shard] != term.holder}
        new = set()
        for shard, member in wanted.items():
            if member == term.holder and shard not in term.held and await self._take(term, shard, leases, alive):
                new.add(shard)
        if new:
            self._logger.info("shards taken", shards=sorted(new))
            self.gained(lambda key: shard_of(key, self._count) in new)
        await self._tidy(leases, alive)

    async def _renew(self, term: _Term, leases: Mapping[str, Obj]) -> None:
        lease = leases.get(self._member_name(term.holder))
        if lease is None:
            raise Fenced("our own Lease is gone")
        began = self._clock.monotonic()
        if began >= term.until:
            raise Fenced("our own Lease was not renewed in time")
        async with Context(clock=self._clock).limit("renewing the lease", timeout=term.until - began):
            written = await self._write(lease, term.holder, 0)
        if not written:
            raise Conflict("somebody else wrote our own Lease", retry_after=0.1)
        term.until = began + self._ttl * _TRUST

    async def _let_go(self, term: _Term, shard: int, leases: Mapping[str, Obj]) -> None:
        lease = leases.get(self._shard_name(shard))
        del term.held[shard]  # first: from here on nothing of it is written
        term.leaving.discard(shard)
        if lease is not None and _holder(lease) == term.holder:
            await self._write(lease, "", _transitions(lease))

    async def _take(self, term: _Term, shard: int, leases: Mapping[str, Obj], alive: frozenset[str]) -> bool:
        name = self._shard_name(shard)
        lease = leases.get(name)
        if lease is None:
            try:
                await self._api.create(LEASES, self._lease(name, term.holder, 1))
            except AlreadyExists:
                return False
            term.held[shard] = 1
            return True
        if _holder(lease) in alive:
            return False
        token = _transitions(lease) + 1
        if not await self._write(lease, term.holder, token):
            return False
        term.held[shard] = token
        return True

    async def _tidy(self, leases: Mapping[str, Obj], alive: frozenset[str]) -> None:
        """Take Leases of replicas away that have been gone for long."""
        now = self._clock.monotonic()
        for name, lease in leases.items():
            seen = self._seen.get(name)
            if seen is None or _holder(lease) in alive or now - seen.since < self._ttl * _FORGET:
                continue
            if name.startswith(self._member_name("")):
                await self._api.delete(LEASES, self._namespace, name, uid=lease["metadata"]["uid"])
                del self._seen[name]

    def _alive(self, term: _Term, leases: Mapping[str, Obj]) -> frozenset[str]:
        """Members whose Lease was written within its own length, as we have watched it."""
        now, found = self._clock.monotonic(), {term.holder}
        for name, lease in leases.items():
            if not name.startswith(self._member_name("")):
                continue
            record = lease["metadata"].get("resourceVersion")
            seen = self._seen.get(name)
            if seen is None or seen.record != record:
                seen = self._seen[name] = _Seen(record, now)
            if now - seen.since <= float(lease["spec"].get("leaseDurationSeconds") or self._ttl):
                found.add(_holder(lease))
        return frozenset(found)

    # Leases

    def _count_of(self, holder: str, leases: Mapping[str, Obj]) -> int:
        lease = leases.get(self._member_name(holder))
        told = ((lease or {}).get("metadata", {}).get("annotations") or {}).get(COUNT, "")
        return int(told) if told.isdigit() else self._count

    async def _leases(self) -> dict[str, Obj]:
        page = await self._api.list(LEASES, self._namespace, labels=f"{LABEL}={self._name}")
        return {lease["metadata"]["name"]: lease for lease in page.items}

    def _member_name(self, holder: str) -> str:
        return f"{self._name}-member-{holder}".replace("_", "-").lower()

    def _shard_name(self, shard: int) -> str:
        return f"{self._name}-shard-{shard}"

    def _member(self, holder: str) -> Obj:
        made = self._lease(self._member_name(holder), holder, 0)
        made["metadata"]["annotations"] = {COUNT: str(self._count)}
        return made

    def _lease(self, name: str, holder: str, transitions: int) -> Obj:
        meta = {"name": name, "namespace": self._namespace, "labels": {LABEL: self._name}}
        spec = self._spec(holder, transitions)
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}

    def _spec(self, holder: str, transitions: int) -> Obj:
        now = self._clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(self._ttl)),
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    async def _write(self, lease: Obj, holder: str, transitions: int) -> bool:
        """Write it on the version that we have seen; False when somebody else was faster, or it is gone."""
        try:
            await self._api.replace(LEASES, {**lease, "spec": self._spec(holder, transitions)})
        except Conflict:
            return False
        return True


def _holder(lease: Obj) -> str:
    return str(lease["spec"].get("holderIdentity") or "")


def _transitions(lease: Obj) -> int:
    return int(lease["spec"].get("leaseTransitions") or 0)
