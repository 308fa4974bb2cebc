"""Leader election by a Lease: one replica works, the others wait.

Leadership is a hold that we renew; by our own clock it ends before it can end for anybody else, so two replicas never
both believe they lead, provided their clocks run at about the same pace. Every write asks `fence` first.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.concurrency import Hold, Lock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import ChandleryError, Fenced

_RENEW_AT: Final = 1 / 3
_TRUST: Final = 2 / 3


def identity() -> str:
    """A name for this process: host and a random part, so that a restarted one is somebody else."""
    return f"{os.uname().nodename}_{secrets.token_hex(4)}"


class Elector:
    """One candidate.

    Args:
        locks: where the Lease is kept.
        name: of the Lease.
        holder: who we are.
        ttl: seconds that a lead lasts without renewal; a crashed leader is replaced after that.
        clock: the only source of time.
    """

    def __init__(self, locks: Lock, name: str, holder: str, *, ttl: float = 15.0, clock: Clock = SYSTEM) -> None:
        self.holder = holder
        self._locks = locks
        self._name = name
        self._ttl = ttl
        self._clock = clock
        self._hold: Hold | None = None
        self._until = float("-inf")
        self._logger = Context(clock=clock).logger.bind(lease=name, holder=holder)

    @property
    def leading(self) -> bool:
        return self._hold is not None and self._clock.monotonic() < self._until

    def fence(self) -> int:
        """The fencing token.

        Raises:
            Fenced: we don't lead, or can't be sure any more.
        """
        hold = self._hold
        if hold is None or self._clock.monotonic() >= self._until:
            raise Fenced("this replica does not lead", hint="Nothing to do: the leader carries on.")
        return hold.token

    async def acquire(self) -> int:
        """Wait until we lead; the fencing token."""
        ctx = Context(clock=self._clock)
        while True:
            began = self._clock.monotonic()
            try:
                hold = await self._locks.try_acquire(ctx, self._name, self.holder, self._ttl)
            except ChandleryError as error:
                self._logger.info("the lease can't be read", error=error)
                hold = None
            if hold is not None:
                self._hold = hold
                self._until = began + self._ttl * _TRUST
                self._logger.info("leading", fencing_token=hold.token)
                return hold.token
            await self._clock.sleep(self._ttl / 7)

    async def keep(self) -> None:
        """Renew until the lead is lost; returns then."""
        assert self._hold is not None
        ctx = Context(clock=self._clock)
        while self.leading:
            await self._clock.sleep(self._ttl * _RENEW_AT)
            while self.leading:
                began = self._clock.monotonic()
                try:
                    async with ctx.limit("renewing the lease", timeout=self._until - began):
                        await self._locks.renew(ctx, self._hold)
                except Fenced:
                    self._lost("another replica leads")
                    return
                except ChandleryError as error:
                    self._logger.info("the lease can't be renewed yet", error=error)
                    await self._clock.sleep(self._ttl / 15)
                else:
                    self._until = began + self._ttl * _TRUST
                    break
        self._lost("the lease could not be renewed in time")

    async def release(self) -> None:
        """Let another one lead at once, as at an orderly shutdown."""
        hold, self._hold = self._hold, None
        if hold is None:
            return
        try:
            await self._locks.release(Context(clock=self._clock), hold)
        except ChandleryError as error:
            self._logger.info("the lease can't be released: it runs out", error=error)

    def _lost(self, why: str) -> None:
        self._hold = None
        self._logger.warning("no longer leading", why=why)
