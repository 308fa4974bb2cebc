"""Locks kept in etcd, behind the `Lock` protocol; needs the extra `etcd`.

A lock is a key that is made only if it isn't there, and attached to a lease of etcd's, which removes it when nobody
renews. The revision that made the key is the fencing token: revisions grow over the whole of etcd, so that a later hold
always has the larger one.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from chandlery.foundation.concurrency.locks import Hold
from chandlery.foundation.context import Context
from chandlery.foundation.errors import Fenced, InvalidConfiguration, Unavailable

__all__ = ["EtcdLocks"]

_RETRY: Final = 1 / 7


class EtcdLocks:
    """Each lock is a key under a prefix.

    Args:
        address: host:port of one member.
        prefix: before each lock's name.
        jitter: 0 to 1, spreads the looks of those who wait.
    """

    def __init__(
        self, address: str, *, prefix: str = "/chandlery/locks/", jitter: Callable[[], float] = random.random
    ) -> None:
        try:
            import aetcd
        except ImportError:
            raise InvalidConfiguration(
                "locks in etcd need the package aetcd", hint="Install chandlery with the extra etcd."
            ) from None
        host, _, port = address.rpartition(":")
        self._errors: Any = aetcd.exceptions.ClientError
        self._client: Any = aetcd.Client(host=host, port=int(port), timeout=10)
        self._prefix = prefix
        self._jitter = jitter

    async def close(self) -> None:
        """Close the connection; holds stay until they end."""
        await self._client.close()

    async def try_acquire(self, ctx: Context, name: str, holder: str, ttl: float) -> Hold | None:
        """Take the lock if it is free; None when somebody else has it. Asking again renews and keeps the token."""
        ctx.check(f"the lock {name}")
        with self._translated():
            known = await self._client.get(self._key(name))
            if known is not None:
                if known.value.decode() != holder:
                    return None
                mine = Hold(name, holder, known.create_revision, ttl)
                with contextlib.suppress(Fenced):  # it ended just now
                    await self._refresh(mine)
                    return mine
            return await self._take(name, holder, ttl)

    async def acquire(self, ctx: Context, name: str, holder: str, ttl: float) -> Hold:
        """Wait for the lock, up to the context's deadline (then Timeout)."""
        while True:
            hold = await self.try_acquire(ctx, name, holder, ttl)
            if hold is not None:
                return hold
            await ctx.sleep(ttl * _RETRY * (0.5 + self._jitter()), f"the lock {name}")

    async def renew(self, ctx: Context, hold: Hold) -> None:
        """Start the time to live again; Fenced when the lock is no longer ours."""
        ctx.check(f"the lock {hold.name}")
        with self._translated():
            await self._refresh(hold)

    async def release(self, ctx: Context, hold: Hold) -> None:
        """Give it back; no error when it was lost already."""
        del ctx
        key = self._key(hold.name)
        what = self._client.transactions
        with self._translated():
            known = await self._client.get(key)
            await self._client.transaction(
                compare=[what.create(key) == hold.token, what.value(key) == hold.holder.encode()],
                success=[what.delete(key)],
                failure=[],
            )
            if known is not None and known.create_revision == hold.token:
                with contextlib.suppress(self._errors):  # it may have ended meanwhile
                    await self._client.revoke_lease(known.lease)

    async def _take(self, name: str, holder: str, ttl: float) -> Hold | None:
        key, what = self._key(name), self._client.transactions
        lease = await self._client.lease(max(1, math.ceil(ttl)))
        made, answers = await self._client.transaction(
            compare=[what.version(key) == 0],
            success=[what.put(key, holder.encode(), lease.id), what.get(key)],
            failure=[],
        )
        if not made:
            await self._client.revoke_lease(lease.id)  # somebody else was faster
            return None
        (_, record), *_ = answers[1]
        return Hold(name, holder, record.create_revision, ttl)

    async def _refresh(self, hold: Hold) -> None:
        """Renew the lease, and see that the key is still the one we made."""
        for _ in range(2):
            known = await self._client.get(self._key(hold.name))
            if known is None or known.create_revision != hold.token or known.value.decode() != hold.holder:
                break
            answer = await self._client.refresh_lease(known.lease)
            if answer.TTL > 0:
                return
        raise Fenced(f"the lock {hold.name} is no longer held by {hold.holder}")

    def _key(self, name: str) -> bytes:
        return f"{self._prefix}{name}".encode()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise Unavailable(f"etcd can't be asked: {error or type(error).__name__}", retry_after=1.0) from error
