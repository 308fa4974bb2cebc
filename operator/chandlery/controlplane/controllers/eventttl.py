"""Events live for an hour after their last change."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from chandlery.controlplane.controllers.base import Controller
from chandlery.controlplane.types import Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

TTL = 3600.0
Key = tuple[str, str]


class EventTtlController(Controller[Key]):
    """Keeps the order of expiry and one timer, for the first."""

    name: ClassVar[str] = "event-ttl-controller"

    def __init__(self, api: LocalApi, ttl: float = TTL) -> None:
        super().__init__(api)
        self._ttl = ttl
        self._due_at: dict[Key, float] = {}
        """In order of insertion, which is the order of expiry: a change moves an event to the end."""
        self._timer: asyncio.TimerHandle | None = None

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        if resource.plural != "events":
            return
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        self._due_at.pop(key, None)
        if event != "DELETED":
            self._due_at[key] = time.time() + self._ttl
            self._arm()

    def resync(self) -> None:
        known = []
        for obj in self.api.list("", "events"):
            meta = obj["metadata"]
            text = obj.get("lastTimestamp") or obj.get("eventTime") or meta.get("creationTimestamp")
            try:
                changed = datetime.fromisoformat(str(text)).timestamp()
            except ValueError:
                changed = time.time()
            known.append((min(changed, time.time()) + self._ttl, (meta["namespace"], meta["name"])))
        for due, key in sorted(known):
            self._due_at.setdefault(key, due)
        self._arm()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await super().stop()

    def _arm(self) -> None:
        if self._timer is None and self._due_at:
            delay = max(0.0, next(iter(self._due_at.values())) - time.time())
            self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = time.time()
        while self._due_at:
            key, due = next(iter(self._due_at.items()))
            if due > now:
                break
            del self._due_at[key]
            self.add(key)
        self._arm()

    async def sync(self, key: Key) -> None:
        await self.api.delete("", "events", *key, user=self.user)
