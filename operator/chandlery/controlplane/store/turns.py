"""What control planes that share one etcd take turns at: keys that only one of them can have made, while it lives.

All keys of one server are attached to one lease of etcd's, which the server keeps alive; a server that is gone, or was
stopped for too long, loses them all by itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from chandlery.controlplane.store.base import StoreError

log = logging.getLogger(__name__)

TTL = 15
"""Seconds until a server that is gone has lost what it held."""
_KEEP_EVERY = TTL / 5
_LOOK_SECONDS = (0.005, 0.01, 0.02, 0.05)
_LEADER_LOOK = 1.0
_PATIENCE = 30.0

Call = Callable[[Any, Any], Awaitable[Any]]


class Turns:
    """Turns of one server. `call` sends a request, and raises StoreError in plain words."""

    def __init__(self, call: Call, rpc: Any, channel: Any, prefix: str) -> None:
        self._call, self._rpc, self._prefix = call, rpc, prefix
        self._kv, self._leases = rpc.KVStub(channel), rpc.LeaseStub(channel)
        self._me = secrets.token_hex(8).encode()
        self._lease = 0
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._granting = asyncio.Lock()
        self._local: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _key(self, name: str) -> bytes:
        return f"{self._prefix}!turn/{name}".encode()

    async def _session(self) -> int:
        """The lease that is kept alive; a new one when the last was lost."""
        async with self._granting:
            if not self._lease:
                granted = await self._call(self._leases.LeaseGrant, self._rpc.LeaseGrantRequest(TTL=TTL))
                self._lease, self._lost = int(granted.ID), asyncio.Event()
                self._keeper = asyncio.create_task(self._keep(self._lease), name="etcd-lease")
            return self._lease

    async def _keep(self, lease: int) -> None:
        """Keep a lease alive for as long as etcd lets us; then everything that hangs on it is lost."""
        loop = asyncio.get_running_loop()
        kept = loop.time()
        try:
            while loop.time() - kept < TTL:
                asked = loop.time()
                try:
                    if not await asyncio.wait_for(self._renew(lease), _KEEP_EVERY):
                        break
                    kept = asked
                except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again until the lease is over
                    log.debug("a lease of etcd's could not be renewed: %s", error)
                await asyncio.sleep(_KEEP_EVERY)
        finally:
            if self._lease == lease:
                self._lease = 0
            self._lost.set()

    async def _renew(self, lease: int) -> bool:
        stream = self._leases.LeaseKeepAlive()
        try:
            await stream.write(self._rpc.LeaseKeepAliveRequest(ID=lease))
            answer = await stream.read()
            return int(answer.TTL) > 0
        finally:
            stream.cancel()

    async def _take(self, name: str) -> asyncio.Event | None:
        """What is set when the turn, which is ours now, is lost with its lease; None when it isn't ours."""
        rpc, key = self._rpc, self._key(name)
        lease = await self._session()
        lost = self._lost  # of this lease: there may be another one when etcd has answered
        absent = rpc.Compare(
            result=rpc.Compare.CompareResult.EQUAL, target=rpc.Compare.CompareTarget.VERSION, key=key, version=0
        )
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=self._me, lease=lease))
        look = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
        try:
            answer = await self._call(self._kv.Txn, rpc.TxnRequest(compare=[absent], success=[put], failure=[look]))
        except StoreError as error:
            if "lease not found" in str(error):
                self._lease = 0
            raise
        if answer.succeeded:
            return lost
        found = answer.responses[0].response_range.kvs
        return lost if found and found[0].value == self._me and int(found[0].lease) == lease else None

    async def _give_back(self, name: str) -> None:
        rpc, key = self._rpc, self._key(name)
        mine = rpc.Compare(
            result=rpc.Compare.CompareResult.EQUAL, target=rpc.Compare.CompareTarget.VALUE, key=key, value=self._me
        )
        drop = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
        try:
            await self._call(self._kv.Txn, rpc.TxnRequest(compare=[mine], success=[drop]))
        except StoreError as error:
            log.warning("%s is given back when its lease ends, in %s s: %s", name, TTL, error)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Nobody else, here or on another server, has this turn meanwhile. Raises StoreError."""
        local = self._local.get(name)
        if local is None:
            local = self._local[name] = asyncio.Lock()
        async with local:
            loop = asyncio.get_running_loop()
            began, looks = loop.time(), 0
            while await self._take(name) is None:
                if loop.time() - began > _PATIENCE:
                    text = f"another control plane has been at {name} for {_PATIENCE:.0f} seconds"
                    raise StoreError(text, 503, "ServiceUnavailable")
                await asyncio.sleep(_LOOK_SECONDS[min(looks, len(_LOOK_SECONDS) - 1)])
                looks += 1
            try:
                yield
            finally:
                await asyncio.shield(self._give_back(name))

    async def lead(self, name: str, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled: whenever this server becomes the one that does it, `begin`; when it no longer is, `end`."""
        while True:
            try:
                lost = await self._take(name)
            except StoreError as error:
                log.warning("%s: %s; trying again", name, error)
                lost = None
            if lost is not None:
                try:
                    await begin()
                    await lost.wait()
                    log.warning("the turn at %s is over: etcd was away for too long, or this control plane was", name)
                except Exception:
                    log.exception("%s did not begin; trying again", name)
                finally:
                    await end()
            await asyncio.sleep(_LEADER_LOOK)

    async def close(self) -> None:
        """Give everything back."""
        lease, self._lease = self._lease, 0
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if lease:
            try:
                await self._call(self._leases.LeaseRevoke, self._rpc.LeaseRevokeRequest(ID=lease))
            except StoreError as error:
                log.debug("a lease of etcd's ends by itself: %s", error)
