"""Kubernetes Events about our objects: repeated ones are counted on one Event, and each object may only say so much.

As client-go's recorder does it: the same (object, type, reason, message) within ten minutes raises `count` and
`lastTimestamp` of one Event; a bucket of 25 Events an object refills by one every five minutes. Recording never waits
and never fails a pass: what can't be written is dropped and counted.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chandlery.foundation.clock import Clock, rfc3339
from chandlery.foundation.context import Context, Logger
from chandlery.foundation.errors import ChandleryError
from chandlery.foundation.resilience import TokenBucket
from chandlery.reconcile.api import EVENTS, Api, Obj

_SAME_FOR: Final = 600.0
_BURST: Final = 25.0
_REFILL: Final = 1 / 300.0
"""Events a second."""
_KEPT: Final = 4096
_QUEUE: Final = 5000
_MESSAGE_LIMIT: Final = 1024


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    last: float


class Recorder:
    """Call `record` from anywhere in the loop; `run` writes."""

    def __init__(self, api: Api, clock: Clock, *, component: str = "chandlery", logger: Logger | None = None) -> None:
        self._api = api
        self._clock = clock
        self._component = component
        self._logger = logger or Context(clock=clock).logger
        self._series: OrderedDict[tuple[str, ...], _Series] = OrderedDict()
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._queue: asyncio.Queue[tuple[Obj, bool]] = asyncio.Queue(_QUEUE)
        self.dropped = 0

    def record(self, obj: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        """Say something about an object: `kind` is Normal or Warning."""
        message = message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"
        meta = obj["metadata"]
        now = self._clock.monotonic()
        identity = (meta.get("uid", ""), kind, reason, message)
        series = self._series.get(identity)
        again = series is not None and now - series.last < _SAME_FOR
        if not self._allowed(meta.get("uid", "")):
            self.dropped += 1
            return
        if series is None or not again:
            series = _Series(_name(meta, identity, now), 0, now)
            self._remember(identity, series)
        series.count += 1
        series.last = now
        body = self._body(obj, kind, reason, message, series)
        try:
            self._queue.put_nowait((body, again))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            body, again = await self._queue.get()
            await self._write(body, again=again)

    async def flush(self) -> None:
        """Write what waits."""
        while not self._queue.empty():
            body, again = self._queue.get_nowait()
            await self._write(body, again=again)

    async def _write(self, body: Obj, *, again: bool) -> None:
        meta = body["metadata"]
        try:
            if again:
                change = {"count": body["count"], "lastTimestamp": body["lastTimestamp"]}
                if await self._api.merge_patch(EVENTS, meta["namespace"], meta["name"], change) is not None:
                    return
            await self._api.create(EVENTS, body)
        except ChandleryError as error:
            self.dropped += 1
            self._logger.debug("event not written", reason=body["reason"], error=str(error))

    def _body(self, obj: Mapping[str, Any], kind: str, reason: str, message: str, series: _Series) -> Obj:
        meta = obj["metadata"]
        now = rfc3339(self._clock.now())
        namespace = meta.get("namespace") or "default"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": series.name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": obj.get("apiVersion", ""),
                "kind": obj.get("kind", ""),
                "name": meta["name"],
                "namespace": meta.get("namespace", ""),
                "uid": meta.get("uid", ""),
                "resourceVersion": meta.get("resourceVersion", ""),
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": series.count,
        }

    def _allowed(self, uid: str) -> bool:
        bucket = self._buckets.get(uid)
        if bucket is None:
            bucket = self._buckets[uid] = TokenBucket(_REFILL, _BURST, clock=self._clock)
            if len(self._buckets) > _KEPT:
                self._buckets.popitem(last=False)
        return bucket.try_take()

    def _remember(self, identity: tuple[str, ...], series: _Series) -> None:
        self._series[identity] = series
        self._series.move_to_end(identity)
        if len(self._series) > _KEPT:
            self._series.popitem(last=False)


def _name(meta: Mapping[str, Any], identity: tuple[str, ...], now: float) -> str:
    digest = hashlib.blake2b(repr((identity, now)).encode(), digest_size=8).hexdigest()
    return f"{meta['name'][:236]}.{digest}"
