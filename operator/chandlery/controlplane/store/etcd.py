"""etcd 3.5 or newer as the store: several control planes may share one.

Each object is a key under the prefix; a write is a transaction on the key's mod_revision, which also touches a
marker key, so that its mod_revision is that of the last write of anybody (deletions included): a consistent
read asks for the marker and waits until the watch has come that far. One watch of the prefix feeds the cache, with our
own writes too. Values don't hold their revision (it isn't known before the write): it is put in on the way out.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from chandlery.controlplane.store.base import Change, Conflict, Make, Publish, Store, StoreError
from chandlery.controlplane.store.turns import Turns
from chandlery.controlplane.types import Obj

log = logging.getLogger(__name__)

_PAGE = 500
_SECONDS = 10.0
_RETRY_SECONDS = (0.05, 0.2, 1.0, 2.0)
_CORE = "core"


def _target(servers: Sequence[str]) -> tuple[str, bool]:
    """(gRPC target, with TLS) of the URLs in --etcd-servers. Raises ValueError."""
    hosts: list[tuple[str, int]] = []
    schemes: set[str] = set()
    for server in servers:
        url = urlsplit(server if "//" in server else f"http://{server}")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"--etcd-servers: {server}: must be a URL such as http://127.0.0.1:2379")
        schemes.add(url.scheme)
        hosts.append((url.hostname, url.port or 2379))
    if len(schemes) != 1:
        raise ValueError("--etcd-servers: give at least one URL, and all with the same scheme")
    try:
        addresses = [ipaddress.ip_address(host) for host, _ in hosts]
    except ValueError:
        return f"{hosts[0][0]}:{hosts[0][1]}", schemes == {"https"}
    family = f"ipv{addresses[0].version}"
    joined = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
    return f"{family}:{joined}", schemes == {"https"}


def stamp(value: bytes, rev: int) -> bytes:
    """An object with the revision that it was stored at."""
    if not value.startswith(b"{"):
        return value
    obj = orjson.loads(value)
    obj.setdefault("metadata", {})["resourceVersion"] = str(rev)
    return orjson.dumps(obj)


class EtcdStore(Store):
    """See the module's text."""

    shared = True

    def __init__(
        self,
        servers: Sequence[str],
        *,
        prefix: str = "/registry",
        cafile: Path | None = None,
        certfile: Path | None = None,
        keyfile: Path | None = None,
    ) -> None:
        self._address, self._tls = _target(servers)
        self._shown = ",".join(servers)
        self._prefix = prefix.rstrip("/")
        self._files = (cafile, keyfile, certfile)
        self._marker = f"{self._prefix}!revision".encode()
        self._publish: Publish | None = None
        self._channel: Any = None
        self._kv: Any = None
        self._rpc: Any = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = count()
        self._known: dict[str, int] = {}
        self.turns: Turns | None = None
        """What control planes on this etcd take turns at; once it is open."""

    # -- keys

    def _key(self, key: str) -> bytes:
        group, _, rest = key.partition("/")
        return f"{self._prefix}/{group or _CORE}/{rest}".encode()

    def _plain_key(self, raw: bytes) -> str:
        group, _, rest = raw.decode()[len(self._prefix) + 1 :].partition("/")
        return f"{'' if group == _CORE else group}/{rest}"

    def _range(self) -> tuple[bytes, bytes]:
        """The keys below the prefix; "0" is the character after "/"."""
        return f"{self._prefix}/".encode(), f"{self._prefix}0".encode()

    # -- life

    async def open(self, publish: Publish) -> Iterable[Change]:
        try:
            import grpc
            from aetcd import rpc
        except ImportError as error:
            raise StoreError("the etcd store needs the package aetcd: install chandlery with the extra etcd") from error
        self._rpc = rpc
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        if self._tls:
            ca, key, cert = (path.read_bytes() if path else None for path in self._files)
            self._channel = grpc.aio.secure_channel(
                self._address, grpc.ssl_channel_credentials(ca, key, cert), options=options
            )
        else:
            self._channel = grpc.aio.insecure_channel(self._address, options=options)
        self._kv = rpc.KVStub(self._channel)
        self.turns = Turns(self._call, rpc, self._channel, self._prefix)
        changes = await self._read_all()
        self._publish = publish
        self._task = asyncio.create_task(self._follow(), name="etcd-watch")
        return changes

    async def _call(self, method: Any, request: Any) -> Any:
        """One request. Raises StoreError in plain words."""
        import grpc

        try:
            return await method(request, timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                text = f"etcd at {self._shown} can't be reached: {error.details()}"
                raise StoreError(text, 503, "ServiceUnavailable") from error
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise StoreError(
                    f"etcd at {self._shown} has no room left ({error.details()}): compact and defragment it, "
                    "or raise its quota"
                ) from error
            raise StoreError(f"etcd at {self._shown}: {error.details()}") from error

    async def _read_all(self) -> list[Change]:
        """Every live value, at one revision."""
        rpc = self._rpc
        start, end = self._range()
        changes: list[Change] = []
        revision = 0
        while True:
            page = await self._call(
                self._kv.Range, rpc.RangeRequest(key=start, range_end=end, limit=_PAGE, revision=revision)
            )
            revision = revision or page.header.revision
            for kv in page.kvs:
                key = self._plain_key(kv.key)
                changes.append(Change(kv.mod_revision, key, stamp(kv.value, kv.mod_revision)))
            if not page.more or not page.kvs:
                break
            start = page.kvs[-1].key + b"\0"
        changes.sort(key=lambda change: change.rev)
        self._known = {change.key: change.rev for change in changes}
        self.revision = self.compacted = revision
        return changes

    async def close(self) -> None:
        if self.turns is not None:
            await self.turns.close()
            self.turns = None
        self._publish = None
        if self._task is not None:
            self._task.cancel()
            try:
                await self._task
            except asyncio.CancelledError:
                pass
            self._task = None
        for _, _, waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(StoreError("the store is closed"))
        self._waiting = []
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    # -- writing

    async def txn(
        self,
        key: str,
        expect: int,
        make: Make,
        *,
        deleted: bool = False,
        obj: Obj | None = None,
        tag: object = None,
    ) -> int:
        if self._publish is None:
            raise StoreError("the store is closed")
        rpc = self._rpc
        where = self._key(key)
        act = (
            rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=where))
            if deleted
            else rpc.RequestOp(request_put=rpc.PutRequest(key=where, value=make(0)))
        )
        mark = rpc.RequestOp(request_put=rpc.PutRequest(key=self._marker, value=b""))
        request = rpc.TxnRequest(
            compare=[
                rpc.Compare(
                    result=rpc.Compare.CompareResult.EQUAL,
                    target=rpc.Compare.CompareTarget.MOD,
                    key=where,
                    mod_revision=expect,
                )
            ],
            success=[act, mark],
        )
        answer = await self._call(self._kv.Txn, request)
        if not answer.succeeded:
            # Whoever reads again now must see what was in the way.
            await self.synced()
            raise Conflict(key)
        rev = int(answer.header.revision)
        make(rev)
        await self._until(rev)
        return rev

    async def compact(self, rev: int) -> None:
        rev = min(rev, self.revision)
        try:
            await self._call(self._kv.Compact, self._rpc.CompactionRequest(revision=rev))
        except StoreError as error:
            if "compacted" not in str(error):  # another control plane was faster
                raise
        self.compacted = max(self.compacted, rev)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        if self.turns is None:
            raise StoreError("the store is closed", 503, "ServiceUnavailable")
        async with self.turns.turn(name):
            await self.synced()
            yield

    # -- reading

    async def synced(self) -> None:
        answer = await self._call(self._kv.Range, self._rpc.RangeRequest(key=self._marker))
        if answer.kvs:
            await self._until(int(answer.kvs[0].mod_revision))

    async def _until(self, rev: int) -> None:
        if self.revision >= rev:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rev, next(self._ticket), waiting))
        try:
            await asyncio.wait_for(waiting, _SECONDS)
        except TimeoutError:
            text = f"etcd at {self._shown} took the write but doesn't tell of it: its watch lags"
            raise StoreError(text, 504, "Timeout") from None

    async def _follow(self) -> None:
        """Keep one watch open for as long as the store is."""
        import grpc

        failures = 0
        while True:
            try:
                await self._watch()
                failures = 0
            except asyncio.CancelledError:
                raise
            except grpc.aio.AioRpcError as error:
                log.warning("the watch of etcd at %s broke (%s); opening it again", self._shown, error.details())
            except StoreError as error:
                log.warning("%s; trying again", error)
            except Exception:
                log.exception("the watch of etcd at %s failed; opening it again", self._shown)
            await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
            failures += 1

    async def _watch(self) -> None:
        rpc = self._rpc
        start, end = self._range()
        stream = rpc.WatchStub(self._channel).Watch()
        try:
            await stream.write(
                rpc.WatchRequest(
                    create_request=rpc.WatchCreateRequest(
                        key=start, range_end=end, start_revision=self.revision + 1, prev_kv=True, progress_notify=True
                    )
                )
            )
            async for answer in stream:
                if answer.compact_revision:
                    await self._catch_up()
                    return
                if answer.canceled:
                    return
                if not answer.created:  # that one tells the revision of now, whose events are still to come
                    self._take(answer)
        finally:
            stream.cancel()

    def _take(self, answer: Any) -> None:
        changes: list[Change] = []
        for event in answer.events:
            rev = int(event.kv.mod_revision)
            key = self._plain_key(event.kv.key)
            deleted = event.type == self._rpc.Event.EventType.DELETE
            value = event.prev_kv.value if deleted else event.kv.value
            if deleted:
                self._known.pop(key, None)
            else:
                self._known[key] = rev
            changes.append(Change(rev, key, stamp(value, rev), deleted))
        self._advance(changes, int(answer.header.revision) if not changes else changes[-1].rev)

    def _advance(self, changes: list[Change], revision: int) -> None:
        if changes and self._publish is not None:
            self._publish(changes)
        self.revision = max(self.revision, revision)
        while self._waiting and self._waiting[0][0] <= self.revision:
            waiting = heapq.heappop(self._waiting)[2]
            if not waiting.done():
                waiting.set_result(None)

    async def _catch_up(self) -> None:
        """History is gone: read everything and publish what became different."""
        before = dict(self._known)
        now = await self._read_all()
        live = {change.key for change in now}
        revision = self.revision
        changes = [change for change in now if before.get(change.key) != change.rev]
        for key in before.keys() - live:
            name = key.rpartition("/")[2]
            gone = {"metadata": {"name": name, "resourceVersion": str(revision)}}
            changes.append(Change(revision, key, orjson.dumps(gone), deleted=True))
        self._advance(changes, revision)
