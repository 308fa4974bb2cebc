"""What controllers share: a queue of keys that are worked off one at a time each, with retries."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from chandlery.controlplane.types import ApiError, Obj, Resource, UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

log = logging.getLogger(__name__)

K = TypeVar("K")

MANAGER = "kube-controller-manager"
_FIRST_RETRY = 0.005
_LAST_RETRY = 30.0
_QUIET = frozenset({404, 409})
"""Answers that only say that the world has moved on: look again, without a word in the log."""


def controller_user(name: str) -> UserInfo:
    """The ServiceAccount that a controller acts as, so that webhooks and the audit log can tell them apart."""
    groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
    return UserInfo(f"system:serviceaccount:kube-system:{name}", groups=groups)


class Controller(ABC, Generic[K]):
    """Turns changes into keys and brings the world in line, key by key.

    The same key is never worked on twice at once; a key that is added meanwhile is worked on again.
    """

    name: ClassVar[str]
    workers: ClassVar[int] = 1
    groups: ClassVar[frozenset[str] | None] = None
    """The API groups whose changes `observe` wants to see; None: all of them."""

    def __init__(self, api: LocalApi) -> None:
        self.api = api
        self.user = controller_user(self.name)
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._busy: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()

    @abstractmethod
    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        """Note a change (ADDED, MODIFIED, DELETED): add keys, nothing slow."""

    @abstractmethod
    def resync(self) -> None:
        """Add the keys of everything that exists, at the start."""

    @abstractmethod
    async def sync(self, key: K) -> None:
        """Bring one key in line. An exception means: again later."""

    def add(self, key: K) -> None:
        if key in self._waiting:
            return
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._waiting.add(key)
        self._ready.append(key)
        self._wake.set()

    def add_later(self, key: K, delay: float) -> None:
        """Add a key in `delay` seconds, unless it is due already."""
        if key in self._waiting or key in self._timers:
            return
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self._due, key)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    @property
    def idle(self) -> bool:
        """Nothing is queued or being worked on (timers may still be set)."""
        return not self._waiting and not self._busy

    def start(self) -> None:
        self.resync()
        self._tasks = [
            asyncio.get_running_loop().create_task(self._work(), name=f"{self.name}-{number}")
            for number in range(self.workers)
        ]

    async def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _work(self) -> None:
        while True:
            key = self._next()
            if key is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._busy.add(key)
            try:
                await self.sync(key)
            except ApiError as error:
                self._retry(key, error, quiet=error.code in _QUIET)
            except Exception as error:  # noqa: BLE001 - one bad object must not stop the controller
                self._retry(key, error, quiet=False)
            else:
                self._failures.pop(key, None)
            finally:
                self._busy.discard(key)
                if key in self._waiting:
                    self._wake.set()

    def _next(self) -> K | None:
        """The first key that no other worker is busy with."""
        for _ in range(len(self._ready)):
            key = self._ready.popleft()
            if key in self._busy:
                self._ready.append(key)
                continue
            self._waiting.discard(key)
            return key
        return None

    def _retry(self, key: K, error: Exception, *, quiet: bool) -> None:
        count = self._failures.get(key, 0) + 1
        self._failures[key] = count
        delay = min(_FIRST_RETRY * 2 ** (count - 1), _LAST_RETRY)
        if not quiet or count > 10:
            log.warning("%s: %s failed, next attempt in %.2f s: %s", self.name, key, delay, error)
        self.add_later(key, delay)
