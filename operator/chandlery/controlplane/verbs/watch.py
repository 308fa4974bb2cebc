"""Watch: one subscription a client, with selectors that objects enter and leave."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Protocol

import orjson

from chandlery.controlplane import errors
from chandlery.controlplane.cache import Entry, Event, Subscription, Table
from chandlery.controlplane.core import Core
from chandlery.controlplane.fields import empty_object
from chandlery.controlplane.types import Obj, RequestContext, Resource
from chandlery.controlplane.verbs.options import ListOptions, revision, wrap_revision_error
from chandlery.controlplane.verbs.read import field_values, only_metadata

QUEUE = 5000
"""Events that a slow client may lag behind before its watch is closed (it lists and watches again)."""
BOOKMARK_SECONDS = 60.0
_LONGEST = 1800

Line = bytes


class Encode(Protocol):
    """Makes the lines of a stream."""

    async def __call__(self, kind: str, entry: Entry, rev: int) -> Line:
        """The line of (event type, entry, revision to show)."""

    def bookmark(self, obj: Obj) -> Line:
        """The line of a bookmark."""

    def at_once(self, kind: str, entry: Entry) -> Line | None:
        """The same for an entry at its own revision, when nothing has to be converted; None else."""


def _resolve(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


class Watch:
    """One open watch; iterate `lines`, then `close`."""

    def __init__(self, core: Core, ctx: RequestContext, options: ListOptions, encode: Encode, form: object) -> None:
        self._core, self._ctx, self._options = core, ctx, options
        self._encode, self._form = encode, form
        self._table: Table = core.table(ctx.resource)
        self._where = ("", "")
        self._ended = False
        self._not_before = 0
        """The revision that was asked for, when it is still to come: what comes before it isn't sent."""
        self._began = 0
        """What happened up to this revision was there at the start, even when it is told later."""
        self._sent = 0
        labels, fields = options.labels, options.fields
        self._selects = labels is not None or fields is not None
        self._selector = (labels.text if labels else "", fields.text if fields else "", id(ctx.resource.strategy))
        self._need_object = fields is not None and not only_metadata(options)
        self._subscription = Subscription(self._kind_of_new, QUEUE)
        self._pending_error: Obj | None = None
        self._initial: list[tuple[str, Entry, int]] = []
        self._backlog: list[Event] = []
        self._initial_bookmark = False
        self.send: Callable[[bytes], bool] | None = None
        """Gives bytes of the stream to the client's connection at once; False when it is full."""

    def start(self) -> None:
        """Take the place in the stream. Raises ApiError 400, 500, 504 before anything is sent."""
        options, table, cache = self._options, self._table, self._core.cache
        try:
            wanted = revision(options.resource_version)
        except ValueError as error:
            raise wrap_revision_error(error, list_=False) from None
        namespace = self._ctx.namespace if self._ctx.resource.namespaced else ""
        name = options.fields.exact("metadata.name") if options.fields else None
        self._where = (namespace, name or "")
        if options.initial_events is not None:
            send_state = options.initial_events
            self._initial_bookmark = bool(options.initial_events and options.bookmarks)
            if wanted > cache.revision:
                raise errors.too_large_revision(wanted, cache.revision)
        else:
            send_state = options.resource_version in ("", "0")
            self._initial_bookmark = options.resource_version == "" and options.bookmarks
        self._sent = self._began = cache.revision
        if wanted > cache.revision:
            self._not_before = wanted
        if send_state:
            for entry in list(table.span(namespace)):
                if not self._selects or self._match(entry):
                    self._initial.append(("ADDED", entry, entry.rev))
        elif wanted and wanted < table.floor:
            self._pending_error = errors.expired(f"too old resource version: {wanted} ({table.floor})").status()
        elif wanted:
            self._backlog = [
                event
                for event in table.since(wanted)
                if (not namespace or event.entry.namespace == namespace) and (not name or event.entry.name == name)
            ]
            self._sent = max(wanted, cache.revision)
        table.subscribe(self._subscription, *self._where)

    def _match(self, entry: Entry) -> bool:
        options = self._options
        if options.labels is not None and not options.labels.matches(entry.labels):
            return False
        if options.fields is None:
            return True
        if not self._need_object:
            return options.fields.matches({"metadata.name": entry.name, "metadata.namespace": entry.namespace})
        return options.fields.matches(field_values(self._ctx.resource, entry, entry.obj))

    def _kind_of_new(self, event: Event) -> str | None:
        return None if event.rev <= self._began else self._kind_for(event)

    def _kind_for(self, event: Event) -> str | None:
        """The event type that this watcher sees; None when the event is not for it."""
        if event.rev <= self._not_before:
            return None
        if not self._selects:
            return event.kind
        memo = event.memo.get(self._selector)
        if memo is None:
            now = event.kind != "DELETED" and self._match(event.entry)
            before = event.prev is not None and self._match(event.prev)
            memo = ("MODIFIED" if before else "ADDED") if now else ("DELETED" if before else "")
            event.memo[self._selector] = memo
        return memo or None

    def _direct(self, event: Event, kind: str) -> bool:
        """Send an event from the very call that publishes it: no task is woken for clients that keep up."""
        if self.send is None or (kind == "DELETED" and event.kind != "DELETED"):
            return False
        key = (self._form, kind, "chunk")
        chunk = event.memo.get(key)
        if chunk is None:
            line = self._encode.at_once(kind, event.entry)
            if line is None:
                return False
            chunk = event.memo[key] = b"%x\r\n%b\r\n" % (len(line), line)
        if not self.send(chunk):
            return False
        self._sent = event.rev
        return True

    async def _line(self, event: Event, kind: str) -> Line:
        leaves = kind == "DELETED" and event.kind != "DELETED"
        key = (self._form, kind)
        line = event.memo.get(key)
        if line is None:
            entry = event.prev if leaves and event.prev is not None else event.entry
            line = await self._encode(kind, entry, event.rev)
            event.memo[key] = line
        return line

    async def lines(self) -> AsyncIterator[bytes]:
        """Chunks of lines until the time is up, the client lags too far, or the server stops."""
        ctx, options = self._ctx, self._options
        if self._pending_error is not None:
            yield orjson.dumps({"type": "ERROR", "object": self._pending_error}) + b"\n"
            return
        batch: list[bytes] = []
        size = 0
        for kind, entry, rev in self._initial:
            line = await self._encode(kind, entry, rev)
            batch.append(line)
            size += len(line)
            if size > 262_144:
                yield b"".join(batch)
                batch, size = [], 0
        self._initial = []
        if self._initial_bookmark:
            batch.append(self._bookmark(initial=True))
        for event in self._backlog:
            kind_ = self._kind_for(event)
            if kind_ is not None:
                batch.append(await self._line(event, kind_))
        self._backlog = []
        yield b"".join(batch)
        seconds = options.timeout or random.uniform(_LONGEST, 2 * _LONGEST)  # noqa: S311
        deadline = time.monotonic() + seconds
        bookmark_at = time.monotonic() + BOOKMARK_SECONDS
        queue = self._subscription.queue
        loop = asyncio.get_running_loop()
        while not self._ended:
            if queue:
                chunks: list[bytes] = []
                while queue and len(chunks) < 500:
                    event, kind = queue.popleft()
                    self._sent = event.rev
                    chunks.append(await self._line(event, kind))
                yield b"".join(chunks)
                continue
            if self._subscription.overflowed:
                return
            now = time.monotonic()
            if now >= deadline:
                return
            if options.bookmarks and now >= bookmark_at:
                bookmark_at = now + BOOKMARK_SECONDS
                yield self._bookmark(initial=False)
                continue
            woken: asyncio.Future[None] = loop.create_future()
            self._subscription.on_wake(partial(_resolve, woken))
            timer = loop.call_later(
                max(0.0, min(deadline, bookmark_at if options.bookmarks else deadline) - now), self._subscription.wake
            )
            # While this task sleeps here, everything before has been handed to the connection.
            self._subscription.direct = self._direct
            try:
                await woken
            finally:
                self._subscription.direct = None
                timer.cancel()
                self._subscription.on_wake(None)
        _ = ctx

    def _bookmark(self, *, initial: bool) -> bytes:
        meta: Obj = {"resourceVersion": str(max(self._sent, self._core.cache.told))}
        if initial:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        return self._encode.bookmark(bookmark_object(self._ctx.resource, meta))

    def end(self) -> None:
        """End the stream from outside: the server stops, or the client has gone."""
        self._ended = True
        self._subscription.wake()

    def close(self) -> None:
        self._table.unsubscribe(self._subscription, *self._where)


def bookmark_object(resource: Resource, meta: Obj) -> Obj:
    """An object of the type in which nothing but this metadata is set."""
    return empty_object(resource) | {"metadata": meta}
